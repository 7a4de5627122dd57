//! The settings of the Transformer module: `sentence_bert_config.json` or its older names.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::settings::{self, Rule, Table};
use crate::LoadError;
use crate::config::read_json_object;

/// The file's names, in the order in which sentence-transformers tries them.
const FILES: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

const TRANSFORMER: Table = &[
    ("max_seq_length", Rule::Read),
    ("do_lower_case", Rule::Read),
    ("transformer_task", Rule::Only(&[r#""feature-extraction""#])),
    ("modality_config", Rule::Read),
    ("module_output_name", Rule::Read),
    ("processing_kwargs", Rule::Object(PROCESSING)),
    ("processor_kwargs", Rule::Object(PROCESSOR)),
    ("tokenizer_args", Rule::Object(PROCESSOR)),
    ("model_kwargs", Rule::Object(MODEL)),
    ("model_args", Rule::Object(MODEL)),
    ("config_kwargs", Rule::Object(CONFIG)),
    ("config_args", Rule::Object(CONFIG)),
    // Only affects batching.
    ("unpad_inputs", Rule::NoEffect),
    // Lengths of Python's `encode_query` and `encode_document`, not of `encode`.
    ("query_length", Rule::NoEffect),
    ("document_length", Rule::NoEffect),
    ("query_expansion", Rule::Only(&["null"])),
    ("tokenizer_name_or_path", Rule::Only(&["null"])),
    // Chosen by the caller in Python too.
    ("backend", Rule::NoEffect),
    ("cache_dir", Rule::NoEffect),
];

/// Keys about the origin of files, which Python overwrites with its caller's arguments.
macro_rules! hub_keys {
    ($($key:expr),* $(,)?) => {
        &[
            ("subfolder", Rule::NoEffect),
            ("token", Rule::NoEffect),
            ("cache_dir", Rule::NoEffect),
            ("revision", Rule::NoEffect),
            ("local_files_only", Rule::NoEffect),
            ("trust_remote_code", Rule::NoEffect),
            $($key),*
        ]
    };
}

/// Arguments of `AutoModel.from_pretrained`.
const MODEL: Table = hub_keys![
    ("attn_implementation", Rule::Only(&["null", r#""eager""#, r#""sdpa""#])),
    ("add_pooling_layer", Rule::Only(&["true", "false"])),
    ("dtype", Rule::Only(&["null", r#""auto""#, r#""float32""#])),
    ("low_cpu_mem_usage", Rule::NoEffect),
    ("torch_dtype", Rule::Only(&["null", r#""auto""#, r#""float32""#])),
];

/// Arguments of the tokenizer's loading, which override its files.
const PROCESSOR: Table = hub_keys![("model_max_length", Rule::Read), ("use_fast", Rule::NoEffect)];

/// Arguments of the config's loading, which override its file.
const CONFIG: Table = hub_keys![("use_cache", Rule::NoEffect)];

/// Arguments of the tokenizer's calls.
const PROCESSING: Table = &[
    ("text", Rule::Object(PROCESSING_TEXT)),
    ("common", Rule::Object(&[("return_tensors", Rule::Only(&[r#""pt""#]))])),
    // Only for inputs that no supported model has.
    ("audio", Rule::NoEffect),
    ("image", Rule::NoEffect),
    ("video", Rule::NoEffect),
    ("chat_template", Rule::NoEffect),
];

const PROCESSING_TEXT: Table = &[
    ("max_length", Rule::Read),
    ("padding", Rule::Only(&["true", r#""longest""#, r#""max_length""#])),
    ("truncation", Rule::Only(&["true", r#""longest_first""#, r#""only_first""#])),
    ("add_special_tokens", Rule::Only(&["true"])),
    ("padding_side", Rule::Only(&["null", r#""right""#])),
    ("return_attention_mask", Rule::Only(&["null", "true"])),
    ("return_token_type_ids", Rule::Only(&["null", "true", "false"])),
];

/// The output used as token vectors: the last layer's.
const MODALITY_TEXT: Table = &[
    ("method", Rule::Only(&[r#""forward""#])),
    ("method_output_name", Rule::Only(&[r#""last_hidden_state""#, r#"["last_hidden_state"]"#])),
    ("format", Rule::NoEffect),
];

/// The settings that apply.
#[derive(Debug, Default)]
pub(super) struct Transformer {
    /// Maximum input in tokens, if stated.
    pub(super) max_seq_length: Option<usize>,
    /// Whether texts are lowercased before tokenization.
    pub(super) do_lower_case: bool,
    pub(super) file: Option<PathBuf>,
    /// Whether release 0.1, which read two keys of the first file, gave the same vectors.
    pub(super) as_0_1: bool,
}

/// Returns the file that release 0.1 read.
pub(super) fn first_file(dir: &Path) -> Option<PathBuf> {
    FILES.map(|name| dir.join(name)).into_iter().find(|path| path.is_file())
}

/// Reads the settings in the encoder's directory. An empty file is ignored, as in Python.
pub(super) fn read(dir: &Path) -> Result<Transformer, LoadError> {
    for path in FILES.map(|name| dir.join(name)).into_iter().filter(|path| path.is_file()) {
        let map = read_json_object(&path)?;
        if map.is_empty() {
            continue;
        }
        settings::check(&path, "", TRANSFORMER, &map)?;
        check_modalities(&path, &map)?;
        let max_seq_length = max_seq_length(&path, &map)?;
        let read_by_0_1 = map.get("max_seq_length").and_then(Value::as_u64);
        return Ok(Transformer {
            max_seq_length,
            as_0_1: first_file(dir).as_ref() == Some(&path)
                && read_by_0_1 == max_seq_length.map(|length| length as u64),
            do_lower_case: match map.get("do_lower_case") {
                Some(Value::Null) => false,
                value => settings::flag(&path, "do_lower_case", value, false)?,
            },
            file: Some(path),
        });
    }
    Ok(Transformer { as_0_1: true, ..Transformer::default() })
}

/// Returns the length that Python truncates to: the call argument, else the loading argument, else the module's own.
fn max_seq_length(path: &Path, map: &Map<String, Value>) -> Result<Option<usize>, LoadError> {
    let called = map.get("processing_kwargs").and_then(|kwargs| kwargs.get("text"));
    // The older name wins if both are present.
    let loaded = map.get("tokenizer_args").or_else(|| map.get("processor_kwargs"));
    let own = map.get("max_seq_length").filter(|value| !value.is_null());
    let places = [
        ("processing_kwargs.text.max_length", called.and_then(|kwargs| kwargs.get("max_length"))),
        ("model_max_length", loaded.and_then(|kwargs| kwargs.get("model_max_length"))),
        ("max_seq_length", own),
    ];
    for (key, value) in places {
        if let Some(length) = settings::length(path, key, value)? {
            return Ok(Some(length));
        }
    }
    Ok(None)
}

/// Refuses outputs other than the last layer's vectors, Python's default.
fn check_modalities(path: &Path, map: &Map<String, Value>) -> Result<(), LoadError> {
    let Some(value) = map.get("modality_config") else { return Ok(()) };
    let Some(modalities) = value.as_object() else {
        return Err(settings::invalid(path, "modality_config", value, "an object"));
    };
    // A chat template would be applied to every text.
    if let Some(message) = modalities.get("message") {
        return Err(settings::refused(path, "modality_config.message", message, "which is not supported"));
    }
    let Some(Value::Object(text)) = modalities.get("text") else {
        return Err(settings::refused(path, "modality_config", value, "which takes no texts"));
    };
    settings::check(path, "modality_config.text", MODALITY_TEXT, text)?;
    if let Some(missing) = ["method", "method_output_name"].iter().find(|key| !text.contains_key(**key)) {
        return Err(settings::refused(path, "modality_config", value, &format!("without a `{missing}` for texts")));
    }
    match map.get("module_output_name") {
        Some(Value::String(name)) if name == "token_embeddings" => Ok(()),
        Some(name) => Err(settings::refused(path, "module_output_name", name, "and not to `token_embeddings`")),
        None => Err(settings::refused(path, "modality_config", value, "without a `module_output_name`")),
    }
}
