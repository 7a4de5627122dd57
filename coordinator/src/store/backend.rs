//! What a database must do for the store: one method per transition, with its precondition. Private to the store.
//!
//! A method that returns `bool` or a count says how much changed: nothing, if the precondition does not hold (any more).
//! Arguments are owned, because a transition runs in a task of its own that outlives a caller who has gone away.

use dataset::{Cursor, Slice};
use proto::work::{FailureClass, Granted, Output, Progress};
use proto::{JobId, RequestId, SessionId};
use uuid::Uuid;

use super::reads::Reads;
use super::types::{Garbage, StoreFuture};
use crate::shard::{LeaseRef, Refusal};

/// Why leases end without their worker's doing, as recorded with the attempt.
pub(crate) const REASON_SESSION_LOST: &str = "its worker stopped sending heartbeats";
pub(crate) const REASON_STALLED: &str = "its worker made no progress";
pub(crate) const REASON_RELEASED: &str = "given back by its worker";
pub(crate) const REASON_STRAY: &str = "its worker does not know of it";
pub(crate) const REASON_CLOSED: &str = "its worker closed the session";
pub(crate) const REASON_REVOKED: &str = "its job ended";
pub(crate) const REASON_LOST_RACE: &str = "another attempt was faster";
pub(crate) const REASON_REPAIRED: &str = "its file is damaged or missing";

/// A job as submitted, ready to be stored.
#[derive(Debug, Clone)]
pub(crate) struct NewJob {
    pub(crate) job: JobId,
    pub(crate) digest: String,
    pub(crate) spec: String,
    pub(crate) task: String,
    /// Who submits it, where callers are known.
    pub(crate) owner: Option<String>,
    /// Its dead shards become holes.
    pub(crate) allow_partial: bool,
    /// What a list shows of the spec.
    pub(crate) model_name: String,
    pub(crate) source_total: u64,
    /// What a program must know to work on it.
    pub(crate) revision: u32,
}

/// A request for leases.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeaseRequest {
    pub(crate) session: SessionId,
    pub(crate) request: RequestId,
    pub(crate) max: u32,
    /// Of no job that needs a later one.
    pub(crate) revision: u32,
}

/// A change of a job's row alone, guarded by its state.
#[derive(Debug, Clone)]
pub(crate) enum JobChange {
    /// Active or finalizing → cancelling.
    Cancel,
    /// Active or finalizing: set the flag.
    Pause(bool),
    /// Active or finalizing → failed.
    Fail(String),
    /// Planning or running, not paused: pause, for a reason of the coordinator's own.
    Trip(String),
    /// Running, nothing left but dead shards, and no holes allowed → failed.
    Exhaust(String),
    /// Running, all shards committed (some, where the others may be holes) → finalizing; finalizing stays.
    BeginFinalize,
    /// Planning, running or failed: replace the earlier outputs that vectors are taken from.
    TakeReuse { spec: String, task: String, revision: u32 },
    /// Finalizing, generation as given → failed.
    FailFinalize { generation: u64, reason: String },
    /// Finalizing, generation as given → succeeded; succeeded with this digest stays.
    Finish { generation: u64, key: String, digest: String },
}

/// Shards to append if the planning cursor is `expected`.
#[derive(Debug, Clone)]
pub(crate) struct ShardPage {
    pub(crate) job: JobId,
    pub(crate) expected: Cursor,
    pub(crate) slices: Vec<Slice>,
    pub(crate) next: Cursor,
    pub(crate) done: bool,
}

/// A worker process to register.
#[derive(Debug, Clone)]
pub(crate) struct NewSession {
    pub(crate) session: SessionId,
    pub(crate) name: String,
    pub(crate) devices: String,
    pub(crate) version: String,
    pub(crate) revision: u32,
    pub(crate) leases_max: u32,
}

/// An output to make the winner.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub(crate) lease: LeaseRef,
    /// The random part of the key; nil where the key is not of this lease's form, which no attempt has.
    pub(crate) attempt: Uuid,
    pub(crate) output: Output,
}

/// A failure to record.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) lease: LeaseRef,
    pub(crate) class: FailureClass,
    pub(crate) message: String,
    /// A random number in `0.0..1.0`, for the pause.
    pub(crate) unit: f64,
}

