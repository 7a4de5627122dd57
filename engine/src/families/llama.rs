//! What the families in the shape of LLaMA share.

use super::description::Dimensions;
use super::fields::Fields;
use super::forward_config::{DecoderConfig, DecoderNames, DecoderPositions, UpNames};
use super::rotary::{check_pairs, number, rope_parameters, theta};
use crate::LoadError;

/// LLaMA normalises before each half of a layer.
pub(super) const NAMES: DecoderNames = DecoderNames {
    layers: "layers",
    attention_norm: "input_layernorm",
    queries: "self_attn.q_proj",
    keys: "self_attn.k_proj",
    values: "self_attn.v_proj",
    head_norms: None,
    out: "self_attn.o_proj",
    feed_forward_norm: "post_attention_layernorm",
    up: UpNames::Apart(["mlp.gate_proj", "mlp.up_proj"]),
    down: "mlp.down_proj",
    output_norms: None,
    final_norm: "norm",
};

/// As [`NAMES`], with norms of queries and keys by head.
pub(super) const NAMES_WITH_HEAD_NORMS: DecoderNames =
    DecoderNames { head_norms: Some(["self_attn.q_norm", "self_attn.k_norm"]), ..NAMES };

/// Returns the settings of a model without biases.
pub(super) fn config(
    names: &'static DecoderNames,
    (key_value_heads, head_size): (usize, usize),
    positions: DecoderPositions,
) -> DecoderConfig {
    DecoderConfig {
        names,
        key_value_heads,
        head_size,
        positions,
        attention_bias: false,
        mlp_bias: false,
        activation: None,
        norm_offset: 0.0,
        query_scale: 1.0,
        embedding_scale: 1.0,
    }
}

/// Returns the number of heads of keys and values, and the size of a head.
pub(super) fn heads(
    fields: &Fields<'_>,
    dimensions: Dimensions,
    (key_value_heads, head_size): (usize, usize),
) -> Result<(usize, usize), LoadError> {
    let key_value_heads = fields.count(&["num_key_value_heads"], key_value_heads)?;
    if !dimensions.heads.is_multiple_of(key_value_heads) {
        return Err(fields.invalid(format!(
            "`num_attention_heads` {} is not a multiple of `num_key_value_heads` {key_value_heads}",
            dimensions.heads
        )));
    }
    let head_size = fields.count(&["head_dim"], head_size)?;
    check_pairs(fields, head_size)?;
    Ok((key_value_heads, head_size))
}

/// Returns the base of the rotation that all layers share.
pub(super) fn only_theta(fields: &Fields<'_>) -> Result<f64, LoadError> {
    let (name, parameters) = rope_parameters(fields);
    theta(fields, name, parameters, number(fields, "rope_theta", 10_000.0)?)
}
