//! For a submitter, jobs of others do not exist: every call that names a job is made as its owner and as somebody else.

use std::sync::Arc;

use prost::Message;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};
use proto::JobId;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Code;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::ServiceExt;

use super::{Routes, routes};
use crate::access::{Identity, Role, call_is_for};
use crate::clock::TestClock;
use crate::config::Config;
use crate::context::{Context, Lead, Notices};
use crate::store::Store;

/// Calls that name a job without being about one that exists, and why.
const EXEMPT: [(&str, &str); 2] = [
    ("/encaje.v1.Jobs/Submit", "names the job that it makes; `people_see_and_steer_their_own_jobs` submits another's"),
    ("/encaje.v1.Jobs/List", "names where a page begins, and lists the caller's own"),
];

/// Returns every call of submitters whose request names a job, with the number of the field that does.
fn calls_that_name_a_job() -> Vec<(String, u32)> {
    let files = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).unwrap().file;
    let messages: Vec<&DescriptorProto> = files.iter().flat_map(|file| &file.message_type).collect();
    let message_of = |type_name: &str| {
        let name = type_name.rsplit('.').next().unwrap();
        *messages.iter().find(|message| message.name() == name).unwrap()
    };
    let mut calls = Vec::new();
    for (file, service) in files.iter().flat_map(|file| file.service.iter().map(move |service| (file, service))) {
        for method in &service.method {
            let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
            if !call_is_for(&path, Role::Submitter) || EXEMPT.iter().any(|(exempt, _)| *exempt == path) {
                continue;
            }
            for field in &message_of(method.input_type()).field {
                if field.name().contains("job_id") {
                    calls.push((path.clone(), field.number().unsigned_abs()));
                } else if field.r#type() == Type::Message {
                    let names_a_job = |field: &&prost_types::FieldDescriptorProto| field.name().contains("job_id");
                    let nested = message_of(field.type_name()).field.iter().find(names_a_job);
                    assert!(nested.is_none(), "{path}: put the id of the job into the request itself");
                }
            }
        }
    }
    calls
}

/// Makes a call with nothing but the id of a job, and returns how it ended.
async fn call(routes: &Routes, caller: &Identity, path: &str, field: u32, job: JobId) -> Code {
    let job = job.to_string();
    let message = [&[u8::try_from(field << 3 | 2).unwrap(), u8::try_from(job.len()).unwrap()], job.as_bytes()].concat();
    // A frame of gRPC: not compressed, its length, the message.
    let frame = [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()], &message[..]].concat();
    let mut request = Request::post(path)
        .header("content-type", "application/grpc")
        .body(Body::new(String::from_utf8(frame).unwrap()))
        .unwrap();
    request.extensions_mut().insert(caller.clone());
    let response: Response<Body> = routes.clone().oneshot(request).await.unwrap();
    // A refusal is in the headers, success in the trailers.
    response.headers().get("grpc-status").map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()))
}

#[tokio::test]
async fn jobs_of_others_do_not_exist_in_any_call() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let config = Config { clock: Arc::new(TestClock::at(0)), ..Config::default() };
    let store = Store::open(&place("state.db"), Arc::clone(&config.clock)).await.unwrap();
    let [ana, luis] = ["ana", "luis"].map(|name| Identity { name: name.to_owned(), role: Role::Submitter });
    let job = JobId::generate();
    store.submit_job_of(job, &testkit::job_spec(), Some("ana")).await.unwrap();
    // No loop runs: only calls change the job.
    let context = Context {
        config,
        store: store.clone(),
        storage: dataset::Storage::open(&place("storage")).unwrap(),
        notices: Notices::default(),
        shutdown: CancellationToken::new(),
        calls: TaskTracker::new(),
        lead: Lead::new(),
    };
    let (routes, _) = routes(Arc::new(context));
    let calls = calls_that_name_a_job();
    assert!(calls.len() >= 7, "{calls:?}");
    let before = store.job(job).await.unwrap();
    for (path, field) in &calls {
        assert_eq!(call(&routes, &luis, path, *field, job).await, Code::NotFound, "{path} as somebody else");
    }
    assert_eq!(store.job(job).await.unwrap(), before);
    for (path, field) in &calls {
        assert_ne!(call(&routes, &ana, path, *field, job).await, Code::NotFound, "{path} as its owner");
    }
    assert_ne!(store.job(job).await.unwrap(), before);
}
