//! Modules of sentence-transformers: Dense, LayerNorm, joined poolings, StaticEmbedding.

use std::fs;
use std::path::Path;

use engine::{
    Batch, ComputeDtype, DeviceSpec, Engine, EngineOptions, MaskFiller, ModelDir, NO_MAX_LENGTH, Pooling, TextEncoder,
};
use serde_json::json;

use crate::checkpoint::{self, Tensor};
use crate::common::{copy_tree, copy_without, cosine, edit_json, embed, encoder, max_abs_difference, testdata, texts};

#[derive(serde::Deserialize)]
struct Golden {
    ids: Vec<u32>,
    vector: Vec<f32>,
}

/// The results of sentence-transformers for the texts, without a norm of the caller's.
fn goldens(name: &str) -> Vec<Golden> {
    serde_json::from_slice(&fs::read(testdata(name).join("goldens-sentence.json")).unwrap()).unwrap()
}

fn raw() -> EngineOptions {
    EngineOptions { normalize: false, ..EngineOptions::default() }
}

fn load(dir: &Path, options: &EngineOptions) -> Engine {
    Engine::load(&ModelDir::open(dir).unwrap(), options).unwrap()
}

fn copy(name: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_tree(&testdata(name), copy.path(), &[]);
    copy
}

fn open_error(dir: &Path) -> String {
    ModelDir::open(dir).unwrap_err().to_string()
}

#[test]
fn models_with_modules_agree_with_sentence_transformers() {
    for name in ["distiluse", "static_embedding", "sentence_t5"] {
        let (encoder, engine, goldens) = (encoder(&testdata(name), None), load(&testdata(name), &raw()), goldens(name));
        let ids: Vec<Vec<u32>> = texts().iter().map(|text| encoder.encode(text).unwrap().ids).collect();
        let together = embed(&engine, &ids);
        for (row, golden) in goldens.iter().enumerate() {
            assert_eq!(ids[row], golden.ids, "{name}, text {row}");
            let alone = embed(&engine, &ids[row..=row]).remove(0);
            assert!(max_abs_difference(&alone, &together[row]) <= 1e-5, "{name}, text {row}");
            let difference = max_abs_difference(&alone, &golden.vector);
            assert!(difference < 1e-5, "{name}, text {row}: difference {difference}");
        }
    }
}

#[test]
fn the_dimensions_are_those_after_dense() {
    let model = ModelDir::open(&testdata("distiluse")).unwrap();
    let summary = model.summary();
    assert_eq!((summary.hidden_size, summary.dimensions, summary.max_length), (32, 24, 48));
    assert_eq!(summary.modules, ["Transformer", "Pooling (mean)", "Dense (32 to 24, Tanh)"]);
    let rows = [goldens("distiluse").remove(0).ids];
    let whole = embed(&load(&testdata("distiluse"), &raw()), &rows).remove(0);
    let short = embed(&load(&testdata("distiluse"), &EngineOptions { dimensions: Some(10), ..raw() }), &rows).remove(0);
    assert_eq!(short, whole[..10]);
    let too_many = Engine::load(&model, &EngineOptions { dimensions: Some(25), ..raw() }).unwrap_err().to_string();
    assert!(too_many.contains("25 dimensions of vectors that have 24"), "{too_many}");
    let other = embed(&load(&testdata("distiluse"), &EngineOptions { pooling: Some(Pooling::Max), ..raw() }), &rows);
    assert!(other[0].len() == 24 && cosine(&other[0], &whole) < 0.99);
}

#[test]
fn dense_is_as_exact_in_every_number_format() {
    let goldens = goldens("distiluse");
    let rows: Vec<Vec<u32>> = goldens.iter().map(|golden| golden.ids.clone()).collect();
    for dtype in [ComputeDtype::Bf16, ComputeDtype::Int8] {
        let engine = load(&testdata("distiluse"), &EngineOptions { dtype, ..raw() });
        for (row, (found, golden)) in embed(&engine, &rows).iter().zip(&goldens).enumerate() {
            let cosine = cosine(found, &golden.vector);
            assert!(cosine >= 0.99999, "{dtype}, text {row}: cosine {cosine}");
        }
    }
}

