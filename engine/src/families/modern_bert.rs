//! ModernBERT.

use kernels::{Activation, Reach};
use serde_json::Value;

use super::bert;
use super::description::{Dimensions, Family, Forward, Sizes};
use super::fields::Fields;
use super::forward_config::{Rope, RotaryAttention, RotaryConfig, RotaryNames, UpNames};
use super::layer_types::{FULL_ATTENTION, SLIDING_ATTENTION, sliding_layers};
use super::rotary::{check_heads, check_kinds, theta_of_kind};
use super::settings::Allowed::{Empty, Text};
use super::settings::Setting;
use crate::LoadError;
use crate::tokenizer::class::Class;

pub(super) const FAMILY: Family = Family {
    model_type: "modernbert",
    class_prefix: "ModernBert",
    body_prefix: "model.",
    words: "embeddings.tok_embeddings.weight",
    sizes: Sizes {
        vocab: 50368,
        layers: (&["num_hidden_layers"], 22),
        intermediate: (&["intermediate_size"], 1152),
        positions: (&["max_position_embeddings"], 8192),
        epsilon: (&["norm_eps"], 1e-5),
        activation: ("hidden_activation", Activation::GeluErf),
        ..bert::SIZES
    },
    settings: SETTINGS,
    tokenizer: Class::Backend,
    ignores_tokenizer_class: true,
    fill_mask: None,
    forward,
    ..bert::FAMILY
};

const SETTINGS: &[Setting] = &[
    // Descriptions of what these models do in any case.
    ("position_embedding_type", &[Text("absolute"), Text("rotary"), Text("rope"), Text("sans_pos")]),
    ("rope_scaling", &[Empty]),
];

const NAMES: RotaryNames = RotaryNames {
    norm: "embeddings.norm",
    layers: "layers",
    attention_norm: "attn_norm",
    qkv: "attn.Wqkv",
    out: "attn.Wo",
    output_norm: "mlp_norm",
    up: UpNames::GateFirst("mlp.Wi"),
    down: "mlp.Wo",
    final_norm: Some("final_norm"),
};

fn forward(fields: &Fields<'_>, dimensions: Dimensions) -> Result<Forward, LoadError> {
    check_heads(fields, dimensions)?;
    let half_window = fields.integer(&["local_attention"], 128)? / 2;
    // `sliding_window` is half of `local_attention` and overrides it.
    let half_window = fields.integer(&["sliding_window"], half_window)?;
    check_kinds(fields)?;
    let full = attention(fields, FULL_ATTENTION, ("global_rope_theta", 160_000.0), Reach::ALL)?;
    let near = Reach { before: half_window, after: half_window };
    let local = attention(fields, SLIDING_ATTENTION, ("local_rope_theta", 10_000.0), near)?;
    let every = fields.count(&["global_attn_every_n_layers"], 3)?;
    let sliding = sliding_layers(fields, dimensions.layers, |layer| !layer.is_multiple_of(every))?;
    Ok(Forward::Rotary(RotaryConfig {
        names: &NAMES,
        attention: sliding.iter().map(|sliding| if *sliding { local } else { full }).collect(),
        attention_bias: fields.flag("attention_bias", false)?,
        up_bias: fields.flag("mlp_bias", false)?,
        down_bias: fields.flag("mlp_bias", false)?,
        norm_bias: fields.flag("norm_bias", false)?,
        token_types: 0,
    }))
}

/// Returns how layers of a kind attend.
fn attention(
    fields: &Fields<'_>,
    kind: &str,
    (older, default): (&str, f64),
    reach: Reach,
) -> Result<RotaryAttention, LoadError> {
    // The only place where `null` differs from absent: transformers fails, the authors' code uses the other theta.
    if fields.map.get(older).is_some_and(Value::is_null) {
        return Err(fields.unsupported(&format!("`{older}` is null: give the number, which is {default} by default")));
    }
    Ok(RotaryAttention { reach, rope: Rope::unscaled(theta_of_kind(fields, kind, older, default)?) })
}
