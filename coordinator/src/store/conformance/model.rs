//! The store as a value: [`crate::shard`] applied to maps. What both databases must agree with, event by event.

use std::collections::{BTreeMap, BTreeSet};

use dataset::{Cursor, RejectReason, Slice};
use proto::job::{JobState, ShardCounts};
use proto::work::{CommitOutcome, FailureClass, Output};
use proto::{Epoch, JobId, RequestId, SessionId, ShardId};

use crate::policy::{Policy, Verdict};
use crate::shard::{AttemptState, Job, JobEvent, Refusal, Shard, ShardEvent, ShardState};
use crate::store::backend::{
    REASON_CLOSED, REASON_RELEASED, REASON_REPAIRED, REASON_REVOKED, REASON_SESSION_LOST, REASON_STALLED,
};

type Millis = i64;

/// A grant as the model knows it: the random part of its key is the databases' own.
pub(super) type ModelGrant = (ShardId, Epoch);

pub(super) struct Model {
    pub(super) policy: Policy,
    pub(super) now: Millis,
    pub(super) last_sweep: Millis,
    pub(super) jobs: BTreeMap<JobId, ModelJob>,
    pub(super) sessions: BTreeMap<SessionId, ModelSession>,
}

pub(super) struct ModelJob {
    pub(super) job: Job,
    pub(super) submitted: Millis,
    pub(super) sources: Option<usize>,
    pub(super) cursor: Cursor,
    pub(super) shards: Vec<(Slice, Shard)>,
    pub(super) attempts: BTreeMap<(u64, Epoch), Attempt>,
    pub(super) busy_ms: i64,
}

#[derive(Clone)]
pub(super) struct Attempt {
    pub(super) session: SessionId,
    pub(super) request: RequestId,
    pub(super) state: AttemptState,
    pub(super) granted: Millis,
    pub(super) ended: Option<Millis>,
    pub(super) reason: Option<String>,
    pub(super) rows_done: u64,
    pub(super) tokens_done: u64,
    pub(super) deleted: Option<Millis>,
}

pub(super) struct ModelSession {
    pub(super) leases_max: u32,
    pub(super) live: bool,
    pub(super) expires: Millis,
    pub(super) progress: Millis,
    pub(super) last_request: Option<RequestId>,
    pub(super) ended: Option<(Millis, &'static str)>,
}

impl ModelJob {
    pub(super) fn counts(&self) -> ShardCounts {
        let mut counts = ShardCounts::default();
        for (_, shard) in &self.shards {
            match shard.state {
                ShardState::Pending { .. } => counts.pending += 1,
                ShardState::Running => counts.running += 1,
                ShardState::Committed { .. } => counts.committed += 1,
                ShardState::Dead => counts.dead += 1,
                ShardState::Cancelled => counts.cancelled += 1,
            }
        }
        counts
    }

    pub(super) fn outputs(&self) -> impl Iterator<Item = &Output> {
        self.shards.iter().filter_map(|(_, shard)| match &shard.state {
            ShardState::Committed { output, .. } => Some(&**output),
            ShardState::Pending { .. } | ShardState::Running | ShardState::Dead | ShardState::Cancelled => None,
        })
    }

    pub(super) fn rejects(&self) -> BTreeMap<RejectReason, u64> {
        let mut rejects = BTreeMap::new();
        for (reason, rows) in self.outputs().flat_map(|output| &output.counts.rejects) {
            *rejects.entry(*reason).or_insert(0) += rows;
        }
        rejects
    }

    fn change(&mut self, event: &JobEvent<'_>) -> bool {
        match self.job.step(event) {
            Ok(next) => {
                self.job = next;
                true
            }
            Err(_) => false,
        }
    }

    /// Ends a live attempt and moves its shard along with it.
    fn end(
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
        let shard = &mut self.shards[usize::try_from(key.0).unwrap()].1;
        *shard = shard.step(event, now, policy).expect("the shard of a live attempt runs");
    }

    fn is_live(&self, key: (u64, Epoch), session: SessionId) -> bool {
        self.attempts.get(&key).is_some_and(|one| one.state == AttemptState::Live && one.session == session)
    }
}

impl Model {
    pub(super) fn new(policy: Policy, now: Millis) -> Self {
        Self { policy, now, last_sweep: now, jobs: BTreeMap::new(), sessions: BTreeMap::new() }
    }

