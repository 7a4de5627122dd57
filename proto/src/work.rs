//! What a worker and a coordinator say to each other: sessions, leases, heartbeats, commits.

use dataset::{PlannedSource, ReadOptions, Slice};
use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, SessionId, ShardId};
use crate::job::{EmbedSpec, ModelSpec, OnBadRow, ReuseSource, RowCounts};

/// What a worker says of itself when it opens a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerInfo {
    /// A name for people: host and process.
    pub name: String,
    /// Its devices, such as `cpu` or `cuda:0`.
    pub devices: Vec<String>,
    /// The version of the program.
    pub version: String,
    /// What it knows of jobs: [`crate::revision::REVISION`] of its program.
    pub revision: u32,
}

/// A session as granted. Durations only: no clock is ever sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The session.
    pub id: SessionId,
    /// Without a heartbeat for so long, the session is dead and its shards go to others.
    pub ttl_ms: u64,
    /// How often to send a heartbeat.
    pub heartbeat_ms: u64,
    /// Storage that this worker reads re-cut input from and writes output to, as a URL or path.
    pub storage_url: String,
}

/// The right to work on a shard until it is revoked, and all that is needed to do so.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// The shard.
    pub shard: ShardId,
    /// The fencing number.
    pub epoch: Epoch,
    /// BLAKE3 of the job's canonical spec, in hex: goes into the output's footer.
    pub spec_digest: String,
    /// How records are read.
    pub read: ReadOptions,
    /// The source that the slice belongs to.
    pub source: PlannedSource,
    /// What to read.
    pub slice: Slice,
    /// The model.
    pub model: ModelSpec,
    /// How it is used.
    pub embed: EmbedSpec,
    /// What a bad row does.
    pub on_bad_row: OnBadRow,
    /// Where the output goes: chosen by the coordinator, written once.
    pub output_key: String,
    /// The rows of the slice that are wanted; `None`: all of them. The whole slice is read all the same.
    pub window: Option<RowWindow>,
    /// The rows wanted have cost several workers: they are not embedded, but rejected as `worker_crash`.
    pub is_poison: bool,
    /// Earlier outputs to take vectors from, in the order in which a text is looked for.
    pub reuse: Vec<ReuseSource>,
}

impl Grant {
    /// Returns the rows that the output must hold.
    pub fn wanted(&self) -> RowWindow {
        self.window.unwrap_or(RowWindow { first_row: self.slice.first_row, rows: self.slice.rows })
    }
}

/// What all shards of one source of a job have in common: the part of a grant that may be large.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceTask {
    /// How records are read.
    pub read: ReadOptions,
    /// The source.
    pub source: PlannedSource,
    /// The model.
    pub model: ModelSpec,
    /// How it is used.
    pub embed: EmbedSpec,
    /// What a bad row does.
    pub on_bad_row: OnBadRow,
    /// Earlier outputs to take vectors from.
    pub reuse: Vec<ReuseSource>,
}

/// A grant without its [`SourceTask`], which is too large to travel with every grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LightGrant {
    /// The shard.
    pub shard: ShardId,
    /// The fencing number.
    pub epoch: Epoch,
    /// As in [`Grant`].
    pub spec_digest: String,
    /// As in [`Grant`].
    pub slice: Slice,
    /// As in [`Grant`].
    pub output_key: String,
    /// As in [`Grant`].
    pub window: Option<RowWindow>,
    /// As in [`Grant`].
    pub is_poison: bool,
}

impl LightGrant {
    /// Returns the whole grant.
    pub fn with(&self, task: &SourceTask) -> Grant {
        let SourceTask { read, source, model, embed, on_bad_row, reuse } = task.clone();
        let Self { shard, epoch, spec_digest, slice, output_key, window, is_poison } = self.clone();
        Grant {
            shard,
            epoch,
            spec_digest,
            read,
            source,
            slice,
            model,
            embed,
            on_bad_row,
            output_key,
            window,
            is_poison,
            reuse,
        }
    }
}

