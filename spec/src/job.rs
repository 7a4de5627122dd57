//! The specification of a job: everything that determines its result.

use serde::{Deserialize, Serialize};

use crate::{ComputeDtype, OnBadRow, OutputDtype, Pooling, ReadOptions, Source};

/// The model of a job, pinned by content.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModelSpec {
    /// Hub id (`owner/name`) or the absolute path of a directory.
    pub name: String,
    /// The resolved commit for a Hub model; `None` for a directory.
    pub revision: Option<String>,
    /// BLAKE3 over the files that determine the vectors (config, tokenizer, weights, pooling), in hex.
    pub digest: String,
}

/// How texts are embedded. `None` means the model's own setting.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EmbedSpec {
    /// Pooling of the token vectors.
    pub pooling: Option<Pooling>,
    /// L2 normalisation (on unless `--no-normalize`).
    pub normalize: bool,
    /// Maximum tokens per text, special ones included.
    pub max_length: Option<u32>,
    /// Text prepended to every record.
    pub prefix: String,
    /// Number format of the forward pass.
    pub dtype: ComputeDtype,
    /// Number format of the output.
    pub output_dtype: OutputDtype,
    /// Number of leading dimensions to keep, normalised again (Matryoshka).
    pub dimensions: Option<u32>,
    /// Tokens per batch; chosen by the worker if absent.
    pub batch_tokens: Option<u32>,
    /// Name of the model's prompt that `prefix` is. Omitted if absent, so that digests of such jobs stay the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The model's similarity, for the footer. Omitted if the model states none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub similarity: Option<String>,
}

/// The reject limit, above which a job fails.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaxRejects {
    /// No limit.
    Unlimited,
    /// A number of rows.
    Rows(u64),
    /// A percentage of the rows, checked at the end.
    Percent(f64),
}

/// Limits of a shard, which ends at the first one reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ShardLimits {
    /// Maximum records.
    pub rows_max: u64,
    /// Maximum bytes of (uncompressed) input, except for a single larger record.
    pub bytes_max: u64,
}

/// An earlier output, whose vectors a job takes for the texts that it has.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReuseSource {
    /// Absolute path or URL of its folder or file.
    pub uri: String,
    /// BLAKE3 of its manifest, or the seal of the file, in hex.
    pub blake3: String,
    /// The kept column that holds its texts.
    pub text_column: String,
    /// The job was submitted again without it: listed, as rows may have been taken from it, and no longer read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retired: bool,
}

/// Everything that determines the output of a job: equal specs over equal inputs give equal rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The corpus: sources in order.
    pub sources: Vec<Source>,
    /// How they are read.
    pub read: ReadOptions,
    /// The model.
    pub model: ModelSpec,
    /// How texts are embedded.
    pub embed: EmbedSpec,
    /// How the corpus is split into shards.
    pub limits: ShardLimits,
    /// What a rejected record does to the job.
    pub on_bad_row: OnBadRow,
    /// The reject limit.
    pub max_rejects: MaxRejects,
    /// Turns dead shards into holes of the result instead of failing the job, if at least one shard is committed.
    /// Omitted if false, so that digests of such jobs stay the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_partial: bool,
    /// Earlier outputs, in the order in which a text is looked for. Not part of the digest: the rows are the same without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reuse: Vec<ReuseSource>,
}

impl JobSpec {
    /// Returns the earlier outputs of a job that is submitted again with these: those that it no longer names stay listed.
    pub fn reuse_with(&self, given: &[ReuseSource]) -> Vec<ReuseSource> {
        let is_given = |old: &&ReuseSource| !given.iter().any(|new| new.blake3 == old.blake3 && new.uri == old.uri);
        let retired = self.reuse.iter().filter(is_given).map(|old| ReuseSource { retired: true, ..old.clone() });
        given.iter().cloned().chain(retired).collect()
    }
}
