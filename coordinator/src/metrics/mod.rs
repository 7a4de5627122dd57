//! Numbers for whoever watches a cluster, in the text format of Prometheus over plain HTTP: `/metrics`, and `/healthz` for
//! probes. Nothing in them is secret: ids, counts and times; no texts, no paths.

mod calls;
mod exposition;
mod jobs;

use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use proto::job::JobStatus;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tracing::debug;

pub(crate) use calls::CallLayer;

use self::calls::Calls;
use self::exposition::{Exposition, Kind};
use crate::connections;
use crate::context::full_message;
use crate::store::Store;

/// A page does not wait longer for the database.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// Few programs read these pages, and not for long.
const CONNECTIONS_MAX: usize = 64;
/// A client has sent its whole request by then, and its next one.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// As Prometheus asks for it.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a coordinator counts of itself. Clones share everything.
#[derive(Clone, Default)]
pub struct Metrics {
    calls: Arc<Calls>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Serves `/metrics` and `/healthz` on `incoming` until `shutdown`: what this process counted, and what `store` knows of
    /// jobs and workers, which is the same on every coordinator of a cluster.
    ///
    pub async fn serve<I, IO>(&self, store: Store, incoming: I, shutdown: CancellationToken)
    where
        I: Stream<Item = io::Result<IO>> + Send + 'static,
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let pages = Router::new().route("/metrics", get(metrics)).route("/healthz", get(health));
        let pages = pages.with_state(Source { metrics: self.clone(), store });
        let mut accepted = pin!(connections::capped(incoming, CONNECTIONS_MAX, HEADER_TIMEOUT));
        loop {
            let io = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                next = accepted.next() => match next {
                    Some(Ok(io)) => io,
                    Some(Err(_)) => continue,
                    None => return,
                },
            };
            let (pages, shutdown) = (TowerToHyperService::new(pages.clone()), shutdown.clone());
            tokio::spawn(async move {
                let mut server = http1::Builder::new();
                server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    served = server.serve_connection(TokioIo::new(io), pages) => {
                        if let Err(error) = served {
                            debug!(%error, "a client of the metrics was dropped");
                        }
                    }
                }
            });
        }
    }

    pub(crate) fn layer(&self) -> CallLayer {
        CallLayer(Arc::clone(&self.calls))
    }
}

/// Where the pages take their numbers from.
#[derive(Clone)]
struct Source {
    metrics: Metrics,
    store: Store,
}

impl Source {
    /// Every job, or `None` where the database does not answer.
    async fn jobs(&self) -> Option<Vec<JobStatus>> {
        match tokio::time::timeout(STORE_TIMEOUT, self.store.jobs()).await {
            Ok(Ok(jobs)) => Some(jobs),
            Ok(Err(error)) => {
                debug!(error = full_message(&error), "no jobs for the metrics");
                None
            }
            Err(_) => None,
        }
    }
}

/// `GET /metrics`.
async fn metrics(State(source): State<Source>) -> ([(axum::http::HeaderName, &'static str); 1], String) {
    let jobs = source.jobs().await;
    ([(CONTENT_TYPE, TEXT_FORMAT)], page(&source.metrics.calls, jobs.as_deref()))
}

/// `GET /healthz`: whether this coordinator can do anything for anybody.
async fn health(State(source): State<Source>) -> (StatusCode, &'static str) {
    match source.jobs().await {
        Some(_) => (StatusCode::OK, "ok\n"),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n"),
    }
}

fn page(calls: &Calls, jobs: Option<&[JobStatus]>) -> String {
    let mut page = Exposition::default();
    page.metric("encaje_build_info", Kind::Gauge, "Which program this is.");
    page.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    page.metric("encaje_store_up", Kind::Gauge, "1 while the database answers.");
    page.sample(&[], if jobs.is_some() { 1.0 } else { 0.0 });
    if let Some(jobs) = jobs {
        jobs::write(&mut page, jobs);
    }
    calls.write(&mut page);
    page.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_database_the_page_says_so_and_has_no_jobs() {
        let page = page(&Calls::default(), None);
        assert!(page.contains("\nencaje_store_up 0\n"), "{page}");
        assert!(!page.contains("encaje_jobs"), "{page}");
    }
}
