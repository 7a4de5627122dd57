//! The store in memory: the pure model behind the same private trait as the databases, for tests and for the simulation
//! of a whole cluster. Nothing is durable but as long as the [`Memory`] lives; any number of coordinators may share one.
//!
//! **Keeping it in step.** A change of a transition is made in `model` (as [`crate::shard`] says), in `sqlite` and in
//! `postgres`; a method that the `Backend` trait gains gets its lines here. The conformance suite runs this backend
//! through every named promise and, in lock-step with both databases, through the random events: what differs from SQL
//! fails there first.

mod audit;
mod job;
#[cfg(test)]
mod listing;
pub(in crate::store) mod model;
pub mod planted;
mod plants;
mod upkeep;
mod views;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dataset::{ManifestHole, PlannedSource};
use futures::future::BoxFuture;
use proto::job::{JobBrief, JobSpec, JobState};
use proto::work::{Granted, Progress, SourceTask};
use proto::{JobId, SessionId, ShardId};
use uuid::Uuid;

use self::audit::Auditor;
pub use self::audit::{AttemptView, SessionView, ShardView};
use self::job::ModelJob;
use self::model::{Model, ModelGrant, ModelSession};
use self::planted::Bug;
use self::views::{brief, grant, page_of, planning, read, source_task, sources, tally, unsigned, winners};
use super::backend::{Backend, Commit, Failure, JobChange, Leadership, LeaseRequest, NewJob, NewSession, ShardPage};
use super::error::StoreError;
use super::reads::{Reads, WinnerList};
use super::types::{Exhausted, Garbage, Page, Planning, StoreFuture, Tally, Tripped, Winner};
use crate::clock::Clock;
use crate::policy::Policy;
use crate::shard::{LeaseRef, Refusal, output_key};

/// What is between a coordinator and its database: it may wait, fail, or never come back.
pub trait Gate: Send + Sync + 'static {
    /// Is passed before a transition or a query of this name has any effect.
    fn enter<'a>(&'a self, step: &'static str) -> BoxFuture<'a, Result<(), StoreError>>;
    /// Is passed after it has had its effect, before the answer.
    fn leave<'a>(&'a self, step: &'static str) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// A gate that lets everything through.
#[derive(Debug, Default, Clone, Copy)]
pub struct Open;

