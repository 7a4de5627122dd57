//! `encaje self-test`: verifies that a device computes correctly on this machine, and measures its speed.
//!
//! Every operation is compared with f64 arithmetic, a whole model with the CPU in f32. The checks are generic over
//! the device, so the tests run the same ones on an emulated GPU.

mod checks;
mod model;
pub(crate) mod probe;
mod reference;
mod rotary;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use kernels::{Activation, Heads, WeightFormat};

use self::checks::Checks;
pub(crate) use self::checks::{compare_rows, synthetic_weight};
use self::probe::Probe;
use self::reference::TestRng;
#[cfg(test)]
pub(crate) use self::reference::activation;
use crate::backend::Cpu;
use crate::backend::rotary::RotaryBackend;
use crate::config::Config;
use crate::families::{BERT, BERT_DEFAULTS, Forward};
use crate::forward::bert::{Bert, TokenSelection};
use crate::ops::Matrix;
use crate::options::weight_format;
use crate::{Batch, ComputeDtype, DeviceSpec, LoadError, ModelDir, cuda};

/// The extent of a self-test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// All sizes, and longer measurements.
    Whole,
    /// A few sizes: seconds on any machine.
    Short,
}

/// A result of a self-test.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// A comparison with the reference.
    Check {
        /// What was checked, and in which number format.
        name: String,
        /// The inputs.
        detail: String,
        /// The largest error, relative to the largest number of the reference; for models 1 - the smallest cosine.
        error: f64,
        /// The largest allowed error.
        bound: f64,
    },
    /// A measurement.
    Measure {
        /// What was measured.
        name: String,
        /// The result.
        value: f64,
        /// Its unit.
        unit: &'static str,
    },
}

impl Finding {
    /// Returns whether a check is within its bound; a measurement always passes.
    pub fn passed(&self) -> bool {
        match self {
            Finding::Check { error, bound, .. } => error <= bound,
            Finding::Measure { .. } => true,
        }
    }
}

/// Checks and measures a device with a model of BERT's shape and synthetic weights, and with `model` if given. Returns
/// whether all passed.
///
/// # Errors
/// When there is no such device, or it fails completely.
pub fn self_test(
    device: &DeviceSpec,
    model: Option<&ModelDir>,
    effort: Effort,
    report: &mut dyn FnMut(&Finding),
) -> Result<bool, LoadError> {
    let mut passed = true;
    let mut report = |finding: Finding| {
        passed &= finding.passed();
        report(&finding);
    };
    let dtypes: &[ComputeDtype] = match device {
        DeviceSpec::Cpu => &[ComputeDtype::F32, ComputeDtype::Bf16, ComputeDtype::Int8],
        DeviceSpec::Cuda(_) => &[ComputeDtype::F16, ComputeDtype::Bf16, ComputeDtype::F32],
    };
    for &dtype in dtypes {
        match device {
            DeviceSpec::Cpu => {
                let cpu = Cpu { format: weight_format(dtype)? };
                operations(&cpu, dtype, effort, &mut report)?;
                measure_products(&cpu, dtype, 512, effort, &mut report)?;
            }
            DeviceSpec::Cuda(ordinal) => {
                let gpu = cuda::open(*ordinal, dtype)?;
                operations(&gpu, dtype, effort, &mut report)
                    .and_then(|()| measure_products(&gpu, dtype, product_rows(effort), effort, &mut report))
                    .map_err(|error| cuda::name_device(*ordinal, error))?;
            }
        }
        if let Some(model) = model {
            model::check_and_measure(device, model, dtype, effort, &mut report)?;
        }
    }
    Ok(passed)
}

/// Rows of the product that is measured on a GPU: a full batch; fewer in a short test, which may run under a sanitizer.
const fn product_rows(effort: Effort) -> usize {
    match effort {
        Effort::Whole => 32 * 1024,
        Effort::Short => 1024,
    }
}

fn failed<E: std::error::Error + Send + Sync + 'static>(source: E) -> LoadError {
    LoadError::Device { path: "made-up weights".into(), source: Box::new(source) }
}

/// Checks every operation of a backend, and a small model.
pub(crate) fn operations<B: Probe + RotaryBackend>(
    backend: &B,
    dtype: ComputeDtype,
    effort: Effort,
    report: &mut dyn FnMut(Finding),
) -> Result<(), LoadError> {
    let mut checks = Checks { backend, dtype, effort, report };
    checks.run().and_then(|()| checks.run_rotary()).map_err(failed)?;
    let config = shape(effort);
    let heads = Heads { count: config.heads, size: config.hidden_size / config.heads };
    let batch = mixed_batch(effort);
    let expected_on = Cpu { format: WeightFormat::F32 };
    let source = |name: &str, shape: &[usize]| Ok(synthetic_weight(name, shape));
    let reference = Bert::load(&config, BERT_DEFAULTS, &source, &expected_on)?;
    let model = Bert::load(&config, BERT_DEFAULTS, &source, backend)?;
    for (selection, name) in [(TokenSelection::FirstToken, "first tokens"), (TokenSelection::EveryToken, "every token")]
    {
        let expected = reference.rows(&expected_on, &batch, selection);
        let on = backend.for_batch(&batch, heads).map_err(failed)?;
        let found = model.forward(&on, &batch, selection).and_then(|rows| on.read(&rows)).map_err(failed)?;
        let (cosine, difference) = compare_rows(&found, &expected, config.hidden_size);
        report(Finding::Check {
            name: format!("made-up model of {} layers, {name}, {dtype}", config.layers),
            detail: format!("{} texts, {} tokens, largest difference {difference:.1e}", batch.rows(), batch.tokens()),
            error: 1.0 - cosine,
            bound: model_bound(dtype),
        });
    }
    Ok(())
}

