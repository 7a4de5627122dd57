//! Metrics of a cluster, in the text format of Prometheus over plain HTTP: `/metrics`, and `/healthz` for
//! probes. Nothing in them is secret: ids, counts and times; no texts, no paths.

mod calls;
mod exposition;
mod jobs;

use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use proto::job::JobBrief;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tracing::debug;

pub(crate) use calls::CallLayer;

use self::calls::Calls;
use self::exposition::{Exposition, Kind};
use crate::connections;
use crate::store::{Store, StoreError, Tally};
use common::error_chain;

/// A page does not wait longer for the database.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// Few programs read these pages, and not for long.
const CONNECTIONS_MAX: usize = 64;
/// A client has sent its whole request by then, and its next one.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// For so long, pages repeat what the database said.
const NUMBERS_FRESH: Duration = Duration::from_secs(1);
/// Jobs that have not ended and have series of their own: the newest.
const UNENDED_MAX: u32 = 1_000;
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
        let pages = pages.with_state(Pages { metrics: self.clone(), store, numbers: Arc::default() });
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

/// When the database was queried, and its answer, if there was one.
type LastNumbers = (Instant, Option<Arc<Numbers>>);

/// Where the pages take their numbers from.
#[derive(Clone)]
struct Pages {
    metrics: Metrics,
    store: Store,
    /// What the database said last, and when.
    numbers: Arc<Mutex<Option<LastNumbers>>>,
}

/// What the database knows of jobs and workers.
struct Numbers {
    tally: Tally,
    /// Jobs that have not ended.
    unended: Vec<JobBrief>,
}

impl Pages {
    /// Returns what the database knows, at most [`NUMBERS_FRESH`] old, or `None` where it does not answer. Pages that are
    /// requested at the same time share one answer.
    async fn numbers(&self) -> Option<Arc<Numbers>> {
        let mut known = self.numbers.lock().await;
        if let Some((_, numbers)) = known.as_ref().filter(|(at, _)| at.elapsed() < NUMBERS_FRESH) {
            return numbers.clone();
        }
        let store = &self.store;
        let read = async {
            let (tally, unended) = (store.tally().await?, store.unended_jobs(UNENDED_MAX).await?);
            Ok(Arc::new(Numbers { tally, unended }))
        };
        let numbers = answered(read).await;
        *known = Some((Instant::now(), numbers.clone()));
        numbers
    }
}

/// Waits for the database, but not for long; `None` where it does not answer.
async fn answered<T>(question: impl Future<Output = Result<T, StoreError>>) -> Option<T> {
    match tokio::time::timeout(STORE_TIMEOUT, question).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(error)) => {
            debug!(error = error_chain(&error), "the database does not answer");
            None
        }
        Err(_) => None,
    }
}

/// `GET /metrics`.
async fn metrics(State(source): State<Pages>) -> ([(axum::http::HeaderName, &'static str); 1], String) {
    let numbers = match answered(source.store.ping()).await {
        Some(()) => source.numbers().await,
        None => None,
    };
    ([(CONTENT_TYPE, TEXT_FORMAT)], page(&source.metrics.calls, numbers.as_deref()))
}

/// `GET /healthz`: whether this coordinator can do anything for anybody.
async fn health(State(source): State<Pages>) -> (StatusCode, &'static str) {
    match answered(source.store.ping()).await {
        Some(_) => (StatusCode::OK, "ok\n"),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n"),
    }
}

fn page(calls: &Calls, numbers: Option<&Numbers>) -> String {
    let mut page = Exposition::default();
    page.metric("encaje_build_info", Kind::Gauge, "Which program this is.");
    page.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    page.metric("encaje_store_up", Kind::Gauge, "1 while the database answers.");
    page.sample(&[], if numbers.is_some() { 1.0 } else { 0.0 });
    if let Some(numbers) = numbers {
        jobs::write(&mut page, numbers);
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
