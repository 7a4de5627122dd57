//! Clients: domain in, domain out. Every call has a deadline; only UNAVAILABLE is repeated, see [`crate::retry`].

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use common::with_causes;
use prost::Message;
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use crate::convert::{self, ConvertError};
use crate::generated as wire;
use crate::generated::jobs_client::JobsClient as JobsStub;
use crate::generated::work_client::WorkClient as WorkStub;
use crate::ids::{Epoch, JobId, RequestId, SessionId, ShardId};
use crate::job::{JobList, JobSpec, JobStatus, ResultsPage};
use crate::limits;
use crate::retry::{Budget, RetryPolicy};
use crate::revision::REVISION;
use crate::transport::MESSAGE_BYTES_MAX;
use crate::wire::Wire;
use crate::work::{
    CommitOutcome, FailureClass, HeartbeatReply, Leased, Output, Progress, Session, SourceTask, WorkerInfo,
};

/// For calls that read or write a few rows.
const DEADLINE_SHORT: Duration = Duration::from_secs(10);
/// For calls that may wait in a queue for the database, or look at an object in storage.
const DEADLINE_LONG: Duration = Duration::from_secs(30);
/// Pages of `list`: bounds a client against a server that always says "more".
const LIST_PAGES_MAX: usize = 1_000;
/// Most bytes of a message about a failure: a coordinator keeps less.
const FAILURE_BYTES_MAX: usize = 16 * 1024;
/// Most bytes of a [`SourceTask`]: twice what [`limits`] allow, since numbers and names come on top.
const SOURCE_TASK_BYTES_MAX: u64 = 2 * limits::COLUMNS_BYTES_MAX as u64;
/// How often a [`SourceTask`] is fetched that turns into another one meanwhile.
const SOURCE_TASK_TRIES_MAX: u32 = 3;

/// Shards that one call repairs: as many as fit a message, and a statement, with ease.
const REPAIR_PAGE_SHARDS: usize = 10_000;

/// What a failed call means to its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RpcErrorKind {
    /// No coordinator answered; repeats were made and did not help. Asking again later is safe.
    Unavailable,
    /// No answer in time; whether the call took effect is unknown. Asking again is safe.
    DeadlineExceeded,
    /// The coordinator is at one of its limits: ask again later.
    ResourceExhausted,
    /// There is no such job, session or shard.
    NotFound,
    /// The id is taken by something else.
    AlreadyExists,
    /// The request itself is wrong.
    InvalidArgument,
    /// The state does not allow it, for instance resuming a job that has ended.
    FailedPrecondition,
    /// The coordinator does not know the call: it is older than this program.
    Unimplemented,
    /// The caller is not authenticated: no certificate or token, or one that is not valid any more.
    Unauthenticated,
    /// The caller may not do this.
    PermissionDenied,
    /// The coordinator failed.
    Internal,
    /// The answer makes no sense to this version of the program.
    BadAnswer,
}

/// A call that did not work out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {message}")]
pub struct RpcError {
    /// The call, such as `Commit`.
    pub call: &'static str,
    /// What it means.
    pub kind: RpcErrorKind,
    /// What happened, for people.
    pub message: String,
}

impl RpcError {
    /// Whether the very same call may succeed later; every call is safe to repeat.
    pub fn is_retryable(&self) -> bool {
        match self.kind {
            RpcErrorKind::Unavailable | RpcErrorKind::DeadlineExceeded | RpcErrorKind::ResourceExhausted => true,
            RpcErrorKind::NotFound
            | RpcErrorKind::AlreadyExists
            | RpcErrorKind::InvalidArgument
            | RpcErrorKind::FailedPrecondition
            | RpcErrorKind::Unimplemented
            | RpcErrorKind::Unauthenticated
            | RpcErrorKind::PermissionDenied
            | RpcErrorKind::Internal
            | RpcErrorKind::BadAnswer => false,
        }
    }

    fn of(call: &'static str, status: &Status) -> Self {
        Self { call, kind: kind_of(status), message: with_causes(status.message().to_owned(), status.source()) }
    }

    fn bad_answer(call: &'static str, error: ConvertError) -> Self {
        Self { call, kind: RpcErrorKind::BadAnswer, message: format!("unexpected answer: {error}") }
    }
}