    pub(super) fn submit(&mut self, job: JobId) {
        let submitted = self.now;
        self.jobs.entry(job).or_insert_with(|| ModelJob {
            job: Job::submitted(),
            submitted,
            sources: None,
            cursor: Cursor::default(),
            shards: Vec::new(),
            attempts: BTreeMap::new(),
            busy_ms: 0,
        });
    }

    pub(super) fn set_sources(&mut self, job: JobId) -> bool {
        let Some(job) = self.jobs.get_mut(&job) else { return false };
        let planning = job.job.state == JobState::Planning;
        if planning {
            job.sources = Some(1);
        }
        planning
    }

    pub(super) fn insert_shards(
        &mut self,
        job: JobId,
        expected: &Cursor,
        slices: &[Slice],
        next: &Cursor,
        done: bool,
    ) -> bool {
        let Some(job) = self.jobs.get_mut(&job) else { return false };
        if job.job.state != JobState::Planning || job.sources.is_none() || job.cursor != *expected {
            return false;
        }
        job.cursor = next.clone();
        job.shards.extend(slices.iter().map(|slice| (slice.clone(), Shard::planned())));
        if done {
            job.job = job.job.step(&JobEvent::Planned).unwrap();
        }
        true
    }

    pub(super) fn open_session(&mut self, session: SessionId, leases_max: u32) {
        let (expires, progress) = (self.now + self.policy.ttl_ms, self.now);
        let opened = ModelSession { leases_max, live: true, expires, progress, last_request: None, ended: None };
        self.sessions.insert(session, opened);
    }

    /// Returns the grants, or `None` if the session is lost.
    pub(super) fn lease(&mut self, session: SessionId, request: RequestId, max: u32) -> Option<Vec<ModelGrant>> {
        let me = self.sessions.get(&session).filter(|me| me.live)?;
        if me.last_request != Some(request) && me.expires > self.now {
            let held = self.live(|attempt| attempt.session == session).len();
            let free = usize::try_from(me.leases_max).unwrap().saturating_sub(held);
            let room = free.min(usize::try_from(max).unwrap());
            self.take(session, request, room);
        }
        let granted = self.live(|attempt| attempt.session == session && attempt.request == request);
        Some(granted.into_iter().map(|(job, (index, epoch))| (ShardId { job, index }, epoch)).collect())
    }

    fn take(&mut self, session: SessionId, request: RequestId, room: usize) {
        let (now, policy) = (self.now, &self.policy);
        let mut order: Vec<(Millis, JobId)> = self.jobs.iter().map(|(id, job)| (job.submitted, *id)).collect();
        order.sort();
        let mut taken = 0;
        for (_, id) in order {
            let job = self.jobs.get_mut(&id).unwrap();
            if !job.job.is_active() || job.job.paused {
                continue;
            }
            for (index, (_, shard)) in (0..).zip(&mut job.shards) {
                let Some(next) = (taken < room).then(|| shard.step(&ShardEvent::Lease, now, policy).ok()).flatten()
                else {
                    continue;
                };
                taken += 1;
                *shard = next;
                let attempt = Attempt {
                    session,
                    request,
                    state: AttemptState::Live,
                    granted: now,
                    ended: None,
                    reason: None,
                    rows_done: 0,
                    tokens_done: 0,
                    deleted: None,
                };
                assert!(job.attempts.insert((index, shard.epoch), attempt).is_none(), "I3: an epoch is given out once");
            }
        }
        if taken > 0 {
            let me = self.sessions.get_mut(&session).unwrap();
            me.last_request = Some(request);
            me.progress = now;
        }
    }

    /// Live attempts that match, in the order of service.
    fn live(&self, matches: impl Fn(&Attempt) -> bool) -> Vec<(JobId, (u64, Epoch))> {
        let mut found: Vec<(Millis, JobId, (u64, Epoch))> = Vec::new();
        for (id, job) in &self.jobs {
            for (key, attempt) in &job.attempts {
                if attempt.state == AttemptState::Live && matches(attempt) {
                    found.push((job.submitted, *id, *key));
                }
            }
        }
        found.sort();
        found.into_iter().map(|(_, job, key)| (job, key)).collect()
    }

