//! The settings files beside a vocabulary, merged in the order of transformers 5.24: `tokenizer_config.json`, and
//! where it has no `added_tokens_decoder`, the older `special_tokens_map.json`, `added_tokens.json` and the added
//! tokens of `tokenizer.json`.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::files::TokenizerFiles;
use super::token::{Properties, ROLES, TokenSpec};
use crate::LoadError;
use crate::config::read_json_object;

/// Keys that would replace parts of the tokenizer, which transformers never writes.
const NOT_SETTINGS: [&str; 8] = [
    "fast_tokenizer_files",
    "gguf_file",
    "merges",
    "post_processor",
    "tokenizer_object",
    "tokenizer_padding",
    "tokenizer_truncation",
    "vocab",
];

#[derive(Debug)]
pub(super) struct Settings {
    path: PathBuf,
    values: Map<String, Value>,
    /// Tokens with properties, by their promised ids.
    pub(super) added: BTreeMap<u32, Properties>,
    /// Special tokens under model-specific names, in file order.
    pub(super) specific: Vec<(String, TokenSpec)>,
}

impl Settings {
    /// Merges the settings files. `config` is `tokenizer_config.json`, `in_tokenizer_json` the added tokens of
    /// `tokenizer.json` if it exists.
    pub(super) fn read(
        files: &TokenizerFiles,
        config: Map<String, Value>,
        in_tokenizer_json: Option<&[Map<String, Value>]>,
    ) -> Result<Settings, LoadError> {
        let path = files.config.clone().unwrap_or_else(|| files.main().to_path_buf());
        let mut settings = Settings { path, values: config, added: BTreeMap::new(), specific: Vec::new() };
        settings.refuse_what_is_no_setting()?;
        if in_tokenizer_json.is_some() {
            // The post-processor is more precise.
            settings.values.shift_remove("add_bos_token");
            settings.values.shift_remove("add_eos_token");
        }
        settings.rename_additional_tokens();
        settings.take_specific_tokens()?;
        match settings.values.shift_remove("added_tokens_decoder") {
            Some(decoder) => settings.read_added_tokens_decoder(&decoder)?,
            None => {
                let map = files.special_tokens_map.as_deref().map(read_json_object).transpose()?;
                let spoken_for = settings.merge_special_tokens_map(map.unwrap_or_default())?;
                if let Some(path) = &files.added_tokens {
                    settings.read_added_tokens(path, &spoken_for)?;
                }
                settings.copy_added_tokens(in_tokenizer_json.unwrap_or_default())?;
            }
        }
        settings.add_late_specific_tokens();
        Ok(settings)
    }

    /// Returns an error about a setting that names the file.
    pub(super) fn invalid(&self, problem: impl Into<String>) -> LoadError {
        LoadError::Invalid { path: self.path.clone(), problem: problem.into() }
    }