fn kind_of(status: &Status) -> RpcErrorKind {
    // A status that carries a source was made on this side, out of a connection that could not be made or broke. Tonic
    // files some of those under Unknown or Cancelled; all of them mean that the coordinator was not reached.
    if status.source().is_some() || status.message().starts_with("Service was not ready") {
        return RpcErrorKind::Unavailable;
    }
    match status.code() {
        Code::Unavailable | Code::Cancelled | Code::Aborted => RpcErrorKind::Unavailable,
        Code::DeadlineExceeded => RpcErrorKind::DeadlineExceeded,
        Code::ResourceExhausted => RpcErrorKind::ResourceExhausted,
        Code::NotFound => RpcErrorKind::NotFound,
        Code::AlreadyExists => RpcErrorKind::AlreadyExists,
        Code::InvalidArgument | Code::OutOfRange => RpcErrorKind::InvalidArgument,
        Code::FailedPrecondition => RpcErrorKind::FailedPrecondition,
        Code::Unimplemented => RpcErrorKind::Unimplemented,
        Code::Unauthenticated => RpcErrorKind::Unauthenticated,
        Code::PermissionDenied => RpcErrorKind::PermissionDenied,
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => RpcErrorKind::Internal,
    }
}

/// Deadline and repeats, shared by both clients.
#[derive(Debug, Clone)]
struct Caller {
    policy: RetryPolicy,
    budget: Arc<Budget>,
}

impl Caller {
    fn new(policy: RetryPolicy) -> Self {
        Self { policy, budget: Arc::new(Budget::full()) }
    }

    /// Makes a call, repeats included, within `deadline`.
    async fn call<Q, A, F>(
        &self,
        name: &'static str,
        deadline: Duration,
        request: Q,
        mut send: impl FnMut(Request<Q>) -> F,
    ) -> Result<A, RpcError>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let until = Instant::now() + deadline.min(self.policy.deadline_max);
        let mut attempt = 1;
        loop {
            let error = match self.attempt(name, until, request.clone(), &mut send).await {
                Ok(answer) => {
                    self.budget.earn();
                    return Ok(answer);
                }
                Err(error) => error,
            };
            let pause = self.policy.backoff.pause(attempt - 1);
            let again = error.kind == RpcErrorKind::Unavailable
                && attempt < self.policy.attempts_max
                && Instant::now() + pause < until
                && self.budget.take();
            if !again {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    async fn attempt<Q, A, F>(
        &self,
        name: &'static str,
        until: Instant,
        request: Q,
        send: &mut impl FnMut(Request<Q>) -> F,
    ) -> Result<A, RpcError>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let mut request = Request::new(request);
        request.set_timeout(until.saturating_duration_since(Instant::now()));
        match tokio::time::timeout_at(until, send(request)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) if Instant::now() < until => Err(RpcError::of(name, &status)),
            Ok(Err(_)) | Err(_) => Err(RpcError {
                call: name,
                kind: RpcErrorKind::DeadlineExceeded,
                message: "no answer from the coordinator in time".to_owned(),
            }),
        }
    }
}

/// One call of a stub: the stub is cloned per attempt, so that the future of an attempt owns what it uses.
macro_rules! call {
    ($client:ident.$method:ident, $name:literal, $deadline:expr, $request:expr) => {
        $client.caller.call($name, $deadline, $request, |request| {
            let mut stub = $client.stub.clone();
            async move { stub.$method(request).await }
        })
    };
}

/// Submits, shows and steers jobs. Cheap to clone; clones share the connection.
#[derive(Debug, Clone)]
pub struct JobsClient {
    stub: JobsStub<Wire>,
    caller: Caller,
}

impl JobsClient {
    /// Makes a client that talks over `wire`: a [`crate::Connection`], or a single channel.
    pub fn new(wire: impl Into<Wire>) -> Self {
        Self::with_retries(wire, RetryPolicy::default())
    }

