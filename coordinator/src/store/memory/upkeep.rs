//! The model's rarer transitions: copies of slow shards, the breaker, quarantine, the lead; retries and repairs,
//! cancelled jobs, garbage; jobs that come to their end.

use std::collections::{BTreeMap, BTreeSet};

use dataset::ManifestHole;
use proto::job::JobState;
use proto::{Epoch, JobId, SessionId, ShardId};
use uuid::Uuid;

use super::job::{Attempt, ModelJob, at};
use super::model::{Model, ModelGrant};
use super::planted::{self, Bug};
use crate::shard::Millis;
use crate::shard::{AttemptState, JobEvent, ShardEvent, ShardState};
use crate::store::backend::{LeaseRequest, REASON_REPAIRED};
use crate::store::types::{Exhausted, Tripped};

/// The classes that the breaker and quarantine look at.
const WORKERS_FAULT: [&str; 2] = ["transient", "resource"];
const WORKER_LOST: &str = "worker_lost";

impl Model {
    /// Returns the grant of a copy, if there is a shard to copy and the session is idle.
    pub(in crate::store) fn copy_slow(&mut self, lease_request: LeaseRequest) -> Option<ModelGrant> {
        let LeaseRequest { session, request, revision, .. } = lease_request;
        let me = self.sessions.get(&session).filter(|me| me.live && !me.quarantined && me.expires > self.now)?;
        if me.last_request == Some(request) || !self.live(|attempt| attempt.session == session).is_empty() {
            return None;
        }
        let is_ripe = |job: &ModelJob| job.submission.revision <= revision && self.is_ripe(job);
        let ripe: Vec<JobId> = self.jobs.iter().filter(|(_, job)| is_ripe(job)).map(|(id, _)| *id).collect();
        let mut slow = Vec::new();
        for id in ripe {
            let job = &self.jobs[&id];
            let slow_ms = self.policy.copy_ms(job.counts().committed, job.busy_ms);
            for ((index, _), attempt) in job.attempts.iter().filter(|(_, one)| one.state == AttemptState::Live) {
                let alone = matches!(&job.shards[at(*index)].1.state,
                    ShardState::Running { live } if live.len() == 1);
                if alone && attempt.session != session && attempt.granted + slow_ms <= self.now {
                    slow.push((attempt.granted, job.submitted, id, *index));
                }
            }
        }
        let (_, _, id, index) = slow.into_iter().min()?;
        let job = self.jobs.get_mut(&id).expect("the job was listed");
        let shard = &mut job.shards[at(index)].1;
        *shard = shard.step(&ShardEvent::Copy, self.now, &self.policy).expect("the shard has one live attempt");
        let epoch = shard.epoch;
        let attempt = Attempt { is_copy: true, ..Attempt::granted((self.name)(), session, request, self.now) };
        assert!(job.attempts.insert((index, epoch), attempt).is_none(), "I3: an epoch is given out once");
        job.copies += 1;
        let me = self.sessions.get_mut(&session).expect("the session was looked up");
        (me.last_request, me.progress) = (Some(request), self.now);
        me.revision = me.revision.max(revision);
        Some((ShardId { job: id, index }, epoch))
    }

    /// Whether little is left of a job, and it may have another copy.
    fn is_ripe(&self, job: &ModelJob) -> bool {
        let counts = job.counts();
        let shards = counts.pending + counts.running + counts.committed + counts.dead + counts.cancelled;
        job.job.state == JobState::Running
            && !job.job.paused
            && job.copies < self.policy.copies_max(job.shards.len() as u64)
            && counts.pending == 0
            && counts.committed > 0
            && shards - counts.running >= shards * u64::from(self.policy.copy_done_percent) / 100
    }

