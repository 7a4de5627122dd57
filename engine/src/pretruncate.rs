//! Cuts a long text before it is tokenized, without changing the tokens that are kept, at whichever end they are.
//!
//! Tokenizers that split at white space treat what stands before a space independently of what comes long after it. So a
//! text may be cut between a word and the space after it, if the tokens that are token_count all end well before the cut:
//! [`MARGIN_WORDS`] words before it, which is more than any added token with spaces in it, or any rule about neighbouring
//! characters, reaches. Tokenizers that do not split at white space get the whole text.
//!
//! A text without any white space cannot be cut so. For BERT's tokenizer its usual form, one endless word, is shortened
//! instead: a word of more than a hundred letters is unknown, and stays unknown without its middle.

use std::borrow::Cow;

use tokenizers::{
    Encoding, ModelWrapper, NormalizedString, Normalizer, NormalizerWrapper, OffsetReferential, OffsetType,
    PreTokenizedString, PreTokenizer, PreTokenizerWrapper, Tokenizer,
};

/// Words at the end of a cut text whose tokens are not safe_end.
const MARGIN_WORDS: usize = 16;

/// Bytes of text per token token_count, at first. Text has two to five bytes per token; a cut that is too short costs a second
/// tokenization, one that is too long a longer first one.
const BYTES_PER_TOKEN: usize = 8;

/// Texts shorter than this many bytes are not worth cutting.
const TEXT_BYTES_MIN: usize = 4096;

/// What is left of an endless word: half of it from either end, so that whatever touches the ends still does.
const WORD_BYTES_KEPT: usize = 1024;

/// Knows whether the texts of one tokenizer may be cut.
pub(crate) struct PreTruncator {
    /// The white space, all of it ASCII, at which texts may be cut: none where the tokenizer does not split there.
    spaces: Vec<u8>,
    long_words_are_unknown: bool,
}

impl PreTruncator {
    /// Looks at what a tokenizer does with white space.
    pub(crate) fn new(tokenizer: &Tokenizer) -> PreTruncator {
        PreTruncator {
            spaces: match tokenizer.get_pre_tokenizer().is_some_and(splits_at_spaces) {
                true => ASCII_SPACES.into_iter().filter(|space| separates(tokenizer, *space)).collect(),
                false => Vec::new(),
            },
            long_words_are_unknown: long_words_are_unknown(tokenizer),
        }
    }

    /// Shortens the endless words of a text, where that changes no token.
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

    /// Tokenizes a prefix of `text` that decides its first `token_count` tokens, and shows that there are more; returns the
    /// tokens of the prefix.
    ///
    /// Returns `None` where no prefix does: the text is short, has few tokens, or may not be cut.
    pub(crate) fn prefix(
        &self,
        tokenizer: &Tokenizer,
        text: &str,
        token_count: usize,
    ) -> tokenizers::Result<Option<Encoding>> {
        let mut bytes = (token_count * BYTES_PER_TOKEN).max(TEXT_BYTES_MIN);
        while !self.spaces.is_empty() && bytes < text.len() / 2 {
            let Some(cut) = self.word_end(text, bytes) else { return Ok(None) };
            let safe_end = self.before_last_words(&text[..cut], MARGIN_WORDS);
            let tokenize = tokenizer.encode(&text[..cut], false)?;
            // One more than is token_count shows that the text is truncated.
            if tokenize.get_offsets().get(token_count).is_some_and(|&(_, end)| end <= safe_end) {
                return Ok(Some(tokenize));
            }
            bytes = cut.max(bytes) * 4;
        }
        Ok(None)
    }

    /// As [`prefix`](PreTruncator::prefix), for the last `token_count` tokens of a text: tokenizes an end of it.
    pub(crate) fn suffix(
        &self,
        tokenizer: &Tokenizer,
        text: &str,
        token_count: usize,
    ) -> tokenizers::Result<Option<Encoding>> {
        let mut bytes = (token_count * BYTES_PER_TOKEN).max(TEXT_BYTES_MIN);
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

    /// Returns the first place at or after `from` where a word ends and white space follows.
    fn word_end(&self, text: &str, from: usize) -> Option<usize> {
        (from.max(1)..text.len()).find(|&at| self.is_word_end(text, at))
    }

    /// Returns the last place at or before `from` where a word ends and white space follows.
    fn word_end_before(&self, text: &str, from: usize) -> Option<usize> {
        (1..=from).rev().find(|&at| self.is_word_end(text, at))
    }

    /// Returns where the text ends without its last `words` words; its start if it has no more.
    fn before_last_words(&self, text: &str, words: usize) -> usize {
        let ends = (1..text.len()).rev().filter(|&at| self.is_word_end(text, at));
        ends.take(words).last().unwrap_or(0)
    }

    /// Returns where the text begins without its first `words` words; its end if it has no more.
    fn after_first_words(&self, text: &str, words: usize) -> usize {
        (1..text.len()).filter(|&at| self.is_word_end(text, at)).nth(words).unwrap_or(text.len())
    }

    fn is_word_end(&self, text: &str, at: usize) -> bool {
        let bytes = text.as_bytes();
        self.spaces.contains(&bytes[at]) && !self.spaces.contains(&bytes[at - 1])
    }
}

/// White space of one byte, which no other character's bytes look like.
const ASCII_SPACES: [u8; 4] = *b" \t\n\r";

/// Whether two words with this white space between them are two to the tokenizer. A normaliser could have taken it out.
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

/// Whether the tokens of a word depend on nothing across the white space around it.
fn splits_at_spaces(pre_tokenizer: &PreTokenizerWrapper) -> bool {
    match pre_tokenizer {
        PreTokenizerWrapper::BertPreTokenizer(_)
        | PreTokenizerWrapper::Whitespace(_)
        | PreTokenizerWrapper::WhitespaceSplit(_) => true,
        PreTokenizerWrapper::ByteLevel(byte_level) => byte_level.use_regex,
        PreTokenizerWrapper::Metaspace(metaspace) => metaspace.split,
        PreTokenizerWrapper::Sequence(steps) => steps.as_ref().iter().any(splits_at_spaces),
        PreTokenizerWrapper::Delimiter(_)
        | PreTokenizerWrapper::Split(_)
        | PreTokenizerWrapper::Punctuation(_)
        | PreTokenizerWrapper::Digits(_)
        | PreTokenizerWrapper::UnicodeScripts(_)
        | PreTokenizerWrapper::FixedLength(_) => false,
    }
}

/// Whether this is BERT's tokenizer, to which any word of a thousand plain letters is unknown. An added token made of
/// plain letters alone could stand in the middle of one, and be lost with it.
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

/// Whether a normaliser leaves a word of plain letters a word of as many plain letters.
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