impl Gate for Open {
    fn enter<'a>(&'a self, _step: &'static str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn leave<'a>(&'a self, _step: &'static str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A database in memory; clones share it.
#[derive(Clone)]
pub struct Memory {
    state: Arc<Mutex<State>>,
    clock: Arc<dyn Clock>,
}

struct State {
    model: Model,
    auditor: Auditor,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl Memory {
    /// Makes an empty database with a clock of its own, as PostgreSQL has. `name` makes the names of attempts.
    pub fn new(clock: Arc<dyn Clock>, policy: &Policy, name: fn() -> Uuid) -> Self {
        let model = Model::new(policy.clone(), clock.now_ms(), name);
        Self { state: Arc::new(Mutex::new(State { model, auditor: Auditor::default() })), clock }
    }

    /// Returns every invariant that was ever violated, in words.
    pub fn violations(&self) -> Vec<String> {
        self.lock().auditor.violations().to_vec()
    }

    /// Returns the shards of a job in order, with all of their attempts.
    pub fn shards(&self, job: JobId) -> Vec<ShardView> {
        self.lock().model.jobs.get(&job).map_or_else(Vec::new, |found| audit::view(job, found))
    }

    /// Returns the key of the manifest of a job that has succeeded.
    pub fn manifest(&self, job: JobId) -> Option<String> {
        let manifest = self.lock().model.jobs.get(&job)?.job.manifest.clone();
        manifest.map(|(key, _)| key)
    }

    /// Returns the live attempts of a job, by index of their shards.
    pub fn leases(&self, job: JobId) -> Vec<(u64, AttemptView)> {
        self.lock().model.jobs.get(&job).map_or_else(Vec::new, |found| audit::leases(job, found))
    }

    /// Returns all sessions that ever were.
    pub fn sessions(&self) -> Vec<SessionView> {
        let view = |(id, session): (&SessionId, &ModelSession)| SessionView {
            id: *id,
            name: session.name.clone(),
            live: session.live,
        };
        self.lock().model.sessions.iter().map(view).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something at the present time, and looks at what came of it.
    fn act<T>(&self, step: &'static str, action: impl FnOnce(&mut Model) -> T) -> T {
        let mut state = self.lock();
        let State { model, auditor } = &mut *state;
        model.now = self.clock.now_ms();
        let answer = action(model);
        if !HARMLESS.contains(&step) {
            auditor.look(step, model);
        }
        answer
    }
}

/// Steps that cannot change a job, shard or attempt.
const HARMLESS: [&str; 23] = [
    "briefs",
    "spec",
    "tally",
    "storage_id",
    "ping",
    "waiting",
    "source_task",
    "job_state",
    "planning",
    "sources",
    "winners",
    "winners_whole",
    "winners_halves",
    "holes",
    "finalizable",
    "exhausted",
    "open_session",
    "refusal",
    "tripped",
    "quarantine",
    "lead",
    "resign",
    "list_garbage",
];

/// One coordinator's connection to a [`Memory`].
pub(super) struct Connection {
    memory: Memory,
    gate: Arc<dyn Gate>,
}

impl Connection {
    pub(super) fn new(memory: Memory, gate: Arc<dyn Gate>) -> Self {
        Self { memory, gate }
    }

    fn run<'a, T: Send + 'a>(
        &'a self,
        step: &'static str,
        action: impl FnOnce(&mut Model) -> T + Send + 'a,
    ) -> StoreFuture<'a, T> {
        Box::pin(async move {
            self.gate.enter(step).await?;
            let answer = self.memory.act(step, action);
            self.gate.leave(step).await?;
            Ok(answer)
        })
    }

    fn try_run<'a, T: Send + 'a>(
        &'a self,
        step: &'static str,
        action: impl FnOnce(&mut Model) -> Result<T, StoreError> + Send + 'a,
    ) -> StoreFuture<'a, T> {
        let answer = self.run(step, action);
        Box::pin(async move { answer.await? })
    }
}

impl Leadership for Connection {
    fn lead(&self, role: &'static str, holder: Uuid, revision: u32, for_ms: i64) -> StoreFuture<'_, bool> {
        self.run("lead", move |model| model.lead(role, holder, revision, for_ms))
    }

    fn lapsed_ms(&self, role: &'static str) -> StoreFuture<'_, i64> {
        self.run("lapsed", move |model| model.lapsed_ms(role))
    }

    fn resign(&self, role: &'static str, holder: Uuid) -> StoreFuture<'_, ()> {
        self.run("resign", move |model| model.resign(role, holder))
    }
}

impl Reads for Connection {
    fn briefs(&self, page: Page) -> StoreFuture<'_, Vec<JobBrief>> {
        self.try_run("briefs", move |model| page_of(model, &page).into_iter().map(|id| brief(model, id)).collect())
    }

    fn spec(&self, job: JobId, revision: u32) -> StoreFuture<'_, Option<JobSpec>> {
        self.try_run("spec", move |model| {
            let known = model.jobs.get(&job).filter(|job| job.submission.revision <= revision);
            known.map(|job| read("spec", &job.submission.spec)).transpose()
        })
    }

    fn tally(&self) -> StoreFuture<'_, Tally> {
        self.run("tally", |model| tally(model))
    }

    fn ping(&self) -> StoreFuture<'_, ()> {
        self.run("ping", |_| ())
    }

    fn active(&self, owner: Option<String>) -> StoreFuture<'_, u64> {
        self.run("active", move |model| {
            let mine = |job: &&ModelJob| owner.is_none() || job.submission.owner == owner;
            model.jobs.values().filter(mine).filter(|job| !job.job.state.is_terminal()).count() as u64
        })
    }

