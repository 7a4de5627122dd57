//! Shortens a long text before it is tokenized without changing the tokens that truncation keeps, at either end.
//!
//! A tokenizer that splits at white space treats the text before a space independently of text far behind it. So a
//! text may be cut after a word, provided the tokens to keep end [`MARGIN_WORDS`] words before the cut: more than any
//! added token with spaces, or any rule about neighbouring characters, spans. Other tokenizers get the whole text.
//!
//! A tokenizer with merges alone may be cut so too where no piece of its vocabulary has a space after another character.
//!
//! A text without white space cannot be cut this way. For BERT's tokenizer the common case, a single very long word,
//! is shortened in the middle: a word of more than a hundred letters is unknown either way.

use std::borrow::Cow;

use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::{
    Encoding, ModelWrapper, NormalizedString, Normalizer, NormalizerWrapper, OffsetReferential, OffsetType,
    PreTokenizedString, PreTokenizer, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer,
};

use crate::tokenizer::QWEN2_WORDS;

/// Words before a cut whose tokens may differ from those of the whole text.
const MARGIN_WORDS: usize = 16;

/// First estimate of bytes per token (texts have two to five): a cut too short costs a second tokenization, one too
/// long a longer first one.
const BYTES_PER_TOKEN: usize = 8;

/// Minimum bytes of a text that is shortened.
const TEXT_BYTES_MIN: usize = 4096;

/// Bytes kept of a very long word, half from either end, so that neighbouring characters still touch its ends.
const WORD_BYTES_KEPT: usize = 1024;

/// The patterns of words of LLaMA 3 and Qwen. A word takes at most one character from the white space before it, and only
/// line breaks from behind it.
const WORDS: [&str; 2] = [
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    QWEN2_WORDS,
];

/// What sentencepiece writes for a space.
const LOW_LINE: char = '▁';

/// Decides where the texts of one tokenizer may be cut.
pub(crate) struct PreTruncator {
    /// The ASCII white space at which texts may be cut; empty if the tokenizer does not split there.
    spaces: Vec<u8>,
    long_words_are_unknown: bool,
}

impl PreTruncator {
    pub(crate) fn new(tokenizer: &Tokenizer) -> PreTruncator {
        PreTruncator {
            spaces: match tokenizer.get_pre_tokenizer().is_some_and(splits_at_spaces) {
                true => ASCII_SPACES.into_iter().filter(|space| separates(tokenizer, *space)).collect(),
                false if merges_end_at_spaces(tokenizer) => vec![b' '],
                false => Vec::new(),
            },
            long_words_are_unknown: long_words_are_unknown(tokenizer),
        }
    }

