//! PURE: whose lease is meant, where its output goes, and what to say to a commit that did not go through.

use proto::job::JobState;
use proto::work::{CommitOutcome, FailureClass, Output};
use proto::{Epoch, JobId, SessionId, ShardId};
use uuid::Uuid;

/// Returns the word for a failure's class, as stored and logged.
pub const fn failure_name(class: FailureClass) -> &'static str {
    match class {
        FailureClass::Transient => "transient",
        FailureClass::Throttled => "throttled",
        FailureClass::Resource => "resource",
        FailureClass::InputChanged => "input_changed",
        FailureClass::Config => "config",
        FailureClass::ModelMismatch => "model_mismatch",
        FailureClass::BadRow => "bad_row",
        FailureClass::Auth => "auth",
        FailureClass::WorkerLost => "worker_lost",
        FailureClass::Drained => "drained",
    }
}

/// Returns where an attempt's output goes. The key names the epoch and the attempt, so that it is written once.
pub fn output_key(shard: ShardId, epoch: Epoch, attempt: Uuid) -> String {
    let ShardId { job, index } = shard;
    dataset::vectors::layout::shard_key(&job.to_string(), index, u64::from(epoch.0), &attempt.to_string())
}

/// Returns the attempt that a key names, if the key is one that this lease can have been granted.
pub fn attempt_of_key(shard: ShardId, epoch: Epoch, key: &str) -> Option<Uuid> {
    let stem = key.strip_suffix(".parquet")?;
    let attempt = Uuid::parse_str(stem.get(stem.len().checked_sub(36)?..)?).ok()?;
    (output_key(shard, epoch, attempt) == key).then_some(attempt)
}

/// What is known of a commit that did not go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The state of the job; `None` if there is no such shard.
    pub job: Option<JobState>,
    /// Rows of the shard.
    pub rows: u64,
    /// Epoch, key and digest of the winner, if there is one.
    pub winner: Option<(Epoch, String, String)>,
    /// The key that this very lease was granted, if it is live and the session's own.
    pub live_key: Option<String>,
    /// Digest of the input that an earlier output was made of.
    pub input: Option<String>,
}

impl Refusal {
    /// Returns what is known where there is no such shard.
    pub const fn unknown() -> Self {
        Self { job: None, rows: 0, winner: None, live_key: None, input: None }
    }

    /// Returns what to tell the worker: an outcome, or what is wrong with its output.
    pub fn outcome(&self, epoch: Epoch, output: &Output) -> Result<CommitOutcome, String> {
        let Some(job) = self.job else { return Ok(CommitOutcome::Stale) };
        if let Some((winner, key, blake3)) = &self.winner {
            // The key has the attempt's random name, so only the attempt that won can repeat it.
            return match (*winner == epoch && *key == output.key, *blake3 == output.blake3) {
                (true, true) => Ok(CommitOutcome::Committed),
                (true, false) => Err("this lease has committed a file with another digest".to_owned()),
                (false, _) => Ok(CommitOutcome::LostRace),
            };
        }
        if matches!(job, JobState::Cancelling | JobState::Cancelled | JobState::Failed) {
            return Ok(CommitOutcome::Cancelled);
        }
        match &self.live_key {
            None => Ok(CommitOutcome::Stale),
            Some(key) if *key != output.key => Err(format!("its key is not the granted one: `{key}`")),
            Some(_) if output.counts.rows != self.rows => {
                Err(format!("it holds {} rows, the shard has {}", output.counts.rows, self.rows))
            }
            // Live, right key, right rows, and yet refused, every time: somebody ends and revives the job as we look.
            Some(_) => Ok(CommitOutcome::Stale),
        }
    }

    /// Says whether the output was made of another input than an earlier one (I7): then neither can be trusted.
    pub fn input_differs(&self, output: &Output) -> bool {
        self.input.as_ref().is_some_and(|input| *input != output.input_blake3)
    }

    /// Returns whether nothing prevents the commit any more: its job had ended when it came and has been taken up
    /// again since, so that it is worth another try.
    pub fn lease_stands(&self, output: &Output) -> bool {
        matches!(self.job, Some(JobState::Planning | JobState::Running))
            && self.winner.is_none()
            && self.live_key.as_ref() == Some(&output.key)
            && self.rows == output.counts.rows
            && !self.input_differs(output)
    }
}

/// Says whose lease is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseRef {
    /// The session that holds it.
    pub session: SessionId,
    /// The job.
    pub job: JobId,
    /// Position of the shard in input order.
    pub index: u64,
    /// The fencing number.
    pub epoch: Epoch,
}
