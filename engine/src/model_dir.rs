//! A local model directory, read and validated: architecture, pooling, weights and tokenizer files. Never downloads.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::encoder::TextEncoder;
use crate::engine::check_weights;
use crate::options::dtype_on_cpu;
use crate::pooling::ModelPooling;
use crate::sentence::{Prompts, SentenceModules};
use crate::static_embedding::StaticEmbedding;
use crate::tokenizer::ModelTokenizer;
use crate::weights::WeightFiles;
use crate::{ComputeDtype, LoadError, Pooling};

/// A model directory with validated config, pooling, weights and tokenizer files.
#[derive(Debug, Clone)]
pub struct ModelDir {
    /// The directory as given.
    pub(crate) path: PathBuf,
    pub(crate) body: Body,
    pub(crate) modules: SentenceModules,
    pub(crate) weights: WeightFiles,
    pub(crate) tokenizer: ModelTokenizer,
    /// Default maximum input in tokens, special ones included.
    pub(crate) max_length: usize,
}

/// What makes vectors of token ids.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    Transformer(Box<Config>),
    StaticEmbedding(StaticEmbedding),
}

/// The maximum input, in tokens, of a model without a limit: output files count them in 31 bits.
pub const NO_MAX_LENGTH: usize = i32::MAX as usize;

