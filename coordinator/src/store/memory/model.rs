//! The store as a value: [`crate::shard`] applied to maps. What both databases must agree with, event by event; one
//! method per transition of [`crate::store::backend::Backend`], with the same precondition and the same answer.

use std::collections::{BTreeMap, BTreeSet};

use dataset::Cursor;
use proto::job::JobState;
use proto::work::Progress;
use proto::{Epoch, JobId, RequestId, SessionId, ShardId};
use uuid::Uuid;

use super::job::{Attempt, ModelJob, at};
use super::planted::{self, Bug};
use crate::policy::{Policy, Verdict};
use crate::shard::{AttemptState, Job, JobEvent, LeaseRef, Refusal, Shard, ShardEvent, ShardState, output_key};
use crate::store::backend::{
    Commit, Failure, JobChange, LeaseRequest, NewJob, NewSession, REASON_CLOSED, REASON_RELEASED, REASON_REVOKED,
    REASON_STRAY, ShardPage,
};

type Millis = i64;

/// A grant as the model knows it: shard and epoch.
pub(in crate::store) type ModelGrant = (ShardId, Epoch);

pub(in crate::store) struct Model {
    /// Who has which role, until when, and of which revision it is.
    pub(super) leaders: BTreeMap<&'static str, (Uuid, Millis, u32)>,
    /// The id of the storage that files are in.
    pub(super) storage: Option<String>,
    pub(in crate::store) policy: Policy,
    pub(in crate::store) now: Millis,
    pub(in crate::store) jobs: BTreeMap<JobId, ModelJob>,
    pub(in crate::store) sessions: BTreeMap<SessionId, ModelSession>,
    /// Names attempts.
    pub(super) name: fn() -> Uuid,
}

pub(in crate::store) struct ModelSession {
    pub(in crate::store) name: String,
    pub(in crate::store) leases_max: u32,
    /// What its worker knows of jobs.
    pub(in crate::store) revision: u32,
    pub(in crate::store) live: bool,
    pub(in crate::store) expires: Millis,
    pub(in crate::store) progress: Millis,
    pub(in crate::store) last_request: Option<RequestId>,
    pub(in crate::store) quarantined: bool,
    pub(in crate::store) ended: Option<(Millis, &'static str)>,
}

impl Model {
    pub(in crate::store) fn new(policy: Policy, now: Millis, name: fn() -> Uuid) -> Self {
        let (leaders, jobs, sessions) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { leaders, storage: None, policy, now, jobs, sessions, name }
    }

    pub(in crate::store) fn submit(&mut self, submission: NewJob) -> Option<String> {
        if let Some(stored) = self.jobs.get(&submission.job).filter(|_| !planted::is(Bug::SubmitResetsJob)) {
            return Some(stored.submission.digest.clone());
        }
        let submitted = self.now;
        let (id, job) = (submission.job, Job::submitted(submission.allow_partial));
        let (sources, cursor, shards, attempts) = (None, Cursor::default(), Vec::new(), BTreeMap::new());
        let (busy_ms, halves, copies, ended, judged_from) = (0, BTreeMap::new(), 0, 0, 0);
        let made = ModelJob {
            submission,
            job,
            submitted,
            sources,
            cursor,
            shards,
            attempts,
            busy_ms,
            halves,
            copies,
            ended,
            judged_from,
        };
        self.jobs.insert(id, made);
        None
    }

    pub(in crate::store) fn set_sources(&mut self, job: JobId, sources: Vec<(String, String)>) -> bool {
        let Some(job) = self.jobs.get_mut(&job) else { return false };
        let claimed = job.job.state == JobState::Planning && job.sources.is_none();
        if claimed {
            job.sources = Some(sources);
        }
        claimed
    }

    pub(in crate::store) fn insert_shards(&mut self, page: ShardPage) -> bool {
        let done = page.done || planted::is(Bug::PlannerStopsEarly);
        let Some(job) = self.jobs.get_mut(&page.job) else { return false };
        let stale = job.cursor != page.expected && !planted::is(Bug::PlanPageNotGuarded);
        if job.job.state != JobState::Planning || job.sources.is_none() || stale {
            return false;
        }
        job.cursor = page.next;
        job.shards.extend(page.slices.into_iter().map(|slice| {
            let shard = Shard { input: slice.blake3.clone(), ..Shard::planned(slice.rows) };
            (slice, shard)
        }));
        if done {
            job.job = job.job.step(&JobEvent::Planned).expect("the job is in planning");
        }
        true
    }