    /// Makes a client with its own idea of repeats.
    pub fn with_retries(wire: impl Into<Wire>, policy: RetryPolicy) -> Self {
        let stub = JobsStub::new(wire.into()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Self { stub, caller: Caller::new(policy) }
    }

    /// Stores a job. The same id with the same spec again is the same job.
    ///
    /// # Errors
    /// `AlreadyExists` where the id has another spec, `FailedPrecondition` where the coordinator does not know all that the
    /// spec asks for, `InvalidArgument` where the spec is not one or is too large; the latter is found before anything is
    /// sent.
    pub async fn submit(&self, job: JobId, spec: &JobSpec) -> Result<JobStatus, RpcError> {
        limits::check_spec(spec).map_err(|error| RpcError {
            call: "Submit",
            kind: RpcErrorKind::InvalidArgument,
            message: error.to_string(),
        })?;
        let request =
            wire::SubmitRequest { job_id: job.to_string(), spec: Some(spec.into()), spec_digest: spec.digest() };
        status("Submit", call!(self.submit, "Submit", DEADLINE_LONG, request).await?)
    }

    /// Shows one job.
    ///
    /// # Errors
    /// `NotFound` where there is no such job.
    pub async fn get(&self, job: JobId) -> Result<JobStatus, RpcError> {
        status("Get", call!(self.get, "Get", DEADLINE_SHORT, job_request(job)).await?)
    }

    /// Lists the newest jobs, at most so many, newest first.
    ///
    /// # Errors
    /// Those of every call, see [`RpcErrorKind`].
    pub async fn list(&self, most: usize) -> Result<JobList, RpcError> {
        let mut list = JobList { jobs: Vec::new(), more: true };
        for _ in 0..LIST_PAGES_MAX {
            let before_job_id = list.jobs.last().map(|job| job.id.to_string()).unwrap_or_default();
            let limit = u32::try_from(most - list.jobs.len()).unwrap_or(0);
            let request = wire::ListRequest { limit, before_job_id, without_specs: true };
            let page = call!(self.list, "List", DEADLINE_LONG, request).await?;
            list.more = page.more && !page.jobs.is_empty();
            for job in page.jobs {
                list.jobs.push(job.try_into().map_err(|error| RpcError::bad_answer("List", error))?);
            }
            if !list.more || list.jobs.len() >= most {
                break;
            }
        }
        list.more |= list.jobs.len() > most;
        list.jobs.truncate(most);
        Ok(list)
    }

    /// Ends a job without a result. Cancelling it again changes nothing.
    ///
    /// # Errors
    /// `NotFound` where there is no such job, `FailedPrecondition` where it has succeeded or failed.
    pub async fn cancel(&self, job: JobId) -> Result<JobStatus, RpcError> {
        status("Cancel", call!(self.cancel, "Cancel", DEADLINE_LONG, job_request(job)).await?)
    }

    /// Stops granting leases; what runs may still commit.
    ///
    /// # Errors
    /// `NotFound` where there is no such job, `FailedPrecondition` where it has ended.
    pub async fn pause(&self, job: JobId) -> Result<JobStatus, RpcError> {
        status("Pause", call!(self.pause, "Pause", DEADLINE_SHORT, job_request(job)).await?)
    }

    /// Grants leases again.
    ///
    /// # Errors
    /// `NotFound` where there is no such job, `FailedPrecondition` where it has ended.
    pub async fn resume(&self, job: JobId) -> Result<JobStatus, RpcError> {
        status("Resume", call!(self.resume, "Resume", DEADLINE_SHORT, job_request(job)).await?)
    }

    /// Gives the dead shards of a failed job another budget of attempts.
    ///
    /// # Errors
    /// `NotFound` where there is no such job, `FailedPrecondition` where it cannot be retried.
    pub async fn retry(&self, job: JobId) -> Result<JobStatus, RpcError> {
        status("Retry", call!(self.retry, "Retry", DEADLINE_LONG, job_request(job)).await?)
    }

    /// Does committed shards again whose files are damaged or missing. A job that has ended runs again for it.
    ///
    /// # Errors
    /// `NotFound` where there is no such job, `FailedPrecondition` where it is cancelled or being cancelled.
    pub async fn repair(&self, job: JobId, shards: &[u64]) -> Result<JobStatus, RpcError> {
        let mut answer = self.get(job).await?;
        for page in shards.chunks(REPAIR_PAGE_SHARDS) {
            let request = wire::RepairRequest { job_id: job.to_string(), shard_indexes: page.to_vec() };
            answer = status("Repair", call!(self.repair, "Repair", DEADLINE_LONG, request).await?)?;
        }
        Ok(answer)
    }

    /// Says where the results of a job lie.
    ///
    /// # Errors
    /// `NotFound` where there is no such job.
    pub async fn storage_url(&self, job: JobId) -> Result<String, RpcError> {
        let request = wire::ResultsRequest { job_id: job.to_string(), after_index: None, limit: 1 };
        Ok(call!(self.results, "Results", DEADLINE_LONG, request).await?.storage_url)
    }

    /// Says where the results of a job lie, and lists committed shards behind the position `after`: ask again behind the
    /// last one while there are more.
    ///
    /// # Errors
    /// `NotFound` where there is no such job.
    pub async fn results(&self, job: JobId, after: Option<u64>) -> Result<ResultsPage, RpcError> {
        let request = wire::ResultsRequest { job_id: job.to_string(), after_index: after, limit: 0 };
        let page = call!(self.results, "Results", DEADLINE_LONG, request).await?;
        // A page that does not advance would be requested forever.
        let more = page.more && page.shards.iter().any(|shard| after.is_none_or(|after| shard.index > after));
        let shards = page.shards.into_iter().map(TryInto::try_into).collect::<Result<_, _>>();
        let shards = shards.map_err(|error| RpcError::bad_answer("Results", error))?;
        Ok(ResultsPage { storage_url: page.storage_url, shards, more })
    }
}

fn job_request(job: JobId) -> wire::JobRequest {
    wire::JobRequest { job_id: job.to_string() }
}

fn status(call: &'static str, answer: wire::JobStatus) -> Result<JobStatus, RpcError> {
    answer.try_into().map_err(|error| RpcError::bad_answer(call, error))
}

/// Returns the first bytes of a text, whole characters only.
fn beginning(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    &text[..end]
}

/// What a worker says. Cheap to clone; clones share the connection.
#[derive(Debug, Clone)]
pub struct WorkClient {
    stub: WorkStub<Wire>,
    caller: Caller,
}

impl WorkClient {
    /// Makes a client that talks over `wire`: a [`crate::Connection`], or a single channel.
    pub fn new(wire: impl Into<Wire>) -> Self {
        Self::with_retries(wire, RetryPolicy::default())
    }