/// A summary of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSummary {
    /// The `model_type` of `config.json`, such as `bert` or `xlm-roberta`, or `static-embedding`.
    pub architecture: String,
    /// Whether it runs in every number format; otherwise only in f32.
    pub native: bool,
    /// Whether it runs on GPUs; otherwise only on the CPU.
    pub gpus: bool,
    /// Components of a token vector.
    pub hidden_size: usize,
    /// Components of a text's vector with the model's own pooling, after all of its modules.
    pub dimensions: usize,
    /// Number of transformer layers.
    pub layers: usize,
    /// Attention heads per layer.
    pub heads: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// Default maximum input in tokens, special ones included; [`NO_MAX_LENGTH`] where there is none.
    pub max_length: usize,
    /// Tokens that the tokenizer puts around every text.
    pub special_tokens: usize,
    /// The model's own pooling, or `Cls` where it has none.
    pub pooling: ModelPooling,
    /// Where `pooling` comes from.
    pub pooling_source: PoolingSource,
    /// Its sentence-transformers modules in order; none for a plain encoder.
    pub modules: Vec<String>,
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
    /// Returns the tokens of a text that are used at most, special ones included, where so many are asked for; `None` asks for the
    /// model's own maximum.
    pub fn used_max_length(&self, max_length: Option<usize>) -> usize {
        max_length.unwrap_or(self.max_length).min(self.body.positions_used())
    }

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
        let root = &modules.first_dir;
        let (body, weights, tokenizer) = match modules.is_static {
            true => {
                let weights = WeightFiles::find(root)?;
                let table = StaticEmbedding::open(&weights)?;
                (Body::StaticEmbedding(table), weights, ModelTokenizer::of_static_embedding(root)?)
            }
            false => {
                let config_path = root.join("config.json");
                if !config_path.is_file() {
                    return Err(missing("it has no `config.json`"));
                }
                let config = Config::read(&config_path)?;
                let weights = WeightFiles::find(root)?;
                check_weights(&weights, &config)?;
                let tokenizer = ModelTokenizer::open(root, &config, modules.do_lower_case)?;
                (Body::Transformer(Box::new(config)), weights, tokenizer)
            }
        };
        let own_length = modules.max_seq_length.or(tokenizer.model_max_length);
        let usable = body.positions_used();
        let max_length = own_length.map_or(usable, |length| length.clamp(1, usable));
        let model = ModelDir { path: path.into(), body, modules, weights, tokenizer, max_length };
        model.dimensions(None)?;
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
        let config = || self.config().map(|config| config.path.clone());
        let others = || config().into_iter().chain(self.weights.all()).chain(self.tokenizer.files());
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
        let (config, weights) = (self.config(), self.weights.main());
        let dimensions = self.dimensions(None).expect("the modules were checked when the model was opened");
        let count = |of: fn(&Config) -> usize| config.map_or(0, of);
        ModelSummary {
            architecture: config.map_or("static-embedding", |config| config.family.model_type).into(),
            native: config.is_some_and(|config| config.forward.runs_in_every_format()),
            gpus: config.is_some_and(|config| config.forward.runs_on_gpus()),
            hidden_size: self.body.hidden_size(),
            dimensions,
            layers: count(|config| config.layers),
            heads: count(|config| config.heads),
            intermediate: count(|config| config.intermediate),
            vocab_size: self.body.vocab_size(),
            max_length: self.max_length,
            special_tokens: self.tokenizer.special_tokens(),
            pooling: self.pooling(None).expect("the model's own pooling is supported"),
            pooling_source: match self.modules.pooling.is_some() || config.is_none() {
                true => PoolingSource::Model,
                false => PoolingSource::Default,
            },
            modules: self.modules.describe(),
            prompts: self.modules.prompts.clone(),
            truncate_dim: self.modules.truncate_dim.filter(|kept| *kept < dimensions),
            similarity: self.modules.similarity.clone(),
            weights: weights.strip_prefix(&self.path).unwrap_or(weights).to_string_lossy().into_owned(),
            tokenizer: self.tokenizer.kind(),
            flops_per_token: match &self.body {
                Body::Transformer(config) => config.flops_per_token(),
                Body::StaticEmbedding(table) => table.dimensions as u64,
            },
        }
    }

    /// Returns the format that a CPU computes in, given the requested one: f32 for narrow models and static embeddings.
    pub fn dtype_on_cpu(&self, dtype: ComputeDtype) -> ComputeDtype {
        match &self.body {
            Body::Transformer(config) => dtype_on_cpu(config.hidden_size, dtype),
            Body::StaticEmbedding(_) => ComputeDtype::F32,
        }
    }

    /// Returns the components of a text's vector with this pooling, or with the model's own.
    ///
    /// # Errors
    /// When the model does not support the pooling, or a later module takes vectors of another width.
    pub fn dimensions(&self, pooling: Option<Pooling>) -> Result<usize, LoadError> {
        let pooled = self.body.hidden_size() * self.pooling(pooling)?.modes().len();
        self.modules.dimensions(pooled)
    }

    /// Returns the pooling with this choice of the caller, or the model's own, or CLS.
    pub(crate) fn pooling(&self, chosen: Option<Pooling>) -> Result<ModelPooling, LoadError> {
        match (&self.body, chosen) {
            (Body::Transformer(_), Some(chosen)) => Ok(chosen.into()),
            (Body::Transformer(_), None) => Ok(self.modules.pooling.clone().unwrap_or(Pooling::Cls.into())),
            (Body::StaticEmbedding(_), None | Some(Pooling::Mean)) => Ok(Pooling::Mean.into()),
            (Body::StaticEmbedding(_), Some(chosen @ (Pooling::Cls | Pooling::Max | Pooling::Last))) => {
                let what = format!("pooling `{chosen}` of a StaticEmbedding module, which is a mean by definition");
                Err(LoadError::Unsupported { what })
            }
        }
    }

    /// Returns the config of the transformer, if the model has one.
    pub(crate) fn config(&self) -> Option<&Config> {
        match &self.body {
            Body::Transformer(config) => Some(config),
            Body::StaticEmbedding(_) => None,
        }
    }
}

impl Body {
    /// Returns the number of tokens that have a vector.
    pub(crate) fn vocab_size(&self) -> usize {
        match self {
            Body::Transformer(config) => config.vocab_size,
            Body::StaticEmbedding(table) => table.vocab_size,
        }
    }

    /// Returns the components of a token vector.
    pub(crate) fn hidden_size(&self) -> usize {
        match self {
            Body::Transformer(config) => config.hidden_size,
            Body::StaticEmbedding(table) => table.dimensions,
        }
    }

    /// Returns the maximum tokens of a text.
    pub(crate) fn positions_used(&self) -> usize {
        match self {
            Body::Transformer(config) => config.positions_used(),
            Body::StaticEmbedding(_) => NO_MAX_LENGTH,
        }
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
