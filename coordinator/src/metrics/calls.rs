//! Calls by method: how many ended with which status, and how long they took until their first answer. The names are those
//! that Prometheus libraries of gRPC have in common, so that dashboards for them fit.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tonic::Code;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tower::Layer;

use super::exposition::{Exposition, Kind};
use crate::access;

/// Upper bounds of the buckets, in seconds.
const BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Stands for calls that no service knows, whose names anybody could make up.
const UNKNOWN: &str = "/unknown/unknown";

/// Calls that have ended, by path.
#[derive(Default)]
pub(super) struct Calls(Mutex<BTreeMap<&'static str, Ended>>);

/// The calls of one method that have ended.
#[derive(Default)]
struct Ended {
    by_code: BTreeMap<&'static str, u64>,
    /// By the first bound that is not below; beyond the last one, last.
    by_time: [u64; BOUNDS.len() + 1],
    seconds: f64,
}

impl Calls {
    fn record(&self, path: &'static str, code: Code, took: Duration) {
        let seconds = took.as_secs_f64();
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = calls.entry(path).or_default();
        *ended.by_code.entry(name_of(code)).or_default() += 1;
        ended.by_time[BOUNDS.partition_point(|bound| *bound < seconds)] += 1;
        ended.seconds += seconds;
    }

    /// Writes a counter by method and status, and a histogram of times by method.
    pub(super) fn write(&self, page: &mut Exposition) {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        page.metric("grpc_server_handled_total", Kind::Counter, "Calls that this process has answered, by status.");
        for (path, ended) in calls.iter() {
            for (code, calls) in &ended.by_code {
                let [service, method] = labels(path);
                page.sample(&[service, method, ("grpc_code", code)], *calls as f64);
            }
        }
        page.metric("grpc_server_handling_seconds", Kind::Histogram, "Time until a call's first answer.");
        for (path, ended) in calls.iter() {
            let [service, method] = labels(path);
            let mut below = 0;
            for (bound, calls) in BOUNDS.iter().zip(ended.by_time) {
                below += calls;
                page.sample_of("_bucket", &[service, method, ("le", &bound.to_string())], below as f64);
            }
            let all = ended.by_time.iter().sum::<u64>() as f64;
            page.sample_of("_bucket", &[service, method, ("le", "+Inf")], all);
            page.sample_of("_sum", &[service, method], ended.seconds);
            page.sample_of("_count", &[service, method], all);
        }
    }
}

/// Service and method of a path such as `/encaje.v1.Work/Lease`.
fn labels(path: &'static str) -> [(&'static str, &'static str); 2] {
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
    [("grpc_service", service), ("grpc_method", method)]
}

/// Counts every call to the services behind it.
#[derive(Clone)]
pub(crate) struct CallLayer(pub(super) Arc<Calls>);

impl<S> Layer<S> for CallLayer {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { calls: Arc::clone(&self.0), inner }
    }
}

/// Services whose calls are counted.
#[derive(Clone)]
pub(crate) struct Counted<S> {
    calls: Arc<Calls>,
    inner: S,
}

impl<S> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = access::known_call(request.uri().path()).unwrap_or(UNKNOWN);
        let mut call = Running { calls: Arc::clone(&self.calls), path, began: Instant::now(), code: Code::Cancelled };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            call.ends(answer.as_ref().map_or(Code::Unknown, |response| code_of(response.headers())));
            answer
        })
    }
}

/// A call under way. It is recorded when it is dropped, so that one whose client went away counts too.
struct Running {
    calls: Arc<Calls>,
    path: &'static str,
    began: Instant,
    code: Code,
}

impl Running {
    fn ends(&mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.calls.record(self.path, self.code, self.began.elapsed());
    }
}

/// The status of an answer: one that fails before its first message says so in its headers.
fn code_of(headers: &HeaderMap) -> Code {
    headers.get("grpc-status").map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()))
}

/// The names of statuses that those libraries use.
fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up_and_statuses_are_told_apart() {
        let calls = Calls::default();
        let path = "/encaje.v1.Work/Lease";
        calls.record(path, Code::Ok, Duration::from_millis(1));
        calls.record(path, Code::Ok, Duration::from_millis(30));
        calls.record(path, Code::Unavailable, Duration::from_secs(60));
        let mut page = Exposition::default();
        calls.write(&mut page);
        let page = page.finish();
        for line in [
            "grpc_server_handled_total{grpc_service=\"encaje.v1.Work\",grpc_method=\"Lease\",grpc_code=\"OK\"} 2",
            "grpc_server_handled_total{grpc_service=\"encaje.v1.Work\",grpc_method=\"Lease\",grpc_code=\"Unavailable\"} 1",
            "grpc_server_handling_seconds_bucket{grpc_service=\"encaje.v1.Work\",grpc_method=\"Lease\",le=\"0.001\"} 1",
            "grpc_server_handling_seconds_bucket{grpc_service=\"encaje.v1.Work\",grpc_method=\"Lease\",le=\"0.05\"} 2",
            "grpc_server_handling_seconds_bucket{grpc_service=\"encaje.v1.Work\",grpc_method=\"Lease\",le=\"10\"} 2",
            "grpc_server_handling_seconds_bucket{grpc_service=\"encaje.v1.Work\",grpc_method=\"Lease\",le=\"+Inf\"} 3",
            "grpc_server_handling_seconds_count{grpc_service=\"encaje.v1.Work\",grpc_method=\"Lease\"} 3",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\nis not in\n{page}");
        }
    }

    #[tokio::test]
    async fn a_refused_call_an_unknown_one_and_one_given_up_are_counted() {
        let calls = Arc::new(Calls::default());
        let services = tower::service_fn(|request: Request<Body>| async move {
            if request.uri().path().ends_with("/Commit") {
                std::future::pending::<()>().await;
            }
            Ok::<_, std::convert::Infallible>(tonic::Status::not_found("no").into_http())
        });
        let mut counted = CallLayer(Arc::clone(&calls)).layer(services);
        let request = |path: &str| Request::builder().uri(path).body(Body::empty()).unwrap();
        counted.call(request("/encaje.v1.Jobs/Get")).await.unwrap();
        counted.call(request("/made.up/Name")).await.unwrap();
        drop(counted.call(request("/encaje.v1.Work/Commit")));
        let calls = calls.0.lock().unwrap();
        let ended = |path| calls[path].by_code.iter().map(|(code, calls)| (*code, *calls)).collect::<Vec<_>>();
        assert_eq!(ended("/encaje.v1.Jobs/Get"), [("NotFound", 1)]);
        assert_eq!(ended(UNKNOWN), [("NotFound", 1)]);
        assert_eq!(ended("/encaje.v1.Work/Commit"), [("Canceled", 1)]);
    }
}
