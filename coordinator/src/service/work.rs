//! The service for workers: sessions, leases, heartbeats, commits.

use std::sync::Arc;

use common::error_chain;
use dataset::ErrorKind;
use dataset::vectors::layout;
use proto::convert::{failure_class, id};
use proto::generated as wire;
use proto::generated::work_server::Work;
use proto::work::{CommitOutcome, Granted, Output, Progress, Session, WorkerInfo};
use proto::{Epoch, JobId, RequestId, SessionId, ShardId};
use tonic::{Request, Response, Status};
use tracing::{debug, info, warn};

use super::{Priority, RpcResult, Service, caller_of, missing, refused, session_of, status_of};
use crate::access::{self, Identity};
use crate::context::{Context, clean};
use crate::judge::{Moment, verdict};
use crate::store::StoreError;

/// Most bytes of a worker's message about a failure.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// Most bytes of a worker's name, version or device.
const NAME_BYTES_MAX: usize = 256;
/// Devices of one worker that are recorded.
const DEVICES_MAX: usize = 64;

#[tonic::async_trait]
impl Work for Service {
    async fn open_session(&self, request: Request<wire::OpenSessionRequest>) -> RpcResult<wire::OpenSessionResponse> {
        let caller = caller_of(&request);
        let worker = tidy(request.into_inner().into());
        let context = self.context.clone();
        let session = self
            .detached(Priority::Critical, async move {
                let session = open(&context, &worker, caller.as_ref()).await.map_err(status_of)?;
                info!(session.id = %session, worker = worker.name, version = worker.version, "session opened");
                Ok(session)
            })
            .await?;
        let policy = self.context.store.policy();
        let session = Session {
            id: session,
            ttl_ms: policy.ttl_ms.unsigned_abs(),
            heartbeat_ms: policy.heartbeat_ms.unsigned_abs(),
            storage_url: self.context.storage.url().to_owned(),
        };
        Ok(Response::new((&session).into()))
    }

    async fn lease(&self, request: Request<wire::LeaseRequest>) -> RpcResult<wire::LeaseResponse> {
        let caller = caller_of(&request);
        let request = request.into_inner();
        let session = session_of(caller.as_ref(), &request.session_id)?;
        let request_id: RequestId = id("request_id", &request.request_id).map_err(refused)?;
        let (context, tasks) = (self.context.clone(), Arc::clone(&self.source_tasks));
        let grants = self
            .detached(Priority::Other, async move {
                let granted = context.store.lease_known(session, request_id, request.max, request.revision).await;
                let granted = granted.map_err(status_of)?;
                for (shard, epoch) in granted.iter().map(Granted::lease) {
                    debug!(shard.id = %shard, %epoch, session.id = %session, "shard leased");
                }
                match request.fetches_source_tasks {
                    true => Ok(granted.iter().map(Into::into).collect()),
                    false => tasks.whole(&context, session, granted).await,
                }
            })
            .await?;
        let retry_after_ms = if grants.is_empty() { self.pacer.wait_ms(self.context.config.clock.now_ms()) } else { 0 };
        Ok(Response::new(wire::LeaseResponse { grants, retry_after_ms }))
    }

    async fn get_source_task(&self, request: Request<wire::SourceTaskRequest>) -> RpcResult<wire::SourceTaskPiece> {
        let caller = caller_of(&request);
        let request = request.into_inner();
        session_of(caller.as_ref(), &request.session_id)?;
        let job: JobId = id("job_id", &request.job_id).map_err(refused)?;
        let (context, tasks) = (self.context.clone(), Arc::clone(&self.source_tasks));
        let key = (job, request.source_index);
        let piece = async move { tasks.piece(&context, key, request.start).await };
        Ok(Response::new(self.detached(Priority::Other, piece).await?))
    }

