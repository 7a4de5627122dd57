//! The families of models: each is described in its own file, and listed in one table.

mod albert;
mod bert;
mod camembert;
mod deberta_v2;
mod description;
mod distilbert;
mod electra;
mod eurobert;
mod fields;
mod forward_config;
mod gemma3;
mod gte;
mod gte_new;
mod jina_v3;
mod layer_types;
mod llama;
mod modern_bert;
mod mpnet;
mod mt5;
mod nomic_bert;
mod qwen3;
mod roberta;
mod rotary;
mod settings;
mod t5;
mod umt5;
mod xlm_roberta;

pub(crate) use self::bert::{DEFAULTS as BERT_DEFAULTS, FAMILY as BERT};
pub(crate) use self::description::{
    BertConfig, Dimensions, DistanceBuckets, Family, Forward, HeadNames, Positions, Projection,
};
pub(crate) use self::fields::Fields;
pub(crate) use self::forward_config::{
    Convolution, ConvolutionActivation, DebertaConfig, DecoderConfig, DecoderPositions, Relative, Rope, RotaryConfig,
    UpNames,
};
pub(crate) use self::settings::check as check_settings;

/// Every supported family.
const FAMILIES: &[&Family] = &[
    &bert::FAMILY,
    &roberta::FAMILY,
    &xlm_roberta::FAMILY,
    &camembert::FAMILY,
    &distilbert::FAMILY,
    &modern_bert::FAMILY,
    &nomic_bert::FAMILY,
    &deberta_v2::FAMILY,
    &mpnet::FAMILY,
    &electra::FAMILY,
    &albert::FAMILY,
    &eurobert::FAMILY,
    &qwen3::FAMILY,
    &gemma3::FAMILY,
    &gte::FAMILY,
    &gte_new::FAMILY,
    &jina_v3::FAMILY,
    &t5::FAMILY,
    &mt5::FAMILY,
    &umt5::FAMILY,
];

/// Returns the known `model_type`s for a message.
pub(crate) fn known_model_types() -> String {
    let names: Vec<String> = FAMILIES.iter().map(|family| format!("`{}`", family.model_type)).collect();
    names.join(", ")
}

/// Finds a family by `model_type`.
pub(crate) fn of_model_type(model_type: &str) -> Option<&'static Family> {
    FAMILIES.iter().copied().find(|family| family.model_type == model_type)
}

/// Finds a family by the name of a model's class, such as `BertForMaskedLM`.
pub(crate) fn of_class_name(class: &str) -> Option<&'static Family> {
    FAMILIES.iter().copied().find(|family| {
        let rest = class.strip_prefix(family.class_prefix);
        rest.is_some_and(|rest| ["Model", "EncoderModel", "For"].iter().any(|kind| rest.starts_with(kind)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_dir::tiny_models;

    #[test]
    fn every_family_has_a_tiny_model() {
        let found: Vec<&str> = tiny_models().iter().map(|model| model.config().unwrap().family.model_type).collect();
        for Family { model_type, .. } in FAMILIES {
            assert!(found.contains(model_type), "add a tiny model of `{model_type}`: scripts/make_tiny_models.py");
        }
    }
}
