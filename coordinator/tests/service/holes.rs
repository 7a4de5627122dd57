//! Jobs that may succeed without some of their shards: what their manifests say.

use std::path::Path;
use std::time::Duration;

use dataset::{Manifest, ManifestHole};
use proto::job::{JobSpec, JobState, JobStatus};
use proto::work::FailureClass;

use crate::harness::{Cluster, FakeWorker, spec};

/// Does every shard but this one, which fails until it is dead.
async fn work_but_for(cluster: &Cluster, worker: &FakeWorker, dead: u64, shards: u64) {
    let (mut failures, mut done) = (0, 0);
    while failures < 5 || done < shards - 1 {
        let grant = worker.lease_some(cluster, 1).await.remove(0);
        if grant.shard.index == dead {
            let (class, message) = (FailureClass::Transient, "no room\u{1b} for \"it\"");
            cluster.work().fail(worker.session.id, grant.shard, grant.epoch, class, message).await.unwrap();
            failures += 1;
        } else {
            let output = worker.embed(&grant).await;
            worker.commit(&grant, &output).await;
            done += 1;
        }
        cluster.clock.advance(Duration::from_secs(10));
        // Keeps the session alive over the pauses between attempts.
        cluster.work().heartbeat(worker.session.id, &[]).await.unwrap();
    }
}

async fn manifest(cluster: &Cluster, status: &JobStatus, generation: u32) -> Manifest {
    let key = status.manifest_key.as_deref().unwrap();
    assert_eq!(key, format!("jobs/{}/manifest-{generation}.json", status.id));
    let bytes = cluster.storage().get(key).await.unwrap();
    let manifest = Manifest::parse(Path::new(key), &bytes).unwrap();
    assert_eq!((manifest.to_bytes(), manifest.problems()), (bytes.to_vec(), Vec::new()));
    manifest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_lists_what_its_job_went_without_until_a_retry_fills_it() {
    let cluster = Cluster::start().await;
    let sources = vec![cluster.corpus("a.csv", 20, &[]), cluster.corpus("b.csv", 25, &[3])];
    let job = cluster.submit(&JobSpec { allow_partial: true, ..spec(sources) }).await;
    let worker = cluster.worker().await;
    work_but_for(&cluster, &worker, 2, 5).await;
    let status = cluster.until_state(job, JobState::Succeeded).await;
    assert_eq!((status.rows_planned, status.counts.rows, status.rows_missing()), (45, 35, 10));
    let found = manifest(&cluster, &status, 1).await;
    let places: Vec<_> = found.files.iter().map(|file| (file.first_row, file.rows)).collect();
    assert_eq!(places, [(0, 10), (10, 10), (30, 10), (40, 5)]);
    let [ManifestHole { source: 1, first_row: 20, rows: 10, reason }] = &found.holes[..] else {
        panic!("{:?}", found.holes)
    };
    assert!(reason.contains("no room") && !reason.contains('\u{1b}'), "{reason}");
    assert_eq!(found.sources.iter().map(|source| source.rows).collect::<Vec<_>>(), [20, 25]);

    cluster.jobs().retry(job).await.unwrap();
    let worker = cluster.worker().await;
    assert_eq!(worker.drain().await, 1);
    let status = cluster.until_state(job, JobState::Succeeded).await;
    let found = manifest(&cluster, &status, 2).await;
    assert_eq!((status.rows_missing(), found.holes.len(), found.totals.rows), (0, 0, 45));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_starts_again_makes_the_same_manifest_of_holes() {
    let mut cluster = Cluster::start().await;
    let corpus = cluster.corpus("a.csv", 30, &[]);
    let job = cluster.submit(&JobSpec { allow_partial: true, ..spec(vec![corpus]) }).await;
    work_but_for(&cluster, &cluster.worker().await, 0, 3).await;
    cluster.until_state(job, JobState::Succeeded).await;
    cluster.stop().await;
    let store = cluster.store().await;
    // As if it had died before the job was told that its manifest is written.
    store.retry(job).await.unwrap();
    assert!(store.fail_job(job, "for a moment").await.unwrap());
    store.close().await.unwrap();
    cluster.start_again().await;
    cluster.jobs().retry(job).await.unwrap();
    assert_eq!(cluster.worker().await.drain().await, 1);
    let status = cluster.until_state(job, JobState::Succeeded).await;
    assert_eq!(manifest(&cluster, &status, 2).await.missing(), 0);
}
