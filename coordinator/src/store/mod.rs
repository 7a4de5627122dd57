//! The job store: every transition of jobs, shards, attempts and sessions, on SQLite or PostgreSQL.
//!
//! [`Store`] is concrete; the two databases are twins beneath it (`backend`, private), and one suite (`conformance`)
//! holds both to the pure model of [`crate::shard`]. Every method may be repeated after an error of kind
//! [`StoreErrorKind::Unavailable`]: a transition that has already happened changes nothing the second time.

mod error;
mod types;

use std::sync::Arc;

use dataset::{Cursor, PlannedSource, Slice};
use proto::job::{JobSpec, JobStatus};
use proto::work::{Beat, CommitOutcome, FailureClass, Grant, Output, Progress, WorkerInfo};
use proto::{Epoch, JobId, RequestId, SessionId, ShardId};

pub use error::{StoreError, StoreErrorKind};
pub use types::{Garbage, Planning, Submitted, Swept, Winner};

use crate::clock::Clock;
use crate::policy::Policy;

type Result<T> = std::result::Result<T, StoreError>;

/// The job store. Clones share the connections.
#[derive(Clone)]
pub struct Store {
    policy: Arc<Policy>,
}

impl Store {
    /// Opens the database behind `url` and brings its schema up to date: `sqlite:///path` or a plain path, which is
    /// created where it is missing and locked for this process, or `postgres://…`.
    pub async fn open(url: &str, clock: Arc<dyn Clock>) -> Result<Store> {
        Self::open_with(url, clock, Policy::default()).await
    }

    /// Opens the database with another policy than the default one.
    pub async fn open_with(_url: &str, _clock: Arc<dyn Clock>, policy: Policy) -> Result<Store> {
        Ok(Store { policy: Arc::new(policy) })
    }

    /// Returns the policy that this store follows: `ttl_ms` and `heartbeat_ms` go into every session.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Stores a job. Submitting the same job twice is submitting it once.
    pub async fn submit_job(&self, _job: JobId, _spec: &JobSpec) -> Result<Submitted> {
        unimplemented!()
    }

    /// Returns how a job stands. Costs the same for ten shards and for a million.
    pub async fn job(&self, _job: JobId) -> Result<Option<JobStatus>> {
        unimplemented!()
    }

    /// Returns how every job stands, in the order of submission.
    pub async fn jobs(&self) -> Result<Vec<JobStatus>> {
        unimplemented!()
    }

    /// Asks for the end of a job: revokes its leases; [`Store::settle_cancelled`] does the rest. Repeating it is fine;
    /// a job that has succeeded or failed is an error of kind `WrongState`.
    pub async fn cancel(&self, _job: JobId) -> Result<()> {
        unimplemented!()
    }

    /// Stops new leases of a job; running ones may still commit.
    pub async fn pause(&self, _job: JobId) -> Result<()> {
        unimplemented!()
    }

    /// Lets a paused job have leases again.
    pub async fn resume(&self, _job: JobId) -> Result<()> {
        unimplemented!()
    }

    /// Gives dead shards a fresh budget and a failed job another life (planning goes on where it stopped). Epochs stay.
    pub async fn retry(&self, _job: JobId) -> Result<()> {
        unimplemented!()
    }

    /// Returns the jobs in state planning, in the order of submission.
    pub async fn jobs_to_plan(&self) -> Result<Vec<Planning>> {
        unimplemented!()
    }

    /// Stores what planning found out about the sources, once. Returns whether these are the job's sources now; `false`
    /// means that the job is not being planned any more, or that others were stored first: read it again.
    pub async fn set_sources(&self, _job: JobId, _sources: &[PlannedSource]) -> Result<bool> {
        unimplemented!()
    }

    /// Appends shards if planning stands at `expected`, and moves it to `next`; `done` ends planning. Returns whether it
    /// did: `false` means that another planner was faster or the job has ended, and nothing was stored.
    pub async fn insert_shards(
        &self,
        _job: JobId,
        _expected: &Cursor,
        _slices: &[Slice],
        _next: &Cursor,
        _done: bool,
    ) -> Result<bool> {
        unimplemented!()
    }

    /// Ends a job without a result: revokes its leases, keeps its shards for [`Store::retry`]. Returns whether it was
    /// alive (planning, running or finalizing).
    pub async fn fail_job(&self, _job: JobId, _reason: &str) -> Result<bool> {
        unimplemented!()
    }

