//! A local model directory, read and checked: architecture, pooling, weights and tokenizer files.

use std::fmt;
use std::path::Path;

use crate::{LoadError, Pooling};

/// A model directory whose config, pooling, weights and tokenizer files have been found and checked.
#[derive(Debug, Clone)]
pub struct ModelDir {}

/// Says in short what a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSummary {
    /// The `model_type` of `config.json`, such as `bert` or `xlm-roberta`.
    pub architecture: String,
    /// Whether the packed forward of this crate runs it; otherwise candle-transformers does, padded and slower.
    pub native: bool,
    /// Components of a token vector.
    pub hidden_size: usize,
    /// Number of transformer layers.
    pub layers: usize,
    /// Attention heads per layer.
    pub heads: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// The longest input, in tokens with the special ones, that the model is used with unless told otherwise.
    pub max_length: usize,
    /// The model's own pooling, or `Cls` where it has none.
    pub pooling: Pooling,
    /// Where `pooling` came from.
    pub pooling_source: PoolingSource,
    /// The weights file, relative to the directory; the index for sharded weights.
    pub weights: String,
    /// How the tokenizer was built.
    pub tokenizer: TokenizerKind,
    /// Floating point operations per token in the linear layers, for estimates.
    pub flops_per_token: u64,
}

/// Says who decided the pooling of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolingSource {
    /// The pooling module that `modules.json` names.
    Model,
    /// The model says nothing: the default for plain encoders.
    Default,
}

/// Says from which files a tokenizer is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenizerKind {
    /// `tokenizer.json`, whatever is in it.
    TokenizerJson,
    /// WordPiece from `vocab.txt`.
    WordPiece,
    /// Byte-level BPE from `vocab.json` and `merges.txt`.
    ByteLevelBpe,
}

impl fmt::Display for TokenizerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TokenizerKind::TokenizerJson => "tokenizer.json",
            TokenizerKind::WordPiece => "WordPiece from vocab.txt",
            TokenizerKind::ByteLevelBpe => "byte-level BPE from vocab.json and merges.txt",
        })
    }
}

impl ModelDir {
    /// Reads and checks the small files of a model directory, and finds its weights and tokenizer.
    ///
    /// # Errors
    /// When a needed file is missing or wrong, or the model asks for something this engine does not do.
    pub fn open(path: &Path) -> Result<ModelDir, LoadError> {
        let _ = path;
        unimplemented!()
    }

    /// Returns the BLAKE3 digest, in hex, of the files that decide the vectors. Reads all weights.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn digest(&self) -> Result<String, LoadError> {
        unimplemented!()
    }

    /// Returns what the model is, in short.
    pub fn summary(&self) -> ModelSummary {
        unimplemented!()
    }
}
