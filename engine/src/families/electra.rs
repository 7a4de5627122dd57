//! ELECTRA: BERT with embeddings that may be narrower than its layers, and a head of their width.

use kernels::Activation;

use super::bert;
use super::description::{BertConfig, Dimensions, Family, Forward, HeadNames, Projection, Sizes};
use super::fields::Fields;
use crate::LoadError;

pub(super) const FAMILY: Family = Family {
    model_type: "electra",
    class_prefix: "Electra",
    body_prefix: "electra.",
    sizes: Sizes {
        hidden: (&["hidden_size"], 256),
        heads: (&["num_attention_heads"], 4),
        intermediate: (&["intermediate_size"], 1024),
        ..bert::SIZES
    },
    fill_mask: Some(HeadNames {
        dense: "generator_predictions.dense",
        norm: "generator_predictions.LayerNorm",
        decoder: "generator_lm_head",
        tied_bias: None,
        activation: Some(Activation::GeluErf),
    }),
    forward,
    ..bert::FAMILY
};

fn forward(fields: &Fields<'_>, Dimensions { hidden_size, .. }: Dimensions) -> Result<Forward, LoadError> {
    let token_types = fields.count(&["type_vocab_size"], bert::DEFAULTS.token_types)?;
    let width = fields.count(&["embedding_size"], 128)?;
    let projection = (width != hidden_size).then_some(Projection { name: "embeddings_project", width });
    Ok(Forward::Bert(BertConfig { token_types, projection, ..bert::DEFAULTS }))
}
