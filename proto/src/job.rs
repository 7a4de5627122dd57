//! What a job is and its status: the vocabulary of `submit`, `status` and `list`, as plain values.

use std::ops::Deref;

use serde::{Deserialize, Serialize};
pub use spec::{
    ComputeDtype, EmbedSpec, JobSpec, MaxRejects, ModelSpec, OnBadRow, OutputDtype, Pooling, ReuseSource, RowCounts,
    ShardLimits,
};
use strum::{Display, EnumString, IntoStaticStr, VariantArray};

use crate::ids::JobId;

/// The state of a job. Its name is the same in JSON, in the database, in metrics and in messages.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, EnumString, IntoStaticStr, VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum JobState {
    /// Shards are still being cut; those that exist are already worked on.
    Planning,
    /// All shards are cut.
    Running,
    /// All shards are committed; the manifest is being written.
    Finalizing,
    /// Done: the manifest is written.
    Succeeded,
    /// Ended without a result; the reason says why.
    Failed,
    /// Cancellation was requested; live attempts are being revoked.
    Cancelling,
    /// Cancelled.
    Cancelled,
}

impl JobState {
    /// All of them, in the order of declaration.
    pub const ALL: &'static [JobState] = <JobState as VariantArray>::VARIANTS;

    /// Whether the job will never change again by itself.
    pub const fn is_terminal(self) -> bool {
        match self {
            JobState::Succeeded | JobState::Failed | JobState::Cancelled => true,
            JobState::Planning | JobState::Running | JobState::Finalizing | JobState::Cancelling => false,
        }
    }
}

/// Shards by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardCounts {
    /// Waiting for a worker.
    pub pending: u64,
    /// Leased.
    pub running: u64,
    /// Done.
    pub committed: u64,
    /// Out of attempts.
    pub dead: u64,
    /// Given up with their job.
    pub cancelled: u64,
    /// Cut into smaller ones, which count themselves, because they cost several workers.
    #[serde(default)]
    pub split: u64,
}

/// A job as `list` shows it: all but its spec, which may be large.
#[derive(Debug, Clone, PartialEq)]
pub struct JobBrief {
    /// The job.
    pub id: JobId,
    /// The name of its model.
    pub model: String,
    /// How many sources it has.
    pub sources: u64,
    /// Its state.
    pub state: JobState,
    /// No new leases are granted while set.
    pub paused: bool,
    /// Why it failed.
    pub reason: Option<String>,
    /// Shards by state.
    pub shards: ShardCounts,
    /// Rows planned so far; final once `state` is past planning.
    pub rows_planned: u64,
    /// Sums over committed shards.
    pub counts: RowCounts,
    /// Rows done in shards that are running now, as of the last heartbeats.
    pub rows_in_flight: u64,
    /// Tokens done in shards that are running now, as of the last heartbeats.
    pub tokens_in_flight: u64,
    /// Live worker sessions.
    pub workers: u64,
    /// Key of the manifest in storage, once succeeded.
    pub manifest_key: Option<String>,
    /// Milliseconds since the job was submitted.
    pub age_ms: u64,
    /// Why the coordinator itself paused it; `None` where a user paused it.
    pub pause_reason: Option<String>,
    /// For how many milliseconds no worker has been alive though there is work; 0 while that is no reason to worry.
    pub starved_ms: u64,
    /// Second attempts that were begun beside slow ones.
    pub copies: u64,
    /// Live workers that get no shards any more, because they failed at what others could do.
    pub workers_quarantined: u64,
    /// Live workers, those in quarantine aside, that get no shards of this job because they do not know what it asks for.
    pub workers_outdated: u64,
    /// Which manifest the job has or will have, counted from 1; every repair or retry of missing rows begins a new one.
    pub generation: u64,
    /// Who submitted it, where callers are known.
    pub owner: Option<String>,
}

impl JobBrief {
    /// Rows of a finished job that are in none of its files: those of dead shards, under `allow_partial`.
    pub fn rows_missing(&self) -> u64 {
        let done = self.state == JobState::Succeeded;
        if done { self.rows_planned.saturating_sub(self.counts.rows) } else { 0 }
    }
}

/// A job as `status` shows it. It reads like its brief.
#[derive(Debug, Clone, PartialEq)]
pub struct JobStatus {
    /// What it does.
    pub spec: JobSpec,
    /// Its status.
    pub brief: JobBrief,
}

impl Deref for JobStatus {
    type Target = JobBrief;

    fn deref(&self) -> &JobBrief {
        &self.brief
    }
}

/// Some of the jobs of a cluster, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct JobList {
    /// The jobs.
    pub jobs: Vec<JobBrief>,
    /// There are older ones.
    pub more: bool,
}

/// The output of a committed shard, as `download` needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardResult {
    /// Position of the shard.
    pub index: u64,
    /// Row number of its first row, over the whole corpus.
    pub first_row: u64,
    /// Key in storage.
    pub key: String,
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3 of the file, in hex.
    pub blake3: String,
    /// Rows, rejects, truncations, tokens.
    pub counts: RowCounts,
}

/// Where the results of a job lie, and some of its committed shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultsPage {
    /// Storage in which the keys are found: URL or path.
    pub storage_url: String,
    /// Committed shards, by position.
    pub shards: Vec<ShardResult>,
    /// There may be more behind the last one.
    pub more: bool,
}

#[cfg(test)]
mod tests {
    use testkit::full_job_spec as spec;

    use super::*;

    /// Stored jobs are recognised by this value: it must not change.
    #[test]
    fn the_digest_of_a_known_spec_stays_what_it_is() {
        assert_eq!(spec().digest(), "a6e61aacdc1cd2772bfe9726ef8138a9e5255699e35e677072c1a941b044d366");
    }

    #[test]
    fn another_spec_has_another_digest() {
        let mut other = spec();
        other.max_rejects = MaxRejects::Rows(1);
        assert_ne!(other.digest(), spec().digest());
        assert_ne!(JobSpec { allow_partial: true, ..spec() }.digest(), spec().digest());
        let mut prompted = spec();
        prompted.embed.prompt = Some("query".into());
        assert_ne!(prompted.digest(), spec().digest());
        assert_eq!(spec().digest(), spec().clone().digest());
    }

    #[test]
    fn a_state_has_one_name() {
        for state in JobState::ALL {
            let name = state.to_string();
            assert_eq!(serde_json::to_value(state).unwrap(), serde_json::Value::String(name.clone()));
            assert_eq!(name.parse(), Ok(*state));
        }
        assert_eq!(JobState::ALL.len(), 7);
        assert_eq!(JobState::Finalizing.to_string(), "finalizing");
    }
}