    fn job_state(&self, job: JobId) -> StoreFuture<'_, Option<JobState>> {
        self.run("job_state", move |model| model.jobs.get(&job).map(|job| job.job.state))
    }

    fn waiting(&self, revision: u32) -> StoreFuture<'_, Vec<JobId>> {
        self.run("waiting", move |model| {
            let planning = |id: &JobId| {
                model.jobs[id].job.state == JobState::Planning && model.jobs[id].submission.revision <= revision
            };
            model.in_order().into_iter().filter(planning).collect()
        })
    }

    fn planning(&self, job: JobId) -> StoreFuture<'_, Option<Planning>> {
        self.try_run("planning", move |model| {
            let found = model.jobs.get(&job).filter(|job| job.job.state == JobState::Planning);
            found.map(|found| planning(job, found)).transpose()
        })
    }

    fn source_task(&self, job: JobId, source_index: u32, revision: u32) -> StoreFuture<'_, Option<SourceTask>> {
        self.try_run("source_task", move |model| {
            let Some(found) = model.jobs.get(&job) else { return Ok(None) };
            let Some((_, planned)) = found.sources.iter().flatten().nth(source_index as usize) else { return Ok(None) };
            match found.submission.revision <= revision {
                true => source_task(found, planned).map(Some),
                false => Err(StoreError::JobNewer { job }),
            }
        })
    }

    fn sources(&self, job: JobId) -> StoreFuture<'_, Vec<PlannedSource>> {
        self.try_run("sources", move |model| model.jobs.get(&job).map_or_else(|| Ok(Vec::new()), sources))
    }

    fn winners(&self, list: WinnerList, job: JobId, after: i64, limit: u32) -> StoreFuture<'_, Vec<Winner>> {
        let step = match list {
            WinnerList::All => "winners",
            WinnerList::Whole => "winners_whole",
            WinnerList::Halves => "winners_halves",
        };
        self.run(step, move |model| model.jobs.get(&job).map_or_else(Vec::new, |job| winners(job, list, after, limit)))
    }

    fn holes(&self, job: JobId, after_row: i64, limit: u32) -> StoreFuture<'_, Vec<ManifestHole>> {
        self.run("holes", move |model| {
            let first = unsigned(after_row.saturating_add(1));
            let mut holes = model.jobs.get(&job).map_or_else(Vec::new, ModelJob::holes);
            holes.retain(|hole| hole.first_row >= first);
            holes.truncate(limit as usize);
            if planted::is(Bug::HolesSkipFirst) && first == 0 && !holes.is_empty() {
                holes.remove(0);
            }
            holes
        })
    }

    fn finalizable(&self, revision: u32) -> StoreFuture<'_, Vec<JobId>> {
        self.run("finalizable", move |model| model.finalizable(revision))
    }

    fn exhausted(&self, revision: u32) -> StoreFuture<'_, Vec<Exhausted>> {
        self.run("exhausted", move |model| model.exhausted(revision))
    }

    fn tripped(&self, attempts: u32, most: u32) -> StoreFuture<'_, Vec<Tripped>> {
        self.run("tripped", move |model| model.tripped(attempts, most))
    }

    fn list_garbage(&self, limit: u32) -> StoreFuture<'_, Vec<Garbage>> {
        self.run("list_garbage", move |model| {
            let garbage = |((shard, epoch), id): (ModelGrant, Uuid)| Garbage {
                job: shard.job,
                index: shard.index,
                epoch: epoch.0,
                key: output_key(shard, epoch, id),
            };
            model.garbage(limit).into_iter().map(garbage).collect()
        })
    }
}

