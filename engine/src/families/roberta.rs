//! RoBERTa: BERT with other positions and another head.

use kernels::Activation;

use super::bert;
use super::description::{Family, HeadNames, Positions, Sizes};
use crate::tokenizer::class::Class;

pub(super) const FAMILY: Family = Family {
    model_type: "roberta",
    class_prefix: "Roberta",
    body_prefix: "roberta.",
    sizes: Sizes { vocab: 50265, padding: 1, ..bert::SIZES },
    positions: Positions::AfterPadding,
    tokenizer: Class::Roberta,
    fill_mask: Some(HEAD),
    ..bert::FAMILY
};

pub(super) const HEAD: HeadNames = HeadNames {
    dense: "lm_head.dense",
    norm: "lm_head.layer_norm",
    decoder: "lm_head.decoder",
    tied_bias: Some("lm_head.bias"),
    activation: Some(Activation::GeluErf),
};
