//! WordPiece and its relatives: words, split into pieces from the left.

use serde_json::json;
use tokenizers::models::bpe::BPE;
use tokenizers::models::wordpiece::WordPiece;

use super::{BuildInput, Steps, unknown_token};
use crate::LoadError;
use crate::tokenizer::vocabulary_files::VocabularyFiles;

/// `BertTokenizer` and `MPNetTokenizer`.
pub(super) fn bert(given: &BuildInput<'_>, source: &mut VocabularyFiles) -> Result<Steps, LoadError> {
    let settings = given.settings;
    let ids = std::mem::take(&mut source.vocabulary).ids();
    let unknown = unknown_token(given, &ids)?;
    let model = WordPiece::builder().vocab(ids).unk_token(unknown).build();
    Ok(Steps {
        model: model.map_err(|error| settings.invalid(error.to_string()))?.into(),
        normalizer: json!({
            "type": "BertNormalizer",
            "clean_text": true,
            "handle_chinese_chars": settings.flag("tokenize_chinese_chars", true)?,
            "strip_accents": settings.strip_accents()?,
            "lowercase": settings.flag("do_lower_case", true)?,
        }),
        pre_tokenizer: json!({"type": "BertPreTokenizer"}),
        decoder: json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
    })
}

/// Validates the flags' types where a kept pipeline ignores their values.
pub(super) fn check_flags(given: &BuildInput<'_>) -> Result<(), LoadError> {
    given.settings.flag("tokenize_chinese_chars", true)?;
    given.settings.flag("do_lower_case", true)?;
    given.settings.strip_accents().map(|_| ())
}

/// `HerbertTokenizer`: BPE over BERT's words.
pub(super) fn herbert(given: &BuildInput<'_>, source: &mut VocabularyFiles) -> Result<Steps, LoadError> {
    let ids = std::mem::take(&mut source.vocabulary).ids();
    let unknown = unknown_token(given, &ids)?;
    let model = BPE::builder()
        .vocab_and_merges(ids, std::mem::take(&mut source.merges))
        .unk_token(unknown)
        .end_of_word_suffix("</w>".into())
        .build();
    Ok(Steps {
        model: model.map_err(|error| given.settings.invalid(error.to_string()))?.into(),
        normalizer: json!({
            "type": "BertNormalizer",
            "clean_text": true,
            "handle_chinese_chars": true,
            "strip_accents": false,
            "lowercase": false,
        }),
        pre_tokenizer: json!({"type": "BertPreTokenizer"}),
        decoder: json!({"type": "BPEDecoder", "suffix": "</w>"}),
    })
}