/// The allowed 1 - cosine to f32 on a CPU.
fn model_bound(dtype: ComputeDtype) -> f64 {
    match dtype {
        ComputeDtype::F32 => 1e-5,
        ComputeDtype::F16 | ComputeDtype::Bf16 => 1e-3,
        ComputeDtype::Int8 => 2e-2,
    }
}

/// Returns the config of the synthetic model.
fn shape(effort: Effort) -> Config {
    let (hidden_size, layers, heads, intermediate) = match effort {
        Effort::Whole => (768, 4, 12, 3072),
        Effort::Short => (128, 2, 2, 256),
    };
    Config {
        path: "made-up weights".into(),
        family: &BERT,
        vocab_size: 1000,
        hidden_size,
        layers,
        heads,
        intermediate,
        max_positions: 512,
        pad_token_id: 0,
        layer_norm_eps: 1e-12,
        activation: Activation::GeluErf,
        tied: true,
        forward: Forward::Bert(BERT_DEFAULTS),
        raw: serde_json::Map::new(),
    }
}

fn mixed_batch(effort: Effort) -> Batch {
    let lengths: &[usize] = match effort {
        Effort::Whole => &[512, 1, 2, 63, 64, 65, 128, 37, 300],
        Effort::Short => &[70, 1, 2, 33],
    };
    let mut rng = TestRng::new(11);
    lengths.iter().map(|&length| (0..length).map(|_| rng.below(1000) as u32).collect::<Vec<_>>()).collect()
}

/// Measures the dominant product at the sizes of BERT-base.
pub(crate) fn measure_products<B: Probe>(
    backend: &B,
    dtype: ComputeDtype,
    rows: usize,
    effort: Effort,
    report: &mut dyn FnMut(Finding),
) -> Result<(), LoadError> {
    let (inputs, outputs) = (768, 3072);
    let linear = backend
        .linear(&[synthetic_weight("weight", &[outputs, inputs])], &[synthetic_weight("bias", &[outputs])])
        .map_err(failed)?;
    let (x, _) = backend.place(&TestRng::new(9).numbers(rows * inputs, 1.0), rows).map_err(failed)?;
    let round = |times: u32| -> Result<Duration, B::Error> {
        let since = Instant::now();
        let mut last = None;
        for _ in 0..times {
            last = Some(backend.project(&linear, 0..outputs, &x)?);
        }
        if let Some(last) = &last {
            backend.wait(last)?;
        }
        Ok(since.elapsed())
    };
    let lasting = Duration::from_millis(if effort == Effort::Whole { 300 } else { 1 });
    let mut times = 2;
    while round(times).map_err(failed)? < lasting {
        times *= 2;
    }
    let seconds = round(times).map_err(failed)?.as_secs_f64() / f64::from(times);
    let flops = 2.0 * rows as f64 * inputs as f64 * outputs as f64;
    let name = format!("product of [{rows}, {inputs}] with {outputs} outputs, {dtype}");
    report(Finding::Measure { name, value: flops / seconds / 1e12, unit: "TFLOP/s" });
    Ok(())
}

impl Probe for Cpu {
    fn is_lost(error: &Infallible) -> bool {
        match *error {}
    }

    fn for_batch(&self, _: &Batch, _: Heads) -> Result<Cpu, Infallible> {
        Ok(Cpu { format: self.format })
    }

    fn place(&self, numbers: &[f32], rows: usize) -> Result<(Matrix, Vec<f64>), Infallible> {
        let placed = Matrix { numbers: numbers.to_vec(), width: numbers.len() / rows };
        Ok((placed, numbers.iter().map(|x| f64::from(*x)).collect()))
    }

    fn rounded(&self, numbers: &[f32]) -> Vec<f32> {
        numbers.to_vec()
    }

    fn read(&self, rows: &Matrix) -> Result<Vec<f32>, Infallible> {
        Ok(rows.numbers.clone())
    }

    fn wait(&self, _: &Matrix) -> Result<(), Infallible> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_passes_the_self_test() {
        let mut findings = Vec::new();
        let passed = self_test(&DeviceSpec::Cpu, None, Effort::Short, &mut |finding| findings.push(finding.clone()));
        assert!(passed.expect("a CPU is always there"), "{findings:#?}");
        let checks = findings.iter().filter(|finding| matches!(finding, Finding::Check { .. })).count();
        assert_eq!(
            checks,
            3 * 50,
            "three formats: seven operations, five shapes of attention, nine of both contexts, a model twice; sums, eight \
             feed-forward halves and nine rotated contexts"
        );
    }

    #[test]
    fn a_device_less_precise_than_claimed_fails() {
        let mut failures = Vec::new();
        operations(&Cpu { format: WeightFormat::Int8 }, ComputeDtype::F32, Effort::Short, &mut |finding| {
            if !finding.passed() {
                failures.push(finding);
            }
        })
        .expect("a CPU is always there");
        let names: Vec<String> = failures.iter().map(|finding| format!("{finding:?}")).collect();
        assert!(names.iter().any(|name| name.contains("linear layers with bias")), "{names:#?}");
        assert!(names.iter().any(|name| name.contains("made-up model")), "{names:#?}");
        assert!(!names.iter().any(|name| name.contains("attention with")), "attention is in f32 anyway: {names:#?}");
    }
}