    pub(in crate::store) fn open_session(&mut self, new: NewSession) {
        let (expires, progress) = (self.now + self.policy.ttl_ms, self.now);
        let NewSession { session, name, leases_max, revision, .. } = new;
        if planted::is(Bug::SessionNotReopened) && self.sessions.values().any(|one| one.name == name) {
            return;
        }
        let (last_request, ended, quarantined) = (None, None, false);
        let opened = ModelSession {
            name,
            leases_max,
            revision,
            live: true,
            expires,
            progress,
            last_request,
            quarantined,
            ended,
        };
        self.sessions.insert(session, opened);
    }

    /// Returns the grants, or `None` if the session is lost.
    pub(in crate::store) fn lease(&mut self, lease_request: LeaseRequest) -> Option<Vec<ModelGrant>> {
        let LeaseRequest { session, request, max, revision } = lease_request;
        let me = self.sessions.get(&session).filter(|me| me.live)?;
        if me.last_request != Some(request) && me.expires > self.now && !me.quarantined {
            let held = self.live(|attempt| attempt.session == session);
            let free = (me.leases_max as usize).saturating_sub(held.len());
            let isolated = held.iter().any(|(job, (index, _))| self.jobs[job].shards[at(*index)].1.must_be_isolated());
            if !isolated || planted::is(Bug::PoisonNotIsolated) {
                self.take(lease_request, free.min(max as usize), held.is_empty());
            }
        }
        let granted = self.live(|attempt| attempt.session == session && attempt.request == request);
        let known = granted.into_iter().filter(|(job, _)| self.jobs[job].submission.revision <= revision);
        Some(known.map(|(job, (index, epoch))| (ShardId { job, index }, epoch)).collect())
    }

    /// A shard that must be isolated goes to a session that holds nothing; while one waits, no session gets a second shard.
    fn take(&mut self, lease_request: LeaseRequest, room: usize, idle: bool) {
        let LeaseRequest { session, request, revision, .. } = lease_request;
        let (now, policy, name) = (self.now, &self.policy, self.name);
        let leasable = |shard: &Shard| shard.step(&ShardEvent::Lease, now, policy).is_ok();
        let waits = |job: &ModelJob| {
            let open = job.job.is_active() && !job.job.paused && job.submission.revision <= revision;
            open && job.shards.iter().any(|(_, shard)| shard.must_be_isolated() && leasable(shard))
        };
        let isolated = self.jobs.values().any(waits) && !planted::is(Bug::PoisonNotIsolated);
        let room = if isolated { room.min(usize::from(idle)) } else { room };
        let mut order: Vec<(Millis, JobId)> = self.jobs.iter().map(|(id, job)| (job.submitted, *id)).collect();
        order.sort();
        let mut taken = 0;
        for (_, id) in order {
            let job = self.jobs.get_mut(&id).expect("the job was listed");
            let is_known = job.submission.revision <= revision;
            if !job.job.is_active() || !is_known || (job.job.paused && !planted::is(Bug::LeaseIgnoresPause)) {
                continue;
            }
            for (index, (_, shard)) in (0..).zip(&mut job.shards) {
                if planted::is(Bug::LeaseIgnoresLiveAttempt) && matches!(shard.state, ShardState::Running { .. }) {
                    shard.state = ShardState::Pending { not_before: now };
                }
                if isolated && !shard.must_be_isolated() {
                    continue;
                }
                let Some(next) = (taken < room).then(|| shard.step(&ShardEvent::Lease, now, policy).ok()).flatten()
                else {
                    continue;
                };
                taken += 1;
                let before = shard.epoch;
                *shard = next;
                if planted::is(Bug::LeaseKeepsEpoch) && before > Epoch(0) {
                    shard.epoch = before;
                }
                let attempt = Attempt::granted(name(), session, request, now);
                let taken_before = job.attempts.insert((index, shard.epoch), attempt).is_some();
                assert!(!taken_before || planted::is(Bug::LeaseKeepsEpoch), "I3: an epoch is given out once");
            }
        }
        if taken > 0 {
            let me = self.sessions.get_mut(&session).expect("the session was looked up");
            (me.last_request, me.progress) = (Some(request), now);
            me.revision = me.revision.max(revision);
        }
    }

