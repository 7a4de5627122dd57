//! Text to token ids, as `transformers` does it. Owns truncation: the first tokens are kept (the last ones if the
//! model's files say so), with the special tokens around them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use tokenizers::{Encoding, Tokenizer, TruncationDirection};

use crate::pretruncate::PreTruncator;
use crate::{EncodeError, LoadError, ModelDir};

/// The token ids of one text, special tokens included.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Encoded {
    /// Token ids, at most [`TextEncoder::max_length`].
    pub ids: Vec<u32>,
    /// Whether the text had more tokens than that.
    pub truncated: bool,
}

/// A token of a text with its position, for display.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Token {
    /// The token id.
    pub id: u32,
    /// The token as written in the vocabulary.
    pub text: String,
    /// Whether it was added around the text.
    pub special: bool,
    /// Byte offset of its start in the text; 0 for special tokens and those of the prefix.
    pub start: usize,
    /// Byte offset of its end.
    pub end: usize,
}

/// Converts texts to token ids. Cheap to clone; usable from many threads at once.
#[derive(Clone)]
pub struct TextEncoder {
    inner: Arc<EncoderInner>,
}

struct EncoderInner {
    tokenizer: Arc<Tokenizer>,
    pretruncator: PreTruncator,
    /// Which end of a long text is cut off.
    side: TruncationDirection,
    prefix: String,
    max_length: usize,
    /// Maximum tokens of the text itself: `max_length` without the special ones.
    content_max: usize,
    /// Tokens at the start of every text that are excluded from pooling.
    excluded: usize,
    /// Rows of the model's token embedding: larger ids have no vector.
    vocab_size: usize,
}

impl TextEncoder {
    /// Loads the tokenizer of a model.
    ///
    /// `max_length` tokens are kept of each text; it is clamped to the model's limit, and `None` means the model's
    /// default. `prefix` is prepended to every text.
    ///
    /// # Errors
    /// When the tokenizer files cannot be read, or do not fit the model.
    pub fn load(model: &ModelDir, max_length: Option<usize>, prefix: &str) -> Result<TextEncoder, LoadError> {
        let tokenizer = Arc::clone(&model.tokenizer.tokenizer);
        let added = model.tokenizer.special_tokens();
        let max_length = model.used_max_length(max_length);
        if max_length <= added {
            let what = format!(
                "a maximum length of {max_length} tokens, of which {added} are special ones: give at least {}",
                added + 1
            );
            return Err(LoadError::Unsupported { what });
        }
        let pretruncator = PreTruncator::new(&tokenizer);
        let mut inner = EncoderInner {
            pretruncator,
            tokenizer,
            side: model.tokenizer.truncation_side,
            prefix: prefix.into(),
            max_length,
            content_max: max_length - added,
            excluded: 0,
            vocab_size: model.body.vocab_size(),
        };
        if !prefix.is_empty() && !model.modules.include_prompt {
            let alone = inner.prefix_tokens();
            let failed = |error: EncodeError| LoadError::Unsupported { what: format!("the prefix: {}", error.message) };
            inner.excluded = alone.map_err(failed)?;
        }
        let encoder = TextEncoder { inner: Arc::new(inner) };
        // The tokens added to every text need an embedding. Beyond that a tokenizer may have more tokens than the
        // model, as long as no text contains them.
        match encoder.encode_for_model("") {
            Err(EncodeError { message }) => Err(LoadError::Unsupported {
                what: format!(
                    "`{}`: {message}, and its tokenizer puts that token around every text: correct `cls_token` and `sep_token` \
                     in `tokenizer_config.json`, or take the weights that belong to the tokenizer",
                    model.path.display()
                ),
            }),
            Ok(_) => Ok(encoder),
        }
    }

    /// Returns how many tokens at the start of every text are excluded from pooling: those of the prefix and the
    /// special ones before it where the model does not include the prompt in pooling, else 0. For
    /// [`Engine::with_excluded_prefix`](crate::Engine::with_excluded_prefix).
    pub fn excluded_prefix_tokens(&self) -> usize {
        self.inner.excluded
    }

    /// Returns the token ids of `text`, truncated to [`max_length`](TextEncoder::max_length).
    ///
    /// # Errors
    /// When the tokenizer has no token for a part of the text and none for the unknown.
    pub fn encode(&self, text: &str) -> Result<Encoded, EncodeError> {
        let (encoding, truncated) = self.inner.tokenize(&self.inner.with_prefix(text), false)?;
        Ok(Encoded { ids: encoding.get_ids().to_vec(), truncated })
    }

    /// As [`encode`](TextEncoder::encode), for an [`Engine`](crate::Engine) of the same model.
    ///
    /// # Errors
    /// Also when the text has a token without an embedding: a tokenizer may have more tokens than the model.
    pub fn encode_for_model(&self, text: &str) -> Result<Encoded, EncodeError> {
        let encoded = self.encode(text)?;
        let EncoderInner { tokenizer, vocab_size, .. } = &*self.inner;
        match encoded.ids.iter().find(|id| **id as usize >= *vocab_size) {
            None => Ok(encoded),
            Some(id) => {
                let token = tokenizer.id_to_token(*id).unwrap_or_default();
                let message =
                    format!("the token `{token}` has the id {id}, but the model's table has {vocab_size} rows");
                Err(EncodeError { message })
            }
        }
    }

