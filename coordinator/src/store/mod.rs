//! The job store: every transition of jobs, shards, attempts and sessions, on SQLite or PostgreSQL.
//!
//! [`Store`] is concrete; the two databases are twins beneath it (`backend`, private), and one suite (`conformance`)
//! holds both to the pure model of [`crate::shard`]. Every method may be repeated after an error of kind
//! [`StoreErrorKind::Unavailable`]: a transition that has already happened changes nothing the second time. A caller
//! who drops a future has not stopped the transition, only lost its answer.

mod backend;
mod error;
mod lists;
#[cfg(any(test, feature = "sim"))]
pub mod memory;
mod migrations;
mod postgres;
mod reads;
mod rows;
mod sql;
mod sqlite;
mod types;
mod winners;

#[cfg(test)]
mod conformance;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use dataset::{Cursor, PlannedSource, Slice};
use proto::job::{JobSpec, JobState, ReuseSource};
use proto::revision::{self, REVISION};
use proto::work::{
    CommitOutcome, Directive, FailureClass, Granted, HeartbeatReply, Output, Progress, SourceTask, WorkerInfo,
};
use proto::{Epoch, JobId, RequestId, SessionId, ShardId};
use uuid::Uuid;

use reads::WinnerList;

pub use error::{StoreError, StoreErrorKind};
pub use types::{Garbage, Planning, Submitted, Swept, Tally, Winner};
pub use winners::{Holes, Winners};

use crate::clock::Clock;
use crate::policy::{Policy, Verdict};
use crate::shard::{LeaseRef, Refusal, attempt_of_key};
use backend::{Backend, Commit, Failure, JobChange, LeaseRequest, NewJob, NewSession, ShardPage};
use types::{Task, Tripped};

type Result<T> = std::result::Result<T, StoreError>;

/// Most characters of an error message that are stored.
const MESSAGE_CHARS_MAX: usize = 2_000;

/// Shards that one statement cancels.
const CANCEL_PAGE_SHARDS: u32 = 10_000;
/// What a leader does alone: planning, sweeping, finalizing.
const ROLE_UPKEEP: &str = "upkeep";
/// How often a commit is tried that is refused although its lease is live.
/// Its lead lapses as soon as it is taken: that is when the last sweep went through.
const ROLE_SWEEP: &str = "sweep";
const COMMIT_TRIES_MAX: usize = 3;

/// The job store. Clones share the connections.
#[derive(Clone)]
pub struct Store {
    backend: Arc<dyn Backend>,
    clock: Arc<dyn Clock>,
    policy: Arc<Policy>,
    /// When slow shards were last looked for in vain, by the same clock.
    slow_looked_ms: Arc<AtomicI64>,
    jitter: fn() -> f64,
    /// What this program knows of jobs, [`REVISION`]; those that need more are left to others. A test is a program of
    /// another one.
    revision: u32,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database behind `url` and brings its schema up to date: `sqlite:///path` or a plain path, which is
    /// created where it is missing and locked for this process, or `postgres://…`.
    pub async fn open(url: &str, clock: Arc<dyn Clock>) -> Result<Store> {
        Self::open_with(url, clock, Policy::default()).await
    }

