//! The settings of the models with rotary positions: ModernBERT and NomicBERT.

use serde_json::Value;

use super::fields::Fields;
use super::settings::shortened;
use crate::LoadError;
use crate::config::Architecture;

/// The settings beyond sizes.
#[derive(Debug, Clone)]
pub(crate) struct RotaryConfig {
    pub(crate) attention: Vec<RotaryAttention>,
    /// Whether the linear layers of attention have a bias.
    pub(crate) attention_bias: bool,
    /// Whether the feed-forward layers have a bias.
    pub(crate) mlp_bias: bool,
    /// Whether normalisations have a bias.
    pub(crate) norm_bias: bool,
    /// Number of token types; 0 without token type embeddings.
    pub(crate) token_types: usize,
}

/// The attention window and rotation of a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RotaryAttention {
    /// Tokens on either side that a token attends to; `None` for all.
    pub(crate) half_window: Option<usize>,
    /// The base of the rotation's frequencies.
    pub(crate) theta: f64,
}

/// The two layer types of ModernBERT: name, legacy key and default of `theta`.
const KINDS: [(&str, &str, f64); 2] =
    [("full_attention", "global_rope_theta", 160_000.0), ("sliding_attention", "local_rope_theta", 10_000.0)];

impl RotaryConfig {
    pub(crate) fn read(
        fields: &Fields<'_>,
        architecture: Architecture,
        (layers, head_size): (usize, usize),
    ) -> Result<RotaryConfig, LoadError> {
        if !head_size.is_multiple_of(2) {
            return Err(
                fields.invalid(format!("heads of {head_size} numbers, but rotary positions turn pairs of them"))
            );
        }
        let stated = fields.integer(&["head_dim"], head_size)?;
        if stated != head_size {
            return Err(fields.unsupported(&format!(
                "`head_dim` is {stated}, but only `hidden_size` / `num_attention_heads`, {head_size}, is supported"
            )));
        }
        match architecture {
            Architecture::ModernBert => modern(fields, layers),
            Architecture::NomicBert
            | Architecture::Bert
            | Architecture::Roberta
            | Architecture::XlmRoberta
            | Architecture::Camembert
            | Architecture::DistilBert
            | Architecture::DebertaV2 => nomic(fields, layers),
        }
    }
}

fn nomic(fields: &Fields<'_>, layers: usize) -> Result<RotaryConfig, LoadError> {
    let theta = theta(fields, "rope_parameters", fields.get("rope_parameters"), number(fields, "rope_theta", 1000.0)?)?;
    let authors = number(fields, "rotary_emb_base", theta)?;
    if authors != theta {
        return Err(fields.unsupported(&format!(
            "`rotary_emb_base` is {authors}, but transformers computes with a `rope_theta` of {theta}: say it in `rope_theta`"
        )));
    }
    Ok(RotaryConfig {
        attention: vec![RotaryAttention { half_window: None, theta }; layers],
        attention_bias: false,
        mlp_bias: false,
        norm_bias: true,
        token_types: fields.count(&["type_vocab_size"], 2)?,
    })
}

fn modern(fields: &Fields<'_>, layers: usize) -> Result<RotaryConfig, LoadError> {
    let half_window = fields.integer(&["local_attention"], 128)? / 2;
    // `sliding_window` is half of `local_attention` and overrides it.
    let half_window = fields.integer(&["sliding_window"], half_window)?;
    let parameters = fields.get("rope_parameters");
    if let Some(Value::Object(map)) = parameters {
        let known = |key: &String| KINDS.iter().any(|(kind, ..)| kind == key);
        if let Some((key, value)) = map.iter().find(|(key, value)| !known(key) && !value.is_null()) {
            return Err(fields.unsupported(&format!(
                "`rope_parameters` has `{key}`: {}, but only `full_attention` and `sliding_attention` are supported",
                shortened(value)
            )));
        }
    }
    let mut kinds = Vec::new();
    for (kind, older, default) in KINDS {
        // The only place where `null` differs from absent: transformers fails, the authors' code uses the other theta.
        if fields.map.get(older).is_some_and(Value::is_null) {
            return Err(
                fields.unsupported(&format!("`{older}` is null: give the number, which is {default} by default"))
            );
        }
        let own = parameters.and_then(|parameters| parameters.get(kind)).filter(|own| !own.is_null());
        let theta = theta(fields, &format!("rope_parameters.{kind}"), own, number(fields, older, default)?)?;
        let half_window = (kind == "sliding_attention").then_some(half_window);
        kinds.push((kind, RotaryAttention { half_window, theta }));
    }
    Ok(RotaryConfig {
        attention: layer_types(fields, layers)?.iter().map(|sliding| kinds[usize::from(*sliding)].1).collect(),
        attention_bias: fields.flag("attention_bias", false)?,
        mlp_bias: fields.flag("mlp_bias", false)?,
        norm_bias: fields.flag("norm_bias", false)?,
        token_types: 0,
    })
}

/// Returns for each layer whether it uses sliding-window attention.
fn layer_types(fields: &Fields<'_>, layers: usize) -> Result<Vec<bool>, LoadError> {
    let every = fields.count(&["global_attn_every_n_layers"], 3)?;
    let Some(types) = fields.get("layer_types") else {
        return Ok((0..layers).map(|layer| !layer.is_multiple_of(every)).collect());
    };
    let wrong = || fields.invalid(format!("`layer_types`: expected {layers} names, found {}", shortened(types)));
    let names = types.as_array().filter(|names| names.len() == layers).ok_or_else(wrong)?;
    let sliding = |name: &Value| match name.as_str() {
        Some("full_attention") => Ok(false),
        Some("sliding_attention") => Ok(true),
        _ => Err(fields.unsupported(&format!(
            "`layer_types` has {name}, but only `full_attention` and `sliding_attention` are supported"
        ))),
    };
    names.iter().map(sliding).collect()
}

fn number(fields: &Fields<'_>, name: &str, default: f64) -> Result<f64, LoadError> {
    match fields.get(name) {
        None => Ok(default),
        Some(value) => value
            .as_f64()
            .filter(|number| *number > 0.0)
            .ok_or_else(|| fields.invalid(format!("`{name}`: expected a number above 0, found {value}"))),
    }
}

/// Reads the base of a rotation, refusing all other parameters, which scale to longer contexts.
fn theta(fields: &Fields<'_>, name: &str, parameters: Option<&Value>, default: f64) -> Result<f64, LoadError> {
    let Some(parameters) = parameters else { return Ok(default) };
    let Value::Object(map) = parameters else {
        return Err(fields.invalid(format!("`{name}`: expected an object, found {}", shortened(parameters))));
    };
    for (key, value) in map.iter().filter(|(_, value)| !value.is_null()) {
        let done = match key.as_str() {
            "rope_type" | "type" => value == "default",
            "rope_theta" => true,
            "partial_rotary_factor" => value.as_f64() == Some(1.0),
            _ => false,
        };
        if !done {
            let what =
                format!("`{name}` has `{key}`: {}, but only a `rope_type` of `default` is supported", shortened(value));
            return Err(fields.unsupported(&what));
        }
    }
    match map.get("rope_theta").filter(|theta| !theta.is_null()) {
        None => Ok(default),
        Some(theta) => theta
            .as_f64()
            .filter(|theta| *theta > 0.0)
            .ok_or_else(|| fields.invalid(format!("`{name}.rope_theta`: expected a number above 0, found {theta}"))),
    }
}
