//! Layouts of model repositories: file sets, names, formats and defects.

use std::fs;
use std::path::Path;

use engine::{ComputeDtype, DeviceSpec, Engine, EngineOptions, ModelDir, Pooling, PoolingSource, TextEncoder};
use serde_json::json;

use crate::checkpoint::{self, Tensor};
use crate::common::{
    Goldens, copy_without, cosine, edit_json, embed, encoder, max_abs_difference, minilm, raw_engine, testdata,
    tiny_models,
};

fn load_error(dir: &Path) -> String {
    // Defects that show without reading all weights are reported when the model is opened.
    ModelDir::open(dir).and_then(|model| Engine::load(&model, &EngineOptions::default())).unwrap_err().to_string()
}

#[test]
fn a_summary_describes_the_model() {
    let beto = ModelDir::open(&testdata("beto")).unwrap().summary();
    assert_eq!((beto.architecture.as_str(), beto.native, beto.weights.as_str()), ("bert", true, "pytorch_model.bin"));
    assert_eq!((beto.pooling_source, beto.max_length, beto.dimensions), (PoolingSource::Default, 64, 32));
    assert_eq!(beto.pooling, Pooling::Cls);
    assert!(beto.modules.is_empty(), "a plain encoder");
    let camembert = ModelDir::open(&testdata("camembert")).unwrap().summary();
    assert_eq!((camembert.weights.as_str(), camembert.max_length), ("model.safetensors.index.json", 64));
    let modernbert = ModelDir::open(&testdata("modernbert")).unwrap().summary();
    assert_eq!((modernbert.native, modernbert.gpus), (true, true));
    assert!(!ModelDir::open(&testdata("deberta_v2")).unwrap().summary().native);
    let minilm = ModelDir::open(&minilm()).unwrap().summary();
    assert_eq!((minilm.pooling_source, minilm.max_length), (PoolingSource::Model, 256));
    assert_eq!(minilm.modules, ["Transformer", "Pooling (mean)", "Normalize"]);
    assert_eq!(minilm.pooling, Pooling::Mean);
    assert_eq!((minilm.hidden_size, minilm.layers, minilm.heads, minilm.intermediate), (384, 6, 12, 1536));
}

#[test]
fn safetensors_are_preferred_to_a_bin() {
    // BERTIN's .bin holds different weights, so that the parity test detects which file is read.
    let copy = copy_without("bertin", &["model.safetensors"]);
    assert_eq!(ModelDir::open(copy.path()).unwrap().summary().weights, "pytorch_model.bin");
    let rows = &Goldens::read("bertin").ids[..1];
    let from_bin = embed(&raw_engine(copy.path(), Pooling::Cls), rows);
    assert!(cosine(&from_bin[0], &Goldens::read("bertin").vectors(Pooling::Cls)[0]) < 0.99);
}