    /// Makes a client with its own idea of repeats.
    pub fn with_retries(wire: impl Into<Wire>, policy: RetryPolicy) -> Self {
        let stub = WorkStub::new(wire.into()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Self { stub, caller: Caller::new(policy) }
    }

    /// Returns this client with calls that end, repeats included, after `deadline` at the latest.
    pub fn within(mut self, deadline: Duration) -> Self {
        self.caller.policy.deadline_max = self.caller.policy.deadline_max.min(deadline);
        self
    }

    /// Registers this worker process.
    ///
    /// # Errors
    /// Those of every call, see [`RpcErrorKind`].
    pub async fn open_session(&self, worker: &WorkerInfo) -> Result<Session, RpcError> {
        let request = wire::OpenSessionRequest::from(worker);
        let answer = call!(self.open_session, "OpenSession", DEADLINE_SHORT, request).await?;
        answer.try_into().map_err(|error| RpcError::bad_answer("OpenSession", error))
    }

    /// Asks for up to `max` shards. Repeat an unanswered call with the same request id: it returns the same grants.
    ///
    /// # Errors
    /// `NotFound` where the session is unknown or dead: open a new one.
    pub async fn lease(&self, session: SessionId, request: RequestId, max: u32) -> Result<Leased, RpcError> {
        let request = wire::LeaseRequest {
            session_id: session.to_string(),
            request_id: request.to_string(),
            max,
            fetches_source_tasks: true,
            revision: REVISION,
        };
        Ok(call!(self.lease, "Lease", DEADLINE_SHORT, request).await?.into())
    }

    /// Fetches what all shards of one source of a job have in common, for grants that leave it out.
    ///
    /// # Errors
    /// `NotFound` where the job is unknown or its source is not planned, `BadAnswer` where what came is not whole.
    pub async fn source_task(&self, session: SessionId, job: JobId, source: u32) -> Result<SourceTask, RpcError> {
        let bad = |problem: String| RpcError {
            call: "GetSourceTask",
            kind: RpcErrorKind::BadAnswer,
            message: format!("unexpected answer: {problem}"),
        };
        for _ in 0..SOURCE_TASK_TRIES_MAX {
            if let Some(bytes) = self.source_task_bytes(session, job, source).await? {
                let task = wire::SourceTask::decode(bytes.as_slice()).map_err(|error| bad(error.to_string()))?;
                return task.try_into().map_err(|error| RpcError::bad_answer("GetSourceTask", error));
            }
        }
        Err(bad("it is another one with every piece".to_owned()))
    }

    /// Returns the encoded task; `None` where the pieces are not of one encoding.
    async fn source_task_bytes(
        &self,
        session: SessionId,
        job: JobId,
        source_index: u32,
    ) -> Result<Option<Vec<u8>>, RpcError> {
        let (mut bytes, mut whole) = (Vec::new(), None);
        loop {
            let (session_id, job_id, start) = (session.to_string(), job.to_string(), bytes.len() as u64);
            let request = wire::SourceTaskRequest { session_id, job_id, source_index, start };
            let wire::SourceTaskPiece { data, size_bytes, blake3 } =
                call!(self.get_source_task, "GetSourceTask", DEADLINE_LONG, request).await?;
            let same = whole.get_or_insert_with(|| (size_bytes, blake3.clone())) == &(size_bytes, blake3.clone());
            bytes.extend_from_slice(&data);
            if !same || size_bytes > SOURCE_TASK_BYTES_MAX || bytes.len() as u64 > size_bytes {
                return Ok(None);
            }
            if bytes.len() as u64 == size_bytes {
                let whole = blake3::hash(&bytes).to_hex().as_str() == blake3;
                return Ok(whole.then_some(bytes));
            }
            if data.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Keeps the session and its leases alive; the directives come in the order of `progress`.
    ///
    /// # Errors
    /// Those of every call; a lost session is not an error but `session_lost`.
    pub async fn heartbeat(&self, session: SessionId, progress: &[Progress]) -> Result<HeartbeatReply, RpcError> {
        let request = wire::HeartbeatRequest {
            session_id: session.to_string(),
            progress: progress.iter().map(Into::into).collect(),
        };
        let answer = call!(self.heartbeat, "Heartbeat", DEADLINE_SHORT, request).await?;
        if !answer.session_lost && answer.directives.len() != progress.len() {
            let error = ConvertError {
                field: "directives",
                problem: format!("has {} entries for {} leases", answer.directives.len(), progress.len()),
            };
            return Err(RpcError::bad_answer("Heartbeat", error));
        }
        Ok(answer.into())
    }

    /// Offers an output as the winner of its shard. Repeat an unanswered call as it was.
    ///
    /// # Errors
    /// `InvalidArgument` where the output is not there as described, or not under the granted key.
    pub async fn commit(
        &self,
        session: SessionId,
        shard: ShardId,
        epoch: Epoch,
        output: &Output,
    ) -> Result<CommitOutcome, RpcError> {
        let request = wire::CommitRequest {
            session_id: session.to_string(),
            lease: Some((shard, epoch).into()),
            output: Some(output.into()),
        };
        let answer = call!(self.commit, "Commit", DEADLINE_LONG, request).await?;
        convert::commit_outcome(answer.outcome).map_err(|error| RpcError::bad_answer("Commit", error))
    }

    /// Ends an attempt that did not work out. A lease that is not held any more is no error.
    ///
    /// # Errors
    /// Those of every call, see [`RpcErrorKind`].
    pub async fn fail(
        &self,
        session: SessionId,
        shard: ShardId,
        epoch: Epoch,
        class: FailureClass,
        message: &str,
    ) -> Result<(), RpcError> {
        let request = wire::FailRequest {
            session_id: session.to_string(),
            lease: Some((shard, epoch).into()),
            class: wire::FailureClass::from(class).into(),
            message: beginning(message, FAILURE_BYTES_MAX).to_owned(),
        };
        call!(self.fail, "Fail", DEADLINE_SHORT, request).await?;
        Ok(())
    }

    /// Gives a lease back, at no cost to the shard. A lease that is not held any more is no error.
    ///
    /// # Errors
    /// Those of every call, see [`RpcErrorKind`].
    pub async fn release(&self, session: SessionId, shard: ShardId, epoch: Epoch) -> Result<(), RpcError> {
        let request = wire::ReleaseRequest { session_id: session.to_string(), lease: Some((shard, epoch).into()) };
        call!(self.release, "Release", DEADLINE_SHORT, request).await?;
        Ok(())
    }

    /// Ends the session; its leases are released. A session that is not known any more is no error.
    ///
    /// # Errors
    /// Those of every call, see [`RpcErrorKind`].
    pub async fn close_session(&self, session: SessionId) -> Result<(), RpcError> {
        let request = wire::CloseSessionRequest { session_id: session.to_string() };
        call!(self.close_session, "CloseSession", DEADLINE_SHORT, request).await?;
        Ok(())
    }
}