    pub(in crate::store) fn tripped(&self, attempts: u32, most: u32) -> Vec<Tripped> {
        let window = u64::from(attempts);
        let mut found = Vec::new();
        for (id, job) in self.jobs.iter().filter(|(_, job)| job.job.is_active() && !job.job.paused) {
            if job.ended - job.judged_from < window {
                continue;
            }
            let mut classes: BTreeMap<&str, u64> = BTreeMap::new();
            for (&(index, _), attempt) in &job.attempts {
                let Some((class, before)) = attempt.wrong else { continue };
                let guilty = job.both_halves_lost(index) || planted::is(Bug::BreakerCountsLostWorkers);
                let counts = WORKERS_FAULT.contains(&class) || (class == WORKER_LOST && guilty);
                if counts && before >= job.ended - window && before >= job.judged_from {
                    *classes.entry(class).or_default() += 1;
                }
            }
            let too_many = classes.into_iter().filter(|(_, count)| *count > u64::from(most));
            found.extend(too_many.map(|(class, attempts)| Tripped { job: *id, class: class.to_owned(), attempts }));
        }
        found
    }

    pub(in crate::store) fn quarantine(&mut self, shards: u32) -> Vec<SessionId> {
        let mut failed: BTreeMap<SessionId, BTreeSet<(JobId, u64)>> = BTreeMap::new();
        for (id, job) in &self.jobs {
            for ((index, _), attempt) in &job.attempts {
                let ShardState::Committed { winner, .. } = &job.shards[at(*index)].1.state else {
                    continue;
                };
                let others = job.attempts[&(*index, *winner)].session != attempt.session;
                if others && attempt.wrong.is_some_and(|(class, _)| WORKERS_FAULT.contains(&class)) {
                    failed.entry(attempt.session).or_default().insert((*id, *index));
                }
            }
        }
        let mut found = Vec::new();
        for (id, failed) in failed {
            let session = self.sessions.get_mut(&id).filter(|one| one.live && !one.quarantined);
            if let Some(session) = session.filter(|_| failed.len() as u64 >= u64::from(shards)) {
                session.quarantined = true;
                found.push(id);
            }
        }
        found
    }

    pub(in crate::store) fn lead(&mut self, role: &'static str, holder: Uuid, revision: u32, for_ms: i64) -> bool {
        let free = self
            .leaders
            .get(role)
            .is_none_or(|(found, until, older)| *found == holder || *until <= self.now || *older < revision);
        if free {
            self.leaders.insert(role, (holder, self.now + for_ms, revision));
        }
        free
    }

    pub(in crate::store) fn lapsed_ms(&self, role: &'static str) -> i64 {
        self.leaders.get(role).map_or(0, |(_, until, _)| self.now - until)
    }

    pub(in crate::store) fn resign(&mut self, role: &'static str, holder: Uuid) {
        if self.leaders.get(role).is_some_and(|(found, ..)| *found == holder) {
            self.leaders.remove(role);
        }
    }

    pub(in crate::store) fn retry(&mut self, job: JobId) -> bool {
        let (now, policy) = (self.now, &self.policy);
        let Some(job) = self.jobs.get_mut(&job) else { return false };
        let (counts, was) = (job.counts(), job.job.clone());
        if planted::is(Bug::RetryForgetsJob) {
            if job.job.step(&JobEvent::Retry(&counts)).is_err() {
                return false;
            }
        } else if !job.change(&JobEvent::Retry(&counts)) {
            return false;
        }
        if planted::is(Bug::RetryKeepsGeneration) && was.state == JobState::Succeeded {
            job.job.generation = was.generation;
        }
        for (_, shard) in &mut job.shards {
            if let Ok(next) = shard.step(&ShardEvent::Retry, now, policy) {
                *shard = next;
                if planted::is(Bug::RetryResetsEpoch) {
                    shard.epoch = Epoch(0);
                }
            }
        }
        true
    }