    /// Live attempts that match, in the order of service.
    pub(super) fn live(&self, matches: impl Fn(&Attempt) -> bool) -> Vec<(JobId, (u64, Epoch))> {
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

    /// Returns which of the reported leases are live, or `None` if the session is lost.
    pub(in crate::store) fn heartbeat(&mut self, session: SessionId, reports: &[Progress]) -> Option<Vec<bool>> {
        let now = self.now;
        let me = self.sessions.get_mut(&session).filter(|me| me.live)?;
        me.expires = now + self.policy.ttl_ms;
        let mut standing = Vec::new();
        for Progress { shard, epoch, rows_done, tokens_done } in reports {
            let key = (shard.index, *epoch);
            let job = self.jobs.get_mut(&shard.job).filter(|job| job.is_live(key, session) && job.job.is_active());
            let attempt = job.and_then(|job| job.attempts.get_mut(&key));
            standing.push(attempt.is_some());
            if let Some(attempt) = attempt {
                if *rows_done > attempt.rows_done {
                    me.progress = now;
                }
                attempt.rows_done = attempt.rows_done.max(*rows_done);
                attempt.tokens_done = attempt.tokens_done.max(*tokens_done);
            }
        }
        if !planted::is(Bug::BeatIgnoresStrays) {
            self.give_back_strays(session, reports);
        }
        Some(standing)
    }

    /// Takes back what a session holds and does not know of: the answer that granted it never arrived. A heartbeat may be
    /// older than the latest grants, but not by a TTL.
    fn give_back_strays(&mut self, session: SessionId, reports: &[Progress]) {
        let latest = self.now - self.policy.ttl_ms;
        for (job, key) in self.live(|attempt| attempt.session == session && attempt.granted <= latest) {
            let shard = ShardId { job, index: key.0 };
            if !reports.iter().any(|report| (report.shard, report.epoch) == (shard, key.1)) {
                self.end((job, key), AttemptState::Released, REASON_STRAY, &ShardEvent::Release { epoch: key.1 });
            }
        }
    }

    pub(in crate::store) fn commit(&mut self, commit: &Commit) -> bool {
        let Commit { lease: LeaseRef { session, job, index, epoch }, attempt, output } = commit;
        let (now, policy) = (self.now, self.policy.clone());
        let Some(job) = self.jobs.get_mut(job) else { return false };
        let key = (*index, *epoch);
        if planted::is(Bug::CommitIgnoresEpoch) && job.commit_blindly(key, *attempt, output) {
            return true;
        }
        let Some(granted) = job.live(key, *session).filter(|one| one.id == *attempt).map(|one| one.granted) else {
            return false;
        };
        let (slice, shard) = &job.shards[at(*index)];
        let open = job.job.is_active() || planted::is(Bug::CommitIgnoresJobState);
        let other_input = shard.reads_other_input(output) && !planted::is(Bug::InputUnchecked);
        if !open || slice.rows != output.counts.rows || other_input {
            return false;
        }
        let event = ShardEvent::Commit { epoch: *epoch, output };
        job.end(key, AttemptState::Committed, None, &event, (now, &policy));
        job.lose_race(*index, now);
        job.busy_ms += now - granted;
        if planted::is(Bug::CommitLeavesAttemptLive) {
            job.attempts.entry(key).and_modify(|one| one.state = AttemptState::Live);
        }
        true
    }

    pub(in crate::store) fn refusal(&self, lease: LeaseRef) -> Refusal {
        let LeaseRef { session, job: id, index, epoch } = lease;
        let Some(job) = self.jobs.get(&id) else { return Refusal::unknown() };
        let Some((slice, shard)) = usize::try_from(index).ok().and_then(|index| job.shards.get(index)) else {
            return Refusal::unknown();
        };
        let winner = match &shard.state {
            ShardState::Committed { winner, output } => Some((*winner, output.key.clone(), output.blake3.clone())),
            ShardState::Pending { .. }
            | ShardState::Running { .. }
            | ShardState::Dead
            | ShardState::Cancelled
            | ShardState::Split => None,
        };
        let live = job.live((index, epoch), session);
        let live_key = live.map(|attempt| output_key(ShardId { job: id, index }, epoch, attempt.id));
        Refusal { job: Some(job.job.state), rows: slice.rows, winner, live_key, input: shard.input.clone() }
    }

    pub(in crate::store) fn fail(&mut self, failure: &Failure) -> bool {
        let Failure { lease: LeaseRef { epoch, .. }, class, message, unit } = failure;
        let event = ShardEvent::Fail { epoch: *epoch, class: *class, message, unit: *unit };
        let free = Policy::verdict(*class) == Verdict::Free;
        let how = if free { AttemptState::Released } else { AttemptState::Failed };
        self.give_up(failure.lease, how, message, &event)
    }

    pub(in crate::store) fn release(&mut self, lease: LeaseRef) -> bool {
        self.give_up(lease, AttemptState::Released, REASON_RELEASED, &ShardEvent::Release { epoch: lease.epoch })
    }

    /// A session ends an attempt of its own. Returns whether it was live.
    fn give_up(&mut self, lease: LeaseRef, how: AttemptState, reason: &str, event: &ShardEvent<'_>) -> bool {
        let (now, policy) = (self.now, self.policy.clone());
        let key = (lease.index, lease.epoch);
        let Some(job) = self.jobs.get_mut(&lease.job).filter(|job| job.is_live(key, lease.session)) else {
            return false;
        };
        job.end(key, how, Some(reason), event, (now, &policy));
        true
    }

    /// The world ends a live attempt.
    pub(super) fn end(
        &mut self,
        (job, key): (JobId, (u64, Epoch)),
        how: AttemptState,
        reason: &str,
        event: &ShardEvent<'_>,
    ) {
        let (now, policy) = (self.now, self.policy.clone());
        let job = self.jobs.get_mut(&job).expect("the job was listed");
        job.end(key, how, Some(reason), event, (now, &policy));
    }

    pub(in crate::store) fn close_sessions(&mut self, session: Option<SessionId>) {
        let mut dead = BTreeSet::new();
        for (id, one) in &mut self.sessions {
            if session.is_some_and(|session| session != *id) {
                continue;
            }
            if one.live {
                one.live = false;
                one.ended = Some((self.now, REASON_CLOSED));
            }
            dead.insert(*id);
        }
        for (job, key) in self.live(|attempt| dead.contains(&attempt.session)) {
            self.end((job, key), AttemptState::Released, REASON_CLOSED, &ShardEvent::Release { epoch: key.1 });
        }
    }

    pub(in crate::store) fn rebase(&mut self) {
        for session in self.sessions.values_mut().filter(|session| session.live) {
            session.expires = self.now + self.policy.ttl_ms;
            session.progress = self.now;
        }
        // Pauses that were computed by another clock.
        let latest = self.now + self.policy.backoff_max_ms.max(self.policy.throttle_ms);
        for (_, shard) in self.jobs.values_mut().flat_map(|job| &mut job.shards) {
            if let ShardState::Pending { not_before } = &mut shard.state {
                *not_before = latest.min(*not_before);
            }
        }
    }

    pub(in crate::store) fn change_job(&mut self, job: JobId, change: &JobChange) -> bool {
        let Some(job) = self.jobs.get_mut(&job) else { return false };
        let (counts, finalizable) = (job.counts_at_end(), job.counts_to_finalize());
        if let JobChange::Pause(_) = change
            && job.job.step(&JobEvent::Pause).is_ok()
        {
            job.judged_from = job.ended;
        }
        let event = match change {
            JobChange::TakeReuse { spec, task, revision } => return job.take_reuse(spec, task, *revision),
            JobChange::Trip(reason) => JobEvent::Trip(reason),
            JobChange::Cancel if job.job.is_active() || job.job.state == JobState::Finalizing => JobEvent::Cancel,
            JobChange::Cancel => return false,
            JobChange::Pause(true) => JobEvent::Pause,
            JobChange::Pause(false) if planted::is(Bug::ResumeIgnored) => {
                return job.job.step(&JobEvent::Resume).is_ok();
            }
            JobChange::Pause(false) => JobEvent::Resume,
            JobChange::Fail(reason) => JobEvent::Fail(reason),
            JobChange::Exhaust(reason) => JobEvent::Exhaust(&counts, reason),
            JobChange::BeginFinalize => JobEvent::Finalize(&finalizable),
            JobChange::FailFinalize { generation, reason } => {
                JobEvent::FailFinalize { generation: *generation, reason }
            }
            JobChange::Finish { generation, key, digest } => JobEvent::Finish { generation: *generation, key, digest },
        };
        job.change(&event)
    }

    /// Returns how many leases were taken back.
    pub(in crate::store) fn revoke(&mut self, only: Option<JobId>) -> u64 {
        let mut revoked = 0;
        for (id, key) in self.live(|_| true) {
            if only.is_some_and(|only| only != id) {
                continue;
            }
            let event = match self.jobs[&id].job.state {
                JobState::Failed => ShardEvent::Revoke { epoch: key.1 },
                JobState::Cancelling | JobState::Cancelled => ShardEvent::Cancel,
                JobState::Planning | JobState::Running | JobState::Finalizing | JobState::Succeeded => continue,
            };
            revoked += 1;
            self.end((id, key), AttemptState::Revoked, REASON_REVOKED, &event);
        }
        revoked
    }

    /// The jobs in the order of submission.
    pub(in crate::store) fn in_order(&self) -> Vec<JobId> {
        let mut order: Vec<(Millis, JobId)> = self.jobs.iter().map(|(id, job)| (job.submitted, *id)).collect();
        order.sort();
        order.into_iter().map(|(_, id)| id).collect()
    }
}
