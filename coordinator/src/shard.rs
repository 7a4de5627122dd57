//! PURE: the states of jobs, shards and attempts, and how one becomes the other. This file is the specification.
//!
//! The store carries the same transitions out in SQL, each guarded by the state and the epoch that it expects; the
//! conformance suite holds both databases to this file, event by event. No clock, no randomness, no I/O in here.
//!
//! ```text
//! JOB     planning → running → finalizing → succeeded        SHARD   pending ──lease──► running ──commit──► committed
//!            └─────────┴───────────┴──► failed ──retry──►            ▲  ▲                │ fail, expire, release, revoke
//!            └─────────┴───────────┴──► cancelling → cancelled       │  └────────────────┤
//!         finalizing, succeeded, failed ──repair──► running         └──retry── dead ◄───┘ budget spent
//! ATTEMPT live → committed | failed | released                      pending, running ──cancel──► cancelled
//!              | expired | revoked (→ garbage)                      committed ──repair──► pending
//! ```

use proto::job::{JobState, ShardCounts};
use proto::work::{CommitOutcome, FailureClass, Output};
use proto::{Epoch, JobId, SessionId, ShardId};
use uuid::Uuid;

use crate::policy::{Policy, Verdict};

/// Milliseconds since the Unix epoch.
pub type Millis = i64;

/// The transition does not exist: whoever asked for it acts on a state that has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such transition")]
pub struct Illegal;

/// Where a shard stands, with what belongs to that state alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardState {
    /// Waiting for a worker.
    Pending {
        /// No lease before this instant.
        not_before: Millis,
    },
    /// Leased: the attempt of the shard's epoch is live.
    Running,
    /// Done.
    Committed {
        /// The epoch of the attempt that won.
        winner: Epoch,
        /// What it wrote.
        output: Box<Output>,
    },
    /// Out of attempts until somebody asks for a retry.
    Dead,
    /// Given up with its job.
    Cancelled,
}

/// A shard as the state machine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Where it stands.
    pub state: ShardState,
    /// The epoch of the latest lease; 0 before the first. Only ever grows, whatever else is reset.
    pub epoch: Epoch,
    /// Counted failures since the last retry.
    pub failures: u32,
    /// Workers lost since the last retry.
    pub workers_lost: u32,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Digest of the input, once an output was committed: whoever reads something else later reads another corpus.
    pub input: Option<String>,
}

/// What happens to a shard.
#[derive(Debug, Clone, PartialEq)]
pub enum ShardEvent<'a> {
    /// A worker takes it.
    Lease,
    /// The attempt of this epoch is done.
    Commit {
        /// The lease.
        epoch: Epoch,
        /// What it wrote.
        output: &'a Output,
    },
    /// The attempt of this epoch failed.
    Fail {
        /// The lease.
        epoch: Epoch,
        /// Why.
        class: FailureClass,
        /// Why, in words.
        message: &'a str,
        /// A random number in `0.0..1.0`.
        unit: f64,
    },
    /// The worker gives it back.
    Release {
        /// The lease.
        epoch: Epoch,
    },
    /// The worker is lost or stuck.
    Expire {
        /// The lease.
        epoch: Epoch,
        /// Why, in words.
        message: &'a str,
    },
    /// The job failed under it.
    Revoke {
        /// The lease.
        epoch: Epoch,
    },
    /// The job was cancelled.
    Cancel,
    /// Somebody asks for another round.
    Retry,
    /// Its file is damaged or missing.
    Repair {
        /// Why, in words.
        message: &'a str,
    },
}

impl Shard {
    /// Returns a shard as it is planned.
    pub const fn planned() -> Self {
        let state = ShardState::Pending { not_before: 0 };
        Self { state, epoch: Epoch(0), failures: 0, workers_lost: 0, last_error: None, input: None }
    }

