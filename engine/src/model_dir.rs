//! A local model directory, read and validated: architecture, pooling, weights and tokenizer files. Never downloads.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::encoder::TextEncoder;
use crate::engine::check_weights;
use crate::sentence::{Prompts, SentenceModules};
use crate::tokenizer::ModelTokenizer;
use crate::weights::WeightFiles;
use crate::{LoadError, Pooling};

/// A model directory with validated config, pooling, weights and tokenizer files.
#[derive(Debug, Clone)]
pub struct ModelDir {
    /// The directory as given.
    pub(crate) path: PathBuf,
    pub(crate) config: Config,
    pub(crate) modules: SentenceModules,
    pub(crate) weights: WeightFiles,
    pub(crate) tokenizer: ModelTokenizer,
    /// Default maximum input in tokens, special ones included.
    pub(crate) max_length: usize,
}

/// A summary of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSummary {
    /// The `model_type` of `config.json`, such as `bert` or `xlm-roberta`.
    pub architecture: String,
    /// Whether it runs in every number format; otherwise only in f32.
    pub native: bool,
    /// Whether it runs on GPUs; otherwise only on the CPU.
    pub gpus: bool,
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
    /// Default maximum input in tokens, special ones included.
    pub max_length: usize,
    /// Tokens that the tokenizer puts around every text.
    pub special_tokens: usize,
    /// The model's own pooling, or `Cls` where it has none.
    pub pooling: Pooling,
    /// Where `pooling` comes from.
    pub pooling_source: PoolingSource,
    /// Texts that the model wants put before others.
    pub prompts: Prompts,
    /// Dimensions that the model keeps of each vector, if not all.
    pub truncate_dim: Option<usize>,
    /// The similarity that the model is trained for, if stated: `cosine`, `dot`, `euclidean` or `manhattan`.
    pub similarity: Option<String>,
    /// The weights file, relative to the directory; the index for sharded weights.
    pub weights: String,
    /// How the tokenizer was built.
    pub tokenizer: TokenizerKind,
    /// Floating point operations per token in the linear layers, for estimates.
    pub flops_per_token: u64,
}

/// The origin of a model's pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolingSource {
    /// The pooling module that `modules.json` names.
    Model,
    /// The default of plain encoders.
    Default,
}

/// The files that a tokenizer is built from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenizerKind {
    /// `tokenizer.json`, whatever its type.
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

/// The digests that identify a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    /// Over all files that determine the vectors.
    pub now: String,
    /// Over the files that release 0.1 read, if it read fewer but gave the same vectors: jobs of that release are
    /// pinned to it.
    pub of_0_1: Option<String>,
}

impl ModelDir {
    /// Reads and validates the small files of a model directory, builds its tokenizer, and locates its weights.
    ///
    /// # Errors
    /// When a required file is missing or invalid, or the model needs something unsupported.
    pub fn open(path: &Path) -> Result<ModelDir, LoadError> {
        let missing = |missing: &str| LoadError::Missing { dir: path.into(), missing: missing.into() };
        if !path.is_dir() {
            return Err(missing("no such directory"));
        }
        let modules = SentenceModules::read(path)?;
        let root = &modules.transformer_dir;
        let config_path = root.join("config.json");
        if !config_path.is_file() {
            return Err(missing("it has no `config.json`"));
        }
        let config = Config::read(&config_path)?;
        let weights = WeightFiles::find(root)?;
        check_weights(&weights, &config)?;
        let tokenizer = ModelTokenizer::open(root, &config, modules.do_lower_case)?;
        let own_length = modules.max_seq_length.or(tokenizer.model_max_length);
        let usable = config.positions_used();
        let max_length = own_length.map_or(usable, |length| length.clamp(1, usable));
        let model = ModelDir { path: path.into(), config, modules, weights, tokenizer, max_length };
        // Refuses here, before a job is planned, a tokenizer that fails on every text.
        TextEncoder::load(&model, None, "")?;
        Ok(model)
    }

