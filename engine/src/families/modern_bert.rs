//! ModernBERT.

use kernels::{Activation, Reach};
use serde_json::Value;

use super::bert;
use super::description::{Dimensions, Family, Forward, Sizes};
use super::fields::Fields;
use super::forward_config::{GateNames, Rope, RotaryAttention, RotaryConfig, RotaryNames};
use super::layer_types::sliding_layers;
use super::rotary::{check_heads, number, theta};
use super::settings::Allowed::{Empty, Text};
use super::settings::{Setting, shortened};
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
    feed_forward_matrices: 3,
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
    up: GateNames::GateFirst("mlp.Wi"),
    down: "mlp.Wo",
    final_norm: Some("final_norm"),
};

/// The two layer types: name, legacy key and default of `theta`.
const KINDS: [(&str, &str, f64); 2] =
    [("full_attention", "global_rope_theta", 160_000.0), ("sliding_attention", "local_rope_theta", 10_000.0)];

fn forward(fields: &Fields<'_>, dimensions: Dimensions) -> Result<Forward, LoadError> {
    check_heads(fields, dimensions)?;
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
        let reach = match kind {
            "sliding_attention" => Reach { before: half_window, after: half_window },
            _ => Reach::ALL,
        };
        kinds.push((kind, RotaryAttention { reach, rope: Rope { theta, slowdown: 1.0 } }));
    }
    let every = fields.count(&["global_attn_every_n_layers"], 3)?;
    let sliding = sliding_layers(fields, dimensions.layers, |layer| !layer.is_multiple_of(every))?;
    Ok(Forward::Rotary(RotaryConfig {
        names: &NAMES,
        attention: sliding.iter().map(|sliding| kinds[usize::from(*sliding)].1).collect(),
        attention_bias: fields.flag("attention_bias", false)?,
        up_bias: fields.flag("mlp_bias", false)?,
        down_bias: fields.flag("mlp_bias", false)?,
        norm_bias: fields.flag("norm_bias", false)?,
        token_types: 0,
    }))
}
