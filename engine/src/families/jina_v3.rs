//! Jina v3 as transformers has it, which is the base model without its adapters: RoBERTa's layers with rotary positions.

use kernels::Reach;

use super::bert;
use super::description::{Dimensions, Family, Forward, Sizes};
use super::fields::Fields;
use super::forward_config::{RotaryAttention, RotaryConfig, RotaryNames, UpNames};
use super::rotary::{check_heads, number, rope, rope_parameters};
use crate::LoadError;
use crate::tokenizer::class::Class;

pub(super) const FAMILY: Family = Family {
    model_type: "jina_embeddings_v3",
    class_prefix: "JinaEmbeddingsV3",
    body_prefix: "roberta.",
    sizes: Sizes {
        vocab: 250_002,
        hidden: (&["hidden_size"], 1024),
        layers: (&["num_hidden_layers"], 24),
        heads: (&["num_attention_heads"], 16),
        intermediate: (&["intermediate_size"], 4096),
        positions: (&["max_position_embeddings"], 8194),
        padding: 1,
        epsilon: (&["layer_norm_eps"], 1e-5),
        ..bert::SIZES
    },
    // transformers does not read `position_embedding_type`.
    settings: &[],
    tokenizer: Class::XlmRoberta,
    fill_mask: None,
    forward,
    ..bert::FAMILY
};

/// Of the authors; transformers renames them when it reads and writes a file.
const NAMES: RotaryNames = RotaryNames {
    norm: "emb_ln",
    layers: "encoder.layers",
    attention_norm: "norm1",
    qkv: "mixer.Wqkv",
    out: "mixer.out_proj",
    output_norm: "norm2",
    up: UpNames::NoGate("mlp.fc1"),
    down: "mlp.fc2",
    final_norm: None,
};

fn forward(fields: &Fields<'_>, dimensions: Dimensions) -> Result<Forward, LoadError> {
    check_heads(fields, dimensions)?;
    let (name, parameters) = rope_parameters(fields);
    let rope = rope(fields, name, parameters, number(fields, "rope_theta", 20_000.0)?)?;
    Ok(Forward::Rotary(RotaryConfig {
        names: &NAMES,
        attention: vec![RotaryAttention { reach: Reach::ALL, rope }; dimensions.layers],
        attention_bias: true,
        up_bias: true,
        down_bias: true,
        norm_bias: true,
        token_types: fields.count(&["type_vocab_size"], 1)?,
    }))
}
