//! One job of the model: its shards and its attempts.

use std::collections::BTreeMap;

use dataset::{Cursor, RejectReason, Slice};
use proto::job::{JobState, ShardCounts};
use proto::work::{FailureClass, Output, RowWindow};
use proto::{Epoch, RequestId, SessionId};
use uuid::Uuid;

use super::planted::{self, Bug};
use crate::policy::Policy;
use crate::shard::{AttemptState, Job, JobEvent, Millis, Shard, ShardEvent, ShardState, failure_name, halves};
use crate::store::backend::{NewJob, REASON_LOST_RACE};

pub(in crate::store) struct ModelJob {
    pub(in crate::store) submission: NewJob,
    pub(in crate::store) job: Job,
    pub(in crate::store) submitted: Millis,
    /// URIs and planned sources, as JSON.
    pub(in crate::store) sources: Option<Vec<(String, String)>>,
    pub(in crate::store) cursor: Cursor,
    pub(in crate::store) shards: Vec<(Slice, Shard)>,
    pub(in crate::store) attempts: BTreeMap<(u64, Epoch), Attempt>,
    pub(in crate::store) busy_ms: i64,
    /// Of halves: the rows of their slices, which are read as a whole, and the shard that was split.
    pub(in crate::store) halves: BTreeMap<u64, (RowWindow, u64)>,
    /// Second attempts that were begun beside slow ones.
    pub(in crate::store) copies: u64,
    /// Attempts that were committed, failed or lost.
    pub(in crate::store) ended: u64,
    /// How many these were when the job was last resumed.
    pub(in crate::store) judged_from: u64,
}

#[derive(Clone)]
pub(in crate::store) struct Attempt {
    pub(in crate::store) id: Uuid,
    pub(in crate::store) session: SessionId,
    pub(in crate::store) request: RequestId,
    pub(in crate::store) state: AttemptState,
    pub(in crate::store) granted: Millis,
    pub(in crate::store) ended: Option<Millis>,
    pub(in crate::store) reason: Option<String>,
    pub(in crate::store) rows_done: u64,
    pub(in crate::store) tokens_done: u64,
    pub(in crate::store) deleted: Option<Millis>,
    pub(in crate::store) is_copy: bool,
    /// Of a failure or loss: its class, and how many attempts of the job had ended before.
    pub(in crate::store) wrong: Option<(&'static str, u64)>,
}

impl Attempt {
    pub(super) fn granted(id: Uuid, session: SessionId, request: RequestId, now: Millis) -> Self {
        Self {
            id,
            session,
            request,
            state: AttemptState::Live,
            granted: now,
            ended: None,
            reason: None,
            rows_done: 0,
            tokens_done: 0,
            deleted: None,
            is_copy: false,
            wrong: None,
        }
    }
}

impl ModelJob {
    pub(in crate::store) fn take_reuse(&mut self, spec: &str, task: &str, revision: u32) -> bool {
        let takes = matches!(self.job.state, JobState::Planning | JobState::Running | JobState::Failed);
        if takes {
            (self.submission.spec, self.submission.task) = (spec.to_owned(), task.to_owned());
            self.submission.revision = self.submission.revision.max(revision);
        }
        takes
    }

    pub(in crate::store) fn counts(&self) -> ShardCounts {
        let mut counts = ShardCounts::default();
        for (_, shard) in &self.shards {
            match shard.state {
                ShardState::Pending { .. } => counts.pending += 1,
                ShardState::Running { .. } => counts.running += 1,
                ShardState::Committed { .. } => counts.committed += 1,
                ShardState::Dead => counts.dead += 1,
                ShardState::Cancelled => counts.cancelled += 1,
                ShardState::Split => counts.split += 1,
            }
        }
        counts
    }

    pub(in crate::store) fn outputs(&self) -> impl Iterator<Item = &Output> {
        self.shards.iter().filter_map(|(_, shard)| match &shard.state {
            ShardState::Committed { output, .. } => Some(&**output),
            ShardState::Pending { .. }
            | ShardState::Running { .. }
            | ShardState::Dead
            | ShardState::Cancelled
            | ShardState::Split => None,
        })
    }

    pub(in crate::store) fn rejects(&self) -> BTreeMap<RejectReason, u64> {
        let mut rejects = BTreeMap::new();
        for (reason, rows) in self.outputs().flat_map(|output| &output.counts.rejects) {
            *rejects.entry(*reason).or_insert(0) += rows;
        }
        rejects
    }

    pub(super) fn change(&mut self, event: &JobEvent<'_>) -> bool {
        match self.job.step(event) {
            Ok(next) => {
                self.job = next;
                true
            }
            Err(_) => false,
        }
    }