#[test]
fn a_digest_covers_only_what_determines_the_vectors() {
    let copy = copy_without("bertin", &["pytorch_model.bin", "goldens.json", "goldens.safetensors", "vocab.json"]);
    let digest = || ModelDir::open(copy.path()).unwrap().digest().unwrap();
    let original = ModelDir::open(&testdata("bertin")).unwrap().digest().unwrap();
    assert_eq!(original.len(), 64);
    assert_eq!(digest(), original, "the place, the .bin that is not read and the older vocabulary do not count");
    fs::write(copy.path().join("README.md"), "hola").unwrap();
    assert_eq!(digest(), original);
    edit_json(&copy.path().join("config.json"), |config| config["layer_norm_eps"] = json!(1e-6));
    let edited = digest();
    assert_ne!(edited, original);
    fs::write(copy.path().join("sentence_bert_config.json"), r#"{"max_seq_length": 20}"#).unwrap();
    assert_eq!(digest(), edited, "without a list of modules it is not read");
}

/// Adds sentence-transformers files to a plain model.
fn with_modules(dir: &Path, pooling: &str) {
    let modules = json!([
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]);
    fs::write(dir.join("modules.json"), modules.to_string()).unwrap();
    fs::create_dir(dir.join("1_Pooling")).unwrap();
    fs::write(dir.join("1_Pooling/config.json"), pooling).unwrap();
}

const MEAN: &str = r#"{"word_embedding_dimension": 32, "pooling_mode_mean_tokens": true}"#;

#[test]
fn digests_cover_sentence_transformers_settings_and_know_release_0_1() {
    let copy = copy_without("bertin", &["goldens.json", "goldens.safetensors"]);
    with_modules(copy.path(), MEAN);
    let digests = || ModelDir::open(copy.path()).unwrap().digests().unwrap();
    let bare = digests();
    assert_eq!(bare.of_0_1, None, "the same files");
    let file = copy.path().join("config_sentence_transformers.json");
    fs::write(&file, r#"{"prompts": {"query": "q: "}}"#).unwrap();
    let prompted = digests();
    assert_ne!(prompted.now, bare.now);
    assert_eq!(prompted.of_0_1, Some(bare.now.clone()), "release 0.1 passed over the prompts");
    fs::write(&file, r#"{"prompts": {"query": "query: "}}"#).unwrap();
    assert_ne!(digests().now, prompted.now);
    fs::remove_file(&file).unwrap();
    let length = r#"{"processing_kwargs": {"text": {"max_length": 8}}}"#;
    fs::write(copy.path().join("sentence_bert_config.json"), length).unwrap();
    assert_ne!(digests().now, bare.now);
    assert_eq!(digests().of_0_1, None, "release 0.1 made something else of it");
}

#[test]
fn excluded_prompt_tokens_are_counted_as_in_python() {
    let copy = copy_without("beto", &[]);
    with_modules(copy.path(), MEAN);
    let excluded = |prefix: &str| {
        let model = ModelDir::open(copy.path()).unwrap();
        TextEncoder::load(&model, Some(8), prefix).unwrap().excluded_prefix_tokens()
    };
    assert_eq!(excluded("hola mundo "), 0);
    let pooling = MEAN.replace('}', r#", "include_prompt": false}"#);
    fs::write(copy.path().join("1_Pooling/config.json"), pooling).unwrap();
    let alone = encoder(copy.path(), None).encode("hola mundo ").unwrap().ids.len();
    assert_eq!(excluded(""), 0);
    assert_eq!(excluded("hola mundo "), alone - 1, "the special token before it, and not the one after it");
    assert_eq!(excluded(&"hola mundo ".repeat(9)), 7, "cut as any text");
}

#[test]
fn an_excluded_prompt_still_affects_the_tokens_after_it() {
    let copy = copy_without("beto", &[]);
    with_modules(copy.path(), &MEAN.replace('}', r#", "include_prompt": false}"#));
    let model = ModelDir::open(copy.path()).unwrap();
    let (bare, prompted) = (encoder(copy.path(), None), TextEncoder::load(&model, None, "hola mundo ").unwrap());
    let options = EngineOptions { pooling: Some(Pooling::Cls), ..EngineOptions::default() };
    let engine = Engine::load(&model, &options).unwrap();
    let of = |engine: &Engine, encoder: &TextEncoder| embed(engine, &[encoder.encode("árbol").unwrap().ids]).remove(0);
    let (first, with_prompt) = (of(&engine, &bare), of(&engine, &prompted));
    let engine = engine.with_excluded_prefix(prompted.excluded_prefix_tokens());
    let excluded = of(&engine, &prompted);
    assert!(cosine(&excluded, &first) < 0.999 && cosine(&excluded, &with_prompt) < 0.999);
    assert!(excluded.iter().all(|x| x.is_finite()));
}

#[test]
fn the_models_own_norm_precedes_truncation_of_dimensions() {
    let copy = copy_without("beto", &[]);
    with_modules(copy.path(), MEAN);
    let raw = |dimensions| {
        let options = EngineOptions { normalize: false, dimensions, ..EngineOptions::default() };
        embed(&Engine::load(&ModelDir::open(copy.path()).unwrap(), &options).unwrap(), &[vec![4, 9, 5]]).remove(0)
    };
    let plain = raw(None);
    edit_json(&copy.path().join("modules.json"), |modules| {
        let normalize =
            json!({"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"});
        modules.as_array_mut().unwrap().push(normalize);
    });
    let norm = plain.iter().map(|x| x * x).sum::<f32>().sqrt();
    let expected: Vec<f32> = plain[..10].iter().map(|x| x / norm).collect();
    assert!(max_abs_difference(&raw(Some(10)), &expected) < 1e-6 && norm > 1.1);
}

#[test]
fn the_models_own_pooling_and_length_are_the_defaults() {
    let copy = copy_without("beto", &[]);
    with_modules(copy.path(), MEAN);
    fs::write(copy.path().join("sentence_bert_config.json"), r#"{"max_seq_length": 20}"#).unwrap();
    let model = ModelDir::open(copy.path()).unwrap();
    assert_eq!(model.summary().pooling, Pooling::Mean);
    assert_eq!(model.summary().max_length, 20);
    assert_eq!(*Engine::load(&model, &EngineOptions::default()).unwrap().pooling(), Pooling::Mean);
    let options = EngineOptions { pooling: Some(Pooling::Cls), ..EngineOptions::default() };
    assert_eq!(*Engine::load(&model, &options).unwrap().pooling(), Pooling::Cls, "an option wins");
    assert_eq!(TextEncoder::load(&model, None, "").unwrap().max_length(), 20);
    assert_eq!(TextEncoder::load(&model, Some(1000), "").unwrap().max_length(), 64, "clamped to the positions");
}

#[test]
fn errors_name_the_missing_file() {
    let missing = |model: &str, excluded: &[&str]| {
        let copy = copy_without(model, excluded);
        (ModelDir::open(copy.path()).unwrap_err().to_string(), copy)
    };
    assert!(missing("beto", &["config.json"]).0.contains("no `config.json`"));
    assert!(missing("beto", &["pytorch_model.bin"]).0.contains("neither `model.safetensors` nor `pytorch_model.bin`"));
    let (error, copy) = missing("beto", &["tokenizer.json", "vocab.txt"]);
    assert!(error.contains("no `tokenizer.json`, no `vocab.txt`"), "{error}");
    fs::write(copy.path().join("sentencepiece.bpe.model"), "").unwrap();
    let error = ModelDir::open(copy.path()).unwrap_err().to_string();
    assert!(error.contains("`sentencepiece.bpe.model` alone is not enough: save a `tokenizer.json`"), "{error}");
    fs::remove_file(copy.path().join("pytorch_model.bin")).unwrap();
    fs::write(copy.path().join("tf_model.h5"), "").unwrap();
    let error = ModelDir::open(copy.path()).unwrap_err().to_string();
    assert!(error.contains("`tf_model.h5` cannot be read"), "{error}");
    let error = ModelDir::open(Path::new("/nowhere/at/all")).unwrap_err().to_string();
    assert!(error.contains("no such directory"), "{error}");
}

#[test]
fn weights_that_do_not_fit_the_config_are_named() {
    let copy = copy_without("beto", &[]);
    let config = copy.path().join("config.json");
    edit_json(&config, |config| config["intermediate_size"] = json!(128));
    let error = load_error(copy.path());
    assert!(error.contains("`encoder.layer.0.intermediate.dense.weight`"), "{error}");
    assert!(error.contains("shape [128, 32], the file has [64, 32]"), "{error}");
    edit_json(&config, |config| {
        config["intermediate_size"] = json!(64);
        config["num_hidden_layers"] = json!(3);
    });
    let error = load_error(copy.path());
    assert!(error.contains("`encoder.layer.2.attention.self.query.weight`") && error.contains("missing"), "{error}");
    edit_json(&config, |config| config["vocab_size"] = json!(4_000_000_000_u32));
    assert!(load_error(copy.path()).contains("word_embeddings"), "a huge claim allocates nothing");
}

#[test]
fn weights_of_another_architecture_are_named_in_the_error() {
    let copy = copy_without("beto", &["pytorch_model.bin"]);
    let tensors = [("conv.weight".to_string(), Tensor::f32(&[2, 2], &[0.0; 4]))].into();
    checkpoint::save(&tensors, &copy.path().join("model.safetensors"));
    let error = load_error(copy.path());
    assert!(error.contains("missing under every known prefix") && error.contains("conv.weight"), "{error}");
}

#[test]
fn damaged_weights_are_refused_with_a_likely_cause() {
    let cases: [(&str, &[u8], &str); 8] = [
        ("model.safetensors", b"", "empty"),
        (
            "model.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
            "Git LFS pointer",
        ),
        ("model.safetensors", b"<!DOCTYPE html><html></html>", "HTML page"),
        ("model.safetensors", b"\x10\0\0\0\0\0\0\0not json at all!", "header is damaged"),
        ("model.safetensors", b"\xff\xff\xff\xff\xff\xff\xff\x7f", "not a safetensors file"),
        ("pytorch_model.bin", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", "its pickle is truncated"),
        ("pytorch_model.bin", b"PK\x03\x04 and then nothing", "not a PyTorch checkpoint"),
        ("pytorch_model.bin", b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
    ];
    for (name, content, expected) in cases {
        let copy = copy_without("beto", &["pytorch_model.bin"]);
        fs::write(copy.path().join(name), content).unwrap();
        let error = load_error(copy.path());
        assert!(error.contains(expected) && error.contains(name), "{name}: {error}");
    }
}

#[test]
fn truncated_weights_are_refused() {
    let copy = copy_without("bertin", &[]);
    for name in ["model.safetensors", "pytorch_model.bin"] {
        let path = copy.path().join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 100]).unwrap();
        let error = load_error(copy.path());
        assert!(error.contains(name), "{error}");
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_malicious_pickle_executes_nothing() {
    // The same checkpoint, with a tensor list that calls `os.system("touch …")` when unpickled.
    let copy = copy_without("beto", &["pytorch_model.bin"]);
    let witness = copy.path().join("witness");
    let command = format!("touch {}", witness.display());
    let mut pickle = b"\x80\x02cos\nsystem\nX".to_vec();
    pickle.extend((command.len() as u32).to_le_bytes());
    pickle.extend(command.as_bytes());
    pickle.extend(b"\x85R.");
    fs::write(copy.path().join("pytorch_model.bin"), stored_zip("archive/data.pkl", &pickle)).unwrap();
    let error = load_error(copy.path());
    assert!(error.contains("it lists no tensors"), "{error}");
    assert!(!witness.exists());
}

/// A zip archive of one uncompressed file.
fn stored_zip(name: &str, content: &[u8]) -> Vec<u8> {
    let crc = content.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    });
    let (size, name_size) = ((content.len() as u32).to_le_bytes(), (name.len() as u16).to_le_bytes());
    let sizes = [&(!crc).to_le_bytes()[..], &size, &size, &name_size].concat();
    let mut zip = [&b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0"[..], &sizes, &[0, 0], name.as_bytes(), content].concat();
    let directory_at = zip.len() as u32;
    zip.extend([&b"PK\x01\x02\x14\0\x14\0\0\0\0\0\0\0\0\0"[..], &sizes, &[0; 16], name.as_bytes()].concat());
    let directory_size = zip.len() as u32 - directory_at;
    zip.extend(
        [&b"PK\x05\x06\0\0\0\0\x01\0\x01\0"[..], &directory_size.to_le_bytes(), &directory_at.to_le_bytes(), &[0, 0]]
            .concat(),
    );
    zip
}

#[test]
fn unsupported_devices_and_dtypes_are_refused() {
    let model = ModelDir::open(&testdata("beto")).unwrap();
    let refused = |device, dtype| {
        Engine::load(&model, &EngineOptions { device, dtype, ..EngineOptions::default() }).unwrap_err().to_string()
    };
    assert!(
        refused(DeviceSpec::Cpu, ComputeDtype::F16).contains("dtype `f16` on device `cpu`; supported there: `f32`")
    );
    assert!(refused(DeviceSpec::Cuda(0), ComputeDtype::F32).contains("device `cuda:0`"));
    let options = EngineOptions { dimensions: Some(33), ..EngineOptions::default() };
    assert!(Engine::load(&model, &options).unwrap_err().to_string().contains("33 dimensions of vectors that have 32"));
    let deberta = ModelDir::open(&testdata("deberta_v2")).unwrap();
    let options = EngineOptions { dtype: ComputeDtype::Int8, ..EngineOptions::default() };
    let error = Engine::load(&deberta, &options).unwrap_err().to_string();
    assert!(error.contains("dtype `int8` of the architecture `deberta-v2`; supported: `f32`"), "{error}");
    for (name, architecture, native) in
        [("t5", "t5", true), ("mt5", "mt5", true), ("umt5", "umt5", true), ("deberta_v2", "deberta-v2", false)]
    {
        let model = ModelDir::open(&testdata(name)).unwrap();
        assert_eq!((model.summary().native, model.summary().gpus), (native, false), "{name}");
        let options = EngineOptions { device: DeviceSpec::Cuda(0), ..EngineOptions::default() };
        let error = Engine::load(&model, &options).unwrap_err().to_string();
        let expected = format!("the architecture `{architecture}` on device `cuda:0`; it runs on `cpu`");
        assert!(error.contains(&expected), "{error}");
    }
}

#[test]
fn activation_and_epsilon_follow_the_config() {
    // Each edit must change the vectors, to detect a forward pass that ignores the config.
    let rows = &Goldens::read("bertin").ids[..3];
    let expected = embed(&raw_engine(&testdata("bertin"), Pooling::Mean), rows);
    for (field, value) in
        [("hidden_act", json!("relu")), ("hidden_act", json!("gelu_new")), ("layer_norm_eps", json!(0.01))]
    {
        let copy = copy_without("bertin", &[]);
        edit_json(&copy.path().join("config.json"), |config| config[field] = value);
        let found = embed(&raw_engine(copy.path(), Pooling::Mean), rows);
        let difference = crate::common::max_abs_difference(&found[0], &expected[0]);
        assert!(difference > 1e-5, "{field}: {difference}");
    }
}

#[test]
fn every_tiny_model_has_goldens_for_every_text() {
    for name in &tiny_models() {
        assert_eq!(Goldens::read(name).ids.len(), crate::common::texts().len(), "{name}");
    }
}