/// Which coordinator of several has a role.
pub(crate) trait Leadership: Send + Sync {
    /// Takes or keeps a role for so long, if no other holder of this or a later revision has it. Returns whether it is the
    /// holder's.
    fn lead(&self, role: &'static str, holder: Uuid, revision: u32, for_ms: i64) -> StoreFuture<'_, bool>;
    /// Returns the milliseconds since a role lapsed: negative while it is held, 0 where it never was.
    fn lapsed_ms(&self, role: &'static str) -> StoreFuture<'_, i64>;
    /// Gives up a role, if it is the holder's.
    fn resign(&self, role: &'static str, holder: Uuid) -> StoreFuture<'_, ()>;
}

/// A database beneath the store.
pub(crate) trait Backend: Reads + Leadership {
    /// Stores a job unless its id is taken; then returns the digest that is stored.
    fn submit(&self, job: NewJob) -> StoreFuture<'_, Option<String>>;
    /// Stores the id of the storage that the jobs' files are in, unless one is stored; `None` only asks. Returns what is
    /// stored then.
    fn storage_id(&self, id: Option<String>) -> StoreFuture<'_, Option<String>>;
    /// Changes a job's row.
    fn change_job(&self, job: JobId, change: JobChange) -> StoreFuture<'_, bool>;
    /// Active or failed job, or one that succeeded without its dead shards: dead → pending with a fresh budget, job →
    /// running or planning, with the next generation where a manifest may list the dead.
    fn retry(&self, job: JobId) -> StoreFuture<'_, bool>;
    /// Any job that is not cancelled: those of the shards that are committed → pending, their winners revoked; if there
    /// are any, finalizing, succeeded, failed → running or planning with the next generation. Returns how many.
    fn repair(&self, job: JobId, shards: Vec<u64>) -> StoreFuture<'_, u64>;
    /// Planning, no sources yet: stores URIs and planned sources.
    fn set_sources(&self, job: JobId, sources: Vec<(String, String)>) -> StoreFuture<'_, bool>;
    /// Planning, sources known, cursor as expected: appends shards and moves the cursor.
    fn insert_shards(&self, page: ShardPage) -> StoreFuture<'_, bool>;

    /// Registers a worker process.
    fn open_session(&self, session: NewSession) -> StoreFuture<'_, ()>;
    /// Live session: extends it, records progress; live attempts of its own that it does not report although they were
    /// granted a TTL ago or earlier: released. Returns which of the reported leases are live. `None`: the session is lost.
    fn heartbeat(&self, session: SessionId, progress: Vec<Progress>) -> StoreFuture<'_, Option<Vec<bool>>>;
    /// Live session (`None`: every one): dead, its live attempts released, their shards pending.
    fn close_sessions(&self, session: Option<SessionId>) -> StoreFuture<'_, ()>;
    /// Live, unexpired session, pending shards of active jobs that are not paused and of no later revision: leases up to `max` within the
    /// session's limit. A shard that must be isolated goes alone, to a session that holds nothing; while one waits, sessions that hold
    /// something get nothing. A repeated request gets what it was granted. `None`: the session is lost.
    fn lease(&self, lease_request: LeaseRequest) -> StoreFuture<'_, Option<Vec<Granted>>>;
    /// Live, unexpired session that holds nothing and whose request is new; running job without pending shards, nearly
    /// done: a second attempt at the shard that has been running longest, if that is long, it has one attempt, another
    /// session holds it, and the job has not had too many copies.
    fn copy_slow(&self, lease_request: LeaseRequest) -> StoreFuture<'_, Vec<Granted>>;
    /// Live attempt of this session and name, active job, right number of rows, the input
    /// that an earlier output was made of: attempt and shard committed, other attempts at it have lost the race.
    fn commit(&self, commit: Commit) -> StoreFuture<'_, bool>;
    /// Returns what is known of a commit that did not go through.
    fn refusal(&self, lease: LeaseRef) -> StoreFuture<'_, Refusal>;
    /// Live attempt of this session: failed; shard as its specification says.
    fn fail(&self, failure: Failure) -> StoreFuture<'_, bool>;
    /// Live attempt of this session: released; shard pending, nothing counted.
    fn release(&self, lease: LeaseRef) -> StoreFuture<'_, bool>;

    /// Live sessions that failed so many shards which others have completed: no more leases. Returns them.
    fn quarantine(&self, shards: u32) -> StoreFuture<'_, Vec<SessionId>>;

    /// Gives every live session a fresh TTL.
    fn rebase(&self) -> StoreFuture<'_, ()>;
    /// Live sessions past their deadline, not too many at once: dead.
    fn expire(&self) -> StoreFuture<'_, u64>;
    /// Live attempts of dead or stuck sessions: expired; shard as its specification says.
    fn reap(&self) -> StoreFuture<'_, u64>;
    /// Live attempts of failed and cancelled jobs (or of one): revoked; shard pending or cancelled.
    fn revoke(&self, job: Option<JobId>) -> StoreFuture<'_, u64>;
    /// Pending shards of cancelling jobs: cancelled, at most `limit`.
    fn cancel_pending(&self, limit: u32) -> StoreFuture<'_, u64>;
    /// Cancelling, no shard pending or running: cancelled.
    fn settle(&self) -> StoreFuture<'_, u64>;
    /// Losing attempts that ended long enough ago, at most `limit`: garbage.
    fn mark_garbage(&self, limit: u32) -> StoreFuture<'_, u64>;
    /// Garbage: its object is deleted.
    fn garbage_deleted(&self, garbage: Vec<Garbage>) -> StoreFuture<'_, ()>;

    /// Waits for what is under way and lets go of the database.
    fn close(&self) -> StoreFuture<'_, ()>;

    /// Returns the rows of a listing, one line each.
    #[cfg(test)]
    fn lines(&self, listing: &'static super::conformance::dump::Listing) -> StoreFuture<'_, Vec<String>>;
}
