//! Lease+commit pairs per second of the store itself, with the times of both, and heartbeats: without gRPC.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coordinator::{Policy, Store, SystemClock};
use dataset::{Cursor, Fingerprint, PlannedSource, Slice, SliceRange};
use proto::work::{CommitOutcome, Granted, Progress};
use proto::{JobId, RequestId};

use crate::{percentiles, spec};

/// Rows of a shard.
const ROWS: u64 = 1_000;
/// Shards that are stored at once.
const PAGE: u64 = 256;
/// On the mean over all numbers of workers, no machine does more pairs in a second.
const PAIRS_MAX: u64 = 30_000;
/// Sessions that beat.
const SESSIONS: usize = 1_000;

/// Measures the database at `url` with so many workers at a time.
pub(crate) async fn measure(url: &str, workers: &[usize], each: Duration) {
    if each.is_zero() {
        return;
    }
    let store = Store::open_with(url, Arc::new(SystemClock::new()), Policy::default()).await.unwrap();
    let shards = PAIRS_MAX * each.as_secs() * workers.len() as u64;
    plan(&store, shards).await;
    let mut done = 0;
    for workers in workers {
        let started = Instant::now();
        let until = started + each;
        let tasks: Vec<_> = (0..*workers).map(|_| tokio::spawn(lease_and_commit(store.clone(), until))).collect();
        let mut times = Times::default();
        for task in tasks {
            times.absorb(task.await.unwrap());
        }
        done += times.commits.len() as u64;
        assert!(done < shards, "the job has too few shards for this machine");
        let rate = times.commits.len() as f64 / started.elapsed().as_secs_f64();
        let (lease, commit) = (percentiles(&mut times.leases), percentiles(&mut times.commits));
        println!("  {workers:>4} workers: {rate:>7.0} pairs/s   lease {lease}   commit {commit}");
    }
    beats(&store, each).await;
    store.close().await.unwrap();
}

async fn plan(store: &Store, shards: u64) {
    let job = JobId::generate();
    store.submit_job(job, &spec::spec("/corpus/a.csv", ROWS)).await.unwrap();
    assert!(store.set_sources(job, &[source()]).await.unwrap());
    for first in (0..shards).step_by(PAGE as usize) {
        let last = (first + PAGE).min(shards);
        let page: Vec<Slice> = (first..last).map(slice).collect();
        assert!(store.insert_shards(job, &cursor(first), &page, &cursor(last), last == shards).await.unwrap());
    }
}

#[derive(Default)]
struct Times {
    leases: Vec<Duration>,
    commits: Vec<Duration>,
}

impl Times {
    fn absorb(&mut self, other: Times) {
        self.leases.extend(other.leases);
        self.commits.extend(other.commits);
    }
}

async fn lease_and_commit(store: Store, until: Instant) -> Times {
    let session = store.open_session(&spec::worker()).await.unwrap();
    let mut times = Times::default();
    while Instant::now() < until {
        let asked = Instant::now();
        let grants = store.lease(session, RequestId::generate(), 1).await.unwrap();
        times.leases.push(asked.elapsed());
        for grant in grants.into_iter().filter_map(Granted::into_whole) {
            let asked = Instant::now();
            let outcome = store.commit(session, grant.shard, grant.epoch, &spec::output(&grant, 4_096)).await.unwrap();
            assert_eq!(outcome, CommitOutcome::Committed);
            times.commits.push(asked.elapsed());
        }
    }
    store.close_session(session).await.unwrap();
    times
}

/// Ten thousand workers with a lease each would beat 667 times a second.
async fn beats(store: &Store, each: Duration) {
    let mut holders = Vec::new();
    for _ in 0..SESSIONS {
        let session = store.open_session(&spec::worker()).await.unwrap();
        let grants = store.lease(session, RequestId::generate(), 1).await.unwrap();
        let grants: Vec<_> = grants.iter().map(Granted::lease).collect();
        holders.push((session, grants));
    }
    let started = Instant::now();
    let mut rows_done = 0;
    let mut beats = 0_usize;
    while started.elapsed() < each {
        rows_done += 1;
        let round = holders.iter().map(|(session, grants)| {
            let progress: Vec<Progress> = grants
                .iter()
                .map(|(shard, epoch)| Progress { shard: *shard, epoch: *epoch, rows_done, tokens_done: rows_done })
                .collect();
            let (store, session) = (store.clone(), *session);
            tokio::spawn(async move { store.heartbeat(session, &progress).await.unwrap() })
        });
        for beat in round.collect::<Vec<_>>() {
            assert!(!beat.await.unwrap().session_lost);
            beats += 1;
        }
    }
    println!("  {SESSIONS} sessions: {:.0} heartbeats/s", beats as f64 / started.elapsed().as_secs_f64());
    for (session, _) in holders {
        store.close_session(session).await.unwrap();
    }
}

fn source() -> PlannedSource {
    PlannedSource {
        source: spec::spec("/corpus/a.csv", ROWS).sources.remove(0),
        fingerprint: Fingerprint { size: 1_000_000, etag: Some("1-2".into()) },
        header: vec!["text".into()],
        kept_schema: "AAAA".into(),
    }
}

fn cursor(shards: u64) -> Cursor {
    Cursor { source_index: 0, position: shards * 100, next_row: shards * ROWS }
}

fn slice(index: u64) -> Slice {
    Slice {
        source_index: 0,
        recut_key: None,
        range: SliceRange::Bytes { start: index * 100, end: (index + 1) * 100 },
        first_row: index * ROWS,
        rows: ROWS,
        blake3: None,
    }
}
