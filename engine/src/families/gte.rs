//! GTE as transformers has it.

use kernels::Reach;

use super::bert;
use super::description::{Dimensions, Family, Forward, Sizes};
use super::fields::Fields;
use super::forward_config::{Rope, RotaryAttention, RotaryConfig, RotaryNames, UpNames};
use super::rotary::{check_heads, number, rope, rope_parameters};
use super::settings::Allowed::Text;
use super::settings::Setting;
use crate::LoadError;
use crate::tokenizer::class::Class;

pub(super) const FAMILY: Family = Family {
    model_type: "gte",
    class_prefix: "Gte",
    body_prefix: "gte.",
    older_prefix: Some("new."),
    sizes: Sizes { vocab: 250_048, positions: (&["max_position_embeddings"], 8192), padding: 1, ..bert::SIZES },
    settings: SETTINGS,
    tokenizer: Class::XlmRoberta,
    fill_mask: None,
    forward,
    ..bert::FAMILY
};

/// Descriptions of what these models do in any case.
const SETTINGS: &[Setting] = &[("position_embedding_type", &[Text("absolute"), Text("rotary"), Text("rope")])];

const NAMES: RotaryNames = RotaryNames {
    norm: "embeddings.LayerNorm",
    layers: "encoder.layer",
    attention_norm: "attn_ln",
    qkv: "attention.qkv_proj",
    out: "attention.o_proj",
    output_norm: "mlp_ln",
    up: UpNames::GateLast("mlp.up_gate_proj"),
    down: "mlp.down_proj",
    final_norm: None,
};

fn forward(fields: &Fields<'_>, dimensions: Dimensions) -> Result<Forward, LoadError> {
    check_heads(fields, dimensions)?;
    let default = number(fields, "rope_theta", 160_000.0)?;
    let (name, parameters) = rope_parameters(fields);
    let rope = rope(fields, name, parameters, default)?;
    with_rope(fields, dimensions, rope)
}

pub(super) fn with_rope(fields: &Fields<'_>, dimensions: Dimensions, rope: Rope) -> Result<Forward, LoadError> {
    Ok(Forward::Rotary(RotaryConfig {
        names: &NAMES,
        attention: vec![RotaryAttention { reach: Reach::ALL, rope }; dimensions.layers],
        attention_bias: true,
        up_bias: false,
        down_bias: true,
        norm_bias: true,
        token_types: fields.integer(&["type_vocab_size"], 1)?,
    }))
}
