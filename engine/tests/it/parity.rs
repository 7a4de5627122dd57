//! The vectors are those of `transformers`, whatever the batch and the thread.

use engine::{Batch, ComputeDtype, EmbedError, Embedder, Engine, EngineOptions, ModelDir, Pooling};

use crate::checkpoint::{self, Tensor};
use crate::common::{Goldens, cosine, embed, max_abs_difference, minilm, raw_engine, testdata, texts, tiny_models};

/// Minimum cosine to `transformers` in f32.
const COSINE_MIN: f64 = 0.99999;

/// Maximum change of a component between batches.
const BATCH_DIFFERENCE_MAX: f32 = 1e-5;

fn assert_parity(name: &str, dir: &std::path::Path) {
    let goldens = Goldens::read(name);
    for pooling in goldens.poolings() {
        let engine = raw_engine(dir, pooling);
        let found = embed(&engine, &goldens.ids);
        for (row, (found, expected)) in found.iter().zip(goldens.vectors(pooling)).enumerate() {
            let cosine = cosine(found, &expected);
            assert!(cosine >= COSINE_MIN, "{name}, {pooling}, text {row}: cosine {cosine}");
            // Cosine ignores the scale, so the vectors are compared too.
            let largest = expected.iter().fold(0f32, |largest, x| largest.max(x.abs()));
            let difference = max_abs_difference(found, &expected) / largest;
            assert!(difference < 1e-3, "{name}, {pooling}, text {row}: relative difference {difference}");
        }
    }
}

#[test]
fn tiny_models_agree_with_transformers() {
    for name in &tiny_models() {
        assert_parity(name, &testdata(name));
    }
}

#[test]
fn the_real_minilm_agrees_with_transformers() {
    // Its Normalize module would scale vectors unlike the goldens; without the list of modules it is a plain encoder.
    let plain = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(minilm()).unwrap().map(|entry| entry.unwrap().path()) {
        let name = file.file_name().unwrap();
        if file.is_file() && name != "modules.json" {
            std::fs::copy(&file, plain.path().join(name)).unwrap();
        }
    }
    assert_parity("minilm", plain.path());
}

#[test]
fn reduced_precision_stays_close_and_batch_independent() {
    let model = ModelDir::open(&minilm()).unwrap();
    let goldens = Goldens::read("minilm");
    for pooling in [Pooling::Cls, Pooling::Mean] {
        for (dtype, cosine_min) in [(ComputeDtype::Bf16, 0.999), (ComputeDtype::Int8, 0.99)] {
            let options = EngineOptions { pooling: Some(pooling), dtype, normalize: false, ..EngineOptions::default() };
            let engine = Engine::load(&model, &options).unwrap();
            let found = embed(&engine, &goldens.ids);
            for (row, (found, expected)) in found.iter().zip(goldens.vectors(pooling)).enumerate() {
                let cosine = cosine(found, &expected);
                assert!(cosine >= cosine_min, "{dtype}, {pooling}, text {row}: cosine {cosine}");
            }
            for (row, (ids, found)) in goldens.ids.iter().zip(&found).enumerate() {
                let alone = embed(&engine, std::slice::from_ref(ids));
                let difference = max_abs_difference(&alone[0], found);
                assert!(difference <= BATCH_DIFFERENCE_MAX, "{dtype}, {pooling}, row {row}: {difference}");
            }
        }
    }
}

#[test]
fn narrow_models_are_as_exact_in_every_number_format() {
    for name in tiny_models() {
        let model = ModelDir::open(&testdata(&name)).unwrap();
        if !model.summary().native {
            continue;
        }
        let goldens = Goldens::read(&name);
        for pooling in goldens.poolings() {
            for dtype in [ComputeDtype::Bf16, ComputeDtype::Int8] {
                let options =
                    EngineOptions { pooling: Some(pooling), dtype, normalize: false, ..EngineOptions::default() };
                let found = embed(&Engine::load(&model, &options).unwrap(), &goldens.ids);
                let cosines =
                    found.iter().zip(goldens.vectors(pooling)).map(|(found, expected)| cosine(found, &expected));
                let worst = cosines.fold(1.0, f64::min);
                assert!(worst >= COSINE_MIN, "{name}, {dtype}, {pooling}: cosine {worst}");
            }
        }
    }
}

