//! Calls as messages: lost, late, doubled, out of order, cut in the middle; answers lost after the call took effect; one
//! way open and the other not. Beneath the real gRPC clients and above the real services.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::future::{BoxFuture, poll_fn};
use http::{Request, Response};
use prost::Message;
use proto::generated::HeartbeatRequest;
use proto::{Connection, Wire};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codegen::{Body as _, Service, StdError};
use tonic::service::Routes;

use crate::fault::happens;
use crate::life::Life;
use crate::world::{Node, World, some_time};

/// Of a message of gRPC: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// Who can be called.
pub(crate) struct Network {
    world: Arc<World>,
    coordinators: usize,
    listening: Mutex<BTreeMap<usize, (Routes, Arc<Life>)>>,
}

impl Network {
    pub(crate) fn new(world: Arc<World>, coordinators: usize) -> Arc<Self> {
        Arc::new(Self { world, coordinators, listening: Mutex::default() })
    }

    pub(crate) fn listen(&self, coordinator: usize, routes: Routes, life: Arc<Life>) {
        self.listening.lock().unwrap().insert(coordinator, (routes, life));
    }

    pub(crate) fn close(&self, coordinator: usize) {
        self.listening.lock().unwrap().remove(&coordinator);
    }

    /// Connects a process to all coordinators.
    pub(crate) fn connect(self: &Arc<Self>, node: Node, life: &Arc<Life>) -> Connection {
        let line = |coordinator| Line { network: Arc::clone(self), node, life: Arc::clone(life), coordinator };
        Connection::over((0..self.coordinators).map(|coordinator| Wire::new(line(coordinator))).collect())
    }
}

fn reset(what: &str) -> StdError {
    Box::new(io::Error::new(io::ErrorKind::ConnectionReset, what.to_owned()))
}

/// One process's way to one coordinator.
#[derive(Clone)]
struct Line {
    network: Arc<Network>,
    node: Node,
    life: Arc<Life>,
    coordinator: usize,
}

impl Service<Request<Body>> for Line {
    type Response = Response<Body>;
    type Error = StdError;
    type Future = BoxFuture<'static, Result<Response<Body>, StdError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StdError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let line = self.clone();
        Box::pin(async move { line.send(request).await })
    }
}

/// A handler that is dropped with the call that waits for it, unless the server has not noticed.
struct Handling {
    task: JoinHandle<Result<Response<Body>, StdError>>,
    goes_on: bool,
}

impl Drop for Handling {
    fn drop(&mut self) {
        if !self.goes_on {
            self.task.abort();
        }
    }
}

impl Line {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, StdError> {
        let coordinator = self.coordinator;
        let (world, here, there) = (&self.network.world, self.node, Node::Coordinator(coordinator));
        self.life.gate().await;
        let faults = world.faults();
        let (head, body) = request.into_parts();
        let message = whole(body).await?;
        let method = head.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
        travel(faults.delay).await;
        if happens(faults.lose_request) {
            world.note(format_args!("{here} → {there}: {method} is lost"));
            return Err(reset("the request is lost"));
        }
        world.through(here, there).await;
        let listening = self.network.listening.lock().unwrap().get(&coordinator).cloned();
        let Some((routes, life)) = listening.filter(|(_, life)| !life.is_gone()) else {
            return Err(reset("nothing listens"));
        };
        world.note(format_args!("{here} → {there}: {method}"));
        if happens(faults.double) {
            let again = copy(&head, &message);
            let (routes, life, world) = (routes.clone(), Arc::clone(&life), Arc::clone(world));
            let method = method.clone();
            tokio::spawn(async move {
                some_time(0, 90_000).await;
                world.note(format_args!("{here} → {there}: {method} again"));
                handle(routes, life, again).await.ok();
            });
        }
        let sent = Instant::now();
        let task = tokio::spawn(handle(routes, Arc::clone(&life), copy(&head, &message)));
        let mut handling = Handling { task, goes_on: happens(0.5) };
        let answer = tokio::select! {
            biased;
            () = life.gone() => return Err(reset("the coordinator died")),
            () = cut_soon(happens(faults.cut)) => {
                world.note(format_args!("{here} → {there}: {method} is cut"));
                return Err(reset("the connection is cut"));
            }
            answer = &mut handling.task => answer.map_err(|_| reset("the handler crashed"))??,
        };
        if method == "Heartbeat" && !answer.headers().contains_key("grpc-status") {
            let beat = HeartbeatRequest::decode(&message[PREFIX_BYTES..]).unwrap();
            world.beaten(sent, &beat);
        }
        travel(faults.delay).await;
        if happens(faults.lose_answer) {
            world.note(format_args!("{here} ← {there}: the answer to {method} is lost"));
            return Err(reset("the answer is lost"));
        }
        world.through(there, here).await;
        self.life.gate().await;
        Ok(answer)
    }
}

async fn travel(delay: f64) {
    some_time(0, 5).await;
    if happens(delay) {
        some_time(1_000, 120_000).await;
    }
}

async fn cut_soon(cut: bool) {
    if cut { some_time(0, 10).await } else { std::future::pending().await }
}

async fn handle(mut routes: Routes, life: Arc<Life>, request: Request<Body>) -> Result<Response<Body>, StdError> {
    life.gate().await;
    let answer = routes.call(request).await?;
    life.gate().await;
    Ok(answer)
}

fn copy(head: &http::request::Parts, message: &Bytes) -> Request<Body> {
    let mut request = Request::new(Body::new(Whole(Some(message.clone()))));
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.version_mut() = head.version;
    *request.headers_mut() = head.headers.clone();
    request
}

/// A body that is all there.
struct Whole(Option<Bytes>);

impl tonic::codegen::Body for Whole {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, tonic::Status>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}

async fn whole(mut body: Body) -> Result<Bytes, StdError> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Some(data) = frame?.data_ref() {
            bytes.extend_from_slice(data);
        }
    }
    Ok(bytes.freeze())
}
