//! GTE in the repositories of Alibaba, whose own code names the architecture `new`.

use serde_json::Value;

use super::description::{Dimensions, Family, Forward, Sizes};
use super::fields::Fields;
use super::forward_config::Rope;
use super::rotary::{check_heads, factor, number};
use super::settings::Allowed::{Flag, Text};
use super::settings::{Setting, shortened};
use super::{bert, gte};
use crate::LoadError;
use crate::tokenizer::class::Class;

pub(super) const FAMILY: Family = Family {
    model_type: "new",
    class_prefix: "New",
    body_prefix: "new.",
    older_prefix: None,
    sizes: Sizes { vocab: 30_528, positions: (&["max_position_embeddings"], 2048), ..bert::SIZES },
    settings: SETTINGS,
    tokenizer: Class::Backend,
    forward,
    ..gte::FAMILY
};

/// `unpad_inputs` and `use_memory_efficient_attention` change no vector.
const SETTINGS: &[Setting] = &[
    ("position_embedding_type", &[Text("rope")]),
    ("layer_norm_type", &[Text("layer_norm")]),
    ("logn_attention_scale", &[Flag(false)]),
    ("pack_qkv", &[Flag(true)]),
];

fn forward(fields: &Fields<'_>, dimensions: Dimensions) -> Result<Forward, LoadError> {
    check_heads(fields, dimensions)?;
    let theta = number(fields, "rope_theta", 10_000.0)?;
    let rope = match fields.get("rope_scaling") {
        None => Rope::unscaled(theta),
        Some(scaling) => scaled(fields, scaling, (theta, dimensions.hidden_size / dimensions.heads))?,
    };
    gte::with_rope(fields, dimensions, rope)
}

/// Returns the rotation under fixed NTK scaling: the highest frequency is divided by a little, the lowest by the factor.
fn scaled(fields: &Fields<'_>, scaling: &Value, (theta, head_size): (f64, usize)) -> Result<Rope, LoadError> {
    let Value::Object(map) = scaling else {
        return Err(fields.invalid(format!("`rope_scaling`: expected an object, found {}", shortened(scaling))));
    };
    let is_known = |key: &str, value: &Value| match key {
        "type" => value == "ntk",
        "factor" => true,
        _ => false,
    };
    if let Some((key, value)) = map.iter().find(|(key, value)| !value.is_null() && !is_known(key, value)) {
        return Err(fields.unsupported(&format!(
            "`rope_scaling` has `{key}`: {}, but only a `type` of `ntk` with a `factor` is supported",
            shortened(value)
        )));
    }
    let factor = factor(fields, "rope_scaling", map)?;
    Ok(Rope { theta: theta * factor, slowdown: factor.powf(2.0 / head_size as f64) })
}
