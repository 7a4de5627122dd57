//! Planning is interrupted, and its shards do not show it.

use proto::job::{JobSpec, JobState, ShardLimits};
use proto::{JobId, RpcErrorKind};

use crate::harness::{Cluster, FakeWorker, spec};

const ROWS: usize = 120;

/// First row and number of rows of every shard, by finishing the job.
async fn shards_of(cluster: &Cluster, worker: &FakeWorker, job: proto::JobId) -> Vec<(u64, u64)> {
    cluster.until_state(job, JobState::Running).await;
    worker.drain().await;
    let done = cluster.until_state(job, JobState::Succeeded).await;
    cluster.manifest(&done).await.files.iter().map(|file| (file.first_row, file.rows)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planning_that_was_interrupted_gives_the_same_shards() {
    let mut cluster = Cluster::start().await;
    let limits = ShardLimits { rows_max: 1, bytes_max: 1 << 20 };
    let corpora = vec![cluster.corpus("a.csv", ROWS - 50, &[]), cluster.corpus("b.csv", 50, &[])];
    let spec = JobSpec { limits, ..spec(corpora) };

    cluster.stop().await;
    cluster.config.plan_page = 1;
    cluster.start_again().await;
    let interrupted = cluster.submit(&spec).await;
    let mut stops = 0;
    for shards in [3, 60, 90] {
        cluster.until(interrupted, |status| status.shards.pending >= shards).await;
        cluster.stop().await;
        let store = cluster.store().await;
        let left = store.job(interrupted).await.unwrap().unwrap();
        stops += usize::from(left.state == JobState::Planning);
        store.close().await.unwrap();
        drop(store);
        cluster.start_again().await;
    }
    assert!(stops > 0, "planning was over before the first stop");

    let worker = cluster.worker().await;
    let shards = shards_of(&cluster, &worker, interrupted).await;
    assert_eq!(shards, (0..ROWS as u64).map(|row| (row, 1)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_are_worked_on_while_planning_goes_on() {
    let mut cluster = Cluster::start().await;
    cluster.stop().await;
    cluster.config.plan_page = 1;
    cluster.start_again().await;
    let limits = ShardLimits { rows_max: 1, bytes_max: 1 << 20 };
    let job = cluster.submit(&JobSpec { limits, ..spec(vec![cluster.corpus("a.csv", ROWS, &[])]) }).await;
    let worker = cluster.worker().await;
    let grant = worker.lease_some(&cluster, 1).await.remove(0);
    let output = worker.embed(&grant).await;
    worker.commit(&grant, &output).await;
    let status = cluster.jobs().get(job).await.unwrap();
    assert_eq!((status.state, status.shards.committed), (JobState::Planning, 1));
    assert_eq!(shards_of(&cluster, &worker, job).await.len(), ROWS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_an_end_to_shards_and_to_jobs() {
    let mut cluster = Cluster::start().await;
    cluster.stop().await;
    cluster.config.shards_max = 3;
    cluster.config.jobs_active_max = 2;
    cluster.start_again().await;
    let fits = cluster.submit(&spec(vec![cluster.corpus("a.csv", 30, &[])])).await;
    cluster.until_state(fits, JobState::Running).await;
    let large = cluster.submit(&spec(vec![cluster.corpus("b.csv", 31, &[])])).await;
    let failed = cluster.until_state(large, JobState::Failed).await;
    let reason = failed.brief.reason.unwrap();
    assert!(reason.contains("more than 3 shards") && reason.contains("--shard-rows"), "{reason}");

    // The failed one has ended, so there is room for one more.
    let second = spec(vec![cluster.corpus("c.csv", 1, &[])]);
    let second_job = cluster.submit(&second).await;
    let third = spec(vec![cluster.corpus("d.csv", 1, &[])]);
    let refused = cluster.jobs().submit(JobId::generate(), &third).await.unwrap_err();
    assert_eq!(refused.kind, RpcErrorKind::ResourceExhausted, "{refused}");
    assert_eq!(cluster.jobs().submit(second_job, &second).await.unwrap().id, second_job, "a repeat is no new job");
    cluster.jobs().cancel(fits).await.unwrap();
    cluster.until_state(fits, JobState::Cancelled).await;
    cluster.submit(&third).await;
}
