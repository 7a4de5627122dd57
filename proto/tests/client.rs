//! Clients against a scripted coordinator, over the in-process transport.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::Backoff;
use proto::generated as wire;
use proto::generated::work_server::{Work, WorkServer};
use proto::revision::REVISION;
use proto::work::WorkerInfo;
use proto::{ClientSecurity, Connection, RetryPolicy, RpcErrorKind, SessionId, WorkClient, in_process, listen};
use tokio_stream::StreamExt;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};

/// Answers `OpenSession` by a script: an entry is the status of one call, and after the last one calls succeed.
#[derive(Clone, Default)]
struct Scripted {
    script: Arc<Mutex<VecDeque<Code>>>,
    calls: Arc<Mutex<usize>>,
    hang: bool,
}

impl Scripted {
    fn of(script: impl IntoIterator<Item = Code>) -> Self {
        Self { script: Arc::new(Mutex::new(script.into_iter().collect())), ..Self::default() }
    }

    fn calls(&self) -> usize {
        *self.calls.lock().unwrap()
    }
}

const SESSION: SessionId = SessionId(uuid::Uuid::from_u128(7));

#[tonic::async_trait]
impl Work for Scripted {
    async fn open_session(
        &self,
        _request: Request<wire::OpenSessionRequest>,
    ) -> Result<Response<wire::OpenSessionResponse>, Status> {
        *self.calls.lock().unwrap() += 1;
        if self.hang {
            std::future::pending::<()>().await;
        }
        if let Some(code) = self.script.lock().unwrap().pop_front() {
            return Err(Status::new(code, "as scripted"));
        }
        Ok(Response::new(wire::OpenSessionResponse {
            session_id: SESSION.to_string(),
            ttl_ms: 60_000,
            heartbeat_ms: 15_000,
            storage_url: "/storage".into(),
        }))
    }

    async fn heartbeat(
        &self,
        _request: Request<wire::HeartbeatRequest>,
    ) -> Result<Response<wire::HeartbeatResponse>, Status> {
        Ok(Response::new(wire::HeartbeatResponse { directives: vec![1, 1], session_lost: false }))
    }

    async fn lease(&self, _request: Request<wire::LeaseRequest>) -> Result<Response<wire::LeaseResponse>, Status> {
        Err(Status::unimplemented("not in this script"))
    }

    async fn get_source_task(
        &self,
        _request: Request<wire::SourceTaskRequest>,
    ) -> Result<Response<wire::SourceTaskPiece>, Status> {
        Err(Status::unimplemented("not in this script"))
    }

    async fn commit(&self, _request: Request<wire::CommitRequest>) -> Result<Response<wire::CommitResponse>, Status> {
        Ok(Response::new(wire::CommitResponse { outcome: 99 }))
    }

    async fn fail(&self, _request: Request<wire::FailRequest>) -> Result<Response<wire::FailResponse>, Status> {
        Err(Status::unimplemented("not in this script"))
    }

    async fn release(
        &self,
        _request: Request<wire::ReleaseRequest>,
    ) -> Result<Response<wire::ReleaseResponse>, Status> {
        Err(Status::unimplemented("not in this script"))
    }

    async fn close_session(
        &self,
        _request: Request<wire::CloseSessionRequest>,
    ) -> Result<Response<wire::CloseSessionResponse>, Status> {
        Err(Status::unimplemented("not in this script"))
    }
}

fn impatient() -> RetryPolicy {
    let policy = RetryPolicy::default();
    RetryPolicy { backoff: Backoff { first: Duration::from_millis(1), ..policy.backoff }, ..policy }
}

/// Serves the script, cutting the first `cut` connections as they are made.
fn start(service: &Scripted, cut: usize, policy: RetryPolicy) -> WorkClient {
    let (channel, incoming) = in_process();
    let server = Server::builder().add_service(WorkServer::new(service.clone()));
    tokio::spawn(server.serve_with_incoming(incoming.skip(cut)));
    WorkClient::with_retries(channel, policy)
}

fn worker() -> WorkerInfo {
    WorkerInfo { name: "test".into(), devices: vec!["cpu".into()], version: "0".into(), revision: REVISION }
}

#[tokio::test]
async fn an_unavailable_coordinator_is_asked_again() {
    let service = Scripted::of([Code::Unavailable, Code::Unavailable]);
    let client = start(&service, 0, impatient());
    assert_eq!(client.open_session(&worker()).await.unwrap().id, SESSION);
    assert_eq!(service.calls(), 3);
}

#[tokio::test]
async fn repeats_end_with_the_attempts() {
    let service = Scripted::of([Code::Unavailable; 100]);
    let client = start(&service, 0, impatient());
    let error = client.open_session(&worker()).await.unwrap_err();
    assert_eq!((error.kind, service.calls()), (RpcErrorKind::Unavailable, 5));
    assert!(error.is_retryable());
}

