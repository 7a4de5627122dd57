//! An eye on a database in memory: after every transition it compares all shards and attempts with what it saw before.
//! It knows the invariants of the protocol and nothing of how the transitions are made.

use std::collections::BTreeMap;
use std::ops::Range;

use proto::job::JobState;
use proto::work::FailureClass;
use proto::{Epoch, JobId, SessionId, ShardId};

use super::job::{Attempt, ModelJob, at};
use super::model::Model;
use crate::policy::Policy;
use crate::shard::{AttemptState, ShardState, failure_name, output_key};

/// Violations that are kept; the first is the one that counts.
const VIOLATIONS_MAX: usize = 20;

/// The state of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardView {
    /// Its state, as stored.
    pub state: &'static str,
    /// The numbers of its rows, over the whole corpus.
    pub rows: Range<u64>,
    /// The epoch of the latest lease.
    pub epoch: Epoch,
    /// Key of the winner's file.
    pub winner: Option<String>,
    /// Every attempt, in the order of epochs.
    pub attempts: Vec<AttemptView>,
}

/// The state of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    /// Its id.
    pub id: SessionId,
    /// Its worker's name.
    pub name: String,
    /// Whether it lives.
    pub live: bool,
}

/// The state of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptView {
    /// Its epoch.
    pub epoch: Epoch,
    /// Its state, as stored.
    pub state: &'static str,
    /// Where its file goes.
    pub key: String,
    /// Whether its file is known to be deleted.
    pub deleted: bool,
    /// Who holds or held the lease.
    pub session: SessionId,
    /// When it was granted, by the database's clock.
    pub granted_ms: i64,
    /// Why it ended, in words, unless it won.
    pub reason: Option<String>,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Auditor {
    shards: BTreeMap<(JobId, u64), Seen>,
    /// Jobs that had ended, with the number of committed shards they had then.
    ended: BTreeMap<JobId, (JobState, u64)>,
    violations: Vec<String>,
}

#[derive(Debug, Default, Clone)]
struct Seen {
    epoch: u32,
    attempts: usize,
    paused: bool,
    winner: Option<(Epoch, String, String)>,
    /// Failures and lost workers at the last retry or repair.
    spent: (u32, u32),
}

impl Auditor {
    pub(super) fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Looks at everything after a transition.
    pub(super) fn look(&mut self, step: &'static str, model: &Model) {
        if step == "repair" {
            // The one step that may take a winner back, and a job that has ended up again.
            self.ended.clear();
            self.shards.values_mut().for_each(|seen| seen.winner = None);
        }
        if step == "retry" {
            // A job that succeeded without its dead shards may run again.
            self.ended.retain(|id, _| !model.jobs[id].job.allow_partial);
        }
        for (id, job) in &model.jobs {
            self.look_at_job(step, *id, job);
            if job.copies > model.policy.copies_max(job.shards.len() as u64) {
                self.violated(step, format!("I15: job {id} had {} copies", job.copies));
            }
            for (index, _) in job.shards.iter().enumerate() {
                self.look_at_shard(step, *id, job, index);
                self.look_at_budget(step, (*id, index as u64), job, &model.policy);
            }
        }
    }

