//! Tokens in settings files: a plain string, or a string with properties.

use serde_json::{Map, Value};
use tokenizers::AddedToken;

/// The roles of special tokens, in transformers' order.
pub(super) const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A token with properties: transformers' `AddedToken`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Properties {
    pub(super) content: String,
    pub(super) single_word: bool,
    pub(super) lstrip: bool,
    pub(super) rstrip: bool,
    /// `None` means `!special`: special tokens are matched before normalisation.
    pub(super) normalized: Option<bool>,
    pub(super) special: bool,
}

impl Properties {
    pub(super) fn new(content: &str, special: bool) -> Properties {
        Properties {
            content: content.to_owned(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: None,
            special,
        }
    }

    /// Reads the arguments of an `AddedToken`; `None` if invalid: no content, or a flag that is not a bool.
    pub(super) fn from_json(object: &Map<String, Value>) -> Option<Properties> {
        let flag = |name: &str| match object.get(name) {
            None => Some(false),
            Some(value) => value.as_bool(),
        };
        let normalized = match object.get("normalized") {
            None | Some(Value::Null) => None,
            Some(value) => Some(value.as_bool()?),
        };
        Some(Properties {
            content: object.get("content")?.as_str()?.to_owned(),
            single_word: flag("single_word")?,
            lstrip: flag("lstrip")?,
            rstrip: flag("rstrip")?,
            normalized,
            special: flag("special")?,
        })
    }

    /// Converts for the `tokenizers` library.
    pub(super) fn token(&self) -> AddedToken {
        AddedToken::from(self.content.clone(), self.special)
            .single_word(self.single_word)
            .lstrip(self.lstrip)
            .rstrip(self.rstrip)
            .normalized(self.normalized.unwrap_or(!self.special))
    }
}

/// A special token as written in a setting.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenSpec {
    Text(String),
    Token(Properties),
}

impl TokenSpec {
    /// Returns the token's text.
    pub(super) fn content(&self) -> &str {
        match self {
            TokenSpec::Text(content) => content,
            TokenSpec::Token(token) => &token.content,
        }
    }

    /// Reads a string, or an object with `"__type": "AddedToken"`. transformers ignores other objects.
    pub(super) fn from_json(value: &Value) -> Option<TokenSpec> {
        match value {
            Value::String(content) => Some(TokenSpec::Text(content.clone())),
            Value::Object(object) if object.get("__type").and_then(Value::as_str) == Some("AddedToken") => {
                Properties::from_json(object).map(TokenSpec::Token)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn special_tokens_match_before_normalisation_by_default() {
        let token = |value: Value| Properties::from_json(value.as_object().unwrap()).unwrap().token();
        assert!(!token(json!({"content": "<x>", "special": true})).normalized);
        assert!(token(json!({"content": "<x>"})).normalized);
        assert!(token(json!({"content": "<x>", "special": true, "normalized": true})).normalized);
        assert!(Properties::from_json(json!({"content": "<x>", "lstrip": 1}).as_object().unwrap()).is_none());
    }

    #[test]
    fn an_object_needs_its_type_to_be_a_token() {
        let object = json!({"content": "<x>", "lstrip": true});
        assert_eq!(TokenSpec::from_json(&object), None);
        let marked = json!({"__type": "AddedToken", "content": "<x>", "lstrip": true});
        assert!(matches!(TokenSpec::from_json(&marked), Some(TokenSpec::Token(token)) if token.lstrip));
    }
}
