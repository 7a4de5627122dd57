//! DistilBERT: BERT with other names, and without token types.

use kernels::Activation;

use super::bert;
use super::description::{BertConfig, BertNames, Dimensions, Family, Forward, HeadNames, Sizes};
use super::fields::Fields;
use crate::LoadError;

pub(super) const FAMILY: Family = Family {
    model_type: "distilbert",
    class_prefix: "DistilBert",
    body_prefix: "distilbert.",
    sizes: Sizes {
        hidden: (&["dim", "hidden_size"], 768),
        layers: (&["n_layers", "num_hidden_layers"], 6),
        heads: (&["n_heads", "num_attention_heads"], 12),
        intermediate: (&["hidden_dim"], 3072),
        epsilon: (&[], 1e-12),
        activation: ("activation", Activation::GeluErf),
        ..bert::SIZES
    },
    fill_mask: Some(HeadNames {
        dense: "vocab_transform",
        norm: "vocab_layer_norm",
        decoder: "vocab_projector",
        tied_bias: None,
        activation: None,
    }),
    forward,
    ..bert::FAMILY
};

const NAMES: BertNames = BertNames {
    layers: "transformer.layer",
    qkv: ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
    attention_out: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    output_norm: "output_layer_norm",
};

fn forward(fields: &Fields<'_>, _: Dimensions) -> Result<Forward, LoadError> {
    fields.count(&["type_vocab_size"], 2)?;
    Ok(Forward::Bert(BertConfig { names: &NAMES, token_types: 0, ..bert::DEFAULTS }))
}
