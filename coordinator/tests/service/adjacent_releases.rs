//! Workers and clients of neighbouring releases.

use proto::generated as wire;
use proto::generated::jobs_client::JobsClient as JobsStub;
use proto::generated::work_client::WorkClient as WorkStub;
use proto::job::JobState;
use proto::{JobId, RequestId};
use tonic::Code;

use crate::harness::{Cluster, FakeWorker, spec};

/// Asks as a worker does that does not say what it knows.
async fn older_lease(cluster: &Cluster, worker: &FakeWorker) -> Vec<String> {
    let (session_id, request_id) = (worker.session.id.to_string(), RequestId::generate().to_string());
    let request = wire::LeaseRequest { session_id, request_id, max: 2, fetches_source_tasks: true, revision: 0 };
    let grants = WorkStub::new(cluster.wire()).lease(request).await.unwrap().into_inner().grants;
    grants.into_iter().map(|grant| grant.lease.unwrap().job_id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_worker_gets_no_shard_that_it_would_read_wrongly() {
    let cluster = Cluster::start().await;
    let mut dialect = spec(vec![cluster.file("a.csv", "text;label\none,two;x\n")]);
    dialect.read.delimiter = Some(';');
    let job = cluster.submit(&dialect).await;
    let plain = cluster.submit(&spec(vec![cluster.corpus("b.csv", 5, &[])])).await;
    for job in [job, plain] {
        cluster.until_state(job, JobState::Running).await;
    }
    let older = cluster.worker().await;
    assert_eq!(older_lease(&cluster, &older).await, [plain.to_string()]);
    assert_eq!(older_lease(&cluster, &older).await, Vec::<String>::new());
    assert_eq!(cluster.worker().await.drain().await, 1);
    assert_eq!(cluster.until_state(job, JobState::Succeeded).await.counts.rows, 1);
}

/// A coordinator drops what it does not know of a spec, and reads another one than the client has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spec_that_the_coordinator_does_not_know_all_of_is_refused() {
    let cluster = Cluster::start().await;
    let plain = spec(vec![cluster.corpus("a.csv", 5, &[])]);
    let mut newer = plain.clone();
    newer.read.delimiter = Some(';');
    let job_id = JobId::generate().to_string();
    let request = |digest: String| wire::SubmitRequest {
        job_id: job_id.clone(),
        spec: Some((&plain).into()),
        spec_digest: digest,
    };
    let mut jobs = JobsStub::new(cluster.wire());
    let refused = jobs.submit(request(newer.digest())).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("upgrade the coordinators"), "{refused}");
    jobs.submit(request(plain.digest())).await.unwrap();
    jobs.submit(request(String::new())).await.expect("an older client does not send it");
}