fn assert_batch_does_not_matter(dir: &std::path::Path, rows: &[Vec<u32>]) {
    for pooling in [Pooling::Cls, Pooling::Mean, Pooling::Last] {
        let engine = raw_engine(dir, pooling);
        let together = embed(&engine, rows);
        let by_length: Vec<usize> = engine::pack(&rows.iter().map(Vec::len).collect::<Vec<_>>(), 100).concat();
        let sorted: Vec<Vec<u32>> = by_length.iter().map(|&row| rows[row].clone()).collect();
        let sorted = embed(&engine, &sorted);
        for (place, &row) in by_length.iter().enumerate() {
            let alone = embed(&engine, &rows[row..=row]);
            let difference =
                max_abs_difference(&alone[0], &together[row]).max(max_abs_difference(&sorted[place], &alone[0]));
            assert!(difference <= BATCH_DIFFERENCE_MAX, "{}, {pooling}, row {row}: {difference}", dir.display());
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_batch() {
    for name in &tiny_models() {
        assert_batch_does_not_matter(&testdata(name), &Goldens::read(name).ids);
    }
    assert_batch_does_not_matter(&minilm(), &Goldens::read("minilm").ids);
}

#[test]
fn threads_sharing_an_engine_get_identical_vectors() {
    for name in ["bertin", "modernbert"] {
        let rows = Goldens::read(name).ids;
        let engine = raw_engine(&testdata(name), Pooling::Mean);
        let expected = embed(&engine, &rows);
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..2).map(|_| scope.spawn(|| (0..5).map(|_| embed(&engine, &rows)).collect::<Vec<_>>())).collect();
            for thread in threads {
                for found in thread.join().unwrap() {
                    assert_eq!(found, expected, "{name}: the same batch gives the same bits on every thread");
                }
            }
        });
    }
}

#[test]
fn the_cls_shortcut_of_the_last_layer_is_exact() {
    for name in &tiny_models() {
        if !ModelDir::open(&testdata(name)).unwrap().summary().native {
            continue;
        }
        let rows = Goldens::read(name).ids;
        let shortcut = embed(&raw_engine(&testdata(name), Pooling::Cls), &rows);
        for (found, expected) in shortcut.iter().zip(&Goldens::read(name).vectors(Pooling::Cls)) {
            assert!(cosine(found, expected) >= 0.999_999, "{name}");
        }
    }
}

#[test]
fn max_and_last_pooling_use_the_same_tokens_as_mean() {
    // With one token every pooling is that token.
    let rows = vec![vec![4u32]];
    let dir = testdata("beto");
    let cls = embed(&raw_engine(&dir, Pooling::Cls), &rows);
    for pooling in [Pooling::Mean, Pooling::Max, Pooling::Last] {
        let found = embed(&raw_engine(&dir, pooling), &rows);
        assert!(max_abs_difference(&found[0], &cls[0]) < 1e-5, "{pooling}");
    }
    // With several, the maximum is nowhere below the mean, and somewhere above.
    let rows = vec![vec![4u32, 40, 50, 60, 5]];
    let mean = embed(&raw_engine(&dir, Pooling::Mean), &rows);
    let max = embed(&raw_engine(&dir, Pooling::Max), &rows);
    assert!(max[0].iter().zip(&mean[0]).all(|(max, mean)| max >= mean));
    assert_ne!(max, mean);
}