#[test]
fn modules_that_do_not_fit_are_refused_when_the_model_is_opened() {
    let model = copy("distiluse");
    let dense = model.path().join("2_Dense/config.json");
    edit_json(&dense, |config| config["in_features"] = json!(31));
    assert!(open_error(model.path()).contains("weight `linear.weight` in"));
    edit_json(&dense, |config| config["in_features"] = json!(32));
    let pooling = model.path().join("1_Pooling/config.json");
    edit_json(&pooling, |config| config["pooling_mode_max_tokens"] = json!(true));
    let error = open_error(model.path());
    assert!(error.contains("2_Dense/config.json`: `in_features` is 32, but vectors of 64"), "{error}");
    fs::remove_file(model.path().join("2_Dense/model.safetensors")).unwrap();
    assert!(open_error(model.path()).contains("neither `model.safetensors` nor `pytorch_model.bin`"));
}

#[test]
fn the_digest_covers_the_weights_of_dense() {
    let model = copy("distiluse");
    let digest = || ModelDir::open(model.path()).unwrap().digests().unwrap();
    let before = digest();
    assert_eq!(before.of_0_1, None, "release 0.1 had no Dense");
    let path = model.path().join("2_Dense/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_ne!(digest().now, before.now);
}

#[test]
fn joined_poolings_are_side_by_side_and_a_choice_replaces_them() {
    let model = copy("distiluse");
    edit_json(&model.path().join("modules.json"), |modules| {
        modules.as_array_mut().unwrap().pop();
    });
    let pooling = json!({"embedding_dimension": 32, "pooling_mode": ["max", "cls", "weightedmean"]});
    fs::write(model.path().join("1_Pooling/config.json"), pooling.to_string()).unwrap();
    let rows = [goldens("distiluse").remove(0).ids];
    let joined = load(model.path(), &raw());
    assert_eq!((joined.dimensions(), joined.pooling().to_string()), (96, "max+cls+weightedmean".to_owned()));
    let vector = embed(&joined, &rows).remove(0);
    for (place, pooling) in [Pooling::Max, Pooling::Cls].into_iter().enumerate() {
        let chosen = load(model.path(), &EngineOptions { pooling: Some(pooling), ..raw() });
        assert_eq!(chosen.dimensions(), 32);
        let part = &vector[place * 32..][..32];
        assert!(max_abs_difference(&embed(&chosen, &rows)[0], part) < 1e-5, "{pooling}");
    }
    assert_eq!(ModelDir::open(model.path()).unwrap().dimensions(Some(Pooling::Last)).unwrap(), 32);
}

#[test]
fn a_static_embedding_takes_texts_of_any_length_and_none() {
    let model = ModelDir::open(&testdata("static_embedding")).unwrap();
    let summary = model.summary();
    assert_eq!((summary.architecture.as_str(), summary.native, summary.gpus), ("static-embedding", false, false));
    assert_eq!((summary.dimensions, summary.layers, summary.special_tokens), (16, 0, 0));
    assert_eq!(
        (summary.max_length, summary.modules.as_slice()),
        (NO_MAX_LENGTH, ["StaticEmbedding".to_owned()].as_slice())
    );
    assert_eq!(summary.weights, "0_StaticEmbedding/model.safetensors");
    let encoder = TextEncoder::load(&model, None, "").unwrap();
    let long = encoder.encode(&"hola ".repeat(5000)).unwrap();
    assert!(long.ids.len() >= 5000 && !long.truncated);
    let nothing = encoder.encode("").unwrap().ids;
    assert!(nothing.is_empty(), "no special tokens");
    let engine = Engine::load(&model, &raw()).unwrap();
    assert_eq!(embed(&engine, &[nothing])[0], [0.0; 16], "as sentence-transformers has it");
    let short = TextEncoder::load(&model, Some(3), "hola ").unwrap().encode("mundo cruel").unwrap();
    assert!(short.ids.len() == 3 && short.truncated);
    assert!(engine.embed(&[vec![9999]].iter().collect::<Batch>()).is_err());
}

#[test]
fn a_static_embedding_refuses_what_it_cannot_do() {
    let model = ModelDir::open(&testdata("static_embedding")).unwrap();
    let error = |options: EngineOptions| Engine::load(&model, &options).unwrap_err().to_string();
    assert!(
        error(EngineOptions { pooling: Some(Pooling::Cls), ..raw() }).contains("pooling `cls` of a StaticEmbedding")
    );
    assert!(Engine::load(&model, &EngineOptions { pooling: Some(Pooling::Mean), ..raw() }).is_ok());
    assert!(error(EngineOptions { dtype: ComputeDtype::Bf16, ..raw() }).contains("supported: `f32`"));
    assert!(error(EngineOptions { device: DeviceSpec::Cuda(0), ..raw() }).contains("it runs on `cpu`"));
    assert!(MaskFiller::load(&model).unwrap_err().to_string().contains("StaticEmbedding"));
    let copy = copy("static_embedding");
    fs::remove_file(copy.path().join("0_StaticEmbedding/tokenizer.json")).unwrap();
    assert!(open_error(copy.path()).contains("it has no `tokenizer.json`"));
}

#[test]
fn a_static_embedding_truncates_only_where_its_tokenizer_says_so() {
    let model = copy("static_embedding");
    edit_json(&model.path().join("0_StaticEmbedding/tokenizer.json"), |tokenizer| {
        tokenizer["truncation"] =
            json!({"direction": "Left", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
    });
    let found = encoder(model.path(), None).encode(&texts()[0]).unwrap();
    let whole = &goldens("static_embedding")[0].ids;
    assert_eq!((found.ids.as_slice(), found.truncated), (&whole[whole.len() - 4..], true));
}

#[test]
fn the_tensors_of_model2vec_are_read_too() {
    let model = copy("static_embedding");
    let path = model.path().join("0_StaticEmbedding/model.safetensors");
    let save = |tensors: &[(&str, Tensor)]| {
        let named = tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone()));
        checkpoint::save(&named.collect(), &path);
    };
    let table = checkpoint::load(&path).remove("embedding.weight").unwrap();
    let rows: Vec<Vec<u32>> = goldens("static_embedding").into_iter().take(4).map(|golden| golden.ids).collect();
    let vectors = || embed(&load(model.path(), &raw()), &rows);
    let expected = vectors();
    save(&[("embeddings", table.clone())]);
    assert_eq!(vectors(), expected);
    // Rows stored backwards, each at half its length.
    let (count, width) = (table.shape[0], table.shape[1]);
    let numbers: Vec<f32> = table.numbers().chunks_exact(width).rev().flatten().map(|number| number * 0.5).collect();
    let stored = Tensor::f32(&table.shape, &numbers);
    let mapping = Tensor::i64(&(0..count as i64).rev().collect::<Vec<_>>());
    let factors = Tensor::f64(&vec![2.0; count]);
    save(&[("embeddings", stored.clone()), ("mapping", mapping), ("weights", factors)]);
    assert_eq!(vectors(), expected);
    let beyond = Tensor::i64(&[count as i64; 3]);
    save(&[("embeddings", stored), ("mapping", beyond)]);
    let error = Engine::load(&ModelDir::open(model.path()).unwrap(), &raw()).unwrap_err().to_string();
    assert!(error.contains("weight `mapping`") && error.contains("token 0 has row"), "{error}");
}

#[test]
fn a_model_of_model2vec_without_a_list_of_modules_is_refused_by_name() {
    let copy = copy_without("distilbert", &["config.json"]);
    fs::write(copy.path().join("config.json"), r#"{"model_type": "model2vec"}"#).unwrap();
    assert!(open_error(copy.path()).contains("unknown architecture `model2vec`"));
}
