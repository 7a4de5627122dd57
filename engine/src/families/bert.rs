//! BERT.

use kernels::Activation;

use super::description::{BertConfig, BertNames, Dimensions, Family, Forward, HeadNames, Positions, Sizes};
use super::fields::Fields;
use super::settings::{Allowed, Setting};
use crate::LoadError;
use crate::tokenizer::class::Class;

pub(crate) const FAMILY: Family = Family {
    model_type: "bert",
    class_prefix: "Bert",
    body_prefix: "bert.",
    older_prefix: None,
    words: "embeddings.word_embeddings.weight",
    other_words: None,
    sizes: SIZES,
    heads_divide_hidden: true,
    settings: SETTINGS,
    positions: Positions::Zero,
    tokenizer: Class::Bert,
    ignores_tokenizer_class: false,
    fill_mask: Some(HeadNames {
        dense: "cls.predictions.transform.dense",
        norm: "cls.predictions.transform.LayerNorm",
        decoder: "cls.predictions.decoder",
        tied_bias: Some("cls.predictions.bias"),
        activation: None,
    }),
    forward,
};

pub(super) const SIZES: Sizes = Sizes {
    vocab: 30522,
    hidden: (&["hidden_size"], 768),
    layers: (&["num_hidden_layers"], 12),
    heads: (&["num_attention_heads"], 12),
    intermediate: (&["intermediate_size"], 3072),
    positions: (&["max_position_embeddings"], 512),
    padding: 0,
    epsilon: (&["layer_norm_eps"], 1e-12),
    activation: ("hidden_act", Activation::GeluErf),
};

pub(super) const SETTINGS: &[Setting] = &[("position_embedding_type", &[Allowed::Text("absolute")])];

pub(crate) const DEFAULTS: BertConfig =
    BertConfig { names: &NAMES, token_types: 2, distances: None, projection: None, shared: None };

const NAMES: BertNames = BertNames {
    layers: "encoder.layer",
    qkv: ["attention.self.query", "attention.self.key", "attention.self.value"],
    attention_out: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    output_norm: "output.LayerNorm",
};

fn forward(fields: &Fields<'_>, _: Dimensions) -> Result<Forward, LoadError> {
    let token_types = fields.count(&["type_vocab_size"], DEFAULTS.token_types)?;
    Ok(Forward::Bert(BertConfig { token_types, ..DEFAULTS }))
}
