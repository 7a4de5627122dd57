//! Checks a real model against the CPU in f32, and measures it at several lengths, on a GPU also step by step.

use std::time::{Duration, Instant};

use super::reference::TestRng;
use super::{Effort, Finding, compare_rows, failed, model_bound};
use crate::cuda::Timed;
use crate::{
    Batch, ComputeDtype, DeviceSpec, EmbedError, Engine, EngineOptions, GPU_STREAMS, LoadError, ModelDir, Pooling,
};

/// The measured text lengths, in tokens: uniform, then mixed as in a corpus.
const LENGTHS: [&[usize]; 5] = [&[32], &[50], &[128], &[512], &[8, 16, 24, 32, 48, 64, 128, 256, 512]];
/// The lengths at which every step is timed.
const TIMED_LENGTHS: [usize; 2] = [50, 512];

/// Compares a model with the CPU in f32, and measures it. Fails if it cannot be loaded or the device fails completely.
pub(super) fn check_and_measure(
    device: &DeviceSpec,
    model: &ModelDir,
    dtype: ComputeDtype,
    effort: Effort,
    report: &mut dyn FnMut(Finding),
) -> Result<(), LoadError> {
    let options = |device: &DeviceSpec, dtype| EngineOptions {
        device: device.clone(),
        dtype,
        pooling: Some(Pooling::Mean),
        ..EngineOptions::default()
    };
    let engine = Engine::load(model, &options(device, dtype))?;
    let reference = Engine::load(model, &options(&DeviceSpec::Cpu, ComputeDtype::F32))?;
    let mut texts = SyntheticTexts::of(model);
    let mixed = texts.batch(&[1, 17, 17, 17, 17, 64, 64, texts.longest]);
    let (found, expected) = (engine.embed(&mixed).map_err(failed)?, reference.embed(&mixed).map_err(failed)?);
    let (cosine, difference) = compare_rows(&found, &expected, engine.dimensions());
    report(Finding::Check {
        name: format!("the model, against the CPU in f32, {dtype}"),
        detail: format!("{} texts, largest difference {difference:.1e}", mixed.rows()),
        error: 1.0 - cosine,
        bound: model_bound(dtype),
    });
    let lasting = Duration::from_millis(if effort == Effort::Whole { 1000 } else { 1 });
    for lengths in LENGTHS {
        let batch = texts.filling(engine.default_batch_tokens(), lengths);
        engine.embed(&batch).map_err(failed)?;
        let value = tokens_per_second(&engine, &batch, lasting).map_err(failed)?;
        let of = match lengths {
            [one] => format!("texts of {one} tokens"),
            several => {
                let (least, most) = (several.iter().min(), several.iter().max());
                format!("texts of {} to {} tokens", least.unwrap_or(&0), most.unwrap_or(&0))
            }
        };
        let name = match device {
            DeviceSpec::Cpu => format!("{of}, one thread, {dtype}"),
            DeviceSpec::Cuda(_) => format!("{of}, {dtype}"),
        };
        report(Finding::Measure { name, value, unit: "tokens/s" });
    }
    for length in TIMED_LENGTHS {
        let batch = texts.filling(engine.default_batch_tokens(), &[length]);
        if let Some(timed) = engine.time_steps(&batch).map_err(failed)? {
            report_steps(&timed, &format!("{} texts of {length} tokens, {dtype}", batch.rows()), report);
        }
    }
    Ok(())
}

/// Texts of pseudo-random ids.
struct SyntheticTexts {
    rng: TestRng,
    vocab: usize,
    /// Maximum tokens of a text.
    longest: usize,
}

impl SyntheticTexts {
    fn of(model: &ModelDir) -> SyntheticTexts {
        let longest = model.body.positions_used().min(512);
        SyntheticTexts { rng: TestRng::new(13), vocab: model.body.vocab_size(), longest }
    }

    /// Returns texts of these lengths, clamped to the model's maximum.
    fn batch(&mut self, lengths: &[usize]) -> Batch {
        let mut text = |length: usize| -> Vec<u32> {
            (0..length.min(self.longest)).map(|_| self.rng.below(self.vocab) as u32).collect()
        };
        lengths.iter().map(|&length| text(length)).collect()
    }

    /// Returns texts cycling through these lengths, up to `tokens` tokens but at least one text.
    fn filling(&mut self, tokens: usize, lengths: &[usize]) -> Batch {
        let (mut left, mut chosen) = (tokens, Vec::new());
        for &length in lengths.iter().cycle() {
            let takes = length.min(self.longest);
            if takes > left {
                break;
            }
            left -= takes;
            chosen.push(takes);
        }
        if chosen.is_empty() {
            chosen.extend(lengths.first());
        }
        self.batch(&chosen)
    }
}

/// Reports the time of each kind of step in execution order, and the GPU's utilisation.
fn report_steps(timed: &Timed, of: &str, report: &mut dyn FnMut(Finding)) {
    let mut kinds: Vec<(&str, usize, f64)> = Vec::new();
    for step in &timed.steps {
        match kinds.iter_mut().find(|kind| kind.0 == step.name) {
            Some(kind) => {
                kind.1 += 1;
                kind.2 += step.milliseconds;
            }
            None => kinds.push((&step.name, 1, step.milliseconds)),
        }
    }
    for &(name, times, value) in &kinds {
        report(Finding::Measure { name: format!("step {name}, {times} times, {of}"), value, unit: "ms" });
    }
    let busy: f64 = timed.steps.iter().map(|step| step.milliseconds).sum();
    report(Finding::Measure { name: format!("all steps, {of}"), value: timed.whole_milliseconds, unit: "ms" });
    let value = 100.0 * busy / timed.whole_milliseconds.max(f64::MIN_POSITIVE);
    report(Finding::Measure { name: format!("the GPU is busy, {of}"), value, unit: "%" });
}

/// Embeds a batch repeatedly, on a GPU with a worker's concurrency.
fn tokens_per_second(engine: &Engine, batch: &Batch, lasting: Duration) -> Result<f64, EmbedError> {
    let threads = match engine.device() {
        DeviceSpec::Cuda(_) => GPU_STREAMS,
        DeviceSpec::Cpu => 1,
    };
    let since = Instant::now();
    let embed_all = || {
        let mut done = 0;
        while done == 0 || since.elapsed() < lasting {
            engine.embed(batch)?;
            done += batch.tokens();
        }
        Ok(done)
    };
    let done = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(embed_all)).collect();
        threads.into_iter().map(|thread| thread.join().expect("embedding does not panic")).sum::<Result<usize, _>>()
    });
    Ok(done? as f64 / since.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::Step;

    #[test]
    fn steps_are_summed_by_kind_and_compared_with_the_whole() {
        let step = |name: &str, milliseconds| Step { name: name.to_owned(), milliseconds };
        let steps = vec![step("flash_f16_64", 1.0), step("product 768 to 768", 2.0), step("flash_f16_64", 3.0)];
        let mut reported = Vec::new();
        report_steps(&Timed { steps, whole_milliseconds: 8.0 }, "2 texts", &mut |finding| reported.push(finding));
        let measure = |name: &str, value, unit| Finding::Measure { name: name.to_owned(), value, unit };
        assert_eq!(
            reported,
            [
                measure("step flash_f16_64, 2 times, 2 texts", 4.0, "ms"),
                measure("step product 768 to 768, 1 times, 2 texts", 2.0, "ms"),
                measure("all steps, 2 texts", 8.0, "ms"),
                measure("the GPU is busy, 2 texts", 75.0, "%"),
            ]
        );
    }
}
