//! What a job is to do: everything that decides its result.

use serde::{Deserialize, Serialize};

use crate::{ComputeDtype, OnBadRow, OutputDtype, Pooling, ReadOptions, Source};

/// The model of a job, pinned by content.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModelSpec {
    /// Hub id (`owner/name`) or the absolute path of a directory.
    pub name: String,
    /// The resolved commit for a Hub model; `None` for a directory.
    pub revision: Option<String>,
    /// BLAKE3 over the files that decide the vectors (config, tokenizer, weights, pooling), in hex.
    pub digest: String,
}

/// How texts become vectors. `None` means the model's own setting.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EmbedSpec {
    /// Pooling.
    pub pooling: Option<Pooling>,
    /// L2 normalisation (on unless `--no-normalize`).
    pub normalize: bool,
    /// Most tokens fed to the model for one text, special ones included.
    pub max_length: Option<u32>,
    /// Text put before every record.
    pub prefix: String,
    /// Number format of the forward pass.
    pub dtype: ComputeDtype,
    /// Number format of the output.
    pub output_dtype: OutputDtype,
    /// Keep only the first so many dimensions, normalised again (Matryoshka).
    pub dimensions: Option<u32>,
    /// Tokens per batch; found by the worker where absent.
    pub batch_tokens: Option<u32>,
    /// Name of the model's own prompt that `prefix` is. Left out where it is none, so that such jobs keep their digests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The similarity that the model is meant for, as the footer says it. Left out where the model names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub similarity: Option<String>,
}

/// How many rejected records a job may have before it fails.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaxRejects {
    /// Any number.
    Unlimited,
    /// So many rows.
    Rows(u64),
    /// So many per cent of the rows; judged when all rows are in.
    Percent(f64),
}

/// How large shards are cut. A shard ends at whichever limit is met first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ShardLimits {
    /// Most records in a shard.
    pub rows_max: u64,
    /// Most bytes of (uncompressed) input in a shard, unless one record alone is larger.
    pub bytes_max: u64,
}

/// Everything that decides what a job produces. Two equal specs over equal inputs give equal rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The corpus: sources in order.
    pub sources: Vec<Source>,
    /// How they are read.
    pub read: ReadOptions,
    /// The model.
    pub model: ModelSpec,
    /// How it is used.
    pub embed: EmbedSpec,
    /// How the corpus is cut.
    pub limits: ShardLimits,
    /// What a bad row does.
    pub on_bad_row: OnBadRow,
    /// How many bad rows are allowed.
    pub max_rejects: MaxRejects,
    /// Dead shards become holes of the result instead of failing the job, if at least one shard is committed. Left out
    /// where it is not asked for, so that such jobs keep their digests.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_partial: bool,
}
