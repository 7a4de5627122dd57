//! Tokenizers converted from sentencepiece, whose pieces include white space.

use serde_json::{Value, json};
use tokenizers::models::bpe::BPE;
use tokenizers::models::unigram::Unigram;

use super::{BuildInput, Steps, unknown_token};
use crate::LoadError;
use crate::tokenizer::class::Class;
use crate::tokenizer::vocabulary_files::{Vocabulary, VocabularyFiles};

/// `XLMRobertaTokenizer`, `CamembertTokenizer` and `T5Tokenizer`, with sentencepiece's normaliser if the file has it.
pub(super) fn xlm_roberta(given: &BuildInput<'_>, source: &mut VocabularyFiles) -> Result<Steps, LoadError> {
    let scores = scores(given, source)?;
    let unknown = if given.class == Class::Camembert {
        position_of(&scores, given.special.role("unk_token"), None).unwrap_or(0)
    } else if given.class == Class::T5 {
        2
    } else {
        3
    };
    let prefix = if given.class == Class::T5 { "always" } else { prefix(given)? };
    Ok(Steps {
        model: unigram(given, scores, unknown)?.into(),
        normalizer: source.charsmap.take().unwrap_or(Value::Null),
        pre_tokenizer: words_and_spaces(prefix),
        decoder: metaspace(prefix, true),
    })
}

/// `DebertaV2Tokenizer`.
pub(super) fn deberta_v2(given: &BuildInput<'_>, source: &mut VocabularyFiles) -> Result<Steps, LoadError> {
    let settings = given.settings;
    let scores = scores(given, source)?;
    let unknown = position_of(&scores, given.special.role("unk_token"), Some(0.0));
    let unknown = unknown.map_or_else(|| settings.count("unk_id", 1), Ok)?;
    let mut normalizers = collapse_whitespace();
    if settings.flag_or_null("do_lower_case", false, false)? {
        normalizers.insert(0, json!({"type": "Lowercase"}));
    }
    let prefix = if settings.flag_or_null("add_prefix_space", true, false)? { "always" } else { "first" };
    let mut pre_tokenizers = vec![metaspace(prefix, true)];
    if settings.flag_or_null("split_by_punct", false, false)? {
        pre_tokenizers.insert(0, json!({"type": "Punctuation", "behavior": "Isolated"}));
    }
    Ok(Steps {
        model: unigram(given, scores, unknown)?.into(),
        normalizer: sequence_of_normalizers(normalizers),
        pre_tokenizer: json!({"type": "Sequence", "pretokenizers": pre_tokenizers}),
        decoder: metaspace(prefix, true),
    })
}

/// `AlbertTokenizer`.
pub(super) fn albert(given: &BuildInput<'_>, source: &mut VocabularyFiles) -> Result<Steps, LoadError> {
    let settings = given.settings;
    let mut normalizers = vec![replace(json!({"String": "``"}), "\""), replace(json!({"String": "''"}), "\"")];
    if !settings.flag_or_null("keep_accents", false, false)? {
        normalizers.extend([json!({"type": "NFKD"}), json!({"type": "StripAccents"})]);
    }
    if settings.flag_or_null("do_lower_case", true, false)? {
        normalizers.push(json!({"type": "Lowercase"}));
    }
    normalizers.extend(source.charsmap.take());
    let prefix = prefix(given)?;
    Ok(Steps {
        model: unigram(given, scores(given, source)?, 1)?.into(),
        normalizer: sequence_of_normalizers(normalizers),
        pre_tokenizer: words_and_spaces(prefix),
        decoder: metaspace(prefix, true),
    })
}

/// `BigBirdTokenizer`.
pub(super) fn big_bird(given: &BuildInput<'_>, source: &mut VocabularyFiles) -> Result<Steps, LoadError> {
    let scores = scores(given, source)?;
    let unknown = position_of(&scores, given.special.role("unk_token"), Some(0.0)).unwrap_or(100);
    let prefix = prefix(given)?;
    Ok(Steps {
        model: unigram(given, scores, unknown)?.into(),
        normalizer: sequence_of_normalizers(vec![
            json!({"type": "Strip", "strip_left": false, "strip_right": false}),
            replace(json!({"Regex": " {2,}"}), "▁"),
        ]),
        pre_tokenizer: metaspace(prefix, true),
        decoder: metaspace(prefix, true),
    })
}

