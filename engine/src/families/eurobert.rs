//! EuroBERT: LLaMA's layers with attention to all tokens.

use kernels::{Activation, Reach};

use super::bert;
use super::description::{Dimensions, Family, Forward, Sizes};
use super::fields::Fields;
use super::forward_config::{DecoderConfig, DecoderPositions, Rope, RotaryAttention};
use super::llama;
use crate::LoadError;
use crate::tokenizer::class::Class;

pub(super) const FAMILY: Family = Family {
    model_type: "eurobert",
    class_prefix: "EuroBert",
    body_prefix: "model.",
    words: "embed_tokens.weight",
    sizes: Sizes {
        vocab: 128_256,
        positions: (&["max_position_embeddings"], 8192),
        padding: 128_001,
        epsilon: (&["rms_norm_eps"], 1e-5),
        activation: ("hidden_act", Activation::Silu),
        ..bert::SIZES
    },
    // transformers ignores `position_embedding_type`.
    settings: &[],
    tokenizer: Class::Backend,
    fill_mask: None,
    forward,
    ..bert::FAMILY
};

fn forward(fields: &Fields<'_>, dimensions: Dimensions) -> Result<Forward, LoadError> {
    let defaults = (dimensions.heads, dimensions.hidden_size / dimensions.heads);
    let heads = llama::heads(fields, dimensions, defaults)?;
    let attention = RotaryAttention { reach: Reach::ALL, rope: Rope::unscaled(llama::only_theta(fields)?) };
    Ok(Forward::Decoder(DecoderConfig {
        attention_bias: fields.flag("attention_bias", false)?,
        mlp_bias: fields.flag("mlp_bias", false)?,
        ..llama::config(&llama::NAMES, heads, DecoderPositions::Rotary(vec![attention; dimensions.layers]))
    }))
}