#[test]
fn normalisation_follows_truncation_of_dimensions() {
    let model = ModelDir::open(&testdata("bertin")).unwrap();
    let rows = Goldens::read("bertin").ids;
    let raw = embed(&raw_engine(&testdata("bertin"), Pooling::Cls), &rows);
    let options = EngineOptions { dimensions: Some(10), ..EngineOptions::default() };
    let engine = Engine::load(&model, &options).unwrap();
    assert_eq!(engine.dimensions(), 10);
    assert_eq!(*engine.pooling(), Pooling::Cls);
    for (short, raw) in embed(&engine, &rows).iter().zip(raw) {
        let norm: f32 = short.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!((norm - 1.0).abs() < 1e-5);
        assert!(cosine(short, &raw[..10]) > 0.999999);
    }
}

#[test]
fn an_invalid_batch_is_an_error_that_names_the_row() {
    let engine = raw_engine(&testdata("bertin"), Pooling::Cls);
    let row_of = |batch: Batch| match engine.embed(&batch) {
        Err(EmbedError::Batch { row, problem }) => (row, problem),
        other => panic!("expected a batch error, got {other:?}"),
    };
    let (row, problem) = row_of([vec![0u32, 2], vec![0, 9999, 2]].iter().collect());
    assert!(row == 1 && problem.contains("token id 9999"), "{problem}");
    let (row, problem) = row_of([vec![0u32, 2], vec![]].iter().collect());
    assert!(row == 1 && problem.contains("no tokens"), "{problem}");
    let (row, problem) = row_of([vec![5u32; 65]].iter().collect());
    assert!(row == 0 && problem.contains("65 tokens, the model takes 64"), "{problem}");
    assert_eq!(engine.embed(&Batch::new()).unwrap(), Vec::<f32>::new());
}

#[test]
fn non_finite_vectors_are_returned_unchanged() {
    let copy = crate::common::copy_without("bertin", &[]);
    let name = "roberta.embeddings.word_embeddings.weight";
    checkpoint::edit(&copy.path().join("model.safetensors"), |tensors| {
        let (shape, mut numbers) = (tensors[name].shape.clone(), tensors[name].numbers());
        numbers[9 * shape[1]] = f32::NAN;
        tensors.insert(name.into(), Tensor::f32(&shape, &numbers));
    });
    let model = ModelDir::open(copy.path()).unwrap();
    for pooling in [Pooling::Cls, Pooling::Mean, Pooling::Max, Pooling::Last] {
        let options = EngineOptions { pooling: Some(pooling), ..EngineOptions::default() };
        let engine = Engine::load(&model, &options).unwrap();
        let found = embed(&engine, &[vec![0, 9, 2], vec![0, 8, 2]]);
        assert!(found[0].iter().any(|x| x.is_nan()), "{pooling}: the broken row shows");
        assert!(found[1].iter().all(|x| x.is_finite()), "{pooling}: its neighbour is untouched");
    }
}

#[test]
fn a_text_is_embedded_end_to_end() {
    let model = ModelDir::open(&minilm()).unwrap();
    let embedder = Embedder::load(&model, &EngineOptions::default(), None, "").unwrap();
    let engine = embedder.engine();
    assert_eq!(engine.dimensions(), 384);
    assert_eq!(*engine.pooling(), Pooling::Mean);
    let max_length = embedder.encoder().max_length();
    assert_eq!(max_length, 256, "sentence_bert_config.json, not the 128 preset in tokenizer.json");
    let mut texts = texts();
    let found = embedder.embed_texts(&texts).unwrap();
    assert_eq!(found.truncated, [33, 34], "the long ones");
    for (found, expected) in found.vectors.chunks_exact(384).zip(Goldens::read("minilm").vectors(Pooling::Mean)) {
        assert!(cosine(found, &expected) >= COSINE_MIN);
    }
    texts[2] = "palabra ".repeat(300);
    let cut = embedder.embed_texts(&texts).unwrap();
    assert_eq!((cut.truncated, cut.vectors.len()), (vec![2, 33, 34], found.vectors.len()));
}
