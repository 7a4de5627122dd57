//! The settings of a whole model, `config_sentence_transformers.json`: prompts, dimensions, similarity.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::settings::{self, Rule, Table};
use crate::LoadError;
use crate::config::read_json_object;

pub(super) const FILE: &str = "config_sentence_transformers.json";

const MODEL: Table = &[
    ("prompts", Rule::Read),
    ("default_prompt_name", Rule::Read),
    ("truncate_dim", Rule::Read),
    ("similarity_fn_name", Rule::Read),
    ("model_type", Rule::Only(&[r#""SentenceTransformer""#])),
    // The versions it was saved with, and requirements of Python.
    ("__version__", Rule::NoEffect),
    ("requirements", Rule::NoEffect),
];

/// The similarities of sentence-transformers, which ignores other names.
const SIMILARITIES: [&str; 4] = ["cosine", "dot", "euclidean", "manhattan"];

/// Prompts that Python defines for every model, empty by default.
const ALWAYS_THERE: [&str; 2] = ["query", "document"];

/// Texts that a model wants prepended, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompts {
    /// The text of each prompt.
    pub by_name: BTreeMap<String, String>,
    /// The name of the prompt that applies by default.
    pub default: Option<String>,
}

impl Prompts {
    /// Returns name and text of the default prompt, if it has a text.
    pub fn by_default(&self) -> Option<(&str, &str)> {
        let name = self.default.as_deref()?;
        self.by_name.get(name).map(|text| (name, text.as_str())).filter(|(_, text)| !text.is_empty())
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct ModelSettings {
    pub(super) prompts: Prompts,
    /// Dimensions kept of each vector.
    pub(super) truncate_dim: Option<usize>,
    pub(super) similarity: Option<String>,
}

pub(super) fn read(path: &Path) -> Result<ModelSettings, LoadError> {
    let mut map = read_json_object(path)?;
    // Python ignores other keys, but one with a value probably matters.
    map.retain(|key, value| MODEL.iter().any(|(known, _)| known == key) || !is_empty(value));
    settings::check(path, "", MODEL, &map)?;
    let truncate_dim = map.get("truncate_dim").filter(|value| !value.is_null());
    let similarity = map.get("similarity_fn_name").and_then(Value::as_str);
    Ok(ModelSettings {
        prompts: prompts(path, &map)?,
        truncate_dim: settings::length(path, "truncate_dim", truncate_dim)?,
        similarity: similarity.filter(|name| SIMILARITIES.contains(name)).map(str::to_owned),
    })
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) | Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

fn prompts(path: &Path, map: &Map<String, Value>) -> Result<Prompts, LoadError> {
    let mut by_name = BTreeMap::new();
    match map.get("prompts") {
        None => {}
        Some(Value::Object(prompts)) => {
            for (name, text) in prompts {
                let text = match text {
                    Value::String(text) => text.clone(),
                    Value::Null => String::new(),
                    other => return Err(settings::invalid(path, &format!("prompts.{name}"), other, "a text")),
                };
                by_name.insert(name.clone(), text);
            }
        }
        Some(other) => return Err(settings::invalid(path, "prompts", other, "an object of texts")),
    }
    let default = match map.get("default_prompt_name") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) if by_name.contains_key(name) || ALWAYS_THERE.contains(&name.as_str()) => {
            Some(name.clone())
        }
        Some(other) => {
            let names: Vec<&str> = by_name.keys().map(String::as_str).collect();
            let expected = format!("one of the prompts ({})", names.join(", "));
            return Err(settings::invalid(path, "default_prompt_name", other, &expected));
        }
    };
    Ok(Prompts { by_name, default })
}