    /// Shortens the very long words of a text, where that changes no token.
    pub(crate) fn shorten_long_words<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if !self.long_words_are_unknown || text.len() < TEXT_BYTES_MIN {
            return Cow::Borrowed(text);
        }
        let (mut shortened, mut kept_to, mut start) = (String::new(), 0, 0);
        let ends = text.bytes().enumerate().filter(|(_, byte)| !byte.is_ascii_alphanumeric()).map(|(at, _)| at);
        for end in ends.chain([text.len()]) {
            if end - start > WORD_BYTES_KEPT {
                shortened.push_str(&text[kept_to..start + WORD_BYTES_KEPT / 2]);
                kept_to = end - WORD_BYTES_KEPT / 2;
            }
            start = end + 1;
        }
        match kept_to {
            0 => Cow::Borrowed(text),
            _ => Cow::Owned(shortened + &text[kept_to..]),
        }
    }

    /// Tokenizes a prefix of `text` that determines its first `token_count` tokens and has more than these; returns
    /// its tokens.
    ///
    /// Returns `None` if there is no such prefix: the text is short, has few tokens, or may not be cut.
    pub(crate) fn prefix(
        &self,
        tokenizer: &Tokenizer,
        text: &str,
        token_count: usize,
    ) -> tokenizers::Result<Option<Encoding>> {
        let mut bytes = token_count.saturating_mul(BYTES_PER_TOKEN).max(TEXT_BYTES_MIN);
        while !self.spaces.is_empty() && bytes < text.len() / 2 {
            let Some(cut) = self.word_end(text, bytes) else { return Ok(None) };
            let safe_end = self.before_last_words(&text[..cut], MARGIN_WORDS);
            let tokenize = tokenizer.encode(&text[..cut], false)?;
            // One extra token proves that the text is truncated.
            if tokenize.get_offsets().get(token_count).is_some_and(|&(_, end)| end <= safe_end) {
                return Ok(Some(tokenize));
            }
            bytes = cut.max(bytes) * 4;
        }
        Ok(None)
    }

    /// As [`prefix`](PreTruncator::prefix), for the last `token_count` tokens.
    pub(crate) fn suffix(
        &self,
        tokenizer: &Tokenizer,
        text: &str,
        token_count: usize,
    ) -> tokenizers::Result<Option<Encoding>> {
        let mut bytes = token_count.saturating_mul(BYTES_PER_TOKEN).max(TEXT_BYTES_MIN);
        while !self.spaces.is_empty() && bytes < text.len() / 2 {
            let Some(cut) = self.word_end_before(text, text.len() - bytes) else { return Ok(None) };
            let safe_end = self.after_first_words(&text[cut..], MARGIN_WORDS);
            let tokenize = tokenizer.encode(&text[cut..], false)?;
            let more = tokenize.len().checked_sub(token_count + 1).map(|at| tokenize.get_offsets()[at]);
            if more.is_some_and(|(start, _)| start >= safe_end) {
                return Ok(Some(tokenize));
            }
            bytes = (text.len() - cut).max(bytes) * 4;
        }
        Ok(None)
    }

    /// Returns the first position at or after `from` where a word ends and white space follows.
    fn word_end(&self, text: &str, from: usize) -> Option<usize> {
        (from.max(1)..text.len()).find(|&at| self.is_word_end(text, at))
    }

    /// Returns the last position at or before `from` where a word ends and white space follows.
    fn word_end_before(&self, text: &str, from: usize) -> Option<usize> {
        (1..=from).rev().find(|&at| self.is_word_end(text, at))
    }

    /// Returns where the text without its last `words` words ends; 0 if it has no more.
    fn before_last_words(&self, text: &str, words: usize) -> usize {
        let ends = (1..text.len()).rev().filter(|&at| self.is_word_end(text, at));
        ends.take(words).last().unwrap_or(0)
    }

    /// Returns where the text without its first `words` words begins; its length if it has no more.
    fn after_first_words(&self, text: &str, words: usize) -> usize {
        (1..text.len()).filter(|&at| self.is_word_end(text, at)).nth(words).unwrap_or(text.len())
    }

    fn is_word_end(&self, text: &str, at: usize) -> bool {
        let bytes = text.as_bytes();
        self.spaces.contains(&bytes[at]) && !self.spaces.contains(&bytes[at - 1])
    }
}

/// Single-byte white space, which cannot be part of a multi-byte character.
const ASCII_SPACES: [u8; 4] = *b" \t\n\r";

/// Returns whether the tokenizer keeps two words apart at this white space; a normaliser may remove it.
fn separates(tokenizer: &Tokenizer, space: u8) -> bool {
    let words = |spaces: usize| -> tokenizers::Result<usize> {
        let text = format!("a{}b", char::from(space).to_string().repeat(spaces));
        let mut text = NormalizedString::from(text);
        if let Some(normalizer) = tokenizer.get_normalizer() {
            normalizer.normalize(&mut text)?;
        }
        let mut text = PreTokenizedString::from(text);
        if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut text)?;
        }
        Ok(text.get_splits(OffsetReferential::Original, OffsetType::Byte).len())
    };
    [1, 2].into_iter().all(|spaces| words(spaces).is_ok_and(|words| words > 1))
}