/// A grant as a worker receives it.
#[derive(Debug, Clone, PartialEq)]
pub enum Granted {
    /// All that is needed.
    Whole(Box<Grant>),
    /// What is specific to the shard: the rest is fetched with `WorkClient::source_task`.
    Light(LightGrant),
    /// A grant that this version of the program cannot read: the lease is held all the same, until it is failed.
    Unreadable {
        /// The shard.
        shard: ShardId,
        /// The fencing number.
        epoch: Epoch,
        /// What is wrong with it.
        problem: String,
    },
}

impl Granted {
    /// Returns the shard and the fencing number.
    pub fn lease(&self) -> (ShardId, Epoch) {
        match self {
            Granted::Whole(grant) => (grant.shard, grant.epoch),
            Granted::Light(grant) => (grant.shard, grant.epoch),
            Granted::Unreadable { shard, epoch, .. } => (*shard, *epoch),
        }
    }

    /// Returns the grant, where it is whole.
    pub fn into_whole(self) -> Option<Grant> {
        match self {
            Granted::Whole(grant) => Some(*grant),
            Granted::Light(_) | Granted::Unreadable { .. } => None,
        }
    }
}

impl From<Grant> for Granted {
    fn from(grant: Grant) -> Self {
        Granted::Whole(Box::new(grant))
    }
}

/// A contiguous run of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowWindow {
    /// Row number of the first, over the whole corpus.
    pub first_row: u64,
    /// Number of records.
    pub rows: u64,
}

/// The answer to a lease request.
#[derive(Debug, Clone, PartialEq)]
pub struct Leased {
    /// Granted shards, possibly none.
    pub grants: Vec<Granted>,
    /// When to ask again if there were none.
    pub retry_after_ms: u64,
}

/// How far a worker got with a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The shard.
    pub shard: ShardId,
    /// The lease.
    pub epoch: Epoch,
    /// Rows embedded, reused or rejected so far.
    pub rows_done: u64,
    /// Their tokens.
    pub tokens_done: u64,
}

/// What the coordinator wants done with a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directive {
    /// Go on.
    Continue,
    /// Stop: the shard is not this worker's any more.
    Stop,
}

/// The answer to a heartbeat: one directive per reported lease, in the same order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatReply {
    /// Directives, parallel to the reported progress.
    pub directives: Vec<Directive>,
    /// The session is unknown or dead: open a new one, drop all leases.
    pub session_lost: bool,
}

/// A finished output file, as its writer describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Key in storage, as granted.
    pub key: String,
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3 of the file, in hex.
    pub blake3: String,
    /// BLAKE3 of the input bytes or rows that were read, in hex: equal for every attempt at a shard.
    pub input_blake3: String,
    /// Rows, rejects, truncations, tokens.
    pub counts: RowCounts,
}

/// What became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitOutcome {
    /// This output is the shard's winner (also when this very commit is repeated).
    Committed,
    /// The lease is not this session's any more.
    Stale,
    /// Another attempt won.
    LostRace,
    /// The job was cancelled or has ended.
    Cancelled,
}

/// Why an attempt failed: decides whether and when the shard is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// May pass: counted, tried again after a growing pause.
    Transient,
    /// The store or network replied to slow down: tried again later, not counted.
    Throttled,
    /// Memory or disk ran out: counted, tried again.
    Resource,
    /// The source is not what was planned: fails the job.
    InputChanged,
    /// Options or files that can never work: fails the job.
    Config,
    /// The worker's model is not the job's: fails the job.
    ModelMismatch,
    /// A row is bad and `--on-bad-row fail` was given: fails the job.
    BadRow,
    /// Credentials are missing, wrong or expired: pauses the job until somebody has mended that.
    Auth,
    /// A process that worked on it was lost, and another one says so: counted as every lost worker is.
    WorkerLost,
    /// The worker is stopping: tried again at once, not counted.
    Drained,
}