impl Backend for Connection {
    fn submit(&self, job: NewJob) -> StoreFuture<'_, Option<String>> {
        self.run("submit", move |model| model.submit(job))
    }

    fn storage_id(&self, id: Option<String>) -> StoreFuture<'_, Option<String>> {
        self.run("storage_id", move |model| {
            model.storage = model.storage.take().or(id);
            model.storage.clone()
        })
    }

    fn change_job(&self, job: JobId, change: JobChange) -> StoreFuture<'_, bool> {
        let step = match &change {
            JobChange::Cancel => "cancel",
            JobChange::Pause(_) => "pause",
            JobChange::Trip(_) => "trip",
            JobChange::Fail(_) => "fail_job",
            JobChange::Exhaust(_) => "exhaust",
            JobChange::BeginFinalize => "begin_finalize",
            JobChange::TakeReuse { .. } => "take_reuse",
            JobChange::FailFinalize { .. } => "fail_finalize",
            JobChange::Finish { .. } => "finish",
        };
        self.run(step, move |model| model.change_job(job, &change))
    }

    fn retry(&self, job: JobId) -> StoreFuture<'_, bool> {
        self.run("retry", move |model| model.retry(job))
    }

    fn repair(&self, job: JobId, shards: Vec<u64>) -> StoreFuture<'_, u64> {
        self.run("repair", move |model| model.repair(job, &shards))
    }

    fn set_sources(&self, job: JobId, sources: Vec<(String, String)>) -> StoreFuture<'_, bool> {
        self.run("set_sources", move |model| model.set_sources(job, sources))
    }

    fn insert_shards(&self, page: ShardPage) -> StoreFuture<'_, bool> {
        self.run("insert_shards", move |model| model.insert_shards(page))
    }

    fn open_session(&self, session: NewSession) -> StoreFuture<'_, ()> {
        self.run("open_session", move |model| model.open_session(session))
    }

    fn heartbeat(&self, session: SessionId, progress: Vec<Progress>) -> StoreFuture<'_, Option<Vec<bool>>> {
        self.run("beat", move |model| model.heartbeat(session, &progress))
    }

    fn close_sessions(&self, session: Option<SessionId>) -> StoreFuture<'_, ()> {
        self.run("close_sessions", move |model| model.close_sessions(session))
    }

    fn lease(&self, lease_request: LeaseRequest) -> StoreFuture<'_, Option<Vec<Granted>>> {
        self.try_run("lease", move |model| {
            let Some(granted) = model.lease(lease_request) else { return Ok(None) };
            granted.into_iter().map(|lease| grant(model, lease)).collect::<Result<_, _>>().map(Some)
        })
    }

    fn copy_slow(&self, lease_request: LeaseRequest) -> StoreFuture<'_, Vec<Granted>> {
        self.try_run("copy_slow", move |model| {
            let granted = model.copy_slow(lease_request);
            granted.into_iter().map(|lease| grant(model, lease)).collect()
        })
    }

    fn commit(&self, commit: Commit) -> StoreFuture<'_, bool> {
        self.run("commit", move |model| model.commit(&commit))
    }

    fn refusal(&self, lease: LeaseRef) -> StoreFuture<'_, Refusal> {
        self.run("refusal", move |model| model.refusal(lease))
    }

    fn fail(&self, failure: Failure) -> StoreFuture<'_, bool> {
        self.run("fail", move |model| model.fail(&failure))
    }

    fn release(&self, lease: LeaseRef) -> StoreFuture<'_, bool> {
        self.run("release", move |model| model.release(lease))
    }

    fn quarantine(&self, shards: u32) -> StoreFuture<'_, Vec<SessionId>> {
        self.run("quarantine", move |model| model.quarantine(shards))
    }

    fn rebase(&self) -> StoreFuture<'_, ()> {
        self.run("rebase", |model| model.rebase())
    }

    fn expire(&self) -> StoreFuture<'_, u64> {
        self.run("expire", |model| model.expire())
    }

    fn reap(&self) -> StoreFuture<'_, u64> {
        self.run("reap", |model| model.reap())
    }

    fn revoke(&self, job: Option<JobId>) -> StoreFuture<'_, u64> {
        self.run("revoke", move |model| model.revoke(job))
    }

    fn cancel_pending(&self, limit: u32) -> StoreFuture<'_, u64> {
        self.run("cancel_pending", move |model| model.cancel_pending(limit))
    }

    fn settle(&self) -> StoreFuture<'_, u64> {
        self.run("settle", |model| model.settle())
    }

    fn mark_garbage(&self, limit: u32) -> StoreFuture<'_, u64> {
        self.run("mark_garbage", move |model| model.mark_garbage(limit))
    }

    fn garbage_deleted(&self, garbage: Vec<Garbage>) -> StoreFuture<'_, ()> {
        self.run("garbage_deleted", move |model| {
            for Garbage { job, index, epoch, .. } in garbage {
                model.garbage_deleted((ShardId { job, index }, proto::Epoch(epoch)));
            }
        })
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    #[cfg(test)]
    fn lines(&self, listing: &'static super::conformance::dump::Listing) -> StoreFuture<'_, Vec<String>> {
        let prefix = format!("{} ", listing.name);
        let lines = self.memory.lock().model.state();
        Box::pin(std::future::ready(Ok(lines.into_iter().filter(|line| line.starts_with(&prefix)).collect())))
    }
}
