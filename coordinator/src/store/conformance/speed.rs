//! Measurements, not tests: `cargo nextest run -p coordinator --run-ignored only --no-capture speed`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::RequestId;
use proto::work::CommitOutcome;

use super::fixture::{Bed, cursor, output, slices, source, spec, worker};
use super::server::Server;
use crate::clock::SystemClock;
use crate::policy::Policy;
use crate::store::Store;

/// How long each rate is measured.
const MEASURED: Duration = Duration::from_secs(5);
const SHARDS: u64 = 60_000;

async fn plan(store: &Store) {
    let job = proto::JobId::generate();
    store.submit_job(job, &spec("a")).await.unwrap();
    store.set_sources(job, &[source("a")]).await.unwrap();
    let started = Instant::now();
    for first in (0..SHARDS).step_by(5_000) {
        let (from, to) = (cursor(first), cursor(first + 5_000));
        let done = first + 5_000 == SHARDS;
        assert!(store.insert_shards(job, &from, &slices(first, 5_000), &to, done).await.unwrap());
    }
    let rate = SHARDS as f64 / started.elapsed().as_secs_f64();
    println!("  planning: {rate:.0} shards/s");
    let started = Instant::now();
    store.job(job).await.unwrap();
    println!("  status of a job of {SHARDS} shards: {:?}", started.elapsed());
}

async fn lease_and_commit(store: Store, until: Instant) -> u64 {
    let session = store.open_session(&worker()).await.unwrap();
    let mut pairs = 0;
    while Instant::now() < until {
        for grant in store.lease(session, RequestId::generate(), 1).await.unwrap() {
            let outcome = store.commit(session, grant.shard, grant.epoch, &output(&grant)).await.unwrap();
            assert_eq!(outcome, CommitOutcome::Committed);
            pairs += 1;
        }
    }
    pairs
}

async fn measure(name: &str, url: &str) {
    println!("{name}");
    let store = Store::open_with(url, Arc::new(SystemClock::new()), Policy::default()).await.unwrap();
    plan(&store).await;
    for workers in [1, 8, 32] {
        let started = Instant::now();
        let until = started + MEASURED;
        let tasks: Vec<_> = (0..workers).map(|_| tokio::spawn(lease_and_commit(store.clone(), until))).collect();
        let mut pairs = 0;
        for task in tasks {
            pairs += task.await.unwrap();
        }
        let rate = pairs as f64 / started.elapsed().as_secs_f64();
        println!("  {workers} workers: {rate:.0} lease+commit pairs/s");
    }
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn speed_of_leases_and_commits() {
    let folder = tempfile::tempdir().unwrap();
    measure("SQLite, WAL, synchronous=FULL", folder.path().join("state.db").to_str().unwrap()).await;
    let server = Server::start().await;
    measure("PostgreSQL, fsync on, same machine", &server.database("speed").await).await;
    let bed = Bed::on_postgres(&server.database("check").await).await;
    bed.assert_invariants().await;
}
