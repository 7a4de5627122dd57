//! Builds the tokenizer of each class around a vocabulary. A new class is a match arm here and a function beside it.

mod byte_level;
mod post_processor;
mod sentencepiece;
mod word_piece;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokenizers::models::bpe::Vocab;
use tokenizers::{DecoderWrapper, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

use super::class::Class;
use super::settings::Settings;
use super::special::SpecialTokens;
use super::vocabulary_files::VocabularyFiles;
use crate::LoadError;

pub(crate) use byte_level::QWEN2_WORDS;
pub(super) use post_processor::post_processor;

/// The inputs of a builder.
pub(super) struct BuildInput<'a> {
    pub(super) class: Class,
    pub(super) settings: &'a Settings,
    pub(super) special: &'a SpecialTokens,
}

/// The steps of a tokenizer as in `tokenizer.json`; `null` is none.
struct Steps {
    model: ModelWrapper,
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
}

/// Builds everything but the post-processor, without added tokens except for a kept pipeline.
pub(super) fn pipeline(given: &BuildInput<'_>, source: &mut VocabularyFiles) -> Result<Tokenizer, LoadError> {
    if let Some(whole) = source.whole.take() {
        if given.class == Class::ConvBert {
            word_piece::check_flags(given)?;
        }
        return Ok(whole);
    }
    let steps = match given.class {
        Class::Bert | Class::ConvBert | Class::MpNet => word_piece::bert(given, source)?,
        Class::Herbert => word_piece::herbert(given, source)?,
        Class::Roberta | Class::Deberta | Class::Gpt2 => byte_level::roberta(given, source)?,
        Class::Qwen2 => byte_level::qwen2(given, source)?,
        Class::XlmRoberta | Class::Camembert | Class::T5 => sentencepiece::xlm_roberta(given, source)?,
        Class::DebertaV2 => sentencepiece::deberta_v2(given, source)?,
        Class::Albert => sentencepiece::albert(given, source)?,
        Class::BigBird => sentencepiece::big_bird(given, source)?,
        Class::Barthez => sentencepiece::barthez(given, source)?,
        Class::Llama => sentencepiece::llama(given, source)?,
        Class::Gemma => sentencepiece::gemma(given, source)?,
        Class::Backend | Class::FNet => {
            return Err(given.settings.invalid("the class of the tokenizer reads nothing but a `tokenizer.json`"));
        }
    };
    let mut tokenizer = Tokenizer::new(steps.model);
    let normalizer: Option<NormalizerWrapper> = step(steps.normalizer, given)?;
    tokenizer.with_normalizer(normalizer).map_err(|error| given.settings.invalid(error.to_string()))?;
    tokenizer.with_pre_tokenizer(step::<PreTokenizerWrapper>(steps.pre_tokenizer, given)?);
    tokenizer.with_decoder(step::<DecoderWrapper>(steps.decoder, given)?);
    Ok(tokenizer)
}

/// Returns the unknown token, which the vocabulary must have: else only a text with an unknown character would fail.
fn unknown_token(given: &BuildInput<'_>, vocabulary: &Vocab) -> Result<String, LoadError> {
    let unknown = given.special.needed("unk_token", given.settings)?;
    match vocabulary.contains_key(unknown) {
        true => Ok(unknown.to_owned()),
        false => Err(given.settings.invalid(format!("`unk_token`: `{unknown}` is not in the vocabulary"))),
    }
}

/// Deserialises a step as the library does from `tokenizer.json`.
fn step<T: DeserializeOwned>(value: Value, given: &BuildInput<'_>) -> Result<Option<T>, LoadError> {
    serde_json::from_value(value).map_err(|error| {
        given.settings.invalid(format!("a step of the {} cannot be built: {error}", given.class.name()))
    })
}