    /// Returns which of the reported leases stand, or `None` if the session is lost.
    pub(super) fn beat(&mut self, session: SessionId, reports: &[(ModelGrant, u64)]) -> Option<Vec<bool>> {
        let now = self.now;
        let me = self.sessions.get_mut(&session).filter(|me| me.live)?;
        me.expires = now + self.policy.ttl_ms;
        let mut standing = Vec::new();
        for ((shard, epoch), rows) in reports {
            let job = self.jobs.get_mut(&shard.job).unwrap();
            let key = (shard.index, *epoch);
            let stands = job.is_live(key, session) && job.job.is_active();
            standing.push(stands);
            if stands {
                let attempt = job.attempts.get_mut(&key).unwrap();
                if *rows > attempt.rows_done {
                    me.progress = now;
                }
                attempt.rows_done = attempt.rows_done.max(*rows);
                attempt.tokens_done = attempt.tokens_done.max(rows * 7);
            }
        }
        Some(standing)
    }

    /// `right_key`: whether the output lies under the granted key.
    pub(super) fn commit(
        &mut self,
        session: SessionId,
        (shard, epoch): ModelGrant,
        output: &Output,
        right_key: bool,
    ) -> Result<CommitOutcome, String> {
        let (now, policy) = (self.now, self.policy.clone());
        let Some(job) = self.jobs.get_mut(&shard.job) else { return Refusal::unknown().outcome(epoch, output) };
        let key = (shard.index, epoch);
        let live = job.is_live(key, session);
        let (slice, planned) = &job.shards[usize::try_from(shard.index).unwrap()];
        let rows = slice.rows;
        let other_input = planned.reads_other_input(output);
        if live && right_key && job.job.is_active() && output.counts.rows == rows && !other_input {
            let granted = job.attempts[&key].granted;
            job.end(key, AttemptState::Committed, None, &ShardEvent::Commit { epoch, output }, (now, &policy));
            job.busy_ms += now - granted;
            return Ok(CommitOutcome::Committed);
        }
        let winner = match &planned.state {
            ShardState::Committed { winner, output } => Some((*winner, output.key.clone(), output.blake3.clone())),
            ShardState::Pending { .. } | ShardState::Running | ShardState::Dead | ShardState::Cancelled => None,
        };
        let live_key = live.then(|| if right_key { output.key.clone() } else { "the granted one".to_owned() });
        let refusal = Refusal { job: Some(job.job.state), rows, winner, live_key, input: planned.input.clone() };
        if refusal.input_differs(output) {
            let (index, found) = (shard.index, &output.input_blake3);
            let reason = format!(
                "shard {index}: its input changed since it was first read (input_changed): BLAKE3 {found} at epoch {epoch}"
            );
            self.fail_job(shard.job, &reason);
            return Ok(CommitOutcome::Cancelled);
        }
        refusal.outcome(epoch, output)
    }

    pub(super) fn fail(
        &mut self,
        session: SessionId,
        (shard, epoch): ModelGrant,
        class: FailureClass,
        message: &str,
        unit: f64,
    ) -> bool {
        let (now, policy) = (self.now, self.policy.clone());
        let job = self.jobs.get_mut(&shard.job).unwrap();
        let key = (shard.index, epoch);
        if !job.is_live(key, session) {
            return false;
        }
        let event = ShardEvent::Fail { epoch, class, message, unit };
        job.end(key, AttemptState::Failed, Some(message), &event, (now, &policy));
        if Policy::verdict(class) == Verdict::JobFatal {
            self.fail_job(shard.job, &format!("shard {}: {message}", shard.index));
        }
        true
    }

    pub(super) fn release(&mut self, session: SessionId, (shard, epoch): ModelGrant) -> bool {
        let (now, policy) = (self.now, self.policy.clone());
        let job = self.jobs.get_mut(&shard.job).unwrap();
        let key = (shard.index, epoch);
        let live = job.is_live(key, session);
        if live {
            job.end(key, AttemptState::Released, Some(REASON_RELEASED), &ShardEvent::Release { epoch }, (now, &policy));
        }
        live
    }