    /// Opens the database with another policy than the default one.
    pub async fn open_with(url: &str, clock: Arc<dyn Clock>, policy: Policy) -> Result<Store> {
        let policy = Arc::new(policy);
        let backend: Arc<dyn Backend> = if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Arc::new(postgres::Postgres::open(url, clock.clone(), policy.clone()).await?)
        } else {
            Arc::new(sqlite::Sqlite::open(sqlite_path(url)?, clock.clone(), policy.clone()).await?)
        };
        Self::over(backend, clock, policy).await
    }

    /// Connects to a database in memory through a gate; its policy should be the database's.
    #[cfg(any(test, feature = "sim"))]
    pub async fn in_memory(
        memory: &memory::Memory,
        gate: Arc<dyn memory::Gate>,
        clock: Arc<dyn Clock>,
        policy: Policy,
    ) -> Result<Store> {
        Self::over(Arc::new(memory::Connection::new(memory.clone(), gate)), clock, Arc::new(policy)).await
    }

    async fn over(backend: Arc<dyn Backend>, clock: Arc<dyn Clock>, policy: Arc<Policy>) -> Result<Store> {
        // No heartbeat could arrive while no coordinator ran.
        backend.rebase().await?;
        backend.lead(ROLE_SWEEP, Uuid::nil(), REVISION, 0).await?;
        let slow_looked_ms = Arc::new(AtomicI64::new(i64::MIN / 2));
        Ok(Store { backend, clock, policy, slow_looked_ms, jitter: common::rng::unit_f64, revision: REVISION })
    }

    /// Waits for the transitions that are under way and lets go of the database; every later call fails. Dropping the
    /// last clone does the same without waiting.
    pub async fn close(&self) -> Result<()> {
        self.backend.close().await
    }

    /// Returns the policy that this store follows: `ttl_ms` and `heartbeat_ms` go into every session.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Stores a job. Submitting the same job twice is submitting it once.
    pub async fn submit_job(&self, job: JobId, spec: &JobSpec) -> Result<Submitted> {
        self.submit_job_of(job, spec, None).await
    }

    /// Stores a job of somebody who is known by name. One that is there keeps its owner.
    pub async fn submit_job_of(&self, job: JobId, spec: &JobSpec, owner: Option<&str>) -> Result<Submitted> {
        let digest = spec.digest();
        let new = NewJob {
            job,
            digest: digest.clone(),
            spec: rows::to_json(spec),
            task: rows::to_json(&Task::of(spec)),
            owner: owner.map(str::to_owned),
            allow_partial: spec.allow_partial,
            model_name: spec.model.name.clone(),
            source_total: spec.sources.len() as u64,
            revision: revision::needed(spec),
        };
        match self.backend.submit(new).await? {
            None => Ok(Submitted::Created),
            Some(stored) if stored == digest => {
                self.take_reuse(job, &spec.reuse).await?;
                Ok(Submitted::Existing)
            }
            Some(_) => Err(StoreError::SpecDiffers { job }),
        }
    }

    /// Lets a job that has not ended well take vectors from other earlier outputs than it was submitted with.
    async fn take_reuse(&self, job: JobId, given: &[ReuseSource]) -> Result<()> {
        let Some(stored) = self.spec(job).await? else { return Ok(()) };
        let reuse = stored.reuse_with(given);
        if reuse == stored.reuse {
            return Ok(());
        }
        let spec = JobSpec { reuse, ..stored };
        let (task, revision) = (rows::to_json(&Task::of(&spec)), revision::needed(&spec));
        let change = JobChange::TakeReuse { spec: rows::to_json(&spec), task, revision };
        self.backend.change_job(job, change).await.map(drop)
    }

    /// Asks for the end of a job: revokes its leases; [`Store::settle_cancelled`] does the rest. Repeating it is fine;
    /// a job that has succeeded or failed is an error of kind `WrongState`.
    pub async fn cancel(&self, job: JobId) -> Result<()> {
        let backend = self.backend.clone();
        detached(async move {
            if !backend.change_job(job, JobChange::Cancel).await? {
                match backend.job_state(job).await? {
                    Some(JobState::Cancelling | JobState::Cancelled) => {}
                    state => return Err(refused(job, "cancel", state)),
                }
            }
            backend.revoke(Some(job)).await?;
            Ok(())
        })
        .await
    }

    /// Stops new leases of a job; running ones may still commit.
    pub async fn pause(&self, job: JobId) -> Result<()> {
        self.set_paused(job, true, "pause").await
    }

    /// Lets a paused job have leases again.
    pub async fn resume(&self, job: JobId) -> Result<()> {
        self.set_paused(job, false, "resume").await
    }

    async fn set_paused(&self, job: JobId, paused: bool, action: &'static str) -> Result<()> {
        if self.backend.change_job(job, JobChange::Pause(paused)).await? {
            return Ok(());
        }
        Err(refused(job, action, self.backend.job_state(job).await?))
    }

    /// Gives dead shards a fresh budget and a failed job another life (planning goes on where it stopped). Epochs stay. A
    /// job that succeeded without its dead shards runs again, and gets the manifest of the next generation.
    pub async fn retry(&self, job: JobId) -> Result<()> {
        if self.backend.retry(job).await? {
            return Ok(());
        }
        Err(refused(job, "retry", self.backend.job_state(job).await?))
    }

    /// Does committed shards again whose files are damaged or missing: they are pending, their epochs stay, and a job that
    /// has ended runs again and gets the manifest of the next generation. Returns whether any of them was committed;
    /// repeating it changes nothing until they are committed again. A cancelled job is an error of kind `WrongState`.
    pub async fn repair(&self, job: JobId, shards: &[u64]) -> Result<bool> {
        if self.backend.repair(job, shards.to_vec()).await? > 0 {
            return Ok(true);
        }
        match self.backend.job_state(job).await? {
            state @ (None | Some(JobState::Cancelling | JobState::Cancelled)) => Err(refused(job, "repair", state)),
            Some(_) => Ok(false),
        }
    }

    /// Returns the jobs in state planning that this program knows, in the order of submission.
    pub async fn jobs_to_plan(&self) -> Result<Vec<JobId>> {
        self.backend.waiting(self.revision).await
    }

    /// Returns a job in state planning; `None` where it is not, or there is none.
    pub async fn planning(&self, job: JobId) -> Result<Option<Planning>> {
        self.backend.planning(job).await
    }

    /// Returns what all shards of one source of a job have in common; `None` where there is no such job, or the source is
    /// not planned.
    pub async fn source_task(&self, job: JobId, source_index: u32) -> Result<Option<SourceTask>> {
        self.backend.source_task(job, source_index, self.revision).await
    }

    /// Stores what planning found out about the sources, once. Returns whether these are the job's sources now; `false`
    /// means that the job is not being planned any more, or that others were stored first: read it again.
    pub async fn set_sources(&self, job: JobId, sources: &[PlannedSource]) -> Result<bool> {
        let stored = sources.iter().map(|source| (source.source.uri.clone(), rows::to_json(source))).collect();
        if self.backend.set_sources(job, stored).await? {
            return Ok(true);
        }
        let planning = self.backend.job_state(job).await? == Some(JobState::Planning);
        Ok(planning && self.backend.sources(job).await? == sources)
    }

    /// Appends shards if the planning cursor is `expected`, and moves it to `next`; `done` ends planning. Returns whether it
    /// did: `false` means that another planner was faster or the job has ended, and nothing was stored.
    pub async fn insert_shards(
        &self,
        job: JobId,
        expected: &Cursor,
        slices: &[Slice],
        next: &Cursor,
        done: bool,
    ) -> Result<bool> {
        let (expected, slices, next) = (expected.clone(), slices.to_vec(), next.clone());
        self.backend.insert_shards(ShardPage { job, expected, slices, next, done }).await
    }

    /// Ends a job without a result: revokes its leases, keeps its shards for [`Store::retry`]. Returns whether it was
    /// alive (planning, running or finalizing).
    pub async fn fail_job(&self, job: JobId, reason: &str) -> Result<bool> {
        let (backend, reason) = (self.backend.clone(), shortened(reason));
        detached(async move {
            let failed = backend.change_job(job, JobChange::Fail(reason)).await?;
            if failed {
                backend.revoke(Some(job)).await?;
            }
            Ok(failed)
        })
        .await
    }

    /// Registers a worker process. It may hold `policy.leases_per_device` leases per device (at least one device).
    pub async fn open_session(&self, worker: &WorkerInfo) -> Result<SessionId> {
        self.open_session_with(worker, self.policy.leases_max(worker.devices.len())).await
    }

    /// Registers a worker process that may hold so many leases.
    pub async fn open_session_with(&self, worker: &WorkerInfo, leases_max: u32) -> Result<SessionId> {
        let session = SessionId::generate();
        self.register(session, worker, leases_max).await?;
        Ok(session)
    }

    /// Registers a worker process under an id that the caller made.
    pub async fn open_session_as(&self, session: SessionId, worker: &WorkerInfo) -> Result<()> {
        self.register(session, worker, self.policy.leases_max(worker.devices.len())).await
    }

    async fn register(&self, session: SessionId, worker: &WorkerInfo, leases_max: u32) -> Result<()> {
        let devices = rows::to_json(&worker.devices);
        let (name, version, revision) = (worker.name.clone(), worker.version.clone(), worker.revision);
        let leases_max = leases_max.max(1);
        self.backend.open_session(NewSession { session, name, devices, version, revision, leases_max }).await
    }

    /// Takes a heartbeat: extends the session, records progress, and says of every reported lease whether it is live.
    pub async fn heartbeat(&self, session: SessionId, progress: &[Progress]) -> Result<HeartbeatReply> {
        let Some(standing) = self.backend.heartbeat(session, progress.to_vec()).await? else {
            return Ok(HeartbeatReply { directives: vec![Directive::Stop; progress.len()], session_lost: true });
        };
        let directive = |is_live| if is_live { Directive::Continue } else { Directive::Stop };
        Ok(HeartbeatReply { directives: standing.into_iter().map(directive).collect(), session_lost: false })
    }

    /// Ends a session in peace: its leases go back at once, and nothing is counted. Repeating it is fine.
    pub async fn close_session(&self, session: SessionId) -> Result<()> {
        self.backend.close_sessions(Some(session)).await
    }

    /// Ends every session in peace. For a process that brings its own workers and holds the database alone: whatever
    /// sessions it finds at its start belong to a process that is gone, and their shards need not wait for the TTL.
    pub async fn close_all_sessions(&self) -> Result<()> {
        self.backend.close_sessions(None).await
    }

    /// Leases up to `max` shards: jobs in the order of submission, shards in input order. Where none is pending, an idle
    /// session may get a copy of a slow one. The same `request` again returns the same grants. An error of kind `SessionLost` asks for a new session.
    pub async fn lease(&self, session: SessionId, request: RequestId, max: u32) -> Result<Vec<Granted>> {
        self.lease_known(session, request, max, self.revision).await
    }

    /// As [`Store::lease`], for a worker that knows jobs up to a revision.
    pub async fn lease_known(
        &self,
        session: SessionId,
        request: RequestId,
        max: u32,
        revision: u32,
    ) -> Result<Vec<Granted>> {
        let lease_request = LeaseRequest { session, request, max, revision: revision.min(self.revision) };
        let granted = self.backend.lease(lease_request).await?.ok_or(StoreError::SessionLost { session })?;
        if granted.is_empty() && max > 0 && self.looks_for_slow_shards() {
            let copies = self.backend.copy_slow(lease_request).await?;
            if copies.is_empty() {
                self.slow_looked_ms.store(self.clock.now_ms(), Ordering::Relaxed);
            }
            return Ok(copies);
        }
        Ok(granted)
    }

    /// Thousands of idle workers ask all the time, and slow shards are rare: not everybody looks for them.
    fn looks_for_slow_shards(&self) -> bool {
        self.clock.now_ms() - self.slow_looked_ms.load(Ordering::Relaxed) >= self.policy.copy_look_ms
    }

    /// Makes an output the shard's winner, if the lease is still live. The same commit again is `Committed` again.
    pub async fn commit(
        &self,
        session: SessionId,
        shard: ShardId,
        epoch: Epoch,
        output: &Output,
    ) -> Result<CommitOutcome> {
        let lease = lease_ref(session, shard, epoch);
        let attempt = attempt_of_key(shard, epoch, &output.key).unwrap_or(Uuid::nil());
        let mut refusal = Refusal::unknown();
        for _ in 0..COMMIT_TRIES_MAX {
            if self.backend.commit(Commit { lease, attempt, output: output.clone() }).await? {
                return Ok(CommitOutcome::Committed);
            }
            refusal = self.backend.refusal(lease).await?;
            if !refusal.lease_stands(output) {
                break;
            }
        }
        if refusal.input_differs(output) {
            return self.refuse_input(shard, epoch, output).await;
        }
        refusal.outcome(epoch, output).map_err(|problem| StoreError::OutputRefused { shard, epoch, problem })
    }

    /// I7: two attempts at a shard read different inputs. It is unknown which of them read what was planned.
    async fn refuse_input(&self, shard: ShardId, epoch: Epoch, output: &Output) -> Result<CommitOutcome> {
        let (index, found) = (shard.index, &output.input_blake3);
        let reason = format!(
            "shard {index}: its input changed since it was first read (input_changed): BLAKE3 {found} at epoch {epoch}"
        );
        tracing::error!(shard.id = %shard, %epoch, reason, "two attempts read different inputs");
        self.fail_job(shard.job, &reason).await?;
        Ok(CommitOutcome::Cancelled)
    }

    /// Reports that an attempt failed. Returns whether the lease was live; `false` changes nothing.
    pub async fn fail(
        &self,
        session: SessionId,
        shard: ShardId,
        epoch: Epoch,
        class: FailureClass,
        message: &str,
    ) -> Result<bool> {
        let (store, lease, message) = (self.clone(), lease_ref(session, shard, epoch), shortened(message));
        let reason = format!("shard {}: {message}", shard.index);
        let failure = Failure { lease, class, message, unit: (self.jitter)() };
        detached(async move {
            let was_live = store.backend.fail(failure).await?;
            // A crash between the two heals itself: the shard is pending, and its next attempt fails the same way.
            let verdict = Policy::verdict(class);
            if was_live && verdict == Verdict::JobFatal {
                store.fail_job(shard.job, &reason).await?;
            }
            if was_live && verdict == Verdict::JobPaused {
                store.backend.change_job(shard.job, JobChange::Trip(reason)).await?;
            }
            Ok(was_live)
        })
        .await
    }

    /// Gives a lease back; the shard is pending at once and nothing is counted. Returns whether the lease was live.
    pub async fn release(&self, session: SessionId, shard: ShardId, epoch: Epoch) -> Result<bool> {
        self.backend.release(lease_ref(session, shard, epoch)).await
    }

    /// Declares sessions dead that missed their heartbeats, and takes back the leases of dead and of stuck sessions.
    /// Some process must call it every few seconds: after a longer gap it only gives every session a fresh TTL.
    pub async fn expire_sessions(&self) -> Result<Swept> {
        let gap_ms = self.backend.lapsed_ms(ROLE_SWEEP).await?;
        let swept = if self.policy.sweep_gap_is_outage(gap_ms) {
            self.backend.rebase().await?;
            Swept::default()
        } else {
            Swept { sessions: self.backend.expire().await?, leases: self.backend.reap().await? }
        };
        // Only now: sweeps that fail while the database is away must look like the gap that they are.
        self.backend.lead(ROLE_SWEEP, Uuid::nil(), self.revision, 0).await?;
        Ok(swept)
    }

    /// Pauses the jobs of whose last attempts too many failed in the same way, with the reason. Returns them.
    pub async fn trip_breakers(&self) -> Result<Vec<JobId>> {
        let (attempts, most) = (self.policy.breaker_attempts, self.policy.breaker_failures_max());
        if attempts == 0 {
            return Ok(Vec::new());
        }
        let mut paused = Vec::new();
        for Tripped { job, class, attempts: failed } in self.backend.tripped(attempts, most).await? {
            let reason = format!(
                "{failed} of its last {attempts} attempts ended in the same way ({class}); mend the cause, then resume it"
            );
            if self.backend.change_job(job, JobChange::Trip(reason)).await? {
                paused.push(job);
            }
        }
        Ok(paused)
    }

    /// Gives no more shards to workers that failed several which others completed. Returns their sessions.
    pub async fn quarantine_sessions(&self) -> Result<Vec<SessionId>> {
        self.backend.quarantine(self.policy.quarantine_shards).await
    }

    /// Takes or keeps the lead of the upkeep for this process, also from a program of an earlier revision. Returns whether it
    /// has it for the next `policy.leader_ms`.
    pub async fn lead_upkeep(&self, process: Uuid) -> Result<bool> {
        self.backend.lead(ROLE_UPKEEP, process, self.revision, self.policy.leader_ms).await
    }

    /// Gives the lead of the upkeep up, so that another process need not wait for it to lapse.
    pub async fn resign_upkeep(&self, process: Uuid) -> Result<()> {
        self.backend.resign(ROLE_UPKEEP, process).await
    }

    /// Returns the jobs whose shards are all committed (or dead, where that is allowed) and whose manifest is not written
    /// yet, also those in state finalizing that a crash left behind.
    pub async fn jobs_to_finalize(&self) -> Result<Vec<JobId>> {
        self.backend.finalizable(self.revision).await
    }

    /// Fails the jobs of which nothing is left but dead shards (unless that is allowed and some shard is committed), with
    /// a reason that names the first of them. Returns them.
    pub async fn fail_exhausted(&self) -> Result<Vec<JobId>> {
        let mut failed = Vec::new();
        for exhausted in self.backend.exhausted(self.revision).await? {
            let (dead, index) = (exhausted.dead, exhausted.first_index);
            let error = exhausted.first_error.unwrap_or_default();
            let reason = format!("{dead} of its shards are out of attempts, first shard {index}: {error}");
            if self.backend.change_job(exhausted.job, JobChange::Exhaust(reason)).await? {
                failed.push(exhausted.job);
            }
        }
        Ok(failed)
    }

    /// Moves a job to finalizing. Returns whether it is there now (also when it was before).
    pub async fn begin_finalize(&self, job: JobId) -> Result<bool> {
        self.backend.change_job(job, JobChange::BeginFinalize).await
    }

    /// Returns committed shards after index `after`, in the order of index, at most `limit`.
    pub async fn winners(&self, job: JobId, after: Option<u64>, limit: u32) -> Result<Vec<Winner>> {
        self.backend.winners(WinnerList::All, job, after.map_or(-1, rows::signed), limit).await
    }

    /// Returns the planned sources of a job, in order; empty before they are known.
    pub async fn sources(&self, job: JobId) -> Result<Vec<PlannedSource>> {
        self.backend.sources(job).await
    }

    /// Moves a finalizing job to succeeded, if the manifest is of the generation that it waits for. Returns whether it
    /// succeeded with this manifest (also when it did before).
    pub async fn finish_job(&self, job: JobId, generation: u64, key: &str, digest: &str) -> Result<bool> {
        let (key, digest) = (key.to_owned(), digest.to_owned());
        self.backend.change_job(job, JobChange::Finish { generation, key, digest }).await
    }

    /// Fails a finalizing job, if this is the generation whose manifest it waits for: a job that was repaired meanwhile
    /// lives on. Returns whether it did.
    pub async fn fail_finalize(&self, job: JobId, generation: u64, reason: &str) -> Result<bool> {
        self.backend.change_job(job, JobChange::FailFinalize { generation, reason: shortened(reason) }).await
    }

    /// Brings jobs in state cancelling to cancelled, once no lease of theirs is live, and takes back leases that slipped
    /// past the end of their job. Returns how many jobs were settled.
    pub async fn settle_cancelled(&self) -> Result<u64> {
        self.backend.revoke(None).await?;
        while self.backend.cancel_pending(CANCEL_PAGE_SHARDS).await? > 0 {}
        self.backend.settle().await
    }

    /// Marks losing attempts that ended long enough ago, and returns their keys together with those marked before and
    /// not yet reported deleted: at most `limit`. A marked attempt can never commit.
    pub async fn mark_garbage(&self, limit: u32) -> Result<Vec<Garbage>> {
        self.backend.mark_garbage(limit).await?;
        self.backend.list_garbage(limit).await
    }

    /// Records that the objects of marked attempts are gone.
    pub async fn garbage_deleted(&self, garbage: &[Garbage]) -> Result<()> {
        self.backend.garbage_deleted(garbage.to_vec()).await
    }
}

