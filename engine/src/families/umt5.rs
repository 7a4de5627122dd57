//! The encoder of umT5: mT5 with a bias of each layer.

use super::description::{Dimensions, Family, Forward};
use super::fields::Fields;
use super::forward_config::BiasTables;
use super::{mt5, t5};
use crate::LoadError;
use crate::tokenizer::class::Class;

pub(super) const FAMILY: Family = Family {
    model_type: "umt5",
    class_prefix: "UMT5",
    tokenizer: Class::Backend,
    ignores_tokenizer_class: true,
    forward,
    ..mt5::FAMILY
};

fn forward(fields: &Fields<'_>, dimensions: Dimensions) -> Result<Forward, LoadError> {
    t5::with(fields, dimensions, "gated-gelu", BiasTables::OfEachLayer)
}
