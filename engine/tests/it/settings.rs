//! Tokenizer settings are applied like `transformers` and `sentence-transformers` do, or refused by name. Combinations
//! with reference ids are in the goldens.

use std::path::Path;

use engine::ModelDir;
use serde_json::json;

use crate::common::{change, copy_without, encoder, testdata};

fn ids(dir: &Path, text: &str) -> Vec<u32> {
    encoder(dir, None).encode(text).unwrap().ids
}

fn refusal(model: &str, file: &str, key: &str, value: serde_json::Value) -> String {
    let copy = copy_without(model, &[]);
    change(copy.path(), file, |json| json[key] = value);
    ModelDir::open(copy.path()).unwrap_err().to_string()
}

#[test]
fn tokenizer_json_presets_the_truncation_side_but_not_the_length() {
    let copy = copy_without("beto", &[]);
    change(copy.path(), "tokenizer.json", |json| {
        json["truncation"] = json!({"direction": "Left", "max_length": 8, "strategy": "LongestFirst", "stride": 0});
    });
    let text = "uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece";
    let all = ids(&testdata("beto"), text);
    assert_eq!(ids(copy.path(), text), all, "a text that fits is not cut at the preset length");
    let cut = encoder(copy.path(), Some(7)).encode(text).unwrap().ids;
    assert_eq!(cut[1..], all[all.len() - 6..], "the end is kept");
    change(copy.path(), "tokenizer_config.json", |config| config["truncation_side"] = json!("right"));
    let cut = encoder(copy.path(), Some(7)).encode(text).unwrap().ids;
    assert_eq!(cut[..6], all[..6], "the config wins over the preset");
}

#[test]
fn do_lower_case_keeps_special_tokens() {
    let copy = copy_without("beto", &[]);
    let modules = json!([{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]);
    change(copy.path(), "modules.json", |json| *json = modules);
    std::fs::create_dir(copy.path().join("1_Pooling")).unwrap();
    change(copy.path(), "1_Pooling/config.json", |json| {
        *json = json!({"embedding_dimension": 32, "pooling_mode_mean_tokens": true});
    });
    change(copy.path(), "sentence_bert_config.json", |json| json["do_lower_case"] = json!(true));
    assert_eq!(ids(copy.path(), "HOLA [SEP] Mundo [MASK]"), ids(&testdata("beto"), "hola [SEP] mundo [MASK]"));
    let long = format!("{} FIN", "aB3".repeat(1_000_000));
    let start = std::time::Instant::now();
    assert_eq!(ids(copy.path(), &long), ids(&testdata("beto"), &format!("{} fin", "aB3".repeat(2000))));
    assert!(start.elapsed().as_millis() < 1500, "an endless word still costs milliseconds: {:?}", start.elapsed());
}

#[test]
fn a_class_with_rules_in_code_is_refused_by_name() {
    for class in ["BertJapaneseTokenizer", "BertweetTokenizer", "CLIPTokenizerFast", "PhobertTokenizer", "EsmTokenizer"]
    {
        let error = refusal("mbert", "tokenizer_config.json", "tokenizer_class", json!(class));
        assert!(error.contains("tokenizer_config.json") && error.contains(class), "{error}");
    }
    let error = refusal("mbert", "config.json", "tokenizer_class", json!("BertJapaneseTokenizer"));
    assert!(error.contains("`config.json`: `tokenizer_class` is `BertJapaneseTokenizer`"), "{error}");
}

#[test]
fn a_setting_of_the_wrong_type_is_refused_by_name() {
    let config = "tokenizer_config.json";
    for (key, value) in [
        ("do_lower_case", json!("yes")),
        ("strip_accents", json!(1)),
        ("tokenize_chinese_chars", json!(null)),
        ("split_special_tokens", json!("no")),
        ("truncation_side", json!("middle")),
        ("padding_side", json!(null)),
        ("model_max_length", json!("512")),
        ("cls_token", json!(null)),
        ("mask_token", json!({"content": "[MASK]"})),
        ("extra_special_tokens", json!([{"content": "<url>"}])),
        ("added_tokens_decoder", json!({"x": {"content": "<url>"}})),
        ("init_inputs", json!(["vocab.txt"])),
        ("vocab", json!({})),
        ("fast_tokenizer_files", json!(["tokenizer.4.0.0.json"])),
    ] {
        let error = refusal("mbert", config, key, value);
        assert!(error.contains(config) && error.contains(key), "{key}: {error}");
    }
}

#[test]
fn a_class_that_cannot_read_the_vocabulary_is_refused() {
    let error = refusal("mbert", "tokenizer_config.json", "tokenizer_class", json!("XLMRobertaTokenizer"));
    assert!(error.contains("`XLMRobertaTokenizer` needs pieces with scores"), "{error}");
    let copy = copy_without("mbert", &["tokenizer.json"]);
    change(copy.path(), "tokenizer_config.json", |config| config["tokenizer_class"] = json!("RobertaTokenizer"));
    let error = ModelDir::open(copy.path()).unwrap_err().to_string();
    assert!(error.contains("vocab.txt") && error.contains("`RobertaTokenizer`"), "{error}");
}

#[test]
fn token_types_and_random_merges_are_refused() {
    let copy = copy_without("distilbert", &[]);
    change(copy.path(), "tokenizer.json", |json| {
        for piece in json["post_processor"]["single"].as_array_mut().unwrap() {
            piece.as_object_mut().unwrap().values_mut().for_each(|piece| piece["type_id"] = json!(1));
        }
    });
    let error = ModelDir::open(copy.path()).unwrap_err().to_string();
    assert!(error.contains("`tokenizer.json`: its `post_processor`"), "{error}");
    let copy = copy_without("modernbert", &[]);
    change(copy.path(), "tokenizer.json", |json| json["model"]["dropout"] = json!(0.1));
    let error = ModelDir::open(copy.path()).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json") && error.contains("`dropout`"), "{error}");
}

#[test]
fn older_files_are_read_only_without_added_tokens_decoder() {
    let copy = copy_without("mbert", &[]);
    let digest = || ModelDir::open(copy.path()).unwrap().digest().unwrap();
    let (plain, before) = (ids(copy.path(), "uno <url> dos"), digest());
    change(copy.path(), "special_tokens_map.json", |map| map["extra_special_tokens"] = json!(["<url>"]));
    let with_map = ids(copy.path(), "uno <url> dos");
    assert!(with_map.len() < plain.len(), "one token: {with_map:?}");
    assert_ne!(digest(), before);
    change(copy.path(), "tokenizer_config.json", |config| config["added_tokens_decoder"] = json!({}));
    assert_eq!(ids(copy.path(), "uno <url> dos"), plain);
}

#[test]
fn the_maximum_length_follows_the_tokenizer_config() {
    for (key, value, expected) in
        [("model_max_length", json!(16.0), 16), ("max_len", json!(10), 10), ("model_max_length", json!(1e30), 64)]
    {
        let copy = copy_without("mbert", &[]);
        change(copy.path(), "tokenizer_config.json", |config| *config = json!({"do_lower_case": true, key: value}));
        assert_eq!(encoder(copy.path(), None).max_length(), expected, "{key}");
    }
}

#[test]
fn special_tokens_alone_decode_to_nothing() {
    let copy = copy_without("xlm_roberta", &[]);
    change(copy.path(), "tokenizer_config.json", |config| config["tokenizer_class"] = json!("HerbertTokenizer"));
    let encoder = encoder(copy.path(), None);
    assert_eq!(encoder.decode(&encoder.encode("").unwrap().ids).unwrap(), "");
}