    async fn heartbeat(&self, request: Request<wire::HeartbeatRequest>) -> RpcResult<wire::HeartbeatResponse> {
        let caller = caller_of(&request);
        let request = request.into_inner();
        let session = session_of(caller.as_ref(), &request.session_id)?;
        let progress: Vec<Progress> =
            request.progress.into_iter().map(TryInto::try_into).collect::<Result<_, _>>().map_err(refused)?;
        let context = self.context.clone();
        let reply = self
            .detached(Priority::Critical, async move {
                context.store.heartbeat(session, &progress).await.map_err(status_of)
            })
            .await?;
        Ok(Response::new((&reply).into()))
    }

    async fn commit(&self, request: Request<wire::CommitRequest>) -> RpcResult<wire::CommitResponse> {
        let caller = caller_of(&request);
        let request = request.into_inner();
        let session = session_of(caller.as_ref(), &request.session_id)?;
        let (shard, epoch) = lease_of(request.lease)?;
        let output: Output = request.output.ok_or_else(|| missing("output"))?.try_into().map_err(refused)?;
        let context = self.context.clone();
        let outcome = self
            .detached(Priority::Critical, async move { commit(&context, session, shard, epoch, &output).await })
            .await?;
        Ok(Response::new(wire::CommitResponse { outcome: wire::CommitOutcome::from(outcome).into() }))
    }

    async fn fail(&self, request: Request<wire::FailRequest>) -> RpcResult<wire::FailResponse> {
        let caller = caller_of(&request);
        let request = request.into_inner();
        let session = session_of(caller.as_ref(), &request.session_id)?;
        let (shard, epoch) = lease_of(request.lease)?;
        let class = failure_class(request.class);
        let message = clean(&request.message, MESSAGE_BYTES_MAX);
        let context = self.context.clone();
        self.detached(Priority::Critical, async move {
            let was_live = context.store.fail(session, shard, epoch, class, &message).await.map_err(status_of)?;
            warn!(shard.id = %shard, %epoch, ?class, message, was_live, "attempt failed");
            // It may have been the last attempt that the job had.
            context.notices.sweep.notify_one();
            Ok(())
        })
        .await?;
        Ok(Response::new(wire::FailResponse {}))
    }

    async fn release(&self, request: Request<wire::ReleaseRequest>) -> RpcResult<wire::ReleaseResponse> {
        let caller = caller_of(&request);
        let request = request.into_inner();
        let session = session_of(caller.as_ref(), &request.session_id)?;
        let (shard, epoch) = lease_of(request.lease)?;
        let context = self.context.clone();
        self.detached(Priority::Critical, async move {
            context.store.release(session, shard, epoch).await.map_err(status_of)
        })
        .await?;
        debug!(shard.id = %shard, %epoch, "lease released");
        Ok(Response::new(wire::ReleaseResponse {}))
    }

    async fn close_session(
        &self,
        request: Request<wire::CloseSessionRequest>,
    ) -> RpcResult<wire::CloseSessionResponse> {
        let session = session_of(caller_of(&request).as_ref(), &request.into_inner().session_id)?;
        let context = self.context.clone();
        self.detached(Priority::Critical, async move { context.store.close_session(session).await.map_err(status_of) })
            .await?;
        info!(session.id = %session, "session closed");
        Ok(Response::new(wire::CloseSessionResponse {}))
    }
}

/// Opens a session, which is its caller's alone where callers are known.
async fn open(context: &Context, worker: &WorkerInfo, caller: Option<&Identity>) -> Result<SessionId, StoreError> {
    let Some(caller) = caller else { return context.store.open_session(worker).await };
    let session = access::bind(SessionId::generate(), caller);
    context.store.open_session_as(session, worker).await?;
    info!(session.id = %session, identity = caller.name, "session bound");
    Ok(session)
}

fn lease_of(lease: Option<wire::LeaseRef>) -> Result<(ShardId, Epoch), Status> {
    lease.ok_or_else(|| missing("lease"))?.try_into().map_err(refused)
}