    fn violated(&mut self, step: &'static str, what: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(format!("{what} (after {step})"));
        }
    }

    fn look_at_job(&mut self, step: &'static str, id: JobId, job: &ModelJob) {
        let (state, committed) = (job.job.state, job.counts().committed);
        let closed = state.is_terminal() || state == JobState::Cancelling;
        if let Some((before, then)) = self.ended.get(&id).copied() {
            if closed && committed != then {
                self.violated(step, format!("I4: job {id} is {before:?} and went from {then} to {committed} commits"));
            }
            let stays = matches!(before, JobState::Succeeded | JobState::Cancelled);
            if stays && state != before {
                self.violated(step, format!("I4: job {id} was {before:?} and is {state:?}"));
            }
        }
        match closed {
            true => self.ended.insert(id, (state, committed)),
            false => self.ended.remove(&id),
        };
        let counts = job.counts();
        if state == JobState::Cancelled && counts.pending + counts.running > 0 {
            self.violated(step, format!("I4: job {id} is cancelled with {} shards running", counts.running));
        }
        let tripped = if step == "trip" { job.job.pause_reason.as_deref() } else { None };
        if tripped.is_some_and(|reason| reason.contains(failure_name(FailureClass::WorkerLost)))
            && job.halves.is_empty()
        {
            self.violated(step, format!("job {id} is paused for workers that were lost, and no row is isolated"));
        }
        let failed = if step == "fail_finalize" { job.job.reason.as_deref() } else { None };
        if let Some(reason) = failed.filter(|reason| reason.contains("another manifest")) {
            self.violated(step, format!("I5: job {id} failed of its own manifest: {reason}"));
        }
        let holes = if job.job.allow_partial && committed > 0 { counts.dead } else { 0 };
        if matches!(state, JobState::Finalizing | JobState::Succeeded)
            && committed + holes + counts.split != job.shards.len() as u64
        {
            self.violated(step, format!("I5: job {id} is {state:?} with {committed} of {} shards", job.shards.len()));
        }
    }

    fn look_at_shard(&mut self, step: &'static str, id: JobId, job: &ModelJob, at: usize) {
        let (index, shard) = (at as u64, &job.shards[at].1);
        let attempts = || job.attempts.range((index, Epoch(0))..=(index, Epoch(u32::MAX)));
        let counted = |state| attempts().filter(|(_, attempt)| attempt.state == state).count();
        let (count, live, committed) =
            (attempts().count(), counted(AttemptState::Live), counted(AttemptState::Committed));
        let winner = match &shard.state {
            ShardState::Committed { winner, output } => Some((*winner, output.key.clone(), output.blake3.clone())),
            ShardState::Pending { .. }
            | ShardState::Running { .. }
            | ShardState::Dead
            | ShardState::Cancelled
            | ShardState::Split => None,
        };
        let before = self.shards.get(&(id, index)).cloned().unwrap_or_default();
        let name = format!("shard {index} of job {id}");
        if committed != usize::from(winner.is_some()) {
            self.violated(step, format!("I2: {name} is {:?} and has {committed} committed attempts", shard.state));
        }
        if let Some((epoch, key, _)) = &winner {
            let attempt = job.attempts.get(&(index, *epoch));
            let granted = attempt.map(|one| output_key(ShardId { job: id, index }, *epoch, one.id));
            if attempt.is_none_or(|one| one.state != AttemptState::Committed) || granted.as_ref() != Some(key) {
                self.violated(
                    step,
                    format!("I2: {name} was won by epoch {epoch} with {key}, which is not its attempt"),
                );
            }
        }
        if before.winner.is_some() && winner != before.winner {
            self.violated(step, format!("I2: {name} had a winner and has another: {winner:?}"));
        }
        if count > before.attempts && job.job.paused && before.paused {
            self.violated(step, format!("{name} was leased though its job is paused"));
        }
        if shard.epoch.0 < before.epoch || count < before.attempts || count != shard.epoch.0 as usize {
            let (was, is) = (before.epoch, shard.epoch);
            self.violated(step, format!("I3: {name} went from epoch {was} to {is} with {count} attempts"));
        }
        let expected = if let ShardState::Running { live } = &shard.state { live.len() } else { 0 };
        if live != expected || live > 2 {
            self.violated(step, format!("I10: {name} is {:?} and has {live} live attempts", shard.state));
        }
        let (epoch, paused, spent) = (shard.epoch.0, job.job.paused, before.spent);
        self.shards.insert((id, index), Seen { epoch, attempts: count, paused, winner, spent });
    }

    /// I15: a shard has no more attempts that failed or lost their worker than its budget allows.
    fn look_at_budget(&mut self, step: &'static str, key: (JobId, u64), job: &ModelJob, policy: &Policy) {
        let (id, index) = key;
        let shard = &job.shards[at(index)].1;
        let attempts = job.attempts.range((index, Epoch(0))..=(index, Epoch(u32::MAX)));
        let (mut failures, mut losses) = (0, 0);
        // The end of one of two attempts only counts, so that a copy may exceed the budget by one.
        let copies = attempts.clone().filter(|(_, attempt)| attempt.is_copy).count() as u32;
        for (class, _) in attempts.filter_map(|(_, attempt)| attempt.wrong) {
            failures += u32::from(class == failure_name(FailureClass::Transient));
            failures += u32::from(class == failure_name(FailureClass::Resource));
            losses += u32::from(class == failure_name(FailureClass::WorkerLost));
        }
        let Some(seen) = self.shards.get_mut(&key) else { return };
        if step == "retry" || step == "repair" {
            seen.spent = (failures, losses);
        }
        let (failures, losses) = (failures - seen.spent.0, losses - seen.spent.1);
        let rounds = if shard.is_poison { 2 } else { 1 };
        let losses_max = policy.workers_lost_max(shard.is_half, shard.rows) * rounds + copies;
        if failures > policy.failures_max + copies || losses > losses_max {
            let name = format!("shard {index} of job {id}");
            self.violated(step, format!("I15: {name} failed {failures} times and lost {losses} workers"));
        }
    }
}

fn attempt_view(shard: ShardId, epoch: Epoch, attempt: &Attempt) -> AttemptView {
    AttemptView {
        epoch,
        state: attempt.state.name(),
        key: output_key(shard, epoch, attempt.id),
        deleted: attempt.deleted.is_some(),
        session: attempt.session,
        granted_ms: attempt.granted,
        reason: attempt.reason.clone(),
    }
}

/// Returns the live attempts of a job, by index of their shards.
pub(super) fn leases(id: JobId, job: &ModelJob) -> Vec<(u64, AttemptView)> {
    let live = job.attempts.iter().filter(|(_, attempt)| attempt.state == AttemptState::Live);
    live.map(|((index, epoch), attempt)| (*index, attempt_view(ShardId { job: id, index: *index }, *epoch, attempt)))
        .collect()
}

/// Returns the shards of a job in order.
pub(super) fn view(id: JobId, job: &ModelJob) -> Vec<ShardView> {
    let mut shards = Vec::with_capacity(job.shards.len());
    for (index, (slice, shard)) in (0..).zip(&job.shards) {
        let (state, winner) = match &shard.state {
            ShardState::Pending { .. } => ("pending", None),
            ShardState::Running { .. } => ("running", None),
            ShardState::Committed { output, .. } => ("committed", Some(output.key.clone())),
            ShardState::Dead => ("dead", None),
            ShardState::Cancelled => ("cancelled", None),
            ShardState::Split => ("split", None),
        };
        let mut attempts = Vec::new();
        for ((_, epoch), attempt) in job.attempts.range((index, Epoch(0))..=(index, Epoch(u32::MAX))) {
            attempts.push(attempt_view(ShardId { job: id, index }, *epoch, attempt));
        }
        let rows = slice.first_row..slice.first_row + slice.rows;
        shards.push(ShardView { state, rows, epoch: shard.epoch, winner, attempts });
    }
    shards
}
