//! The encoder of T5: a bias of attention by the distance between tokens, unscaled scores, norms before each half.

use kernels::Activation;
use serde_json::Value;

use super::description::{Dimensions, DistanceBuckets, Family, Forward, Sizes};
use super::fields::Fields;
use super::forward_config::{BiasTables, DecoderConfig, DecoderNames, DecoderPositions, UpNames};
use super::settings::Allowed::Flag;
use super::{bert, llama};
use crate::tokenizer::class::Class;
use crate::{LoadError, NO_MAX_LENGTH};

pub(super) const FAMILY: Family = Family {
    model_type: "t5",
    class_prefix: "T5",
    body_prefix: "transformer.",
    words: "encoder.embed_tokens.weight",
    other_words: Some("shared.weight"),
    sizes: Sizes {
        vocab: 32_128,
        hidden: (&["d_model", "hidden_size"], 512),
        layers: (&["num_layers", "num_hidden_layers"], 6),
        heads: (&["num_heads", "num_attention_heads"], 8),
        intermediate: (&["d_ff"], 2048),
        positions: (&[], NO_MAX_LENGTH),
        padding: 0,
        epsilon: (&["layer_norm_epsilon"], 1e-6),
        // Unused: `feed_forward_proj` names it.
        activation: ("", Activation::Relu),
    },
    heads_divide_hidden: false,
    // Of such a model only the encoder is read.
    settings: &[("is_encoder_decoder", &[Flag(true), Flag(false)])],
    tokenizer: Class::T5,
    fill_mask: None,
    forward,
    ..bert::FAMILY
};

const NAMES: DecoderNames = DecoderNames {
    layers: "encoder.block",
    attention_norm: "layer.0.layer_norm",
    queries: "layer.0.SelfAttention.q",
    keys: "layer.0.SelfAttention.k",
    values: "layer.0.SelfAttention.v",
    head_norms: None,
    out: "layer.0.SelfAttention.o",
    feed_forward_norm: "layer.1.layer_norm",
    up: UpNames::NoGate("layer.1.DenseReluDense.wi"),
    down: "layer.1.DenseReluDense.wo",
    output_norms: None,
    final_norm: "encoder.final_layer_norm",
};

/// Of T5 since version 1.1.
const NAMES_WITH_GATE: DecoderNames =
    DecoderNames { up: UpNames::Apart(["layer.1.DenseReluDense.wi_0", "layer.1.DenseReluDense.wi_1"]), ..NAMES };

fn forward(fields: &Fields<'_>, dimensions: Dimensions) -> Result<Forward, LoadError> {
    with(fields, dimensions, "relu", BiasTables::OfFirstLayer)
}

/// Returns the forward pass of a model with this default of `feed_forward_proj`.
pub(super) fn with(
    fields: &Fields<'_>,
    Dimensions { heads, .. }: Dimensions,
    feed_forward: &str,
    tables: BiasTables,
) -> Result<Forward, LoadError> {
    let head_size = fields.count(&["d_kv", "head_dim"], 64)?;
    let positions = DecoderPositions::Distances { buckets: buckets(fields)?, tables };
    let (activation, has_gate) = activation(fields, feed_forward)?;
    Ok(Forward::Decoder(DecoderConfig {
        activation: Some(activation),
        // Attention divides the scores by it.
        query_scale: (head_size as f32).sqrt(),
        ..llama::config(if has_gate { &NAMES_WITH_GATE } else { &NAMES }, (heads, head_size), positions)
    }))
}

fn buckets(fields: &Fields<'_>) -> Result<DistanceBuckets, LoadError> {
    let count = fields.count(&["relative_attention_num_buckets"], 32)?;
    let farthest = fields.count(&["relative_attention_max_distance"], 128)?;
    let near = count / 4;
    if near == 0 || farthest <= near {
        return Err(fields.invalid(format!(
            "`relative_attention_num_buckets` {count} do not fit a `relative_attention_max_distance` of {farthest}"
        )));
    }
    let table = "layer.0.SelfAttention.relative_attention_bias.weight";
    Ok(DistanceBuckets { table, rows: count, count, farthest })
}

/// Returns the activation, and whether there is a gate: `dense_act_fn` and `is_gated_act`, which transformers writes and
/// prefers, else `feed_forward_proj`, which has both.
fn activation(fields: &Fields<'_>, default: &str) -> Result<(Activation, bool), LoadError> {
    let name = "feed_forward_proj";
    let value = fields.get(name).cloned().unwrap_or_else(|| Value::from(default));
    let Some(text) = value.as_str() else {
        return Err(fields.invalid(format!("`{name}`: expected a text, found {value}")));
    };
    let gate = text.strip_prefix("gated-");
    let activation = match (fields.get("dense_act_fn"), gate) {
        (Some(_), _) => fields.activation("dense_act_fn", Activation::Relu)?,
        // As in transformers: of T5 1.1, whose `gelu` is the approximation.
        (None, Some("gelu")) => Activation::GeluTanh,
        (None, Some(gate)) => fields.named_activation(name, &value, gate)?,
        (None, None) => fields.named_activation(name, &value, text)?,
    };
    Ok((activation, fields.flag("is_gated_act", gate.is_some())?))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    #[test]
    fn activation_and_gate_are_read_as_transformers_reads_them() {
        let read = |config: Value| {
            let Value::Object(map) = config else { unreachable!("an object") };
            activation(&Fields { path: Path::new("config.json"), map }, "gated-gelu").map_err(|error| error.to_string())
        };
        assert_eq!(read(json!({})), Ok((Activation::GeluTanh, true)));
        assert_eq!(read(json!({"feed_forward_proj": "relu"})), Ok((Activation::Relu, false)));
        assert_eq!(read(json!({"feed_forward_proj": "gelu"})), Ok((Activation::GeluErf, false)));
        assert_eq!(read(json!({"feed_forward_proj": "gated-silu"})), Ok((Activation::Silu, true)));
        let both = json!({"feed_forward_proj": "gated-gelu", "dense_act_fn": "relu", "is_gated_act": false});
        assert_eq!(read(both), Ok((Activation::Relu, false)));
        let unknown = read(json!({"feed_forward_proj": "gated-mish"})).unwrap_err();
        assert!(unknown.contains("`feed_forward_proj` is \"gated-mish\"; known are"), "{unknown}");
    }
}
