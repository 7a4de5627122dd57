//! GPU code on the emulated GPU: kernels against the reference, models against `transformers` and the CPU, lack of
//! memory, broken contexts.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::sync::Arc;

use ::kernels::Activation;

use super::backend::Gpu;
use super::device::{Buffer, Fault, FloatFormat};
use super::emulated::{Emulated, Schedule};
use super::kernels;
use super::model::GpuModel;
use crate::config::Config;
use crate::model_dir::tiny_models;
use crate::pooling::{ModelPooling, Pool, PoolingMode};
use crate::selftest::{Effort, Finding, activation, compare_rows, operations};
use crate::weights::Weights;
use crate::{Batch, ComputeDtype, Engine, EngineOptions, ModelDir, Pooling};

/// More memory than any test needs.
const ROOMY: usize = 1 << 30;

const FORWARD_LATE: Schedule = Schedule { order: 0, copies_at_once: false };
const BACKWARD_SOON: Schedule = Schedule { order: 1, copies_at_once: true };
const SHUFFLED: Schedule = Schedule { order: 77, copies_at_once: false };

fn passes(dtype: ComputeDtype, schedule: Schedule) {
    let gpu = Gpu::for_weights(&Arc::new(Emulated::new(schedule, ROOMY)), FloatFormat::of(dtype).unwrap());
    let mut failures = Vec::new();
    operations(&gpu, dtype, Effort::Short, &mut |finding| {
        if !finding.passed() {
            failures.push(finding);
        }
    })
    .unwrap();
    assert_eq!(failures, Vec::<Finding>::new(), "with {schedule:?}");
}

#[test]
fn kernels_in_f16_agree_with_the_reference() {
    passes(ComputeDtype::F16, FORWARD_LATE);
}

#[test]
fn kernels_in_f16_do_not_depend_on_the_order_of_threads() {
    passes(ComputeDtype::F16, BACKWARD_SOON);
}

#[test]
fn kernels_in_bf16_agree_with_the_reference_in_any_order() {
    passes(ComputeDtype::Bf16, SHUFFLED);
}

#[test]
fn kernels_in_f32_agree_with_the_reference() {
    passes(ComputeDtype::F32, FORWARD_LATE);
}

#[test]
fn gelu_error_in_16_bits_is_below_their_resolution() {
    let device = Arc::new(Emulated::new(FORWARD_LATE, ROOMY));
    let near = (-2400..2400).map(|at| at as f32 / 200.0);
    let numbers: Vec<f32> = near.chain([-60000.0, -200.0, -50.0, -20.0, 20.0, 50.0, 200.0, 60000.0]).collect();
    for (format, half_step) in [(FloatFormat::F16, 2f64.powi(-11)), (FloatFormat::Bf16, 2f64.powi(-8))] {
        let (x, bias) =
            (Buffer::of(&device, &format.encode(&numbers)).unwrap(), Buffer::of(&device, &[0; 32]).unwrap());
        let shape = (numbers.len() / 8, 8);
        kernels::activate(&*device, format, (x.address(), bias.address()), shape, Activation::GeluErf).unwrap();
        let found = x.read(&device, format, numbers.len()).unwrap();
        for (number, found) in format.decode(&format.encode(&numbers)).into_iter().zip(found) {
            let expected = activation(f64::from(number), Activation::GeluErf);
            let off = (f64::from(found) - expected).abs();
            assert!(
                off <= 3e-5 + half_step * expected.abs(),
                "{format:?}: {found} for {expected}, the GELU of {number}"
            );
        }
    }
}

fn testdata(name: &str) -> ModelDir {
    ModelDir::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)).unwrap()
}

fn load(
    model: &ModelDir,
    dtype: ComputeDtype,
    streams: Vec<Arc<Emulated>>,
) -> Result<GpuModel<Emulated>, crate::LoadError> {
    let weights = Weights::of_family(&model.weights, config(model).family)?;
    let source = |name: &str, shape: &[usize]| weights.read(name, shape);
    GpuModel::load(config(model), &source, FloatFormat::of(dtype)?, streams)
}

fn streams(count: usize, room: usize) -> Vec<Arc<Emulated>> {
    let stream = || Arc::new(Emulated::new(FORWARD_LATE, room));
    std::iter::repeat_with(stream).take(count).collect()
}

fn golden_ids(name: &str) -> Batch {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name).join("goldens.json");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let ids: Vec<Vec<u32>> = serde_json::from_value(json["ids"].clone()).unwrap();
    ids.iter().collect()
}

fn config(model: &ModelDir) -> &Config {
    model.config().expect("only transformers run on GPUs")
}

fn on_cpu(model: &ModelDir, batch: &Batch, pooling: Pooling) -> Vec<f32> {
    let options = EngineOptions { pooling: Some(pooling), normalize: false, ..EngineOptions::default() };
    Engine::load(model, &options).unwrap().embed(batch).unwrap()
}

