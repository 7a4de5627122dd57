//! The gRPC services: convert, call the store, convert. No policy and no SQL; the one mapping of store errors to statuses
//! is [`status_of`].

mod grants;
mod jobs;
mod pacer;
mod storage;
mod work;

use std::sync::Arc;

use common::error_chain;
use proto::convert::id;
use proto::generated::jobs_server::{self, JobsServer};
use proto::generated::storage_server::{self, StorageServer};
use proto::generated::work_server::{self, WorkServer};
use proto::relay::CHUNK_BYTES_MAX;
use proto::transport::{HEADER_BYTES_MAX, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MESSAGE_BYTES_MAX};
use proto::{ConvertError, SessionId};
use tokio::sync::Semaphore;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::{error, warn};

use self::grants::SourceTasks;
use self::pacer::Pacer;
use crate::access::{self, Identity, Role};
use crate::config::Config;
use crate::context::Context;
use crate::store::{StoreError, StoreErrorKind};

/// Most bytes of a message of the Storage service: a chunk, and room for the rest.
const RELAYED_BYTES_MAX: usize = CHUNK_BYTES_MAX + 64 * 1024;

type RpcResult<T> = Result<Response<T>, Status>;

/// All services; clones share everything.
#[derive(Clone)]
struct Service {
    context: Arc<Context>,
    limits: Arc<CallLimits>,
    pacer: Arc<Pacer>,
    source_tasks: Arc<SourceTasks>,
}

/// How many calls run at once. Commits and heartbeats have a priority of their own: a flood of anything else must not keep
/// finished work from being recorded.
struct CallLimits {
    critical: Arc<Semaphore>,
    other: Arc<Semaphore>,
    /// Objects that are being relayed.
    relay: Arc<Semaphore>,
}

#[derive(Clone, Copy)]
enum Priority {
    Critical,
    Other,
}

impl Service {
    fn new(context: Arc<Context>) -> Self {
        let config = &context.config;
        let critical = Arc::new(Semaphore::new(config.calls_critical_max));
        let other = Arc::new(Semaphore::new(config.calls_other_max));
        let relay = Arc::new(Semaphore::new(config.relays_max));
        let pacer = Arc::new(Pacer::new(config.idle));
        let limits = Arc::new(CallLimits { critical, other, relay });
        Self { context, limits, pacer, source_tasks: Arc::default() }
    }

    /// Runs the work of a call to its end, also when the client goes away in the middle: tonic drops the future of a
    /// handler then, and a transaction must not be dropped half-way.
    async fn detached<T, F>(&self, priority: Priority, work: F) -> Result<T, Status>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Status>> + Send + 'static,
    {
        let priority = match priority {
            Priority::Critical => &self.limits.critical,
            Priority::Other => &self.limits.other,
        };
        let permit = Arc::clone(priority).acquire_owned().await.map_err(|_| Status::unavailable("shutting down"))?;
        let task = self.context.calls.spawn(async move {
            let result = work.await;
            drop(permit);
            result
        });
        task.await.unwrap_or_else(|error| {
            error!(%error, "a call crashed");
            Err(Status::internal("the coordinator crashed on this call: this is a bug, please report it"))
        })
    }
}

/// Says to a client what the store said.
fn status_of(error: StoreError) -> Status {
    let message = error.to_string();
    match error.kind() {
        StoreErrorKind::NotFound | StoreErrorKind::SessionLost => Status::not_found(message),
        StoreErrorKind::AlreadyExists => Status::already_exists(message),
        StoreErrorKind::WrongState => Status::failed_precondition(message),
        StoreErrorKind::Invalid => Status::invalid_argument(message),
        StoreErrorKind::Unavailable => {
            error!(error = error_chain(&error), "the store is out of reach");
            Status::unavailable(message)
        }
        StoreErrorKind::Internal => {
            error!(error = error_chain(&error), "the store failed");
            Status::internal(message)
        }
    }
}

/// Who makes this call, where calls are checked.
fn caller_of<T>(request: &Request<T>) -> Option<Identity> {
    request.extensions().get::<Identity>().cloned()
}

/// Whether a job of this owner is any business of a caller: those who submit see and steer their own, all others all.
fn sees(caller: Option<&Identity>, owner: Option<&String>) -> bool {
    match caller {
        Some(Identity { role: Role::Submitter, name }) => owner == Some(name),
        Some(Identity { role: Role::Worker | Role::Reader | Role::Admin, .. }) | None => true,
    }
}

/// Reads the id of a session, and refuses one that somebody else opened.
fn session_of(caller: Option<&Identity>, text: &str) -> Result<SessionId, Status> {
    let session: SessionId = id("session_id", text).map_err(refused)?;
    match caller {
        Some(caller) if !access::is_bound(session, caller) => {
            warn!(session.id = %session, identity = caller.name, "call with another's session refused");
            Err(Status::permission_denied(format!("session `{session}` was not opened by `{}`", caller.name)))
        }
        Some(_) | None => Ok(session),
    }
}

/// Says to a client what is wrong with its request.
fn refused(error: ConvertError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn missing(field: &'static str) -> Status {
    Status::invalid_argument(format!("field `{field}` is missing"))
}

/// Builds the services: ours, health, reflection.
pub(crate) fn routes(context: Arc<Context>) -> (Routes, HealthReporter) {
    let service = Service::new(context);
    let jobs = JobsServer::new(service.clone())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let work = WorkServer::new(service.clone())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let storage = StorageServer::new(service)
        .max_decoding_message_size(RELAYED_BYTES_MAX)
        .max_encoding_message_size(RELAYED_BYTES_MAX);
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let routes = Routes::new(jobs)
        .add_service(work)
        .add_service(storage)
        .add_service(health)
        .add_service(reflection().build_v1().expect("our own descriptors are complete"))
        .add_service(reflection().build_v1alpha().expect("our own descriptors are complete"));
    (routes, reporter)
}

/// Returns a server with its limits.
pub(crate) fn limited(config: &Config) -> Server {
    Server::builder()
        .max_concurrent_streams(config.streams_max)
        .concurrency_limit_per_connection(config.streams_max as usize)
        .timeout(config.call_timeout)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
}

/// Answers health checks: whether clients should connect here.
pub(crate) async fn say_serving(health: &HealthReporter, serving: bool) {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in ["", jobs_server::SERVICE_NAME, work_server::SERVICE_NAME, storage_server::SERVICE_NAME] {
        health.set_service_status(service, status).await;
    }
}

#[cfg(test)]
#[path = "ownership_tests.rs"]
mod ownership_tests;
