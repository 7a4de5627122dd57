//! PURE: the states of jobs, shards and attempts, and how one becomes the other. This file is the specification.
//!
//! The store carries the same transitions out in SQL, each guarded by the state and the epoch that it expects; the
//! conformance suite holds both databases to this file, event by event. No clock, no randomness, no I/O in here.
//!
//! ```text
//! JOB     planning → running → finalizing → succeeded        SHARD   pending ──lease──► running ──commit──► committed
//!            └─────────┴───────────┴──► failed ──retry──►            ▲  ▲               copy │ fail, expire, release, revoke
//!            └─────────┴───────────┴──► cancelling → cancelled       │  └────────────────────┤
//!         finalizing, succeeded, failed ──repair──► running          └──retry── dead ◄───────┘ budget spent
//!         succeeded with dead shards ──retry──► running
//! ATTEMPT live → committed | failed | released                      running ──workers lost──► split (into pending ones)
//!              | expired | revoked | lost_race (→ garbage)          pending, running ──cancel──► cancelled
//!                                                                   committed ──repair──► pending
//! ```
//!
//! A running shard has one live attempt, or two where a copy was begun beside a slow one: the first commit wins, and
//! while one of them lives, the end of the other only counts. A shard that loses several workers is split into halves,
//! these into halves as soon as they lose one, down to a single row; a row that alone loses several is poison: it is
//! not embedded any more, but rejected.

mod job;
mod lease;

use proto::Epoch;
use proto::work::{FailureClass, Output, RowWindow};

pub use job::{Job, JobEvent, is_active};
pub use lease::{LeaseRef, Refusal, attempt_of_key, failure_name, output_key};

use crate::policy::{Policy, Verdict};

/// Milliseconds since the Unix epoch.
pub type Millis = i64;

/// The transition does not exist: its caller acts on an outdated state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such transition")]
pub struct Illegal;

/// The state of a shard, with what belongs to that state alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardState {
    /// Waiting for a worker.
    Pending {
        /// No lease before this instant.
        not_before: Millis,
    },
    /// Leased: the attempts of these epochs are live, one or two.
    Running {
        /// In the order of their leases.
        live: Vec<Epoch>,
    },
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
    /// Its rows are those of its two halves now.
    Split,
}

/// A shard as the state machine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Its state.
    pub state: ShardState,
    /// The epoch of the latest lease; 0 before the first. Only ever grows, whatever else is reset.
    pub epoch: Epoch,
    /// Counted failures since the last retry.
    pub failures: u32,
    /// Workers lost since the last retry.
    pub workers_lost: u32,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Digest of the input, from planning or else from the first commit; an attempt that read other bytes has read another corpus.
    pub input: Option<String>,
    /// Number of its rows.
    pub rows: u64,
    /// It is a half of a shard that was split.
    pub is_half: bool,
    /// Its only row has cost several workers: it is rejected, not embedded.
    pub is_poison: bool,
}