fn agrees(name: &str, dtype: ComputeDtype, poolings: &[Pooling], cosine_min: f64) {
    let (model, batch) = (testdata(name), golden_ids(name));
    let gpu = load(&model, dtype, streams(1, ROOMY)).unwrap();
    for &pooling in poolings {
        let (found, expected) = (gpu.embed(&batch, &pooling.into()).unwrap(), on_cpu(&model, &batch, pooling));
        let (cosine, difference) = compare_rows(&found, &expected, config(&model).hidden_size);
        assert!(cosine >= cosine_min, "{name}, {dtype}, {pooling}: cosine {cosine}, difference {difference}");
    }
}

/// Texts around the bounds of tiles, windows and tables, up to the model's longest.
fn texts_of_all_lengths(model: &ModelDir) -> Batch {
    let (longest, vocab) = (model.body.positions_used(), model.body.vocab_size());
    let lengths = [1, 7, 17, 33, 65, 130].map(|length: usize| length.min(longest));
    let text =
        |length: usize| (0..length).map(|token| ((token * 131 + length * 17) % vocab) as u32).collect::<Vec<_>>();
    lengths.into_iter().map(text).collect()
}

fn every_family_agrees(dtype: ComputeDtype, poolings: &[Pooling], cosine_min: f64) {
    for model in tiny_models().into_iter().filter(|model| config(model).forward.runs_on_gpus()) {
        let (width, path) = (config(&model).hidden_size, model.path.display());
        let gpu = load(&model, dtype, streams(1, ROOMY)).unwrap();
        let batch = texts_of_all_lengths(&model);
        for &pooling in poolings {
            let (found, expected) = (gpu.embed(&batch, &pooling.into()).unwrap(), on_cpu(&model, &batch, pooling));
            let (cosine, difference) = compare_rows(&found, &expected, width);
            assert!(cosine >= cosine_min, "{path}, {dtype}, {pooling}: cosine {cosine}, difference {difference}");
            let alone: Batch = [batch.row(2)].into_iter().collect();
            let alone = gpu.embed(&alone, &pooling.into()).unwrap();
            assert_eq!(alone, found[2 * width..3 * width], "{path}, {dtype}, {pooling}: a text alone");
        }
    }
}

#[test]
fn every_family_gives_the_vectors_of_the_cpu_in_f32() {
    every_family_agrees(ComputeDtype::F32, &[Pooling::Cls, Pooling::Last], 0.999_99);
}

#[test]
fn every_family_gives_the_vectors_of_the_cpu_in_f16() {
    every_family_agrees(ComputeDtype::F16, &[Pooling::Cls, Pooling::Last], 0.999);
}

#[test]
fn every_family_gives_the_vectors_of_the_cpu_in_bf16() {
    every_family_agrees(ComputeDtype::Bf16, &[Pooling::Mean], 0.999);
}

#[test]
fn every_pooling_and_number_format_gives_the_vectors_of_the_cpu() {
    let every = [Pooling::Cls, Pooling::Mean, Pooling::Max, Pooling::Last];
    agrees("bertin", ComputeDtype::F32, &every, 0.999_999);
    agrees("bertin", ComputeDtype::F16, &every, 0.999_9);
    agrees("bertin", ComputeDtype::Bf16, &[Pooling::Mean], 0.999);
}

#[test]
fn joined_poolings_give_the_vectors_of_the_cpu() {
    let (mut model, batch) = (testdata("bertin"), golden_ids("bertin"));
    let modes = vec![PoolingMode::WeightedMean, PoolingMode::Common(Pooling::Cls), PoolingMode::MeanSqrtLen];
    let pooling = ModelPooling::joined(modes);
    let gpu = load(&model, ComputeDtype::F32, streams(1, ROOMY)).unwrap();
    model.modules.pooling = Some(pooling.clone());
    for excluded in [0, 4] {
        let found = gpu.embed(&batch, &Pool { pooling: pooling.clone(), excluded }).unwrap();
        let cpu = Engine::load(&model, &EngineOptions { normalize: false, ..EngineOptions::default() }).unwrap();
        let expected = cpu.with_excluded_prefix(excluded).embed(&batch).unwrap();
        let (cosine, difference) = compare_rows(&found, &expected, 96);
        assert!(cosine >= 0.999_999, "{excluded} excluded: cosine {cosine}, difference {difference}");
    }
}

#[test]
fn a_prompt_is_left_out_of_pooling_as_on_the_cpu() {
    let (model, batch) = (testdata("bertin"), golden_ids("bertin"));
    let gpu = load(&model, ComputeDtype::F32, streams(1, ROOMY)).unwrap();
    for pooling in [Pooling::Cls, Pooling::Mean, Pooling::Max, Pooling::Last] {
        let options = EngineOptions { pooling: Some(pooling), normalize: false, ..EngineOptions::default() };
        let cpu = Engine::load(&model, &options).unwrap().with_excluded_prefix(4);
        let (found, expected) =
            (gpu.embed(&batch, &Pool { pooling: pooling.into(), excluded: 4 }).unwrap(), cpu.embed(&batch).unwrap());
        let close = |a: &f32, b: &f32| a == b || (a - b).abs() < 1e-4;
        assert!(found.iter().zip(&expected).all(|(found, expected)| close(found, expected)), "{pooling}");
    }
    assert!(batch.offsets.windows(2).any(|span| span[1] - span[0] <= 4), "some text has no other tokens");
}

