//! What goes into the store and comes out of it, beside the vocabulary of `proto`.

use dataset::{Cursor, PlannedSource, Slice};
use futures::future::BoxFuture;
use proto::JobId;
use proto::job::{JobSpec, JobState};
use proto::work::Output;
use serde::{Deserialize, Serialize};

use super::error::StoreError;

/// What became of a submitted job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submitted {
    /// It is new.
    Created,
    /// It was submitted before, with the same parameters.
    Existing,
}

/// A job whose corpus is still being cut.
#[derive(Debug, Clone, PartialEq)]
pub struct Planning {
    /// The job.
    pub job: JobId,
    /// What it does.
    pub spec: JobSpec,
    /// The sources as found, once [`crate::Store::set_sources`] stored them.
    pub sources: Option<Vec<PlannedSource>>,
    /// Where the next slice begins.
    pub cursor: Cursor,
}

/// A committed shard: what the manifest lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Winner {
    /// Position in input order.
    pub index: u64,
    /// What was read.
    pub slice: Slice,
    /// What was written.
    pub output: Output,
}

/// Sums over all jobs, and the live workers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Jobs by state; a state without jobs may be absent.
    pub jobs: Vec<(JobState, u64)>,
    /// Rows in committed shards, with or without a vector.
    pub rows: u64,
    /// Rows of these without a vector.
    pub rejected: u64,
    /// Tokens of those with a vector.
    pub tokens: u64,
    /// Live worker sessions.
    pub workers: u64,
    /// Those of them that get no shards any more.
    pub workers_quarantined: u64,
}

/// What one sweep found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Sessions that died of missing heartbeats.
    pub sessions: u64,
    /// Leases taken back, from dead sessions and from stuck ones.
    pub leases: u64,
}

/// The object of an attempt that did not win: the caller deletes it, then reports it deleted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Garbage {
    /// The job.
    pub job: JobId,
    /// Position of the shard in input order.
    pub index: u64,
    /// The attempt's epoch.
    pub epoch: u32,
    /// Key in storage; there may be no object under it.
    pub key: String,
}

/// What a database answers, once it does.
pub(crate) type StoreFuture<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Which jobs to list, newest first.
#[derive(Debug, Clone)]
pub(crate) enum Page {
    /// This one.
    One(JobId),
    /// The newest, or those submitted before another one (none where that is unknown); of all owners or of one.
    Newest { before: Option<JobId>, owner: Option<String>, limit: u32 },
    /// Those that have not ended.
    Active { limit: u32 },
}

/// The part of a spec that every grant carries; the list of sources, which may be long, is not in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) read: dataset::ReadOptions,
    pub(crate) model: proto::job::ModelSpec,
    pub(crate) embed: proto::job::EmbedSpec,
    pub(crate) on_bad_row: proto::job::OnBadRow,
    /// Those that are still given. Absent in a task of before there were any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) reuse: Vec<proto::job::ReuseSource>,
}

impl Task {
    pub(crate) fn of(spec: &JobSpec) -> Task {
        Task {
            read: spec.read.clone(),
            model: spec.model.clone(),
            embed: spec.embed.clone(),
            on_bad_row: spec.on_bad_row,
            reuse: spec.reuse.iter().filter(|source| !source.retired).cloned().collect(),
        }
    }
}

/// A job of which only dead shards are left, and which allows no holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exhausted {
    pub(crate) job: JobId,
    pub(crate) dead: u64,
    pub(crate) first_index: u64,
    pub(crate) first_error: Option<String>,
}

/// A job in which too much goes wrong in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tripped {
    pub(crate) job: JobId,
    pub(crate) class: String,
    pub(crate) attempts: u64,
}