    /// Returns the BLAKE3 digest, in hex, of the files that determine the vectors. Reads all weights. File names are
    /// relative to the directory, so the digest does not depend on its path.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn digest(&self) -> Result<String, LoadError> {
        self.digests().map(|digests| digests.now)
    }

    /// As [`digest`](ModelDir::digest), with the one of release 0.1, in one pass over the files.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn digests(&self) -> Result<Digests, LoadError> {
        let others = || [self.config.path.clone()].into_iter().chain(self.weights.all()).chain(self.tokenizer.files());
        let now: BTreeSet<PathBuf> = others().chain(self.modules.files.iter().cloned()).collect();
        let before: BTreeSet<PathBuf> = match self.modules.files_of_0_1.as_slice() {
            [] => BTreeSet::new(),
            files => others().chain(files.iter().cloned()).collect(),
        };
        let mut hashers = [blake3::Hasher::new(), blake3::Hasher::new()];
        let [hasher, hasher_before] = &mut hashers;
        for path in now.union(&before) {
            let name = path.strip_prefix(&self.path).unwrap_or(path).to_string_lossy().replace('\\', "/");
            let mut fed: Vec<&mut blake3::Hasher> = Vec::new();
            fed.extend(now.contains(path).then_some(&mut *hasher));
            fed.extend(before.contains(path).then_some(&mut *hasher_before));
            hash_file(&mut fed, &name, path).map_err(|source| LoadError::Read { path: path.clone(), source })?;
        }
        let [now_hex, before_hex] = hashers.map(|hasher| hasher.finalize().to_hex().to_string());
        Ok(Digests { now: now_hex, of_0_1: (!before.is_empty() && before != now).then_some(before_hex) })
    }

    /// Returns a summary of the model.
    pub fn summary(&self) -> ModelSummary {
        let config = &self.config;
        let weights = self.weights.main();
        ModelSummary {
            architecture: config.family.model_type.into(),
            native: config.forward.runs_in_every_format(),
            gpus: config.forward.runs_on_gpus(),
            hidden_size: config.hidden_size,
            layers: config.layers,
            heads: config.heads,
            intermediate: config.intermediate,
            vocab_size: config.vocab_size,
            max_length: self.max_length,
            special_tokens: self.tokenizer.special_tokens(),
            pooling: self.pooling(),
            pooling_source: match self.modules.pooling {
                Some(_) => PoolingSource::Model,
                None => PoolingSource::Default,
            },
            prompts: self.modules.prompts.clone(),
            truncate_dim: self.modules.truncate_dim.filter(|kept| *kept < config.hidden_size),
            similarity: self.modules.similarity.clone(),
            weights: weights.strip_prefix(&self.path).unwrap_or(weights).to_string_lossy().into_owned(),
            tokenizer: self.tokenizer.kind(),
            flops_per_token: config.flops_per_token(),
        }
    }

    /// Returns the model's own pooling, or CLS.
    pub(crate) fn pooling(&self) -> Pooling {
        self.modules.pooling.unwrap_or(Pooling::Cls)
    }
}

/// Hashes name, length and content of a file; the lengths make the concatenation unambiguous.
fn hash_file(hashers: &mut [&mut blake3::Hasher], name: &str, path: &Path) -> std::io::Result<()> {
    let mut feed = |bytes: &[u8]| {
        for hasher in hashers.iter_mut() {
            hasher.update(bytes);
        }
    };
    let mut file = std::fs::File::open(path)?;
    feed(&(name.len() as u64).to_le_bytes());
    feed(name.as_bytes());
    feed(&file.metadata()?.len().to_le_bytes());
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            read => feed(&buffer[..read]),
        }
    }
}

/// Opens every tiny model of the test data: the folders with a config and goldens of vectors.
#[cfg(test)]
pub(crate) fn tiny_models() -> Vec<ModelDir> {
    let folders = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")).unwrap();
    let folders = folders.map(|entry| entry.unwrap().path());
    let is_model =
        |folder: &PathBuf| folder.join("config.json").is_file() && folder.join("goldens.safetensors").is_file();
    folders.filter(is_model).map(|folder| ModelDir::open(&folder).unwrap()).collect()
}