fn tidy(worker: WorkerInfo) -> WorkerInfo {
    let short = |text: &String| clean(text, NAME_BYTES_MAX);
    WorkerInfo {
        name: short(&worker.name),
        devices: worker.devices.iter().take(DEVICES_MAX).map(short).collect(),
        version: short(&worker.version),
        revision: worker.revision,
    }
}

/// Looks at the output, makes it the winner, and judges the job by its rejected rows.
async fn commit(
    context: &Context,
    session: SessionId,
    shard: ShardId,
    epoch: Epoch,
    output: &Output,
) -> Result<CommitOutcome, Status> {
    check_object(context, shard, epoch, output).await?;
    let outcome = context.store.commit(session, shard, epoch, output).await.map_err(status_of)?;
    match outcome {
        CommitOutcome::Committed => {
            let rows = output.counts.rows;
            info!(shard.id = %shard, %epoch, rows, bytes = output.bytes, "shard committed");
            if output.counts.rejected() > 0 {
                judge(context, shard).await?;
            }
            context.notices.finalize.notify_one();
        }
        CommitOutcome::Stale | CommitOutcome::LostRace | CommitOutcome::Cancelled => {
            info!(shard.id = %shard, %epoch, ?outcome, "commit refused");
        }
    }
    Ok(outcome)
}

/// A worker is not believed: the object must be there, under the granted key, as long as it says. What comes of a
/// commit of another attempt's key is the store's to say; here it only must not lead outside the lease's own folder. And
/// the storage must be the one that the job's other files are in.
async fn check_object(context: &Context, shard: ShardId, epoch: Epoch, output: &Output) -> Result<(), Status> {
    let granted = layout::shard_key(&shard.job.to_string(), shard.index, u64::from(epoch.0), "");
    let prefix = granted.trim_end_matches(".parquet");
    if !output.key.starts_with(prefix) {
        return Err(Status::invalid_argument(format!("output key `{}` is not the granted one", output.key)));
    }
    // In this order: an object that is found after the storage was confirmed was not written to another one before.
    let found = match context.storage.confirm().await {
        Ok(()) => context.storage.head(&output.key).await,
        Err(error) => Err(error),
    };
    match found {
        Ok(found) if found.size == output.bytes => Ok(()),
        Ok(found) => Err(Status::invalid_argument(format!(
            "output `{}` has {} bytes in storage, {} were reported",
            output.key, found.size, output.bytes
        ))),
        Err(error) => match error.kind() {
            // Also what a commit of a lease long lost may meet: its object is garbage by then.
            ErrorKind::NotFound => {
                Err(Status::failed_precondition(format!("output `{}` is not in storage", output.key)))
            }
            ErrorKind::BadInput => Err(Status::invalid_argument(error.to_string())),
            ErrorKind::AlreadyExists
            | ErrorKind::SourceChanged
            | ErrorKind::Corrupt
            | ErrorKind::NoSpace
            | ErrorKind::Throttled
            | ErrorKind::Unsupported
            | ErrorKind::Auth
            | ErrorKind::StorageSwapped
            | ErrorKind::Io => {
                warn!(key = output.key, error = error_chain(&error), "cannot look at an output");
                Err(Status::unavailable(error.to_string()))
            }
        },
    }
}

/// Applies the job's reject limit as rows come in; a job of a later release is judged at its end, by a coordinator of that release.
async fn judge(context: &Context, shard: ShardId) -> Result<(), Status> {
    let Some(status) = context.store.known_job(shard.job).await.map_err(status_of)? else { return Ok(()) };
    if let Some(reason) = verdict(&status.spec, &status.counts, Moment::Underway) {
        warn!(job.id = %shard.job, reason, "job exceeds its reject limit");
        context.store.fail_job(shard.job, &reason).await.map_err(status_of)?;
    }
    Ok(())
}
