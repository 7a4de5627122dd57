//! Settings of `config.json` that change vectors and are only partly supported: the allowed values of each.
//!
//! A key neither here nor read by [`Config`](crate::config::Config) changes no vector: `transformers` ignores it, or uses it
//! for training, generation or a head. Those of every family are here, a family's own in its file, which take precedence.

use serde_json::Value;

use super::fields::Fields;
use crate::LoadError;

/// An allowed value. `null` and an absent key are always allowed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Allowed {
    Flag(bool),
    Number(f64),
    Text(&'static str),
    /// An empty list or object.
    Empty,
}

impl Allowed {
    fn is(self, value: &Value) -> bool {
        match self {
            Allowed::Flag(flag) => value.as_bool() == Some(flag),
            Allowed::Number(number) => value.as_f64() == Some(number),
            Allowed::Text(text) => value.as_str() == Some(text),
            Allowed::Empty => {
                value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(serde_json::Map::is_empty)
            }
        }
    }
}

use Allowed::{Empty, Flag, Number, Text};

/// A key and its allowed values.
pub(crate) type Setting = (&'static str, &'static [Allowed]);

const COMMON: &[Setting] = &[
    ("is_decoder", &[Flag(false)]),
    ("is_encoder_decoder", &[Flag(false)]),
    ("add_cross_attention", &[Flag(false)]),
    ("pruned_heads", &[Empty]),
    ("per_layer_config", &[Empty]),
    ("quantization_config", &[Empty]),
    ("partial_rotary_factor", &[Number(1.0)]),
];

/// Refuses by name every setting that would change the vectors in an unsupported way.
pub(crate) fn check(fields: &Fields<'_>, own: &[Setting]) -> Result<(), LoadError> {
    let common = COMMON.iter().filter(|(name, _)| own.iter().all(|(other, _)| other != name));
    for (name, allowed) in common.chain(own) {
        let Some(value) = fields.get(name) else { continue };
        if allowed.iter().any(|allowed| allowed.is(value)) {
            continue;
        }
        let allowed: Vec<String> = allowed.iter().filter_map(|allowed| written(*allowed)).collect();
        let remedy = match allowed.as_slice() {
            [] => "models with this setting are not supported".to_owned(),
            some => format!("only {} is supported", some.join(" or ")),
        };
        return Err(fields.unsupported(&format!("`{name}` is {}, but {remedy}", shortened(value))));
    }
    Ok(())
}

fn written(allowed: Allowed) -> Option<String> {
    match allowed {
        Flag(flag) => Some(format!("`{flag}`")),
        Number(number) => Some(format!("`{number}`")),
        Text(text) => Some(format!("`{text}`")),
        Empty => None,
    }
}

/// Returns a value as JSON, with long lists and objects abbreviated.
pub(crate) fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