    /// Returns the shard after `event` at `now`, or [`Illegal`] if it does not apply.
    pub fn step(&self, event: &ShardEvent<'_>, now: Millis, policy: &Policy) -> Result<Shard, Illegal> {
        let mut next = self.clone();
        match event {
            ShardEvent::Lease => {
                let ShardState::Pending { not_before } = self.state else { return Err(Illegal) };
                if not_before > now {
                    return Err(Illegal);
                }
                next.state = ShardState::Running;
                next.epoch = Epoch(self.epoch.0 + 1);
            }
            ShardEvent::Commit { epoch, output } => {
                self.require_running(*epoch)?;
                if self.reads_other_input(output) {
                    return Err(Illegal);
                }
                next.input = Some(output.input_blake3.clone());
                next.state = ShardState::Committed { winner: *epoch, output: Box::new((*output).clone()) };
            }
            ShardEvent::Fail { epoch, class, message, unit } => {
                self.require_running(*epoch)?;
                next.last_error = Some((*message).to_owned());
                next.state = match Policy::verdict(*class) {
                    Verdict::Counted => {
                        next.failures += 1;
                        pending_or_dead(
                            now + policy.backoff_ms(self.failures, *unit),
                            next.failures,
                            policy.failures_max,
                        )
                    }
                    Verdict::Throttled => ShardState::Pending { not_before: now + policy.throttle_pause_ms(*unit) },
                    Verdict::JobFatal => ShardState::Pending { not_before: now },
                };
            }
            ShardEvent::Release { epoch } | ShardEvent::Revoke { epoch } => {
                self.require_running(*epoch)?;
                next.state = ShardState::Pending { not_before: now };
            }
            ShardEvent::Expire { epoch, message } => {
                self.require_running(*epoch)?;
                next.last_error = Some((*message).to_owned());
                next.workers_lost += 1;
                next.state = pending_or_dead(now, next.workers_lost, policy.workers_lost_max);
            }
            ShardEvent::Cancel => {
                let (ShardState::Pending { .. } | ShardState::Running) = self.state else { return Err(Illegal) };
                next.state = ShardState::Cancelled;
            }
            ShardEvent::Retry => {
                let ShardState::Dead = self.state else { return Err(Illegal) };
                (next.failures, next.workers_lost) = (0, 0);
                next.state = ShardState::Pending { not_before: now };
            }
            ShardEvent::Repair { message } => {
                let ShardState::Committed { .. } = self.state else { return Err(Illegal) };
                next.last_error = Some((*message).to_owned());
                (next.failures, next.workers_lost) = (0, 0);
                next.state = ShardState::Pending { not_before: now };
            }
        }
        Ok(next)
    }

    /// Whether an output was made of another input than an earlier one (I7).
    pub fn reads_other_input(&self, output: &Output) -> bool {
        self.input.as_ref().is_some_and(|input| *input != output.input_blake3)
    }

    fn require_running(&self, epoch: Epoch) -> Result<(), Illegal> {
        if self.state == ShardState::Running && self.epoch == epoch { Ok(()) } else { Err(Illegal) }
    }
}

fn pending_or_dead(not_before: Millis, spent: u32, budget: u32) -> ShardState {
    if spent >= budget { ShardState::Dead } else { ShardState::Pending { not_before } }
}

/// Where an attempt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptState {
    /// Its lease stands. Every transition out of this state is guarded by it: this row is where events are serialised.
    Live,
    /// It won.
    Committed,
    /// Its worker reported a failure.
    Failed,
    /// Its worker gave it back.
    Released,
    /// Its worker is lost or stuck.
    Expired,
    /// Its job ended, or its file was damaged later.
    Revoked,
    /// It lost, and its object may be deleted at any time.
    Garbage,
}

impl AttemptState {
    /// Returns the word, as stored.
    pub const fn name(self) -> &'static str {
        match self {
            AttemptState::Live => "live",
            AttemptState::Committed => "committed",
            AttemptState::Failed => "failed",
            AttemptState::Released => "released",
            AttemptState::Expired => "expired",
            AttemptState::Revoked => "revoked",
            AttemptState::Garbage => "garbage",
        }
    }

    /// Returns the state after `next`: a live attempt ends once, a winner loses only to a repair, and only a loser becomes
    /// garbage.
    pub const fn step(self, next: AttemptState) -> Result<AttemptState, Illegal> {
        let ended = matches!(
            next,
            AttemptState::Committed
                | AttemptState::Failed
                | AttemptState::Released
                | AttemptState::Expired
                | AttemptState::Revoked
        );
        match self {
            AttemptState::Live if ended => Ok(next),
            AttemptState::Committed if matches!(next, AttemptState::Revoked) => Ok(next),
            AttemptState::Failed | AttemptState::Released | AttemptState::Expired | AttemptState::Revoked
                if matches!(next, AttemptState::Garbage) =>
            {
                Ok(next)
            }
            AttemptState::Live
            | AttemptState::Committed
            | AttemptState::Failed
            | AttemptState::Released
            | AttemptState::Expired
            | AttemptState::Revoked
            | AttemptState::Garbage => Err(Illegal),
        }
    }
}

/// A job as the state machine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Where it stands.
    pub state: JobState,
    /// No new leases while set.
    pub paused: bool,
    /// All shards are cut.
    pub planned: bool,
    /// Why it failed.
    pub reason: Option<String>,
    /// Key and digest of the manifest, once succeeded.
    pub manifest: Option<(String, String)>,
    /// Which manifest it has or will have, from 1.
    pub generation: u64,
}