#[test]
fn a_row_does_not_depend_on_its_batch_on_a_gpu_either() {
    let (model, batch) = (testdata("bertin"), golden_ids("bertin"));
    let gpu = load(&model, ComputeDtype::F16, streams(2, ROOMY)).unwrap();
    let together = gpu.embed(&batch, &Pooling::Mean.into()).unwrap();
    for (row, together) in together.chunks_exact(config(&model).hidden_size).enumerate() {
        let alone: Batch = [batch.row(row)].into_iter().collect();
        assert_eq!(gpu.embed(&alone, &Pooling::Mean.into()).unwrap(), together, "row {row}");
    }
}

#[test]
fn a_batch_frees_all_its_memory() {
    let (model, batch) = (testdata("mbert"), golden_ids("mbert"));
    let streams = streams(1, ROOMY);
    let gpu = load(&model, ComputeDtype::F16, streams.clone()).unwrap();
    let after_load = streams[0].used();
    gpu.embed(&batch, &Pooling::Cls.into()).unwrap();
    assert_eq!(streams[0].used(), after_load, "weights stay, nothing else does");
    drop(gpu);
    assert_eq!(streams[0].used(), 0);
}

#[test]
fn every_step_is_timed_until_timing_stops() {
    let (model, batch) = (testdata("mbert"), golden_ids("mbert"));
    let stream = streams(1, ROOMY);
    let gpu = load(&model, ComputeDtype::F16, stream.clone()).unwrap();
    let before = stream[0].launched();
    let timed = gpu.time(&batch, &Pooling::Mean.into()).unwrap();
    let kernels = timed.steps.iter().filter(|step| !step.name.starts_with("product ")).count();
    assert_eq!(kernels, stream[0].launched() - before, "{timed:?}");
    // Products for qkv, the attention output, and two of the feed-forward half.
    assert_eq!(timed.steps.len() - kernels, 4 * config(&model).layers, "{timed:?}");
    let busy: f64 = timed.steps.iter().map(|step| step.milliseconds).sum();
    assert!(busy > 0.0 && busy <= timed.whole_milliseconds, "{timed:?}");
    assert_eq!(
        (timed.steps[0].name.as_str(), timed.steps.last().unwrap().name.as_str()),
        ("embed_norm_f16", "pool_f16")
    );
    gpu.embed(&batch, &Pooling::Mean.into()).unwrap();
    let again = gpu.time(&batch, &Pooling::Mean.into()).unwrap();
    assert_eq!(again.steps.len(), timed.steps.len(), "what ran between is not in it");
}

#[test]
fn with_little_memory_batches_are_split_with_equal_results() {
    let (model, batch) = (testdata("mbert"), golden_ids("mbert"));
    let roomy = streams(1, ROOMY);
    let plenty = load(&model, ComputeDtype::F16, roomy.clone()).unwrap();
    let expected = plenty.embed(&batch, &Pooling::Mean.into()).unwrap();
    let per_token = super::backend::bytes_per_token(FloatFormat::F16, config(&model).hidden_size, config(&model));
    let room = roomy[0].used() + (config(&model).positions_used() + 50) * per_token;
    let many: Batch = (0..3).flat_map(|_| (0..batch.rows()).map(|row| batch.row(row))).collect();
    let measured = load(&model, ComputeDtype::F16, streams(1, room)).unwrap();
    // The measured memory is gone when the batch arrives.
    let surprised = load(&model, ComputeDtype::F16, vec![Arc::new(Emulated::shared_with_others(room))]).unwrap();
    for scarce in [measured, surprised] {
        assert!(scarce.batch_tokens() < plenty.batch_tokens(), "{} tokens", scarce.batch_tokens());
        let found = scarce.embed(&many, &Pooling::Mean.into()).unwrap();
        assert!(found.chunks_exact(expected.len()).all(|part| part == expected), "three times the same");
    }
}

#[test]
fn a_broken_context_is_reported_as_a_lost_device() {
    let model = testdata("mbert");
    let counting = streams(1, ROOMY);
    load(&model, ComputeDtype::F16, counting.clone()).unwrap();
    let stream = Arc::new(Emulated::breaking(counting[0].launched() + 3));
    let gpu = load(&model, ComputeDtype::F16, vec![stream]).unwrap();
    for _ in 0..2 {
        let lost = gpu.embed(&golden_ids("mbert"), &Pooling::Mean.into());
        assert!(matches!(lost, Err(Fault::Lost { .. })), "{lost:?}");
    }
}

#[test]
fn a_model_too_large_for_the_gpu_is_an_error() {
    let failed = load(&testdata("mbert"), ComputeDtype::F16, streams(1, 1000)).map(drop).unwrap_err();
    let cause = std::error::Error::source(&failed).expect("it has a cause").to_string();
    assert!(cause.contains("out of GPU memory"), "{cause}");
}
