//! The encoder of mT5: T5 1.1 with other sizes.

use super::description::{Dimensions, Family, Forward, Sizes};
use super::fields::Fields;
use super::forward_config::BiasTables;
use super::t5;
use crate::LoadError;

pub(super) const FAMILY: Family = Family {
    model_type: "mt5",
    class_prefix: "MT5",
    sizes: Sizes {
        vocab: 250_112,
        layers: (t5::FAMILY.sizes.layers.0, 8),
        heads: (t5::FAMILY.sizes.heads.0, 6),
        intermediate: (t5::FAMILY.sizes.intermediate.0, 1024),
        ..t5::FAMILY.sizes
    },
    forward,
    ..t5::FAMILY
};

fn forward(fields: &Fields<'_>, dimensions: Dimensions) -> Result<Forward, LoadError> {
    t5::with(fields, dimensions, "gated-gelu", BiasTables::OfFirstLayer)
}