    pub(super) fn close_sessions(&mut self, session: Option<SessionId>) {
        let (now, policy) = (self.now, self.policy.clone());
        for (id, one) in &mut self.sessions {
            if one.live && session.is_none_or(|session| session == *id) {
                one.live = false;
                one.ended = Some((now, REASON_CLOSED));
            }
        }
        let dead: BTreeSet<SessionId> = self
            .sessions
            .iter()
            .filter(|(id, one)| !one.live && session.is_none_or(|session| session == **id))
            .map(|(id, _)| *id)
            .collect();
        for (job, key) in self.live(|attempt| dead.contains(&attempt.session)) {
            let event = ShardEvent::Release { epoch: key.1 };
            self.jobs.get_mut(&job).unwrap().end(
                key,
                AttemptState::Released,
                Some(REASON_CLOSED),
                &event,
                (now, &policy),
            );
        }
    }

    /// Returns how many sessions and leases were lost.
    pub(super) fn sweep(&mut self) -> (u64, u64) {
        let (now, policy) = (self.now, self.policy.clone());
        let gap = now - self.last_sweep;
        self.last_sweep = now;
        if policy.sweep_gap_is_outage(gap) {
            for session in self.sessions.values_mut().filter(|session| session.live) {
                session.expires = now + policy.ttl_ms;
                session.progress = now;
            }
            return (0, 0);
        }
        let alive = self.sessions.values().filter(|session| session.live).count();
        let mut due: Vec<(Millis, SessionId)> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.live && session.expires <= now)
            .map(|(id, session)| (session.expires, *id))
            .collect();
        due.sort();
        due.truncate(usize::try_from(policy.expire_limit(alive as u64)).unwrap());
        for (_, id) in &due {
            let session = self.sessions.get_mut(id).unwrap();
            session.live = false;
            session.ended = Some((now, "missed its heartbeats"));
        }
        (due.len() as u64, self.reap())
    }

    fn reap(&mut self) -> u64 {
        let (now, policy) = (self.now, self.policy.clone());
        let mut lost = 0;
        for (id, key) in self.live(|_| true) {
            let job = self.jobs.get_mut(&id).unwrap();
            let session = &self.sessions[&job.attempts[&key].session];
            let stall_ms = policy.stall_ms(job.outputs().count() as u64, job.busy_ms);
            let reason = match (session.live, session.progress + stall_ms <= now) {
                (false, _) => REASON_SESSION_LOST,
                (true, true) => REASON_STALLED,
                (true, false) => continue,
            };
            lost += 1;
            let event = ShardEvent::Expire { epoch: key.1, message: reason };
            job.end(key, AttemptState::Expired, Some(reason), &event, (now, &policy));
        }
        lost
    }

    /// Returns whether the event applied.
    pub(super) fn change_job(&mut self, job: JobId, event: &JobEvent<'_>) -> bool {
        self.jobs.get_mut(&job).is_some_and(|job| job.change(event))
    }

    pub(super) fn cancel(&mut self, job: JobId) -> bool {
        let applied = self.change_job(job, &JobEvent::Cancel);
        self.revoke();
        applied
    }

    pub(super) fn fail_job(&mut self, job: JobId, reason: &str) -> bool {
        let applied = self.change_job(job, &JobEvent::Fail(reason));
        self.revoke();
        applied
    }

    fn revoke(&mut self) {
        let (now, policy) = (self.now, self.policy.clone());
        for (id, key) in self.live(|_| true) {
            let job = self.jobs.get_mut(&id).unwrap();
            let event = match job.job.state {
                JobState::Failed => ShardEvent::Revoke { epoch: key.1 },
                JobState::Cancelling | JobState::Cancelled => ShardEvent::Cancel,
                JobState::Planning | JobState::Running | JobState::Finalizing | JobState::Succeeded => continue,
            };
            job.end(key, AttemptState::Revoked, Some(REASON_REVOKED), &event, (now, &policy));
        }
    }