    /// Registers a worker process. It may hold `policy.leases_per_device` leases per device (at least one device).
    pub async fn open_session(&self, _worker: &WorkerInfo) -> Result<SessionId> {
        unimplemented!()
    }

    /// Registers a worker process that may hold so many leases.
    pub async fn open_session_with(&self, _worker: &WorkerInfo, _leases_max: u32) -> Result<SessionId> {
        unimplemented!()
    }

    /// Takes a heartbeat: extends the session, records progress, and says of every reported lease whether it stands.
    pub async fn beat(&self, _session: SessionId, _progress: &[Progress]) -> Result<Beat> {
        unimplemented!()
    }

    /// Ends a session in peace: its leases go back at once, and nothing is counted. Repeating it is fine.
    pub async fn close_session(&self, _session: SessionId) -> Result<()> {
        unimplemented!()
    }

    /// Leases up to `max` shards: jobs in the order of submission, shards in input order. The same `request` again
    /// returns the same grants. An error of kind `SessionLost` asks for a new session.
    pub async fn lease(&self, _session: SessionId, _request: RequestId, _max: u32) -> Result<Vec<Grant>> {
        unimplemented!()
    }

    /// Makes an output the shard's winner, if the lease still stands. The same commit again is `Committed` again.
    pub async fn commit(
        &self,
        _session: SessionId,
        _shard: ShardId,
        _epoch: Epoch,
        _output: &Output,
    ) -> Result<CommitOutcome> {
        unimplemented!()
    }

    /// Reports that an attempt failed. Returns whether the lease still stood; `false` changes nothing.
    pub async fn fail(
        &self,
        _session: SessionId,
        _shard: ShardId,
        _epoch: Epoch,
        _class: FailureClass,
        _message: &str,
    ) -> Result<bool> {
        unimplemented!()
    }

    /// Gives a lease back; the shard is pending at once and nothing is counted. Returns whether the lease still stood.
    pub async fn release(&self, _session: SessionId, _shard: ShardId, _epoch: Epoch) -> Result<bool> {
        unimplemented!()
    }

    /// Declares sessions dead that missed their heartbeats, and takes back the leases of dead and of stuck sessions.
    /// Call it every few seconds: after a longer gap it only gives every session a fresh TTL.
    pub async fn expire_sessions(&self) -> Result<Swept> {
        unimplemented!()
    }

    /// Returns the jobs whose shards are all committed and whose manifest is not written yet, also those in state
    /// finalizing that a crash left behind.
    pub async fn jobs_to_finalize(&self) -> Result<Vec<JobId>> {
        unimplemented!()
    }

    /// Fails the jobs of which nothing is left but dead shards, with a reason that names the first of them. Returns them.
    pub async fn fail_exhausted(&self) -> Result<Vec<JobId>> {
        unimplemented!()
    }

    /// Moves a job to finalizing. Returns whether it is there now (also when it was before).
    pub async fn begin_finalize(&self, _job: JobId) -> Result<bool> {
        unimplemented!()
    }

    /// Returns committed shards after index `after`, in input order, at most `limit`.
    pub async fn winners(&self, _job: JobId, _after: Option<u64>, _limit: u32) -> Result<Vec<Winner>> {
        unimplemented!()
    }

    /// Returns the planned sources of a job, in order; empty before they are known.
    pub async fn sources(&self, _job: JobId) -> Result<Vec<PlannedSource>> {
        unimplemented!()
    }

    /// Moves a finalizing job to succeeded. Returns whether it succeeded with this manifest (also when it did before).
    pub async fn finish_job(&self, _job: JobId, _manifest_key: &str, _manifest_digest: &str) -> Result<bool> {
        unimplemented!()
    }

    /// Brings jobs in state cancelling to cancelled, once no lease of theirs is live, and takes back leases that slipped
    /// past the end of their job. Returns how many jobs were settled.
    pub async fn settle_cancelled(&self) -> Result<u64> {
        unimplemented!()
    }

    /// Marks losing attempts that ended long enough ago, and returns their keys together with those marked before and
    /// not yet reported deleted: at most `limit`. A marked attempt can never commit.
    pub async fn mark_garbage(&self, _limit: u32) -> Result<Vec<Garbage>> {
        unimplemented!()
    }

    /// Records that the objects of marked attempts are gone.
    pub async fn garbage_deleted(&self, _garbage: &[Garbage]) -> Result<()> {
        unimplemented!()
    }
}