/// What happens to a shard.
#[derive(Debug, Clone, PartialEq)]
pub enum ShardEvent<'a> {
    /// A worker takes it.
    Lease,
    /// Another worker takes it too, because it is slow.
    Copy,
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
    /// The worker gives it back, or does not name it in its heartbeats a TTL after it was granted: the answer was lost.
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
    /// Returns a shard of so many rows as it is planned.
    pub const fn planned(rows: u64) -> Self {
        Self {
            state: ShardState::Pending { not_before: 0 },
            epoch: Epoch(0),
            failures: 0,
            workers_lost: 0,
            last_error: None,
            input: None,
            rows,
            is_half: false,
            is_poison: false,
        }
    }

    /// Returns a half of a shard that was split.
    pub fn half(rows: u64) -> Self {
        Self { is_half: true, ..Self::planned(rows) }
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
                next.epoch = Epoch(self.epoch.0 + 1);
                next.state = ShardState::Running { live: vec![next.epoch] };
            }
            ShardEvent::Copy => {
                let ShardState::Running { live } = &self.state else { return Err(Illegal) };
                let [first] = live[..] else { return Err(Illegal) };
                next.epoch = Epoch(self.epoch.0 + 1);
                next.state = ShardState::Running { live: vec![first, next.epoch] };
            }
            ShardEvent::Commit { epoch, output } => {
                self.others(*epoch)?;
                if self.reads_other_input(output) {
                    return Err(Illegal);
                }
                next.input = Some(output.input_blake3.clone());
                next.state = ShardState::Committed { winner: *epoch, output: Box::new((*output).clone()) };
            }
            ShardEvent::Fail { epoch, class, message, unit } => {
                let others = self.others(*epoch)?;
                next.fail(others, *class, *unit, now, policy);
                next.last_error = Some((*message).to_owned());
            }
            ShardEvent::Release { epoch } | ShardEvent::Revoke { epoch } => {
                next.rest(self.others(*epoch)?, ShardState::Pending { not_before: now });
            }
            ShardEvent::Expire { epoch, message } => {
                let others = self.others(*epoch)?;
                next.lose(others, now, policy);
                next.last_error = Some((*message).to_owned());
            }
            ShardEvent::Cancel => match self.state {
                ShardState::Pending { .. } | ShardState::Running { .. } => next.state = ShardState::Cancelled,
                // The second attempt of a shard that the first has taken with it.
                ShardState::Cancelled => {}
                ShardState::Committed { .. } | ShardState::Dead | ShardState::Split => return Err(Illegal),
            },
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

    /// Whether it may be what workers die of: then it is leased alone, so that no other shard is lost with it and the
    /// next loss is its own.
    pub const fn must_be_isolated(&self) -> bool {
        self.workers_lost > 0 || self.is_half || self.is_poison
    }

    /// Whether an output was made of another input than an earlier one (I7).
    pub fn reads_other_input(&self, output: &Output) -> bool {
        self.input.as_ref().is_some_and(|input| *input != output.input_blake3)
    }

    /// Returns the live attempts beside this one, which must be live.
    fn others(&self, epoch: Epoch) -> Result<Vec<Epoch>, Illegal> {
        let ShardState::Running { live } = &self.state else { return Err(Illegal) };
        if !live.contains(&epoch) {
            return Err(Illegal);
        }
        Ok(live.iter().copied().filter(|other| *other != epoch).collect())
    }

    /// After the end of an attempt: goes on where another one lives, and to `state` otherwise.
    fn rest(&mut self, others: Vec<Epoch>, state: ShardState) {
        self.state = if others.is_empty() { state } else { ShardState::Running { live: others } };
    }

    fn fail(&mut self, others: Vec<Epoch>, class: FailureClass, unit: f64, now: Millis, policy: &Policy) {
        let state = match Policy::verdict(class) {
            Verdict::Counted => {
                let not_before = now + policy.backoff_ms(self.failures, unit);
                self.failures += 1;
                let dead = self.failures >= policy.failures_max;
                if dead { ShardState::Dead } else { ShardState::Pending { not_before } }
            }
            Verdict::WorkerLost => return self.lose(others, now, policy),
            Verdict::Throttled => ShardState::Pending { not_before: now + policy.throttle_pause_ms(unit) },
            Verdict::JobFatal | Verdict::JobPaused | Verdict::Free => ShardState::Pending { not_before: now },
        };
        self.rest(others, state);
    }

    /// Counts a lost worker. The last one within the budget splits the shard, takes its only row for poison, or, where even
    /// that row is not embedded any more, kills it.
    fn lose(&mut self, others: Vec<Epoch>, now: Millis, policy: &Policy) {
        self.workers_lost += 1;
        let spent = others.is_empty() && self.workers_lost >= policy.workers_lost_max(self.is_half, self.rows);
        let state = match (spent, self.rows, self.is_poison) {
            (false, ..) => ShardState::Pending { not_before: now },
            (true, 2.., _) => ShardState::Split,
            (true, 1, false) => {
                (self.is_poison, self.workers_lost) = (true, 0);
                ShardState::Pending { not_before: now }
            }
            (true, ..) => ShardState::Dead,
        };
        self.rest(others, state);
    }
}

/// Returns the rows of the two halves of a run of at least two rows.
pub const fn halves(whole: RowWindow) -> [RowWindow; 2] {
    let RowWindow { first_row, rows } = whole;
    let first = rows / 2;
    [RowWindow { first_row, rows: first }, RowWindow { first_row: first_row + first, rows: rows - first }]
}

/// The state of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptState {
    /// Its lease is valid. Every transition out of this state is guarded by it: this row is where events are serialised.
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
    /// Another attempt at the shard was faster.
    LostRace,
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
            AttemptState::LostRace => "lost_race",
            AttemptState::Garbage => "garbage",
        }
    }

    /// Returns the state after `next`: a live attempt ends once, a winner loses only to a repair, and only a loser becomes
    /// garbage.
    pub const fn step(self, next: AttemptState) -> Result<AttemptState, Illegal> {
        use AttemptState::{Committed, Expired, Failed, Garbage, Live, LostRace, Released, Revoked};
        match (self, next) {
            (Live, Committed | Failed | Released | Expired | Revoked | LostRace)
            | (Committed, Revoked)
            | (Failed | Released | Expired | Revoked | LostRace, Garbage) => Ok(next),
            (Live | Committed | Failed | Released | Expired | Revoked | LostRace | Garbage, _) => Err(Illegal),
        }
    }
}