#[tokio::test]
async fn repeats_end_with_the_budget() {
    let service = Scripted::of([Code::Unavailable; 1000]);
    let client = start(&service, 0, RetryPolicy { attempts_max: 1000, ..impatient() });
    let error = client.open_session(&worker()).await.unwrap_err();
    assert_eq!((error.kind, service.calls()), (RpcErrorKind::Unavailable, 11));
    client.open_session(&worker()).await.unwrap_err();
    assert_eq!(service.calls(), 12, "an empty budget leaves the first attempt only");
}

#[tokio::test]
async fn no_other_status_is_repeated() {
    for (code, kind) in [
        (Code::InvalidArgument, RpcErrorKind::InvalidArgument),
        (Code::NotFound, RpcErrorKind::NotFound),
        (Code::AlreadyExists, RpcErrorKind::AlreadyExists),
        (Code::FailedPrecondition, RpcErrorKind::FailedPrecondition),
        (Code::ResourceExhausted, RpcErrorKind::ResourceExhausted),
        (Code::Internal, RpcErrorKind::Internal),
        (Code::Unknown, RpcErrorKind::Internal),
    ] {
        let service = Scripted::of([code]);
        let error = start(&service, 0, impatient()).open_session(&worker()).await.unwrap_err();
        assert_eq!((error.kind, service.calls()), (kind, 1), "{code:?}");
        assert_eq!(error.to_string(), "OpenSession: as scripted");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_again() {
    let service = Scripted::default();
    let client = start(&service, 2, impatient());
    assert_eq!(client.open_session(&worker()).await.unwrap().id, SESSION);
    assert_eq!(service.calls(), 1);
}

#[tokio::test]
async fn a_coordinator_that_has_stopped_is_unavailable() {
    let (channel, incoming) = in_process();
    drop(incoming);
    let error = WorkClient::with_retries(channel, impatient()).open_session(&worker()).await.unwrap_err();
    assert_eq!(error.kind, RpcErrorKind::Unavailable);
    assert!(error.message.contains("stopped"), "{error}");
}

#[tokio::test]
async fn a_call_that_is_not_answered_ends_at_its_deadline() {
    let service = Scripted { hang: true, ..Scripted::default() };
    let client = start(&service, 0, RetryPolicy { deadline_max: Duration::from_millis(50), ..impatient() });
    let error = client.open_session(&worker()).await.unwrap_err();
    assert_eq!((error.kind, service.calls()), (RpcErrorKind::DeadlineExceeded, 1));
}

/// Serves each script over TCP, and returns a client that knows all of them.
async fn client_of(services: [&Scripted; 2], policy: RetryPolicy) -> WorkClient {
    let mut urls = Vec::new();
    for service in services {
        let incoming = listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        urls.push(incoming.local_addr().unwrap().to_string());
        let server = Server::builder().add_service(WorkServer::new(service.clone()));
        tokio::spawn(server.serve_with_incoming(incoming));
    }
    WorkClient::with_retries(Connection::open(&urls, &ClientSecurity::default()).unwrap(), policy)
}

#[tokio::test]
async fn a_coordinator_that_is_unavailable_is_left_for_the_next_and_not_asked_again() {
    let (sick, well) = (Scripted::of([Code::Unavailable; 100]), Scripted::default());
    let client = client_of([&sick, &well], impatient()).await;
    for _ in 0..5 {
        client.open_session(&worker()).await.unwrap();
    }
    assert_eq!(well.calls(), 5);
    assert!(sick.calls() <= 1, "{}", sick.calls());
}

#[tokio::test]
async fn a_coordinator_that_hangs_is_left_after_one_deadline() {
    let (stuck, well) = (Scripted { hang: true, ..Scripted::default() }, Scripted::default());
    let policy = RetryPolicy { deadline_max: Duration::from_millis(300), ..impatient() };
    let client = client_of([&stuck, &well], policy).await;
    let failed = [client.open_session(&worker()).await, client.open_session(&worker()).await];
    assert!(failed.iter().filter(|answer| answer.is_err()).count() <= 1, "{failed:?}");
    client.open_session(&worker()).await.unwrap();
    assert!(stuck.calls() <= 1);
}

#[tokio::test]
async fn answers_that_make_no_sense_are_bad_answers() {
    let client = start(&Scripted::default(), 0, impatient());
    let error = client.heartbeat(SESSION, &[]).await.unwrap_err();
    assert_eq!(error.kind, RpcErrorKind::BadAnswer);
    assert!(error.message.contains("2 entries for 0 leases"), "{error}");
}