    /// Returns a bool setting.
    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, LoadError> {
        match self.values.get(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.invalid(format!("`{name}`: expected true or false, found {other}"))),
        }
    }

    /// Returns a bool setting for which `null` means `when_null`.
    pub(super) fn flag_or_null(&self, name: &str, default: bool, when_null: bool) -> Result<bool, LoadError> {
        match self.values.get(name) {
            Some(Value::Null) => Ok(when_null),
            _ => self.flag(name, default),
        }
    }

    /// Returns `strip_accents`; `None` follows the lowercasing.
    pub(super) fn strip_accents(&self) -> Result<Option<bool>, LoadError> {
        match self.values.get("strip_accents") {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.flag("strip_accents", false).map(Some),
        }
    }

    /// Returns a count, such as `extra_ids`.
    pub(super) fn count(&self, name: &str, default: usize) -> Result<usize, LoadError> {
        let Some(value) = self.values.get(name) else { return Ok(default) };
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        count.ok_or_else(|| self.invalid(format!("`{name}`: expected a whole number, found {value}")))
    }

    /// Returns whether a `left` or `right` setting is `left`.
    pub(super) fn is_left(&self, name: &str) -> Result<Option<bool>, LoadError> {
        match self.values.get(name) {
            None => Ok(None),
            Some(Value::String(side)) if side == "left" => Ok(Some(true)),
            Some(Value::String(side)) if side == "right" => Ok(Some(false)),
            Some(other) => Err(self.invalid(format!("`{name}`: expected \"left\" or \"right\", found {other}"))),
        }
    }

    /// Returns `model_max_length` in tokens, special ones included; `None` if absent or the huge number that means
    /// "none".
    pub(super) fn model_max_length(&self) -> Result<Option<usize>, LoadError> {
        let Some(value) = self.values.get("model_max_length").or_else(|| self.values.get("max_len")) else {
            return Ok(None);
        };
        match value {
            Value::Null => Ok(None),
            Value::Number(_) => {
                Ok(value.as_f64().filter(|length| *length >= 1.0 && *length < 1e9).map(|length| length as usize))
            }
            other => Err(self.invalid(format!("`model_max_length`: expected a number, found {other}"))),
        }
    }

    /// Whether the tokenizer's token types are fed to the model, unless the class overrides it.
    pub(super) fn feeds_token_types(&self) -> bool {
        match self.values.get("model_input_names").and_then(Value::as_array) {
            Some(names) => names.iter().any(|name| name == "token_type_ids"),
            None => true,
        }
    }

    /// Returns the token of a role: `None` if absent, `Some(None)` if `null`.
    pub(super) fn role(&self, role: &str) -> Result<Option<Option<TokenSpec>>, LoadError> {
        let Some(value) = self.values.get(role) else { return Ok(None) };
        if value.is_null() {
            return Ok(Some(None));
        }
        let given = TokenSpec::from_json(value).ok_or_else(|| self.not_a_token(role, value))?;
        let properties = self.added.values().rev().find(|token| token.content == given.content());
        Ok(Some(Some(properties.map_or(given, |token| TokenSpec::Token(token.clone())))))
    }

    /// Returns a list of tokens, such as `extra_special_tokens`; `None` if absent or `null`.
    pub(super) fn list(&self, name: &str) -> Result<Option<Vec<TokenSpec>>, LoadError> {
        match self.values.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(tokens)) => {
                let token = |value| TokenSpec::from_json(value).ok_or_else(|| self.not_a_token(name, value));
                tokens.iter().map(token).collect::<Result<Vec<_>, _>>().map(Some)
            }
            Some(other) => Err(self.not_a_token(name, other)),
        }
    }

    /// Whether a setting is present, even as `null`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    fn not_a_token(&self, name: &str, value: &Value) -> LoadError {
        self.invalid(format!(
            "`{name}`: expected a token, as a string or as an object with `\"__type\": \"AddedToken\"`, found {value}"
        ))
    }

    fn refuse_what_is_no_setting(&self) -> Result<(), LoadError> {
        if self.values.get("init_inputs").and_then(Value::as_array).is_some_and(|inputs| !inputs.is_empty()) {
            return Err(self.invalid("`init_inputs` is not empty: give these settings by their names"));
        }
        match NOT_SETTINGS.into_iter().find(|name| self.values.get(*name).is_some_and(|value| !value.is_null())) {
            None => Ok(()),
            Some(name) => Err(self.invalid(format!("`{name}` is no setting that is followed: remove it"))),
        }
    }

    /// Renames `additional_special_tokens`, the older name of `extra_special_tokens`.
    fn rename_additional_tokens(&mut self) {
        let newer = self.values.get("extra_special_tokens");
        let empty = newer.is_none_or(|tokens| match tokens {
            Value::Null => true,
            Value::Array(tokens) => tokens.is_empty(),
            Value::Object(tokens) => tokens.is_empty(),
            Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        });
        if empty && let Some(tokens) = self.values.shift_remove("additional_special_tokens") {
            self.values.insert("extra_special_tokens".into(), tokens);
        }
    }

    /// Takes out the special tokens under model-specific names (such as `image_token`) and those of an
    /// `extra_special_tokens` object.
    fn take_specific_tokens(&mut self) -> Result<(), LoadError> {
        let is_text = |(name, value): &(&String, &Value)| is_specific(name) && value.is_string();
        let names: Vec<String> = self.values.iter().filter(is_text).map(|(name, _)| name.clone()).collect();
        for name in names {
            if let Some(Value::String(content)) = self.values.shift_remove(&name) {
                self.specific.push((name, TokenSpec::Text(content)));
            }
        }
        self.take_extra_object()
    }

    /// Adds the remaining specific tokens, with properties or from `special_tokens_map.json`, which transformers puts
    /// first.
    fn add_late_specific_tokens(&mut self) {
        let late = self.values.iter().filter(|(name, _)| is_specific(name));
        let mut all: Vec<(String, TokenSpec)> =
            late.filter_map(|(name, value)| Some((name.clone(), TokenSpec::from_json(value)?))).collect();
        for (name, token) in std::mem::take(&mut self.specific) {
            put(&mut all, name, token);
        }
        self.specific = all;
    }

    fn take_extra_object(&mut self) -> Result<(), LoadError> {
        let Some(Value::Object(_)) = self.values.get("extra_special_tokens") else { return Ok(()) };
        let Some(Value::Object(tokens)) = self.values.shift_remove("extra_special_tokens") else { return Ok(()) };
        for (name, value) in tokens {
            let token = TokenSpec::from_json(&value).ok_or_else(|| self.not_a_token(&name, &value))?;
            put(&mut self.specific, name, token);
        }
        Ok(())
    }

    fn read_added_tokens_decoder(&mut self, decoder: &Value) -> Result<(), LoadError> {
        let Value::Object(decoder) = decoder else {
            return Err(self.invalid("`added_tokens_decoder`: expected an object"));
        };
        for (id, token) in decoder {
            let (Ok(id), Some(token)) = (id.parse(), token.as_object().and_then(Properties::from_json)) else {
                return Err(self.invalid(format!("`added_tokens_decoder`: entry `{id}` is not a token")));
            };
            self.added.insert(id, token);
        }
        Ok(())
    }

    /// Overrides the config by `special_tokens_map.json`. Returns the tokens that are special by these two.
    fn merge_special_tokens_map(&mut self, map: Map<String, Value>) -> Result<HashSet<String>, LoadError> {
        let marked = |mut object: Map<String, Value>| {
            object.insert("__type".into(), "AddedToken".into());
            object.insert("special".into(), true.into());
            Value::Object(object)
        };
        let mut special = HashSet::new();
        for (name, value) in map {
            let value = match value {
                Value::Object(object) if name != "extra_special_tokens" => {
                    let value = marked(object);
                    let token = TokenSpec::from_json(&value).ok_or_else(|| self.not_a_token(&name, &value))?;
                    if ROLES.contains(&name.as_str()) {
                        special.insert(token.content().to_owned());
                    }
                    value
                }
                Value::Array(tokens) if name == "extra_special_tokens" => {
                    // Tokens in this list are special; transformers ignores objects that say so again.
                    let tokens = tokens.into_iter().map(|token| match token {
                        Value::Object(object) if !object.contains_key("special") => marked(object),
                        other => other,
                    });
                    let mut all = match self.values.get(&name) {
                        Some(Value::Array(known)) => known.clone(),
                        _ => Vec::new(),
                    };
                    for token in tokens {
                        if !all.contains(&token) {
                            all.push(token);
                        }
                    }
                    Value::Array(all)
                }
                other => other,
            };
            self.values.insert(name, value);
        }
        self.take_extra_object()?;
        // Compared by text for plain strings; config tokens with properties are not compared.
        let texts = ROLES.iter().filter_map(|role| self.values.get(*role)?.as_str());
        special.extend(texts.map(str::to_owned));
        let extra = self.list("extra_special_tokens")?.unwrap_or_default();
        special.extend(extra.iter().map(|token| token.content().to_owned()));
        Ok(special)
    }

    /// Reads `added_tokens.json`: tokens and their ids.
    fn read_added_tokens(&mut self, path: &Path, special: &HashSet<String>) -> Result<(), LoadError> {
        for (content, id) in read_json_object(path)? {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| LoadError::Invalid {
                path: path.to_path_buf(),
                problem: format!("the id of `{content}` is not a token id"),
            })?;
            let token = Properties::new(&content, special.contains(&content));
            self.added.insert(id, token);
        }
        Ok(())
    }

    fn copy_added_tokens(&mut self, tokens: &[Map<String, Value>]) -> Result<(), LoadError> {
        for token in tokens {
            let id = token.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
            let (Some(id), Some(properties)) = (id, Properties::from_json(token)) else {
                return Err(self.invalid(format!("`added_tokens` of `tokenizer.json`: {token:?} is not a token")));
            };
            self.added.insert(id, properties);
        }
        Ok(())
    }
}

/// Whether a setting names a model-specific special token.
fn is_specific(name: &str) -> bool {
    name.ends_with("_token") && !ROLES.contains(&name)
}

/// Replaces the token of a name, or appends it.
fn put(tokens: &mut Vec<(String, TokenSpec)>, name: String, token: TokenSpec) {
    match tokens.iter_mut().find(|(known, _)| *known == name) {
        Some(known) => known.1 = token,
        None => tokens.push((name, token)),
    }
}