fn lease_ref(session: SessionId, shard: ShardId, epoch: Epoch) -> LeaseRef {
    LeaseRef { session, job: shard.job, index: shard.index, epoch }
}

fn refused(job: JobId, action: &'static str, state: Option<JobState>) -> StoreError {
    match state {
        None => StoreError::JobUnknown { job },
        Some(state) => StoreError::WrongState { job, action, state },
    }
}

fn shortened(message: &str) -> String {
    message.chars().take(MESSAGE_CHARS_MAX).collect()
}

/// Returns the path that a SQLite URL or a plain path means.
fn sqlite_path(url: &str) -> Result<&str> {
    let path = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:")).unwrap_or(url);
    let problem = if path.contains("://") {
        "its scheme is none of `sqlite`, `postgres`"
    } else if path.is_empty() || path.starts_with(":memory:") {
        "it names no file"
    } else {
        return Ok(path);
    };
    Err(StoreError::Open { url: url.to_owned(), problem: problem.to_owned() })
}

/// Runs a transition in a task of its own: a gRPC handler whose client went away is dropped at any await, and a
/// transition that is cut in half there would hold a connection or leave the second step undone.
async fn detached<T: Send + 'static>(transition: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    match tokio::spawn(transition).await {
        Ok(answer) => answer,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(StoreError::Closed),
    }
}
