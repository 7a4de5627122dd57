//! Corpora and answers that are too large for a message: one job costs no worker, and no other job.

use std::fmt::Write;

use dataset::{Keep, Source};
use proto::generated as wire;
use proto::generated::work_client::WorkClient as WorkStub;
use proto::job::JobState;
use proto::work::{CommitOutcome, Granted};
use proto::{JobId, RequestId, RpcErrorKind};
use tonic::Code;

use crate::harness::{Cluster, FakeWorker, spec};

/// Rows of a wide corpus.
const ROWS: u64 = 3;

/// Writes a corpus with the column `text` and so many others.
fn wide(cluster: &Cluster, name: &str, columns: usize, long: usize) -> Source {
    let mut csv = String::from("text");
    (0..columns).for_each(|column| write!(csv, ",c{column:0>long$}").unwrap());
    for row in 0..ROWS {
        write!(csv, "\ntext {row}").unwrap();
        csv.push_str(&",".repeat(columns));
    }
    cluster.file(name, &csv)
}

/// Asks as a worker does that knows nothing of source tasks.
async fn older_lease(cluster: &Cluster, worker: &FakeWorker, max: u32) -> Vec<wire::Grant> {
    let (session_id, request_id) = (worker.session.id.to_string(), RequestId::generate().to_string());
    let request = wire::LeaseRequest { session_id, request_id, max, fetches_source_tasks: false, revision: 0 };
    WorkStub::new(cluster.wire()).lease(request).await.unwrap().into_inner().grants
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corpus_with_a_very_long_header_stops_nobody() {
    let cluster = Cluster::start().await;
    // Whole grants of these take 3 MB each.
    let corpora = [wide(&cluster, "many.csv", 40_000, 5), wide(&cluster, "long.csv", 13_000, 70)];
    let mut jobs = Vec::new();
    for corpus in corpora {
        jobs.push(cluster.submit(&spec(vec![corpus])).await);
    }
    jobs.push(cluster.submit(&spec(vec![cluster.corpus("a.csv", 5, &[])])).await);
    for job in &jobs {
        cluster.until_state(*job, JobState::Running).await;
    }
    let worker = cluster.worker().await;
    let leased = worker.ask(RequestId::generate()).await;
    assert!(matches!(leased.grants[..], [Granted::Light(_)]), "{leased:?}");
    let grants = [worker.whole(leased.grants[0].clone()).await, worker.lease(1).await.remove(0)];
    assert_eq!((grants[0].source.header.len(), grants[1].source.header.len()), (40_001, 13_001));
    for grant in grants {
        let output = FakeWorker::made_up(&grant);
        cluster.storage().put_new(&grant.output_key, vec![0; 100].into()).await.unwrap();
        assert_eq!(worker.commit(&grant, &output).await, CommitOutcome::Committed);
    }
    assert_eq!(worker.drain().await, 1);
    cluster.until_state(jobs[2], JobState::Succeeded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_worker_gets_whole_grants_that_fit_and_none_that_do_not() {
    let cluster = Cluster::start().await;
    let too_wide = cluster.submit(&spec(vec![wide(&cluster, "wide.csv", 45_000, 20)])).await;
    let two = vec![wide(&cluster, "middling.csv", 40_000, 5), wide(&cluster, "another.csv", 40_000, 5)];
    let middling = cluster.submit(&spec(two)).await;
    let small = cluster.submit(&spec(vec![cluster.corpus("a.csv", 5, &[])])).await;
    for job in [too_wide, middling, small] {
        cluster.until_state(job, JobState::Running).await;
    }
    let older = cluster.worker().await;
    let job_of = |grant: &wire::Grant| grant.lease.as_ref().unwrap().job_id.parse::<JobId>().unwrap();
    // The first is paused for this worker's sake, and of the next two only one fits the answer.
    let first = older_lease(&cluster, &older, 1).await;
    assert!(first.is_empty(), "{}", first.len());
    let second = older_lease(&cluster, &older, 2).await;
    assert_eq!(second.iter().map(job_of).collect::<Vec<_>>(), [middling]);
    assert!(!second[0].source_task_omitted && second[0].source.as_ref().unwrap().header.len() == 40_001);
    let third = older_lease(&cluster, &older, 1).await;
    assert_eq!(third.iter().map(job_of).collect::<Vec<_>>(), [middling], "what went back is there at once");

    let other = cluster.worker().await;
    let fourth = older_lease(&cluster, &other, 1).await;
    assert_eq!(fourth.iter().map(job_of).collect::<Vec<_>>(), [small], "other work goes on");
    let waiting = cluster.jobs().get(too_wide).await.unwrap().shards;
    assert_eq!((waiting.pending, waiting.running), (1, 0), "it waits for a worker that can take it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_that_are_not_kept_do_not_travel() {
    let cluster = Cluster::start().await;
    let mut narrow = spec(vec![wide(&cluster, "wide.csv", 5_000, 5)]);
    narrow.read.keep = Keep::Columns(vec!["c00007".into()]);
    let job = cluster.submit(&narrow).await;
    cluster.until_state(job, JobState::Running).await;
    let worker = cluster.worker().await;
    let leased = worker.ask(RequestId::generate()).await;
    assert!(matches!(leased.grants[..], [Granted::Whole(_)]), "{leased:?}");
    let grant = worker.whole(leased.grants[0].clone()).await;
    let output = worker.embed(&grant).await;
    assert_eq!((output.counts.rows, output.counts.rejected()), (ROWS, 0), "fields are counted all the same");
    assert_eq!(worker.commit(&grant, &output).await, CommitOutcome::Committed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_columns_fail_their_job_with_the_remedy() {
    let cluster = Cluster::start().await;
    let job = cluster.submit(&spec(vec![wide(&cluster, "wide.csv", 130_000, 0)])).await;
    let failed = cluster.until(job, |status| status.state == JobState::Failed).await;
    let reason = failed.brief.reason.unwrap();
    assert!(reason.contains("wide.csv") && reason.contains("--keep COLUMN"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_quotes_megabytes_arrives_as_its_beginning() {
    let cluster = Cluster::start().await;
    let job = cluster.submit(&spec(vec![cluster.corpus("a.csv", 5, &[])])).await;
    cluster.until_state(job, JobState::Running).await;
    let worker = cluster.worker().await;
    let grant = worker.lease(1).await.remove(0);
    let mut output = FakeWorker::made_up(&grant);
    output.key = "é".repeat(1_000_000);
    let error = cluster.work().commit(worker.session.id, grant.shard, grant.epoch, &output).await.unwrap_err();
    assert_eq!(error.kind, RpcErrorKind::InvalidArgument, "{:.200}", error.message);
    assert!(error.message.contains("éééé") && error.message.len() < 5_000, "{}", error.message.len());

    let request = wire::SourceTaskRequest {
        session_id: worker.session.id.to_string(),
        job_id: job.to_string(),
        source_index: 7,
        start: 0,
    };
    let status = WorkStub::new(cluster.wire()).get_source_task(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}
