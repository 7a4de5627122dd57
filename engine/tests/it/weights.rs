//! Weight storage and config settings: read like `transformers`, or refused by name.

use std::fs;
use std::path::Path;

use engine::{Batch, Engine, EngineOptions, LoadError, ModelDir, Pooling, TextEncoder};
use serde_json::{Value, json};

use crate::checkpoint::{self, Tensor};
use crate::common::{copy_without, edit_json, embed, max_abs_difference, raw_engine, testdata};

/// Combines the tokenizer of one model with config and weights of another.
fn with_tokenizer(config: &Path, weights: &Path, name: &str) -> tempfile::TempDir {
    let copy = copy_without("beto", &["config.json", "pytorch_model.bin", "goldens.json", "goldens.safetensors"]);
    fs::copy(config, copy.path().join("config.json")).unwrap();
    fs::copy(weights, copy.path().join(name)).unwrap();
    copy
}

fn layout(name: &str) -> tempfile::TempDir {
    let folder = testdata("layouts");
    with_tokenizer(&folder.join("config.json"), &folder.join(format!("{name}.bin")), "pytorch_model.bin")
}

fn setting(name: &str) -> tempfile::TempDir {
    let folder = testdata("settings").join(name);
    with_tokenizer(&folder.join("config.json"), &folder.join("model.safetensors"), "model.safetensors")
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn rows_of(goldens: &Value) -> Vec<Vec<u32>> {
    serde_json::from_value(goldens["rows"].clone()).unwrap()
}

fn refused(dir: &Path) -> String {
    ModelDir::open(dir).unwrap_err().to_string()
}

#[test]
fn every_pytorch_storage_layout_gives_equal_weights() {
    let goldens = read_json(&testdata("layouts").join("goldens.json"));
    let rows = rows_of(&goldens);
    for (name, expected) in goldens["vectors"].as_object().unwrap() {
        let expected: Vec<Vec<f32>> = serde_json::from_value(expected.clone()).unwrap();
        let copy = layout(name);
        for (found, expected) in embed(&raw_engine(copy.path(), Pooling::Cls), &rows).iter().zip(&expected) {
            let difference = max_abs_difference(found, expected);
            assert!(difference < 1e-5, "{name}: {difference}, {found:?} for {expected:?}");
        }
    }
}

#[test]
fn an_unsupported_tensor_type_is_refused_on_open() {
    let error = refused(layout("integers").path());
    assert!(error.contains("`embeddings.word_embeddings.weight`"), "{error}");
    assert!(error.contains("stored as `torch.LongStorage`, but only f64, f32, f16 and bf16 are read"), "{error}");
    let copy = setting("modernbert_defaults");
    checkpoint::edit(&copy.path().join("model.safetensors"), |tensors| {
        let integers = vec![1; tensors["final_norm.weight"].shape[0]];
        tensors.insert("final_norm.weight".into(), Tensor::i64(&integers));
    });
    let error = refused(copy.path());
    assert!(error.contains("`final_norm.weight`") && error.contains("stored as I64"), "{error}");
}

#[test]
fn config_settings_are_applied_as_in_transformers() {
    let mut cases = 0;
    for entry in fs::read_dir(testdata("settings")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let goldens = read_json(&testdata("settings").join(&name).join("goldens.json"));
        let rows = rows_of(&goldens);
        let expected: Vec<Vec<Vec<f32>>> = serde_json::from_value(goldens["vectors"].clone()).unwrap();
        let copy = setting(&name);
        for (pooling, of) in [(Pooling::Cls, 0), (Pooling::Last, usize::MAX)] {
            let found = embed(&raw_engine(copy.path(), pooling), &rows);
            for (row, (found, tokens)) in found.iter().zip(&expected).enumerate() {
                let expected = &tokens[of.min(tokens.len() - 1)];
                let difference = max_abs_difference(found, expected);
                assert!(difference < 1e-4, "{name}, {pooling}, row {row}: {difference}, {found:?} for {expected:?}");
            }
        }
        cases += 1;
    }
    assert_eq!(cases, 11);
}

#[test]
fn unsupported_settings_are_refused_by_name_on_open() {
    let cases = [
        ("modernbert", "hidden_activation", json!("mish")),
        ("modernbert", "rope_scaling", json!({"rope_type": "linear", "factor": 2.0})),
        ("modernbert", "rope_parameters", json!({"full_attention": {"rope_type": "yarn", "factor": 4.0}})),
        ("modernbert", "rope_parameters", json!({"rope_type": "default", "rope_theta": 5.0})),
        (
            "modernbert",
            "layer_types",
            json!(["full_attention", "chunked_attention", "full_attention", "full_attention"]),
        ),
        ("modernbert", "layer_types", json!(["full_attention"])),
        ("modernbert", "head_dim", json!(16)),
        ("modernbert", "attention_bias", json!("yes")),
        ("nomic_bert", "activation_function", json!("gelu")),
        ("nomic_bert", "hidden_act", json!("quick_gelu")),
        ("nomic_bert", "rope_parameters", json!({"rope_type": "linear", "factor": 2.0, "rope_theta": 1000.0})),
        ("nomic_bert", "rotary_emb_base", json!(500)),
        ("nomic_bert", "rotary_scaling_factor", json!(2)),
        ("nomic_bert", "rotary_emb_fraction", json!(0.5)),
        ("nomic_bert", "prenorm", json!(true)),
        ("nomic_bert", "qkv_proj_bias", json!(true)),
        ("nomic_bert", "num_experts", json!(8)),
        ("nomic_bert", "n_layer", json!(3)),
        ("gte", "rope_scaling", json!({"type": "ntk", "factor": 8.0})),
        ("gte", "rope_parameters", json!({"rope_type": "linear", "rope_theta": 1000.0})),
        ("gte", "rope_parameters", json!({"rope_type": "dynamic", "factor": 2.0})),
        ("gte", "position_embedding_type", json!("relative_key")),
        ("gte_multilingual", "rope_scaling", json!({"type": "linear", "factor": 2.0})),
        ("gte_multilingual", "rope_scaling", json!({"type": "ntk", "factor": 2.0, "mixed_b": 0.625})),
        ("gte_multilingual", "rope_scaling", json!({"type": "ntk"})),
        ("gte_multilingual", "rope_scaling", json!("ntk")),
        ("gte_multilingual", "position_embedding_type", json!("absolute")),
        ("gte_multilingual", "layer_norm_type", json!("rms_norm")),
        ("gte_multilingual", "logn_attention_scale", json!(true)),
        ("gte_multilingual", "pack_qkv", json!(false)),
        ("deberta_v2", "pos_att_type", json!(["p2p"])),
        ("deberta_v2", "norm_rel_ebd", json!("batch_norm")),
        ("deberta_v2", "conv_kernel_size", json!(4)),
        ("deberta_v2", "attention_head_size", json!(16)),
        ("deberta_v2", "hidden_act", json!("tanh")),
        ("deberta_v2", "position_buckets", json!(1)),
        ("beto", "is_decoder", json!(true)),
        ("beto", "add_cross_attention", json!(true)),
        ("beto", "position_embedding_type", json!("relative_key_query")),
        ("beto", "hidden_act", json!("quick_gelu")),
        ("beto", "pruned_heads", json!({"0": [1]})),
        ("beto", "quantization_config", json!({"quant_method": "gptq"})),
        ("beto", "per_layer_config", json!({"0": {"hidden_size": 8}})),
        ("beto", "tie_word_embeddings", json!("no")),
        ("beto", "type_vocab_size", json!(0)),
        ("beto", "pad_token_id", json!(100_000)),
        ("bertin", "pad_token_id", json!(null)),
    ];
    for (model, key, value) in cases {
        let copy = copy_without(model, &[]);
        edit_json(&copy.path().join("config.json"), |config| config[key] = value.clone());
        let error = refused(copy.path());
        assert!(
            error.contains("config.json") && error.contains(&format!("`{key}")),
            "{model}, {key}: {value}: {error}"
        );
    }
}

#[test]
fn a_mixture_of_experts_is_refused_by_its_number_of_experts() {
    // The settings of nomic-embed-text-v2-moe that nomic-embed-text-v1.5 has otherwise.
    let copy = copy_without("nomic_bert", &[]);
    edit_json(&copy.path().join("config.json"), |config| {
        let moe = json!({"activation_function": "gelu", "add_moe_blocks": null, "ffn_div": 1.0, "mlp_fc1_bias": true,
            "mlp_fc2_bias": true, "moe_every_n_layers": 2, "moe_impl": "megablocks", "moe_top_k": 2, "num_experts": 8,
            "num_shared_experts": 0, "qkv_proj_bias": true, "rotary_emb_base": 10000, "type_vocab_size": 1});
        config.as_object_mut().unwrap().extend(moe.as_object().unwrap().clone());
    });
    let error = refused(copy.path());
    assert!(error.contains("`num_experts` is 8, but only `0` is supported"), "{error}");
}

#[test]
fn weights_required_by_a_setting_are_checked_on_open() {
    for (model, key, value, tensor) in [
        ("modernbert", "attention_bias", json!(true), "layers.0.attn.Wqkv.bias"),
        ("modernbert", "norm_bias", json!(true), "embeddings.norm.bias"),
        ("deberta_v2", "conv_kernel_size", json!(3), "encoder.conv.conv.weight"),
        ("deberta_v2", "position_biased_input", json!(true), "embeddings.position_embeddings.weight"),
        ("beto", "num_hidden_layers", json!(3), "encoder.layer.2.attention.self.query.weight"),
    ] {
        let copy = copy_without(model, &[]);
        edit_json(&copy.path().join("config.json"), |config| config[key] = value);
        let error = refused(copy.path());
        assert!(error.contains(&format!("weight `{tensor}`")) && error.contains("missing"), "{error}");
    }
}

#[test]
fn keys_that_change_no_vector_are_ignored() {
    let copy = copy_without("deberta_v2", &[]);
    edit_json(&copy.path().join("config.json"), |config| {
        for (key, value) in [
            ("some_key_of_tomorrow", json!({"a": 1})),
            ("hidden_dropout_prob", json!(0.9)),
            ("id2label", json!({"0": "a"})),
            ("transformers_version", json!("9.0")),
            ("position_buckets", json!(16)),
            ("pooler_hidden_act", json!("mish")),
            ("conv_kernel_size", json!(0)),
        ] {
            config[key] = value;
        }
    });
    let rows = vec![vec![1_u32, 9, 8, 2]];
    let expected = embed(&raw_engine(&testdata("deberta_v2"), Pooling::Cls), &rows);
    assert_eq!(embed(&raw_engine(copy.path(), Pooling::Cls), &rows), expected);
}

#[test]
fn weights_without_a_finite_number_are_refused_by_name() {
    let copy = copy_without("bertin", &["pytorch_model.bin"]);
    checkpoint::edit(&copy.path().join("model.safetensors"), |tensors| {
        let name = "roberta.encoder.layer.1.output.dense.weight";
        tensors.insert(name.into(), tensors[name].map(|_| f32::NAN));
    });
    let model = ModelDir::open(copy.path()).unwrap();
    let error = Engine::load(&model, &EngineOptions::default()).unwrap_err().to_string();
    assert!(error.contains("`encoder.layer.1.output.dense.weight`") && error.contains("NaN or infinite"), "{error}");
}

#[test]
fn a_zero_vector_normalises_to_nan() {
    let copy = copy_without("bertin", &["pytorch_model.bin"]);
    checkpoint::edit(&copy.path().join("model.safetensors"), |tensors| {
        for part in ["weight", "bias"] {
            let name = format!("roberta.encoder.layer.1.output.LayerNorm.{part}");
            let zeros = tensors[&name].map(|_| 0.0);
            tensors.insert(name, zeros);
        }
    });
    let rows = vec![vec![0_u32, 9, 2]];
    assert!(embed(&raw_engine(copy.path(), Pooling::Mean), &rows)[0].iter().all(|x| *x == 0.0));
    let normalised = Engine::load(&ModelDir::open(copy.path()).unwrap(), &EngineOptions::default()).unwrap();
    assert!(embed(&normalised, &rows)[0].iter().all(|x| x.is_nan()), "for the caller to reject");
}

/// Copies mBERT with an embedding table that lacks some of its tokens.
fn cut_vocabulary(size: usize) -> tempfile::TempDir {
    let copy = copy_without("mbert", &[]);
    edit_json(&copy.path().join("config.json"), |config| config["vocab_size"] = json!(size));
    checkpoint::edit(&copy.path().join("model.safetensors"), |tensors| {
        let name = "bert.embeddings.word_embeddings.weight";
        let width = tensors[name].shape[1];
        let cut = Tensor::f32(&[size, width], &tensors[name].numbers()[..size * width]);
        tensors.insert(name.into(), cut);
    });
    copy
}

#[test]
fn only_the_text_with_an_out_of_vocabulary_id_is_refused() {
    let copy = cut_vocabulary(150);
    let model = ModelDir::open(copy.path()).unwrap();
    let encoder = TextEncoder::load(&model, None, "").unwrap();
    let encoded: Vec<_> = crate::common::texts().iter().map(|text| encoder.encode_for_model(text)).collect();
    let error = encoded.iter().find_map(|row| row.as_ref().err()).expect("some text has a token that was cut");
    let message = error.to_string();
    assert!(message.contains("has the id") && message.contains("150 rows"), "{message}");
    let batch: Batch = encoded.iter().flatten().map(|row| &row.ids).collect();
    assert!(batch.rows() > 0, "other texts are as they were");
    Engine::load(&model, &EngineOptions::default()).unwrap().embed(&batch).unwrap();
}

#[test]
fn a_special_token_without_embedding_refuses_the_model() {
    let copy = cut_vocabulary(102);
    let Err(LoadError::Unsupported { what }) = ModelDir::open(copy.path()) else { panic!("[SEP] was cut") };
    assert!(what.contains("the token `[SEP]` has the id 102, but the model's table has 102 rows"), "{what}");
    assert!(what.contains("`tokenizer_config.json`"), "{what}");
}
