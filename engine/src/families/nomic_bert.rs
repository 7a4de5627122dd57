//! NomicBERT.

use kernels::{Activation, Reach};

use super::bert;
use super::description::{Dimensions, Family, Forward, Sizes};
use super::fields::Fields;
use super::forward_config::{Rope, RotaryAttention, RotaryConfig, RotaryNames, UpNames};
use super::rotary::{check_heads, number, theta};
use super::settings::Allowed::{Empty, Flag, Number, Text};
use super::settings::Setting;
use crate::LoadError;

pub(super) const FAMILY: Family = Family {
    model_type: "nomic_bert",
    class_prefix: "NomicBert",
    body_prefix: "nomic_bert.",
    // The second names are those of the model's authors.
    sizes: Sizes {
        vocab: 30528,
        hidden: (&["hidden_size", "n_embd"], 768),
        layers: (&["num_hidden_layers", "n_layer"], 12),
        heads: (&["num_attention_heads", "n_head"], 12),
        intermediate: (&["intermediate_size", "n_inner"], 3072),
        positions: (&["max_position_embeddings", "n_positions"], 2048),
        epsilon: (&["layer_norm_eps", "layer_norm_epsilon"], 1e-12),
        activation: ("hidden_act", Activation::Silu),
        ..bert::SIZES
    },
    settings: SETTINGS,
    fill_mask: None,
    forward,
    ..bert::FAMILY
};

/// The experts of nomic-embed-text-v2-moe come first, since its other settings follow from them. Those after `rope_scaling`
/// are keys that only the authors' own code reads.
const SETTINGS: &[Setting] = &[
    ("num_experts", &[Number(0.0)]),
    ("moe_every_n_layers", &[Number(0.0)]),
    ("add_moe_blocks", &[Flag(false)]),
    ("position_embedding_type", &[Text("absolute"), Text("rotary"), Text("rope")]),
    ("rope_scaling", &[Empty]),
    ("activation_function", &[Text("swiglu")]),
    ("prenorm", &[Flag(false)]),
    ("causal", &[Flag(false)]),
    ("use_rms_norm", &[Flag(false)]),
    ("parallel_block", &[Flag(false)]),
    ("qkv_proj_bias", &[Flag(false)]),
    ("mlp_fc1_bias", &[Flag(false)]),
    ("mlp_fc2_bias", &[Flag(false)]),
    ("rotary_emb_fraction", &[Number(1.0)]),
    ("rotary_emb_interleaved", &[Flag(false)]),
    ("rotary_emb_scale_base", &[]),
    ("rotary_scaling_factor", &[]),
    ("scale_attn_weights", &[Flag(true)]),
    ("scale_attn_by_inverse_layer_idx", &[Flag(false)]),
];

const NAMES: RotaryNames = RotaryNames {
    norm: "emb_ln",
    layers: "encoder.layers",
    attention_norm: "norm1",
    qkv: "attn.Wqkv",
    out: "attn.out_proj",
    output_norm: "norm2",
    up: UpNames::Apart(["mlp.fc12", "mlp.fc11"]),
    down: "mlp.fc2",
    final_norm: None,
};

fn forward(fields: &Fields<'_>, dimensions: Dimensions) -> Result<Forward, LoadError> {
    check_heads(fields, dimensions)?;
    let theta = theta(fields, "rope_parameters", fields.get("rope_parameters"), number(fields, "rope_theta", 1000.0)?)?;
    let authors = number(fields, "rotary_emb_base", theta)?;
    if authors != theta {
        return Err(fields.unsupported(&format!(
            "`rotary_emb_base` is {authors}, but transformers computes with a `rope_theta` of {theta}: say it in `rope_theta`"
        )));
    }
    Ok(Forward::Rotary(RotaryConfig {
        names: &NAMES,
        attention: vec![RotaryAttention { reach: Reach::ALL, rope: Rope::unscaled(theta) }; dimensions.layers],
        attention_bias: false,
        up_bias: false,
        down_bias: false,
        norm_bias: true,
        token_types: fields.count(&["type_vocab_size"], 2)?,
    }))
}
