//! XLM-RoBERTa.

use super::description::Family;
use super::roberta;
use crate::tokenizer::class::Class;

pub(super) const FAMILY: Family =
    Family { model_type: "xlm-roberta", class_prefix: "XLMRoberta", tokenizer: Class::XlmRoberta, ..roberta::FAMILY };
