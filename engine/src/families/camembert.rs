//! CamemBERT.

use super::description::Family;
use super::roberta;
use crate::tokenizer::class::Class;

pub(super) const FAMILY: Family =
    Family { model_type: "camembert", class_prefix: "Camembert", tokenizer: Class::Camembert, ..roberta::FAMILY };