/// `BarthezTokenizer`.
pub(super) fn barthez(given: &BuildInput<'_>, source: &mut VocabularyFiles) -> Result<Steps, LoadError> {
    let prefix = prefix(given)?;
    Ok(Steps {
        model: unigram(given, scores(given, source)?, 3)?.into(),
        normalizer: sequence_of_normalizers(collapse_whitespace()),
        pre_tokenizer: metaspace(prefix, true),
        decoder: metaspace(prefix, true),
    })
}

/// `LlamaTokenizer`: BPE over pieces with byte fallback.
pub(super) fn llama(given: &BuildInput<'_>, source: &mut VocabularyFiles) -> Result<Steps, LoadError> {
    let spaced = given.settings.flag_or_null("add_prefix_space", true, true)?;
    let prefix = match (spaced, given.settings.flag_or_null("legacy", false, false)?) {
        (false, _) => "never",
        (true, false) => "first",
        (true, true) => "always",
    };
    let mut decoders = byte_fallback_decoders();
    if spaced {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Ok(Steps {
        model: merges(given, source, false)?.into(),
        normalizer: json!(null),
        pre_tokenizer: metaspace(prefix, false),
        decoder: json!({"type": "Sequence", "decoders": decoders}),
    })
}

/// `GemmaTokenizer`.
pub(super) fn gemma(given: &BuildInput<'_>, source: &mut VocabularyFiles) -> Result<Steps, LoadError> {
    Ok(Steps {
        model: merges(given, source, true)?.into(),
        normalizer: replace(json!({"String": " "}), "▁"),
        pre_tokenizer: json!(
            {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false}
        ),
        decoder: json!({"type": "Sequence", "decoders": byte_fallback_decoders()}),
    })
}

/// Takes the pieces with their scores, which only Unigram vocabularies have.
fn scores(given: &BuildInput<'_>, source: &mut VocabularyFiles) -> Result<Vec<(String, f64)>, LoadError> {
    match std::mem::take(&mut source.vocabulary) {
        Vocabulary::Scores(scores) => Ok(scores),
        Vocabulary::Ids(_) => Err(given.settings.invalid(format!(
            "a `{}` needs pieces with scores (a Unigram model), but the vocabulary in `tokenizer.json` has none: the \
             `tokenizer_class` does not fit",
            given.class.name()
        ))),
    }
}

/// Finds a piece, or a piece with that score.
fn position_of(scores: &[(String, f64)], piece: Option<&str>, score: Option<f64>) -> Option<usize> {
    let piece = piece?;
    scores.iter().position(|(known, its)| known == piece && score.is_none_or(|score| score == *its))
}

fn unigram(given: &BuildInput<'_>, scores: Vec<(String, f64)>, unknown: usize) -> Result<Unigram, LoadError> {
    Unigram::from(scores, Some(unknown), false)
        .map_err(|error| given.settings.invalid(format!("not a vocabulary: {error}")))
}

fn merges(given: &BuildInput<'_>, source: &mut VocabularyFiles, has_unknown: bool) -> Result<BPE, LoadError> {
    let ids = std::mem::take(&mut source.vocabulary).ids();
    let mut builder = BPE::builder();
    if has_unknown {
        builder = builder.unk_token(unknown_token(given, &ids)?);
    }
    let builder = builder.vocab_and_merges(ids, std::mem::take(&mut source.merges));
    let model = builder.fuse_unk(true).byte_fallback(true).build();
    model.map_err(|error| given.settings.invalid(format!("not a vocabulary: {error}")))
}

/// Whether the first word of a text gets a leading space.
fn prefix(given: &BuildInput<'_>) -> Result<&'static str, LoadError> {
    Ok(if given.settings.flag_or_null("add_prefix_space", true, false)? { "always" } else { "never" })
}

fn metaspace(prefix: &str, split: bool) -> Value {
    json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": prefix, "split": split})
}

fn words_and_spaces(prefix: &str) -> Value {
    json!({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace(prefix, true)]})
}

fn replace(pattern: Value, content: &str) -> Value {
    json!({"type": "Replace", "pattern": pattern, "content": content})
}

fn sequence_of_normalizers(normalizers: Vec<Value>) -> Value {
    json!({"type": "Sequence", "normalizers": normalizers})
}

/// Collapses white space, and strips it at the end.
fn collapse_whitespace() -> Vec<Value> {
    vec![
        replace(json!({"Regex": r"\s{2,}|[\n\r\t]"}), " "),
        json!({"type": "NFC"}),
        json!({"type": "Strip", "strip_left": false, "strip_right": true}),
    ]
}

fn byte_fallback_decoders() -> Vec<Value> {
    vec![replace(json!({"String": "▁"}), " "), json!({"type": "ByteFallback"}), json!({"type": "Fuse"})]
}