    /// Returns how many shards are done again.
    pub(in crate::store) fn repair(&mut self, job: JobId, shards: &[u64]) -> u64 {
        let (now, policy) = (self.now, self.policy.clone());
        let Some(job) = self.jobs.get_mut(&job) else { return 0 };
        let Ok(revived) = job.job.step(&JobEvent::Repair) else { return 0 };
        let mut repaired = 0;
        for index in shards {
            let shard = usize::try_from(*index).ok().and_then(|at| job.shards.get_mut(at));
            let Some((_, shard)) = shard else { continue };
            let ShardState::Committed { winner, .. } = shard.state else { continue };
            let event = ShardEvent::Repair { message: REASON_REPAIRED };
            *shard = shard.step(&event, now, &policy).expect("a committed shard can be repaired");
            let attempt = job.attempts.get_mut(&(*index, winner)).expect("a winner is an attempt");
            if planted::is(Bug::RepairKeepsWinner) {
                repaired += 1;
                continue;
            }
            attempt.state = attempt.state.step(AttemptState::Revoked).expect("the winner is committed");
            (attempt.ended, attempt.reason) = (Some(now), Some(REASON_REPAIRED.to_owned()));
            repaired += 1;
        }
        if repaired > 0 {
            let before = job.job.generation;
            job.job = revived;
            if planted::is(Bug::RepairKeepsGeneration) {
                job.job.generation = before;
            }
        }
        repaired
    }

    pub(in crate::store) fn cancel_pending(&mut self, limit: u32) -> u64 {
        let (now, policy) = (self.now, &self.policy);
        let mut cancelled = 0;
        for job in self.jobs.values_mut().filter(|job| job.job.state == JobState::Cancelling) {
            for (_, shard) in &mut job.shards {
                let is_pending = matches!(shard.state, ShardState::Pending { .. });
                if is_pending && cancelled < u64::from(limit) {
                    *shard = shard.step(&ShardEvent::Cancel, now, policy).expect("a pending shard can be cancelled");
                    cancelled += 1;
                }
            }
        }
        cancelled
    }

    pub(in crate::store) fn settle(&mut self) -> u64 {
        let mut settled = 0;
        for job in self.jobs.values_mut() {
            let mut counts = job.counts();
            if planted::is(Bug::SettleTooEarly) {
                (counts.pending, counts.running) = (0, 0);
            }
            settled += u64::from(job.change(&JobEvent::Settle(&counts)));
        }
        settled
    }

    pub(in crate::store) fn mark_garbage(&mut self, limit: u32) -> u64 {
        let grace_ms = if planted::is(Bug::GarbageWithoutGrace) { 0 } else { self.policy.garbage_grace_ms };
        let latest = self.now - grace_ms;
        let is_due = |one: &Attempt| {
            if planted::is(Bug::GarbageIncludesWinner) && one.state == AttemptState::Committed {
                return one.ended.is_some_and(|ended| ended <= latest);
            }
            one.ended.is_some_and(|ended| ended <= latest) && one.state.step(AttemptState::Garbage).is_ok()
        };
        let due = self.by_end(limit, is_due);
        for (_, job, key) in &due {
            let attempts = &mut self.jobs.get_mut(job).expect("the job was listed").attempts;
            attempts.get_mut(key).expect("the attempt was listed").state = AttemptState::Garbage;
        }
        due.len() as u64
    }

    /// Returns shards, epochs and names of garbage that is not known to be deleted.
    pub(in crate::store) fn garbage(&self, limit: u32) -> Vec<(ModelGrant, Uuid)> {
        let due = self.by_end(limit, |one| one.state == AttemptState::Garbage && one.deleted.is_none());
        due.into_iter()
            .map(|(_, job, key)| ((ShardId { job, index: key.0 }, key.1), self.jobs[&job].attempts[&key].id))
            .collect()
    }

    fn by_end(&self, limit: u32, is_due: impl Fn(&Attempt) -> bool) -> Vec<(Option<Millis>, JobId, (u64, Epoch))> {
        let mut due = Vec::new();
        for (id, job) in &self.jobs {
            due.extend(job.attempts.iter().filter(|(_, one)| is_due(one)).map(|(key, one)| (one.ended, *id, *key)));
        }
        due.sort();
        due.truncate(limit as usize);
        due
    }

