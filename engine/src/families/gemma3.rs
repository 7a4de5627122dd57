//! Gemma3 without images: windows in most layers, norms after each half too, scaled embeddings.

use kernels::{Activation, Reach};
use serde_json::Value;

use super::description::{Dimensions, Family, Forward, Sizes};
use super::eurobert;
use super::fields::Fields;
use super::forward_config::{DecoderConfig, DecoderNames, DecoderPositions, Rope, RotaryAttention};
use super::layer_types::{FULL_ATTENTION, SLIDING_ATTENTION, sliding_layers};
use super::llama;
use super::rotary::{check_kinds, number, theta, theta_of_kind};
use super::settings::Allowed::Flag;
use crate::LoadError;
use crate::tokenizer::class::Class;

pub(super) const FAMILY: Family = Family {
    model_type: "gemma3_text",
    class_prefix: "Gemma3Text",
    sizes: Sizes {
        vocab: 262_208,
        hidden: (&["hidden_size"], 2304),
        layers: (&["num_hidden_layers"], 26),
        heads: (&["num_attention_heads"], 8),
        intermediate: (&["intermediate_size"], 9216),
        positions: (&["max_position_embeddings"], 131_072),
        padding: 0,
        epsilon: (&["rms_norm_eps"], 1e-6),
        activation: ("hidden_activation", Activation::GeluTanh),
    },
    // transformers reads `attn_logit_softcapping` without applying it; `final_logit_softcapping` changes no vector.
    settings: &[("is_causal", &[Flag(true)]), ("attn_logit_softcapping", &[])],
    tokenizer: Class::Gemma,
    forward,
    ..eurobert::FAMILY
};

const NAMES: DecoderNames = DecoderNames {
    feed_forward_norm: "pre_feedforward_layernorm",
    output_norms: Some(["post_attention_layernorm", "post_feedforward_layernorm"]),
    ..llama::NAMES_WITH_HEAD_NORMS
};

fn forward(fields: &Fields<'_>, dimensions: Dimensions) -> Result<Forward, LoadError> {
    let heads = llama::heads(fields, dimensions, (4, 256))?;
    let pattern = fields.count(&["sliding_window_pattern"], 6)?;
    let sliding = sliding_layers(fields, dimensions.layers, |layer| !(layer + 1).is_multiple_of(pattern))?;
    let [full, local] = thetas(fields)?;
    let all = if both_ways(fields)? { Reach::ALL } else { Reach { after: 0, ..Reach::ALL } };
    let near = match sliding.contains(&true) {
        true => window(fields)?,
        false => all,
    };
    let attention = |sliding: &bool| match sliding {
        true => RotaryAttention { reach: near, rope: Rope::unscaled(local) },
        false => RotaryAttention { reach: all, rope: Rope::unscaled(full) },
    };
    let scalar = number(fields, "query_pre_attn_scalar", 256.0)?;
    let positions = DecoderPositions::Rotary(sliding.iter().map(attention).collect());
    Ok(Forward::Decoder(DecoderConfig {
        attention_bias: fields.flag("attention_bias", false)?,
        norm_offset: 1.0,
        query_scale: (heads.1 as f64 / scalar).sqrt() as f32,
        embedding_scale: (dimensions.hidden_size as f64).sqrt() as f32,
        ..llama::config(&NAMES, heads, positions)
    }))
}

fn both_ways(fields: &Fields<'_>) -> Result<bool, LoadError> {
    fields.flag("use_bidirectional_attention", false)
}

/// Returns the reach of layers with a window.
fn window(fields: &Fields<'_>) -> Result<Reach, LoadError> {
    if fields.map.get("sliding_window").is_some_and(Value::is_null) {
        return Err(fields.invalid("`sliding_window` is null, but layers have sliding windows".into()));
    }
    let window = fields.count(&["sliding_window"], 4096)?;
    Ok(match both_ways(fields)? {
        true => Reach { before: window / 2, after: window / 2 },
        false => Reach { before: window - 1, after: 0 },
    })
}

/// Returns the bases of the rotations of layers without and with a window.
fn thetas(fields: &Fields<'_>) -> Result<[f64; 2], LoadError> {
    check_kinds(fields)?;
    let full = theta_of_kind(fields, FULL_ATTENTION, "rope_theta", 1_000_000.0)?;
    let local = theta_of_kind(fields, SLIDING_ATTENTION, "rope_local_base_freq", 10_000.0)?;
    // It changes the rotation of layers without a window alone.
    Ok([theta(fields, "rope_scaling", fields.get("rope_scaling"), full)?, local])
}