/// Returns whether the tokens of a word depend on nothing beyond the surrounding white space.
fn splits_at_spaces(pre_tokenizer: &PreTokenizerWrapper) -> bool {
    match pre_tokenizer {
        PreTokenizerWrapper::BertPreTokenizer(_)
        | PreTokenizerWrapper::Whitespace(_)
        | PreTokenizerWrapper::WhitespaceSplit(_) => true,
        PreTokenizerWrapper::ByteLevel(byte_level) => byte_level.use_regex,
        PreTokenizerWrapper::Metaspace(metaspace) => metaspace.split,
        PreTokenizerWrapper::Sequence(steps) => steps.as_ref().iter().any(splits_at_spaces),
        PreTokenizerWrapper::Split(split) => {
            let known = |pattern: &SplitPattern| matches!(pattern, SplitPattern::Regex(words) if WORDS.contains(&words.as_str()));
            known(&split.pattern) && split.behavior == SplitDelimiterBehavior::Isolated && !split.invert
        }
        PreTokenizerWrapper::Delimiter(_)
        | PreTokenizerWrapper::Punctuation(_)
        | PreTokenizerWrapper::Digits(_)
        | PreTokenizerWrapper::UnicodeScripts(_)
        | PreTokenizerWrapper::FixedLength(_) => false,
    }
}

/// Returns whether spaces become low lines, after which alone a piece of the vocabulary can begin: no merge then joins
/// two words.
fn merges_end_at_spaces(tokenizer: &Tokenizer) -> bool {
    let ModelWrapper::BPE(model) = tokenizer.get_model() else { return false };
    let mut spaces = NormalizedString::from("a b");
    let normalized = tokenizer.get_normalizer().is_some_and(|normalizer| normalizer.normalize(&mut spaces).is_ok());
    let vocabulary = model.get_vocab();
    let joins_words = |piece: &String| piece.trim_start_matches(LOW_LINE).contains(LOW_LINE);
    normalized
        && spaces.get() == format!("a{LOW_LINE}b")
        && vocabulary.contains_key(&LOW_LINE.to_string())
        && !vocabulary.keys().any(joins_words)
}

/// Returns whether this is BERT's tokenizer, for which any word of a thousand plain letters is unknown. An added token
/// of plain letters could occur inside such a word and be lost.
fn long_words_are_unknown(tokenizer: &Tokenizer) -> bool {
    let ModelWrapper::WordPiece(model) = tokenizer.get_model() else { return false };
    let normalizer = tokenizer.get_normalizer().is_none_or(keeps_words);
    let pre_tokenizer = matches!(tokenizer.get_pre_tokenizer(), Some(PreTokenizerWrapper::BertPreTokenizer(_)));
    let added = tokenizer.get_added_tokens_decoder();
    let plain_letters = |token: &str| token.bytes().all(|byte| byte.is_ascii_alphanumeric());
    normalizer
        && pre_tokenizer
        && model.max_input_chars_per_word < WORD_BYTES_KEPT
        && !added.values().any(|token| plain_letters(&token.content))
}

/// Returns whether a normaliser maps a word of plain letters to one of the same length.
fn keeps_words(normalizer: &NormalizerWrapper) -> bool {
    match normalizer {
        NormalizerWrapper::BertNormalizer(_) | NormalizerWrapper::Lowercase(_) => true,
        NormalizerWrapper::Sequence(steps) => steps.as_ref().iter().all(keeps_words),
        NormalizerWrapper::StripNormalizer(_)
        | NormalizerWrapper::StripAccents(_)
        | NormalizerWrapper::NFC(_)
        | NormalizerWrapper::NFD(_)
        | NormalizerWrapper::NFKC(_)
        | NormalizerWrapper::NFKD(_)
        | NormalizerWrapper::Nmt(_)
        | NormalizerWrapper::Precompiled(_)
        | NormalizerWrapper::Replace(_)
        | NormalizerWrapper::Prepend(_)
        | NormalizerWrapper::ByteLevel(_) => false,
    }
}
