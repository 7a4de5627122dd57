//! What the families with rotary positions share.

use serde_json::{Map, Value};

use super::description::Dimensions;
use super::fields::Fields;
use super::forward_config::Rope;
use super::settings::shortened;
use crate::LoadError;

/// Refuses heads that cannot be rotated, or of another size than stated.
pub(super) fn check_heads(fields: &Fields<'_>, dimensions: Dimensions) -> Result<(), LoadError> {
    let head_size = dimensions.hidden_size / dimensions.heads;
    if !head_size.is_multiple_of(2) {
        return Err(fields.invalid(format!("heads of {head_size} numbers, but rotary positions turn pairs of them")));
    }
    let stated = fields.integer(&["head_dim"], head_size)?;
    if stated != head_size {
        return Err(fields.unsupported(&format!(
            "`head_dim` is {stated}, but only `hidden_size` / `num_attention_heads`, {head_size}, is supported"
        )));
    }
    Ok(())
}

pub(super) fn number(fields: &Fields<'_>, name: &str, default: f64) -> Result<f64, LoadError> {
    match fields.get(name) {
        None => Ok(default),
        Some(value) => value
            .as_f64()
            .filter(|number| *number > 0.0)
            .ok_or_else(|| fields.invalid(format!("`{name}`: expected a number above 0, found {value}"))),
    }
}

/// Reads the base of a rotation, refusing all other parameters, which scale to longer contexts.
pub(super) fn theta(
    fields: &Fields<'_>,
    name: &str,
    parameters: Option<&Value>,
    default: f64,
) -> Result<f64, LoadError> {
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

/// As [`theta`], but frequencies may be divided by the factor of a `rope_type` of `linear`.
pub(super) fn rope(
    fields: &Fields<'_>,
    name: &str,
    parameters: Option<&Value>,
    default: f64,
) -> Result<Rope, LoadError> {
    let linear = |map: &&Map<String, Value>| {
        let kind = ["rope_type", "type"].iter().find_map(|key| map.get(*key).filter(|kind| !kind.is_null()));
        kind.is_some_and(|kind| kind == "linear")
    };
    let Some(map) = parameters.and_then(Value::as_object).filter(linear) else {
        return Ok(Rope { theta: theta(fields, name, parameters, default)?, slowdown: 1.0 });
    };
    let mut others = map.clone();
    others.retain(|key, _| !["rope_type", "type", "factor"].contains(&key.as_str()));
    Ok(Rope {
        theta: theta(fields, name, Some(&Value::Object(others)), default)?,
        slowdown: factor(fields, name, map)?,
    })
}

/// Reads the factor by which a rotation is scaled.
pub(super) fn factor(fields: &Fields<'_>, name: &str, parameters: &Map<String, Value>) -> Result<f64, LoadError> {
    let factor = parameters.get("factor").unwrap_or(&Value::Null);
    factor
        .as_f64()
        .filter(|factor| *factor >= 1.0)
        .ok_or_else(|| fields.invalid(format!("`{name}.factor`: expected a number of at least 1, found {factor}")))
}