    /// Ends a live attempt and moves its shard along with it.
    pub(super) fn end(
        &mut self,
        key: (u64, Epoch),
        how: AttemptState,
        reason: Option<&str>,
        event: &ShardEvent<'_>,
        world: (Millis, &Policy),
    ) {
        let (now, policy) = world;
        let attempt = self.attempts.get_mut(&key).expect("the attempt was looked up");
        attempt.state = attempt.state.step(how).expect("the attempt is live");
        attempt.ended = Some(now);
        attempt.reason = reason.map(str::to_owned);
        let class = match event {
            ShardEvent::Fail { class, .. } if how == AttemptState::Failed => Some(failure_name(*class)),
            ShardEvent::Expire { .. } => Some(failure_name(FailureClass::WorkerLost)),
            ShardEvent::Fail { .. }
            | ShardEvent::Lease
            | ShardEvent::Copy
            | ShardEvent::Commit { .. }
            | ShardEvent::Release { .. }
            | ShardEvent::Revoke { .. }
            | ShardEvent::Cancel
            | ShardEvent::Retry
            | ShardEvent::Repair { .. } => None,
        };
        attempt.wrong = class.map(|class| (class, self.ended));
        self.ended += u64::from(class.is_some() || how == AttemptState::Committed);
        if (planted::is(Bug::ReleaseKeepsShardRunning) && how == AttemptState::Released)
            || (planted::is(Bug::RevokeKeepsShardRunning) && how == AttemptState::Revoked)
        {
            return;
        }
        let shard = &mut self.shards[at(key.0)].1;
        let failures_before = shard.failures;
        *shard = shard.step(event, now, policy).expect("the shard of a live attempt runs");
        if planted::is(Bug::FailureNotCounted) {
            shard.failures = failures_before;
        }
        if shard.state == ShardState::Split {
            self.split(key.0);
        }
    }

    /// Makes the halves of a shard that has just been split.
    pub(super) fn split(&mut self, index: u64) {
        let slice = self.slice(index).clone();
        let whole = RowWindow { first_row: slice.first_row, rows: slice.rows };
        let read = self.halves.get(&index).map_or(whole, |(read, _)| *read);
        let input = self.shards[at(index)].1.input.clone();
        for RowWindow { first_row, rows } in halves(whole) {
            self.halves.insert(self.shards.len() as u64, (read, index));
            self.shards.push((
                Slice { first_row, rows, ..slice.clone() },
                Shard { input: input.clone(), ..Shard::half(rows) },
            ));
        }
    }

    /// Ends the other attempts at a shard that was committed.
    pub(super) fn lose_race(&mut self, index: u64, now: Millis) {
        for (_, attempt) in self.attempts.range_mut((index, Epoch(0))..=(index, Epoch(u32::MAX))) {
            if let (AttemptState::Live, Ok(next)) = (attempt.state, attempt.state.step(AttemptState::LostRace)) {
                attempt.state = next;
                (attempt.ended, attempt.reason) = (Some(now), Some(REASON_LOST_RACE.to_owned()));
            }
        }
    }

    /// Returns an attempt that is live and the session's own.
    pub(super) fn live(&self, key: (u64, Epoch), session: SessionId) -> Option<&Attempt> {
        self.attempts.get(&key).filter(|one| one.state == AttemptState::Live && one.session == session)
    }

    pub(super) fn is_live(&self, key: (u64, Epoch), session: SessionId) -> bool {
        self.live(key, session).is_some()
    }

    /// Rows planned: those of all shards but the split ones, whose halves have them.
    pub(in crate::store) fn rows(&self) -> u64 {
        self.shards.iter().filter(|(_, shard)| shard.state != ShardState::Split).map(|(slice, _)| slice.rows).sum()
    }

    /// Whether the other half of the shard that this one is a half of has lost a worker as well.
    pub(super) fn both_halves_lost(&self, index: u64) -> bool {
        let Some((_, whole)) = self.halves.get(&index) else { return false };
        let others = self.halves.iter().filter(|(other, (_, part_of))| **other != index && part_of == whole);
        others.map(|(other, _)| &self.shards[at(*other)].1).any(|other| other.workers_lost > 0 || other.is_poison)
    }

    /// Returns the slice of a shard that there is.
    pub(in crate::store) fn slice(&self, index: u64) -> &Slice {
        &self.shards[at(index)].0
    }
}

/// A shard's place in memory.
pub(super) fn at(index: u64) -> usize {
    usize::try_from(index).expect("shards that are in memory can be counted")
}