    pub(super) fn retry(&mut self, job: JobId) -> bool {
        let (now, policy) = (self.now, &self.policy);
        let Some(job) = self.jobs.get_mut(&job) else { return false };
        if !job.change(&JobEvent::Retry) {
            return false;
        }
        for (_, shard) in &mut job.shards {
            if let Ok(next) = shard.step(&ShardEvent::Retry, now, policy) {
                *shard = next;
            }
        }
        true
    }

    /// Returns how many shards are done again, or `None` where the job is cancelled or unknown.
    pub(super) fn repair(&mut self, job: JobId, shards: &[u64]) -> Option<usize> {
        let (now, policy) = (self.now, self.policy.clone());
        let job = self.jobs.get_mut(&job)?;
        let revived = job.job.step(&JobEvent::Repair).ok()?;
        let mut repaired = 0;
        for index in shards {
            let Some((_, shard)) = job.shards.get_mut(usize::try_from(*index).unwrap()) else { continue };
            let ShardState::Committed { winner, .. } = shard.state else { continue };
            *shard = shard.step(&ShardEvent::Repair { message: REASON_REPAIRED }, now, &policy).unwrap();
            let attempt = job.attempts.get_mut(&(*index, winner)).unwrap();
            attempt.state = attempt.state.step(AttemptState::Revoked).unwrap();
            (attempt.ended, attempt.reason) = (Some(now), Some(REASON_REPAIRED.to_owned()));
            repaired += 1;
        }
        if repaired > 0 {
            job.job = revived;
        }
        Some(repaired)
    }

    pub(super) fn settle(&mut self) -> u64 {
        self.revoke();
        let (now, policy) = (self.now, &self.policy);
        let mut settled = 0;
        for job in self.jobs.values_mut().filter(|job| job.job.state == JobState::Cancelling) {
            for (_, shard) in &mut job.shards {
                if let Ok(next) = shard.step(&ShardEvent::Cancel, now, policy) {
                    *shard = next;
                }
            }
            let counts = job.counts();
            settled += u64::from(job.change(&JobEvent::Settle(&counts)));
        }
        settled
    }

    pub(super) fn fail_exhausted(&mut self) -> Vec<JobId> {
        let mut failed: Vec<(Millis, JobId)> = Vec::new();
        for (id, job) in &mut self.jobs {
            let counts = job.counts();
            let first = (0_u64..).zip(&job.shards).find(|(_, (_, shard))| shard.state == ShardState::Dead);
            let Some((index, (_, shard))) = first else { continue };
            let error = shard.last_error.clone().unwrap_or_default();
            let reason = format!("{} of its shards are out of attempts, first shard {index}: {error}", counts.dead);
            if job.change(&JobEvent::Exhaust(&counts, &reason)) {
                failed.push((job.submitted, *id));
            }
        }
        failed.sort();
        failed.into_iter().map(|(_, id)| id).collect()
    }

    pub(super) fn finalizable(&self) -> Vec<JobId> {
        let mut waiting: Vec<(Millis, JobId)> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.job.step(&JobEvent::Finalize(&job.counts())).is_ok())
            .map(|(id, job)| (job.submitted, *id))
            .collect();
        waiting.sort();
        waiting.into_iter().map(|(_, id)| id).collect()
    }

    /// Returns shards and epochs of all garbage that is not known to be deleted.
    pub(super) fn mark_garbage(&mut self) -> Vec<(JobId, u64, Epoch)> {
        let latest = self.now - self.policy.garbage_grace_ms;
        let mut garbage = Vec::new();
        for (id, job) in &mut self.jobs {
            for ((index, epoch), attempt) in &mut job.attempts {
                if attempt.ended.is_some_and(|ended| ended <= latest)
                    && let Ok(next) = attempt.state.step(AttemptState::Garbage)
                {
                    attempt.state = next;
                }
                if attempt.state == AttemptState::Garbage && attempt.deleted.is_none() {
                    garbage.push((*id, *index, *epoch));
                }
            }
        }
        garbage
    }

    pub(super) fn garbage_deleted(&mut self, garbage: &[(JobId, u64, Epoch)]) {
        for (job, index, epoch) in garbage {
            let attempt = self.jobs.get_mut(job).unwrap().attempts.get_mut(&(*index, *epoch)).unwrap();
            attempt.deleted = Some(self.now);
        }
    }
}
