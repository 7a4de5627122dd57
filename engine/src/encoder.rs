//! Text to token ids, exactly as `transformers` does it.
//!
//! Truncation is decided here and nowhere else: the tokens of one end are kept, the first ones unless the model's files
//! say otherwise, and the special ones around them.

use std::borrow::Cow;
use std::sync::Arc;

use tokenizers::{Encoding, Tokenizer, TruncationDirection};

use crate::pretruncate::PreTruncator;
use crate::{EncodeError, LoadError, ModelDir};

/// The token ids of one text, special tokens included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids, at most [`TextEncoder::max_length`].
    pub ids: Vec<u32>,
    /// Whether the text had more tokens than that.
    pub truncated: bool,
}

/// One token of a text, for people to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The token id.
    pub id: u32,
    /// The token as the vocabulary writes it.
    pub text: String,
    /// Whether it was added around the text and stands for no part of it.
    pub special: bool,
    /// Byte offset in the text where the token starts; 0 for special tokens, and for those of the prefix.
    pub start: usize,
    /// Byte offset where it ends.
    pub end: usize,
}

/// Turns texts into token ids. Cheap to clone, and used from many threads at once.
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
    /// Tokens of the text itself, at most: `max_length` without the special ones.
    content_max: usize,
    /// Tokens at the start of every text that take no part in pooling.
    excluded: usize,
    /// Rows of the model's table of tokens: an id beyond has no vector.
    vocab_size: usize,
}

impl TextEncoder {
    /// Loads the tokenizer of a model.
    ///
    /// Texts longer than `max_length` tokens are cut; it is clamped to what the model can take, and `None` means the
    /// model's own default. `prefix` is put before every text.
    ///
    /// # Errors
    /// When the tokenizer files cannot be read, or do not fit the model.
    pub fn load(model: &ModelDir, max_length: Option<usize>, prefix: &str) -> Result<TextEncoder, LoadError> {
        let tokenizer = Arc::clone(&model.tokenizer.tokenizer);
        let added = model.tokenizer.special_tokens();
        let max_length = max_length.unwrap_or(model.max_length).min(model.config.positions_used());
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
            vocab_size: model.config.vocab_size,
        };
        if !prefix.is_empty() && !model.modules.include_prompt {
            let alone = inner.prefix_tokens();
            let failed = |error: EncodeError| LoadError::Unsupported { what: format!("the prefix: {}", error.message) };
            inner.excluded = alone.map_err(failed)?;
        }
        let encoder = TextEncoder { inner: Arc::new(inner) };
        // What is added to every text has to have a vector; a tokenizer may know more tokens than the model, as long as no text
        // has them.
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

    /// Returns how many tokens at the start of every text its pooling leaves out: those of the prefix and the special ones
    /// before it, where the model's pooling does not include the prompt; else none. For
    /// [`Engine::with_excluded_prefix`](crate::Engine::with_excluded_prefix).
    pub fn excluded_prefix_tokens(&self) -> usize {
        self.inner.excluded
    }

    /// Returns the token ids of `text`, cut to [`max_length`](TextEncoder::max_length).
    ///
    /// A long text is cut before it is tokenized, at a place that does not change the tokens that are kept.
    ///
    /// # Errors
    /// When the tokenizer has no token for a part of the text and none for the unknown.
    pub fn encode(&self, text: &str) -> Result<Encoded, EncodeError> {
        let (encoding, truncated) = self.inner.tokenize(&self.inner.with_prefix(text), false)?;
        Ok(Encoded { ids: encoding.get_ids().to_vec(), truncated })
    }

    /// As [`encode`](TextEncoder::encode), for an [`Engine`](crate::Engine) of the same model to embed.
    ///
    /// # Errors
    /// Also when the text has a token that the model has no vector for: a tokenizer may know more of them than the model.
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

    /// Returns the tokens of `text` with their place in it.
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

    /// Returns the text that `ids` stand for, without special tokens.
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
        // The library's decoder of merges cannot take an empty list.
        if !tokens.any(|token| !(skip_special && special(&token))) {
            return Ok(String::new());
        }
        tokenizer.decode(ids, skip_special).map_err(failed)
    }

    /// Returns the id of a token as the vocabulary writes it.
    pub(crate) fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.tokenizer.token_to_id(token)
    }

    /// Returns the number of tokens, special ones included, that a text is cut to.
    pub fn max_length(&self) -> usize {
        self.inner.max_length
    }
}

impl EncoderInner {
    /// Returns how many tokens the prefix has by itself, as sentence-transformers counts them: with special tokens, but
    /// without one at the end, and cut as any text.
    fn prefix_tokens(&self) -> Result<usize, EncodeError> {
        let (encoding, _) = self.tokenize(&self.with_prefix(""), false)?;
        let Some(last) = encoding.get_ids().last() else { return Ok(0) };
        let added = encoding.get_special_tokens_mask().last() == Some(&1);
        let special = added || self.tokenizer.get_added_tokens_decoder().get(last).is_some_and(|token| token.special);
        Ok(encoding.len() - usize::from(special))
    }

    /// Returns what the tokenizer is with_prefix for a text: the prefix before it.
    fn with_prefix<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.prefix.as_str() {
            "" => Cow::Borrowed(text),
            prefix => Cow::Owned(format!("{prefix}{text}")),
        }
    }

    /// Tokenizes, truncates, and puts the special tokens around; says whether the text was truncated.
    fn tokenize(&self, text: &str, with_offsets: bool) -> Result<(Encoding, bool), EncodeError> {
        let EncoderInner { tokenizer, pretruncator, content_max, side, .. } = self;
        // Places are those in the text as it is; without them, it may be made shorter first.
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
        // The overflow is kept by the tokenizer as encodings of their own, which nothing uses.
        content.take_overflowing();
        Ok((tokenizer.post_process(content, None, true).map_err(failed)?, truncated))
    }
}

fn failed(error: tokenizers::Error) -> EncodeError {
    EncodeError { message: error.to_string() }
}
