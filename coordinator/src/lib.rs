#![doc = include_str!("../README.md")]

pub mod access;
pub mod config;
pub mod metrics;
pub mod policy;
pub mod shard;
pub mod store;

pub mod clock;
pub mod corpora;
pub mod roots;

mod claim;
mod connections;
mod context;
mod finalizer;
mod judge;
mod messages;
mod planner;
mod service;
mod sweeper;
mod tls;

use std::io;
use std::sync::Arc;

use dataset::Storage;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::server::Connected;
use tower::util::MapResponseLayer;
use tracing::{info, warn};

pub use access::Access;
pub use claim::{ClaimError, claim_storage, open_storage};
pub use clock::{Clock, SystemClock, TestClock};
pub use config::Config;
pub use metrics::Metrics;
pub use policy::Policy;
pub use roots::{RootError, Roots};
pub use store::{Store, StoreError, StoreErrorKind};
pub use tls::{Tls, TlsError, TlsFiles};

use crate::context::{Context, Lead, Notices};

/// A coordinator ended without a shutdown.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// The gRPC server failed.
    #[error("the server failed")]
    Serve(#[source] tonic::transport::Error),
    /// The storage is not the database's.
    #[error(transparent)]
    Storage(#[from] ClaimError),
    /// A part of the coordinator crashed.
    #[error("the coordinator crashed: this is a bug, please report it")]
    Crashed(#[source] tokio::task::JoinError),
}

/// Runs a coordinator until `shutdown`: planner, finalizer, sweeper and the gRPC server on `incoming`. The end takes no
/// longer than `config.drain`; what is cut off goes on at the next start.
///
/// A storage that was not claimed yet (see [`claim_storage`]) is claimed first.
///
/// # Errors
/// The storage is not the database's, the server fails, or a part of the coordinator crashes.
pub async fn run<I, IO>(
    config: Config,
    store: Store,
    storage: Storage,
    incoming: I,
    shutdown: CancellationToken,
) -> Result<(), CoordinatorError>
where
    I: Stream<Item = io::Result<IO>> + Send + 'static,
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let server = service::limited(&config);
    let server = server.layer(config.metrics.layer()).layer(MapResponseLayer::new(messages::bounded));
    let mut server = server.layer(access::AccessLayer(config.access.clone()));
    let incoming = connections::capped(incoming, config.connections_max, config.greeting_within);
    let (tls, at_once) = (config.tls.clone(), config.connections_max);
    run_on(config, store, storage, shutdown, move |routes, stop| async move {
        let (server, stop) = (server.add_routes(routes), stop.cancelled_owned());
        match tls {
            None => server.serve_with_incoming_shutdown(incoming, stop).await,
            Some(tls) => server.serve_with_incoming_shutdown(tls::accepted(incoming, tls, at_once), stop).await,
        }
    })
    .await
}

/// Runs a coordinator as [`run`] does, and leaves it to `serve` how calls get to its services: until its token is
/// cancelled.
///
/// # Errors
/// The storage is not the database's, `serve` fails, or a part of the coordinator crashes.
pub async fn run_on<S, F>(
    config: Config,
    store: Store,
    storage: Storage,
    shutdown: CancellationToken,
    serve: S,
) -> Result<(), CoordinatorError>
where
    S: FnOnce(Routes, CancellationToken) -> F,
    F: Future<Output = Result<(), tonic::transport::Error>> + Send + 'static,
{
    let storage = match storage.id() {
        Some(_) => storage,
        None => claim_storage(&store, storage).await?,
    };
    let stop = shutdown.child_token();
    let (notices, calls, drain) = (Notices::default(), TaskTracker::new(), config.drain);
    let (shutdown, lead) = (stop.clone(), Lead::new());
    let context = Arc::new(Context { config, store, storage, notices, shutdown, calls: calls.clone(), lead });

    let mut parts: Parts = JoinSet::new();
    parts.spawn(steady(planner::run(Arc::clone(&context))));
    parts.spawn(steady(finalizer::run(Arc::clone(&context))));
    parts.spawn(steady(sweeper::run(Arc::clone(&context))));
    let (routes, health) = service::routes(Arc::clone(&context));
    service::say_serving(&health, true).await;
    parts.spawn(serve(routes, stop.clone()));
    info!("coordinator started");

    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        failure = first_failure(&mut parts) => Err(failure),
    };
    service::say_serving(&health, false).await;
    stop.cancel();
    calls.close();
    let drained = tokio::time::timeout(drain, async {
        context.resign().await;
        while parts.join_next().await.is_some() {}
        calls.wait().await;
    });
    if drained.await.is_err() {
        // Tonic waits for every connection to close, for ever: a client that hangs must not keep the process.
        warn!(drain_ms = drain.as_millis(), "stopped with calls or loops under way");
    }
    info!("coordinator stopped");
    ended
}

/// The loops and the server.
type Parts = JoinSet<Result<(), tonic::transport::Error>>;

/// A loop as a part: it cannot fail, only crash.
async fn steady(part: impl Future<Output = ()>) -> Result<(), tonic::transport::Error> {
    part.await;
    Ok(())
}

/// Waits for a part that fails. One that ends well is no failure: where the incoming stream is over, what was submitted
/// is still planned and finalized.
async fn first_failure(parts: &mut Parts) -> CoordinatorError {
    while let Some(ended) = parts.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return CoordinatorError::Serve(error),
            Err(crash) => return CoordinatorError::Crashed(crash),
        }
    }
    std::future::pending().await
}
