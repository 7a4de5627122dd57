//! Text to token ids, exactly as `transformers` does it.

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
    /// Byte offset in the text, after the prefix, where the token starts; 0 for tokens of the prefix.
    pub start: usize,
    /// Byte offset where it ends.
    pub end: usize,
}

/// Turns texts into token ids. Cheap to clone, and used from many threads at once.
#[derive(Clone)]
pub struct TextEncoder {}

impl TextEncoder {
    /// Loads the tokenizer of a model.
    ///
    /// Texts longer than `max_length` tokens are cut; it is clamped to what the model can take, and `None` means the
    /// model's own default. `prefix` is put before every text.
    ///
    /// # Errors
    /// When the tokenizer files cannot be read, or do not fit the model.
    pub fn load(model: &ModelDir, max_length: Option<usize>, prefix: &str) -> Result<TextEncoder, LoadError> {
        let _ = (model, max_length, prefix);
        unimplemented!()
    }

    /// Returns the token ids of `text`, cut to [`max_length`](TextEncoder::max_length).
    ///
    /// A long text is cut before it is tokenized, at a place that does not change the tokens that are kept.
    ///
    /// # Errors
    /// When the tokenizer has no token for a part of the text and none for the unknown.
    pub fn encode(&self, text: &str) -> Result<Encoded, EncodeError> {
        let _ = text;
        unimplemented!()
    }

    /// Returns the tokens of `text` with their place in it.
    ///
    /// # Errors
    /// As [`encode`](TextEncoder::encode).
    pub fn explain(&self, text: &str) -> Result<Vec<Token>, EncodeError> {
        let _ = text;
        unimplemented!()
    }

    /// Returns the text that `ids` stand for, without special tokens.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, EncodeError> {
        let _ = ids;
        unimplemented!()
    }

    /// Returns the number of tokens, special ones included, that a text is cut to.
    pub fn max_length(&self) -> usize {
        unimplemented!()
    }
}
