//! What the families with rotary positions share.

use serde_json::{Map, Value};

use super::description::Dimensions;
use super::fields::Fields;
use super::forward_config::Rope;
use super::layer_types::{FULL_ATTENTION, SLIDING_ATTENTION};
use super::settings::shortened;
use crate::LoadError;

/// Refuses heads that cannot be rotated, or of another size than stated.
pub(super) fn check_heads(fields: &Fields<'_>, dimensions: Dimensions) -> Result<(), LoadError> {
    let head_size = dimensions.hidden_size / dimensions.heads;
    check_pairs(fields, head_size)?;
    let stated = fields.integer(&["head_dim"], head_size)?;
    if stated != head_size {
        return Err(fields.unsupported(&format!(
            "`head_dim` is {stated}, but only `hidden_size` / `num_attention_heads`, {head_size}, is supported"
        )));
    }
    Ok(())
}

/// Refuses heads that are not made of pairs of numbers.
pub(super) fn check_pairs(fields: &Fields<'_>, head_size: usize) -> Result<(), LoadError> {
    match head_size.is_multiple_of(2) {
        true => Ok(()),
        false => Err(fields.invalid(format!("heads of {head_size} numbers, but rotary positions turn pairs of them"))),
    }
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
    read(fields, name, parameters, (default, &["default"])).map(|rope| rope.theta)
}

/// As [`theta`], but frequencies may be divided by the factor of a `rope_type` of `linear`.
pub(super) fn rope(
    fields: &Fields<'_>,
    name: &str,
    parameters: Option<&Value>,
    default: f64,
) -> Result<Rope, LoadError> {
    read(fields, name, parameters, (default, &["default", LINEAR]))
}

/// Returns the name and value of the field that has the parameters of the only rotation. As in transformers, the older
/// name wins.
pub(super) fn rope_parameters<'f>(fields: &'f Fields<'_>) -> (&'static str, Option<&'f Value>) {
    let is_given = |value: &&Value| !value.as_object().is_some_and(Map::is_empty);
    match fields.get("rope_scaling").filter(is_given) {
        Some(scaling) => ("rope_scaling", Some(scaling)),
        None => ("rope_parameters", fields.get("rope_parameters")),
    }
}

/// Refuses parameters of rotations for other layers than those with full and with sliding attention.
pub(super) fn check_kinds(fields: &Fields<'_>) -> Result<(), LoadError> {
    let Some(Value::Object(map)) = fields.get("rope_parameters") else { return Ok(()) };
    let is_known = |key: &String| [FULL_ATTENTION, SLIDING_ATTENTION].contains(&key.as_str());
    match map.iter().find(|(key, value)| !is_known(key) && !value.is_null()) {
        None => Ok(()),
        Some((key, value)) => Err(fields.unsupported(&format!(
            "`rope_parameters` has `{key}`: {}, but only `{FULL_ATTENTION}` and `{SLIDING_ATTENTION}` are supported",
            shortened(value)
        ))),
    }
}

/// Reads the base of the rotation of one kind of layer: by the kind in `rope_parameters`, or by an older key.
pub(super) fn theta_of_kind(fields: &Fields<'_>, kind: &str, older: &str, default: f64) -> Result<f64, LoadError> {
    let own = fields.get("rope_parameters").and_then(|parameters| parameters.get(kind)).filter(|own| !own.is_null());
    theta(fields, &format!("rope_parameters.{kind}"), own, number(fields, older, default)?)
}

const LINEAR: &str = "linear";

fn read(
    fields: &Fields<'_>,
    name: &str,
    parameters: Option<&Value>,
    (default, kinds): (f64, &[&str]),
) -> Result<Rope, LoadError> {
    let Some(parameters) = parameters else { return Ok(Rope::unscaled(default)) };
    let Value::Object(map) = parameters else {
        return Err(fields.invalid(format!("`{name}`: expected an object, found {}", shortened(parameters))));
    };
    let given = |key: &str| map.get(key).filter(|value| !value.is_null());
    let is_linear = kinds.contains(&LINEAR) && given("rope_type").or(given("type")).is_some_and(|kind| kind == LINEAR);
    for (key, value) in map.iter().filter(|(_, value)| !value.is_null()) {
        let done = match key.as_str() {
            "rope_type" | "type" => value.as_str().is_some_and(|kind| kinds.contains(&kind)),
            "rope_theta" => true,
            "partial_rotary_factor" => value.as_f64() == Some(1.0),
            "factor" => is_linear,
            _ => false,
        };
        if !done {
            return Err(fields.unsupported(&format!(
                "`{name}` has `{key}`: {}, but only a `rope_type` of `{}` is supported",
                shortened(value),
                kinds.join("` or `")
            )));
        }
    }
    let theta = match given("rope_theta") {
        None => default,
        Some(theta) => theta
            .as_f64()
            .filter(|theta| *theta > 0.0)
            .ok_or_else(|| fields.invalid(format!("`{name}.rope_theta`: expected a number above 0, found {theta}")))?,
    };
    Ok(Rope { theta, slowdown: if is_linear { factor(fields, name, map)? } else { 1.0 } })
}

/// Reads the factor by which a rotation is scaled.
pub(super) fn factor(fields: &Fields<'_>, name: &str, parameters: &Map<String, Value>) -> Result<f64, LoadError> {
    let factor = parameters.get("factor").unwrap_or(&Value::Null);
    factor
        .as_f64()
        .filter(|factor| *factor >= 1.0)
        .ok_or_else(|| fields.invalid(format!("`{name}.factor`: expected a number of at least 1, found {factor}")))
}