    pub(in crate::store) fn garbage_deleted(&mut self, (shard, epoch): ModelGrant) {
        let Some(job) = self.jobs.get_mut(&shard.job) else { return };
        let attempt = job.attempts.get_mut(&(shard.index, epoch));
        if let Some(attempt) = attempt.filter(|one| one.state == AttemptState::Garbage && one.deleted.is_none()) {
            attempt.deleted = Some(self.now);
        }
    }

    pub(in crate::store) fn expire(&mut self) -> u64 {
        let alive = self.sessions.values().filter(|session| session.live).count();
        let mut due: Vec<(Millis, SessionId)> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.live && session.expires <= self.now)
            .map(|(id, session)| (session.expires, *id))
            .collect();
        due.sort();
        due.truncate(usize::try_from(self.policy.expire_limit(alive as u64)).unwrap_or(usize::MAX));
        for (_, id) in &due {
            let session = self.sessions.get_mut(id).expect("the session was listed");
            session.live = false;
            session.ended = Some((self.now, "missed its heartbeats"));
        }
        due.len() as u64
    }

    pub(in crate::store) fn reap(&mut self) -> u64 {
        let mut lost = if planted::is(Bug::ExpireIgnoresState) { self.reap_blindly() } else { 0 };
        for (id, key) in self.live(|_| true) {
            let job = &self.jobs[&id];
            let session = &self.sessions[&job.attempts[&key].session];
            let stall_ms = self.policy.stall_ms(job.outputs().count() as u64, job.busy_ms);
            let reason = match (session.live, session.progress + stall_ms <= self.now) {
                (false, _) if planted::is(Bug::ExpiredSessionKeepsShards) => continue,
                (false, _) => crate::store::backend::REASON_SESSION_LOST,
                (true, true) => crate::store::backend::REASON_STALLED,
                (true, false) => continue,
            };
            lost += 1;
            let event = ShardEvent::Expire { epoch: key.1, message: reason };
            self.end((id, key), AttemptState::Expired, reason, &event);
        }
        lost
    }

    pub(in crate::store) fn exhausted(&self, revision: u32) -> Vec<Exhausted> {
        let mut found = Vec::new();
        for id in self.in_order() {
            let job = &self.jobs[&id];
            let counts = job.counts_at_end();
            if job.submission.revision > revision || job.job.step(&JobEvent::Exhaust(&counts, "")).is_err() {
                continue;
            }
            let first = (0_u64..).zip(&job.shards).find(|(_, (_, shard))| shard.state == ShardState::Dead);
            let (first_index, (_, shard)) = first.expect("an exhausted job has a dead shard");
            let first_error = shard.last_error.clone();
            found.push(Exhausted { job: id, dead: counts.dead, first_index, first_error });
        }
        found
    }

    pub(in crate::store) fn finalizable(&self, revision: u32) -> Vec<JobId> {
        let mut waiting = self.in_order();
        waiting.retain(|id| self.jobs[id].submission.revision <= revision);
        waiting.retain(|id| self.jobs[id].job.step(&JobEvent::Finalize(&self.jobs[id].counts_to_finalize())).is_ok());
        waiting
    }
}

impl ModelJob {
    /// The rows of dead shards, in order.
    pub(super) fn holes(&self) -> Vec<ManifestHole> {
        let dead = self.shards.iter().filter(|(slice, shard)| shard.state == ShardState::Dead && slice.rows > 0);
        let mut holes: Vec<_> = dead
            .map(|(slice, shard)| ManifestHole {
                source: slice.source_index,
                first_row: slice.first_row,
                rows: slice.rows,
                reason: shard.last_error.clone().unwrap_or_default(),
            })
            .collect();
        holes.sort_by_key(|hole| hole.first_row);
        holes
    }
}