/// What happens to a job.
#[derive(Debug, Clone, PartialEq)]
pub enum JobEvent<'a> {
    /// The last shard is cut.
    Planned,
    /// All shards are committed: write the manifest.
    Finalize(&'a ShardCounts),
    /// The manifest is written.
    Finish {
        /// Which one.
        generation: u64,
        /// Its key.
        key: &'a str,
        /// Its digest.
        digest: &'a str,
    },
    /// It cannot succeed.
    Fail(&'a str),
    /// Nothing is left but dead shards.
    Exhaust(&'a ShardCounts, &'a str),
    /// Somebody asks for its end.
    Cancel,
    /// No lease is live any more.
    Settle(&'a ShardCounts),
    /// No new leases.
    Pause,
    /// Leases again.
    Resume,
    /// Somebody asks for another round.
    Retry,
    /// Files of some of its shards are damaged or missing.
    Repair,
}

impl Job {
    /// Returns a job as it is submitted.
    pub const fn submitted() -> Self {
        Self { state: JobState::Planning, paused: false, planned: false, reason: None, manifest: None, generation: 1 }
    }

    /// Whether leases may be granted and outputs committed.
    pub const fn is_active(&self) -> bool {
        is_active(self.state)
    }

    /// Returns the job after `event`, or [`Illegal`] if it does not apply. Repeating an event that has already had its
    /// effect is no error.
    pub fn step(&self, event: &JobEvent<'_>) -> Result<Job, Illegal> {
        use JobState::{Cancelled, Cancelling, Failed, Finalizing, Planning, Running, Succeeded};
        let mut next = self.clone();
        match (event, self.state) {
            (JobEvent::Planned, Planning) => {
                next.planned = true;
                next.state = Running;
            }
            (JobEvent::Finalize(_), Finalizing) => {}
            (JobEvent::Finalize(shards), Running) if all_committed(shards) => next.state = Finalizing,
            (JobEvent::Finish { generation, key, digest }, Finalizing) if *generation == self.generation => {
                next.state = Succeeded;
                next.manifest = Some(((*key).to_owned(), (*digest).to_owned()));
            }
            (JobEvent::Finish { digest, .. }, Succeeded)
                if self.manifest.as_ref().is_some_and(|(_, stored)| stored == digest) => {}
            (JobEvent::Exhaust(shards, reason), Running) if is_exhausted(shards) => {
                next.state = Failed;
                next.reason = Some((*reason).to_owned());
            }
            (JobEvent::Fail(reason), Planning | Running | Finalizing) => {
                next.state = Failed;
                next.reason = Some((*reason).to_owned());
            }
            (JobEvent::Cancel, Planning | Running | Finalizing) => next.state = Cancelling,
            (JobEvent::Cancel, Cancelling | Cancelled) => {}
            (JobEvent::Settle(shards), Cancelling) if shards.pending + shards.running == 0 => next.state = Cancelled,
            (JobEvent::Pause, Planning | Running | Finalizing) => next.paused = true,
            (JobEvent::Resume, Planning | Running | Finalizing) => next.paused = false,
            (JobEvent::Retry | JobEvent::Repair, Planning | Running) => {}
            (JobEvent::Retry, Failed) => {
                next.state = if self.planned { Running } else { Planning };
                next.reason = None;
            }
            // A manifest may be there already: the next one has another name.
            (JobEvent::Repair, Finalizing | Succeeded | Failed) => {
                next.state = if self.planned { Running } else { Planning };
                next.generation += 1;
                (next.reason, next.manifest) = (None, None);
            }
            (
                JobEvent::Planned
                | JobEvent::Finalize(_)
                | JobEvent::Finish { .. }
                | JobEvent::Fail(_)
                | JobEvent::Exhaust(..)
                | JobEvent::Cancel
                | JobEvent::Settle(_)
                | JobEvent::Pause
                | JobEvent::Resume
                | JobEvent::Retry
                | JobEvent::Repair,
                _,
            ) => return Err(Illegal),
        }
        Ok(next)
    }
}

/// Returns whether leases may be granted and outputs committed in this state.
pub const fn is_active(state: JobState) -> bool {
    matches!(state, JobState::Planning | JobState::Running)
}

/// Returns whether every shard is committed.
pub const fn all_committed(shards: &ShardCounts) -> bool {
    shards.pending + shards.running + shards.dead + shards.cancelled == 0
}

/// Returns whether nothing is left to do and something is dead.
pub const fn is_exhausted(shards: &ShardCounts) -> bool {
    shards.pending + shards.running == 0 && shards.dead > 0
}

/// Returns the word for a job's state, as stored and shown.
pub const fn job_state_name(state: JobState) -> &'static str {
    match state {
        JobState::Planning => "planning",
        JobState::Running => "running",
        JobState::Finalizing => "finalizing",
        JobState::Succeeded => "succeeded",
        JobState::Failed => "failed",
        JobState::Cancelling => "cancelling",
        JobState::Cancelled => "cancelled",
    }
}

/// Returns the job state that a stored word means.
pub fn job_state_of(name: &str) -> Option<JobState> {
    use JobState::{Cancelled, Cancelling, Failed, Finalizing, Planning, Running, Succeeded};
    [Planning, Running, Finalizing, Succeeded, Failed, Cancelling, Cancelled]
        .into_iter()
        .find(|state| job_state_name(*state) == name)
}

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
    /// Where the job stands; `None` if there is no such shard.
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
            // The key holds the attempt's random name: whoever repeats it is the attempt that won.
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

    /// Says whether nothing stands against the commit any more: its job had ended when it came and has been taken up
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
