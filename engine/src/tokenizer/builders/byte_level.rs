//! Byte-level BPE tokenizers, which have no unknown tokens.

use serde_json::json;
use tokenizers::models::bpe::BPE;

use super::{BuildInput, Steps};
use crate::LoadError;
use crate::tokenizer::vocabulary_files::VocabularyFiles;

/// Qwen2's pre-tokenization regex.
pub(crate) const QWEN2_WORDS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// `RobertaTokenizer`, `DebertaTokenizer` and `GPT2Tokenizer`.
pub(super) fn roberta(given: &BuildInput<'_>, source: &mut VocabularyFiles) -> Result<Steps, LoadError> {
    let add_prefix_space = given.settings.flag("add_prefix_space", false)?;
    Ok(Steps {
        model: model(given, source)?.into(),
        normalizer: json!(null),
        pre_tokenizer: byte_level(add_prefix_space, true),
        decoder: byte_level(true, true),
    })
}

/// `Qwen2Tokenizer`.
pub(super) fn qwen2(given: &BuildInput<'_>, source: &mut VocabularyFiles) -> Result<Steps, LoadError> {
    let add_prefix_space = given.settings.flag_or_null("add_prefix_space", false, false)?;
    Ok(Steps {
        model: model(given, source)?.into(),
        normalizer: json!({"type": "NFC"}),
        pre_tokenizer: json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": QWEN2_WORDS}, "behavior": "Isolated", "invert": false},
            byte_level(add_prefix_space, false),
        ]}),
        decoder: byte_level(true, true),
    })
}

fn model(given: &BuildInput<'_>, source: &mut VocabularyFiles) -> Result<BPE, LoadError> {
    BPE::builder()
        .vocab_and_merges(std::mem::take(&mut source.vocabulary).ids(), std::mem::take(&mut source.merges))
        .continuing_subword_prefix(String::new())
        .end_of_word_suffix(String::new())
        .build()
        .map_err(|error| given.settings.invalid(format!("not a vocabulary: {error}")))
}

fn byte_level(add_prefix_space: bool, use_regex: bool) -> serde_json::Value {
    json!({"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": use_regex})
}
