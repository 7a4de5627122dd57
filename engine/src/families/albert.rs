//! ALBERT: BERT with embeddings narrower than its layers, which share weights.

use kernels::Activation;

use super::bert;
use super::description::{
    BertConfig, BertNames, Dimensions, Family, Forward, HeadNames, Projection, SharedLayers, Sizes,
};
use super::fields::Fields;
use crate::LoadError;
use crate::tokenizer::class::Class;

pub(super) const FAMILY: Family = Family {
    model_type: "albert",
    class_prefix: "Albert",
    body_prefix: "albert.",
    sizes: Sizes {
        vocab: 30_000,
        hidden: (&["hidden_size"], 4096),
        heads: (&["num_attention_heads"], 64),
        intermediate: (&["intermediate_size"], 16_384),
        activation: ("hidden_act", Activation::GeluTanh),
        ..bert::SIZES
    },
    // transformers does not read `position_embedding_type`.
    settings: &[],
    tokenizer: Class::Albert,
    fill_mask: Some(HeadNames {
        dense: "predictions.dense",
        norm: "predictions.LayerNorm",
        decoder: "predictions.decoder",
        tied_bias: Some("predictions.bias"),
        activation: None,
    }),
    forward,
    ..bert::FAMILY
};

const NAMES: BertNames = BertNames {
    layers: "encoder.albert_layer_groups",
    qkv: ["attention.query", "attention.key", "attention.value"],
    attention_out: "attention.dense",
    attention_norm: "attention.LayerNorm",
    up: "ffn",
    down: "ffn_output",
    output_norm: "full_layer_layer_norm",
};

fn forward(fields: &Fields<'_>, _: Dimensions) -> Result<Forward, LoadError> {
    let width = fields.count(&["embedding_size"], 128)?;
    Ok(Forward::Bert(BertConfig {
        names: &NAMES,
        token_types: fields.count(&["type_vocab_size"], 2)?,
        projection: Some(Projection { name: "encoder.embedding_hidden_mapping_in", width }),
        shared: Some(SharedLayers {
            groups: fields.count(&["num_hidden_groups"], 1)?,
            members: fields.count(&["inner_group_num"], 1)?,
            name: "albert_layers",
        }),
        ..bert::DEFAULTS
    }))
}