    /// Returns the tokens of `text` with their positions in it.
    ///
    /// # Errors
    /// As [`encode`](TextEncoder::encode).
    pub fn explain(&self, text: &str) -> Result<Vec<Token>, EncodeError> {
        let (encoding, _) = self.inner.tokenize(&self.inner.with_prefix(text), true)?;
        let prefix = self.inner.prefix.len();
        let special = encoding.get_special_tokens_mask();
        let tokens = encoding.get_ids().iter().zip(encoding.get_offsets()).zip(special);
        Ok(tokens
            .map(|((&id, &(start, end)), &special)| Token {
                id,
                text: self.inner.tokenizer.id_to_token(id).unwrap_or_default(),
                special: special == 1,
                start: start.saturating_sub(prefix),
                end: end.saturating_sub(prefix),
            })
            .collect())
    }

    /// Returns the text of `ids`, without special tokens.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, EncodeError> {
        self.decode_as(ids, true)
    }

    /// As [`decode`](TextEncoder::decode), with or without special tokens.
    pub(crate) fn decode_as(&self, ids: &[u32], skip_special: bool) -> Result<String, EncodeError> {
        let tokenizer = &self.inner.tokenizer;
        let special = |token: &str| tokenizer.get_added_vocabulary().is_special_token(token);
        let mut tokens = ids.iter().filter_map(|id| tokenizer.id_to_token(*id));
        // The library's BPE decoder fails on an empty list.
        if !tokens.any(|token| !(skip_special && special(&token))) {
            return Ok(String::new());
        }
        tokenizer.decode(ids, skip_special).map_err(failed)
    }

    /// Returns the id of a token as the vocabulary writes it.
    pub(crate) fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.tokenizer.token_to_id(token)
    }

    /// Returns whether a token is one of those beside the vocabulary's words, as special tokens are.
    pub(crate) fn is_added_token(&self, token: &str) -> bool {
        self.inner.tokenizer.get_added_tokens_decoder().values().any(|added| added.content == token)
    }

    /// Returns the maximum number of tokens of a text, special ones included.
    pub fn max_length(&self) -> usize {
        self.inner.max_length
    }
}

impl fmt::Debug for TextEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextEncoder").field("max_length", &self.inner.max_length).finish_non_exhaustive()
    }
}

impl EncoderInner {
    /// Returns the prefix's own token count as sentence-transformers has it: with special tokens except one at the
    /// end, truncated like any text.
    fn prefix_tokens(&self) -> Result<usize, EncodeError> {
        let (encoding, _) = self.tokenize(&self.with_prefix(""), false)?;
        let Some(last) = encoding.get_ids().last() else { return Ok(0) };
        let added = encoding.get_special_tokens_mask().last() == Some(&1);
        let special = added || self.tokenizer.get_added_tokens_decoder().get(last).is_some_and(|token| token.special);
        Ok(encoding.len() - usize::from(special))
    }

    fn with_prefix<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.prefix.as_str() {
            "" => Cow::Borrowed(text),
            prefix => Cow::Owned(format!("{prefix}{text}")),
        }
    }

    /// Tokenizes, truncates and adds the special tokens; also returns whether the text was truncated.
    fn tokenize(&self, text: &str, with_offsets: bool) -> Result<(Encoding, bool), EncodeError> {
        let EncoderInner { tokenizer, pretruncator, content_max, side, .. } = self;
        // Offsets refer to the original text, so it may only be shortened without them.
        let text = if with_offsets { Cow::Borrowed(text) } else { pretruncator.shorten_long_words(text) };
        let text = text.as_ref();
        let early = match side {
            TruncationDirection::Right => pretruncator.prefix(tokenizer, text, *content_max),
            TruncationDirection::Left if with_offsets => Ok(None),
            TruncationDirection::Left => pretruncator.suffix(tokenizer, text, *content_max),
        };
        let early = early.map_err(failed)?;
        let cut_early = early.is_some();
        let mut content = match early {
            Some(encoding) => encoding,
            None if with_offsets => tokenizer.encode(text, false).map_err(failed)?,
            None => tokenizer.encode_fast(text, false).map_err(failed)?,
        };
        let truncated = cut_early || content.len() > *content_max;
        content.truncate(*content_max, 0, *side);
        // The tokenizer keeps the cut-off rest as extra encodings, which are not needed.
        content.take_overflowing();
        Ok((tokenizer.post_process(content, None, true).map_err(failed)?, truncated))
    }
}

fn failed(error: tokenizers::Error) -> EncodeError {
    EncodeError { message: error.to_string() }
}
