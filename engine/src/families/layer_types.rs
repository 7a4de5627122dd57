//! The kinds of attention of each layer.

use serde_json::Value;

use super::fields::Fields;
use super::settings::shortened;
use crate::LoadError;

pub(super) const FULL_ATTENTION: &str = "full_attention";
pub(super) const SLIDING_ATTENTION: &str = "sliding_attention";

/// Returns for each layer whether it uses sliding-window attention: by `layer_types`, or as `default` has it.
pub(super) fn sliding_layers(
    fields: &Fields<'_>,
    layers: usize,
    default: impl Fn(usize) -> bool,
) -> Result<Vec<bool>, LoadError> {
    let Some(types) = fields.get("layer_types") else { return Ok((0..layers).map(default).collect()) };
    let wrong = || fields.invalid(format!("`layer_types`: expected {layers} names, found {}", shortened(types)));
    let names = types.as_array().filter(|names| names.len() == layers).ok_or_else(wrong)?;
    let sliding = |name: &Value| match name.as_str() {
        Some(FULL_ATTENTION) => Ok(false),
        Some(SLIDING_ATTENTION) => Ok(true),
        _ => Err(fields.unsupported(&format!(
            "`layer_types` has {name}, but only `{FULL_ATTENTION}` and `{SLIDING_ATTENTION}` are supported"
        ))),
    };
    names.iter().map(sliding).collect()
}
