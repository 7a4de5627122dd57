//! Locates the tokenizer files of a model.

use std::path::{Path, PathBuf};

use crate::{LoadError, TokenizerKind};

/// The name of the step as JSON.
const BYTE_LEVEL: &[u8] = b"\"ByteLevel\"";

#[derive(Debug, Clone)]
pub(crate) struct TokenizerFiles {
    main: Main,
    pub(super) config: Option<PathBuf>,
    pub(super) special_tokens_map: Option<PathBuf>,
    pub(super) added_tokens: Option<PathBuf>,
}

/// The files with the vocabulary.
#[derive(Debug, Clone)]
pub(super) enum Main {
    Json { path: PathBuf },
    WordPiece { vocab: PathBuf },
    ByteLevelBpe { vocab: PathBuf, merges: PathBuf },
}

impl TokenizerFiles {
    /// Finds the tokenizer in a directory: the newest format present.
    pub(super) fn find(dir: &Path) -> Result<TokenizerFiles, LoadError> {
        let file = |name: &str| Some(dir.join(name)).filter(|path| path.is_file());
        let main = if let Some(path) = file("tokenizer.json") {
            Main::Json { path }
        } else if let Some(vocab) = file("vocab.txt") {
            Main::WordPiece { vocab }
        } else if let (Some(vocab), Some(merges)) = (file("vocab.json"), file("merges.txt")) {
            Main::ByteLevelBpe { vocab, merges }
        } else {
            let mut missing =
                "it has no `tokenizer.json`, no `vocab.txt`, and no `vocab.json` with `merges.txt`".to_string();
            let pieces = ["sentencepiece.bpe.model", "spiece.model", "spm.model", "tokenizer.model"];
            if let Some(name) = pieces.into_iter().find(|name| file(name).is_some()) {
                missing += &format!(
                    "; `{name}` alone is not enough: save a `tokenizer.json` with \
                     `AutoTokenizer.from_pretrained(…).save_pretrained(…)`"
                );
            }
            return Err(LoadError::Missing { dir: dir.into(), missing });
        };
        Ok(TokenizerFiles {
            main,
            config: file("tokenizer_config.json"),
            special_tokens_map: file("special_tokens_map.json"),
            added_tokens: file("added_tokens.json"),
        })
    }

    /// Finds the one file of a StaticEmbedding module.
    pub(super) fn of_static_embedding(dir: &Path) -> Result<TokenizerFiles, LoadError> {
        let path = dir.join("tokenizer.json");
        if !path.is_file() {
            return Err(LoadError::Missing { dir: dir.into(), missing: "it has no `tokenizer.json`".into() });
        }
        Ok(TokenizerFiles { main: Main::Json { path }, config: None, special_tokens_map: None, added_tokens: None })
    }

    pub(crate) fn kind(&self) -> TokenizerKind {
        match self.main {
            Main::Json { .. } => TokenizerKind::TokenizerJson,
            Main::WordPiece { .. } => TokenizerKind::WordPiece,
            Main::ByteLevelBpe { .. } => TokenizerKind::ByteLevelBpe,
        }
    }

    /// Returns whether `tokenizer.json` mentions a byte-level step anywhere: transformers' criterion for
    /// `LlamaTokenizer`.
    pub(super) fn mentions_byte_level(&self) -> Result<bool, LoadError> {
        let Main::Json { path } = &self.main else { return Ok(false) };
        let bytes = std::fs::read(path).map_err(|source| LoadError::Read { path: path.clone(), source })?;
        Ok(bytes.windows(BYTE_LEVEL.len()).any(|window| window == BYTE_LEVEL))
    }

    pub(super) fn vocabulary(&self) -> &Main {
        &self.main
    }

    /// Returns the file with the vocabulary, for messages.
    pub(super) fn main(&self) -> &Path {
        match &self.main {
            Main::Json { path } => path,
            Main::WordPiece { vocab } | Main::ByteLevelBpe { vocab, .. } => vocab,
        }
    }

    /// Returns the files that determine the token ids, for the digest, including the two older files where they are
    /// read.
    pub(super) fn all(&self, reads_older_files: bool) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = self.config.iter().cloned().collect();
        match &self.main {
            Main::Json { path } => files.push(path.clone()),
            Main::WordPiece { vocab } => files.push(vocab.clone()),
            Main::ByteLevelBpe { vocab, merges } => files.extend([vocab.clone(), merges.clone()]),
        }
        if reads_older_files || !matches!(self.main, Main::Json { .. }) {
            files.extend(self.special_tokens_map.iter().chain(&self.added_tokens).cloned());
        }
        files
    }
}
