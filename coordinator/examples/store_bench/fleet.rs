//! Simulated workers at the gRPC service of a coordinator, each with a connection, a session that beats every 15 s and
//! shards that take half a minute: only their computing is left out. Leases and commits are timed at the worker.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proto::work::{CommitOutcome, Directive, Grant, Progress};
use proto::{RequestId, WorkClient};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::child::Coordinator;
use crate::{percentiles, spec};

/// How long a shard takes, at least and at most.
const SHARD_MS: [u64; 2] = [20_000, 40_000];
/// Workers come over so long a time, as a cluster's manager starts them.
const ARRIVAL_MS: u64 = 20_000;

/// And go so many milliseconds apart.
const LEAVE_MS: u64 = 3;

/// What all workers share.
struct Fleet {
    url: String,
    storage: PathBuf,
    sample: Vec<u8>,
    over: CancellationToken,
    leave_ms: u64,
    seen: Mutex<Seen>,
    /// Sessions and leases that were taken from workers who were there all the time.
    lost: AtomicU64,
}

#[derive(Default)]
struct Seen {
    leases: Vec<Duration>,
    commits: Vec<Duration>,
    beats: Vec<Duration>,
}

/// Lets so many workers work for a while, and prints how long they waited.
pub(crate) async fn measure(at: &Coordinator, storage: PathBuf, sample: &[u8], workers: usize, seconds: u64) {
    let (over, url) = (CancellationToken::new(), at.url.clone());
    let (seen, lost, leave_ms) = (Mutex::default(), AtomicU64::new(0), workers as u64 * LEAVE_MS);
    let fleet = Arc::new(Fleet { url, storage, sample: sample.to_vec(), over, leave_ms, seen, lost });
    let cpu = at.cpu_seconds();
    let started = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..workers {
        running.spawn(work(Arc::clone(&fleet)));
    }
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    fleet.over.cancel();
    let (took, cpu) = (started.elapsed().as_secs_f64(), at.cpu_seconds() - cpu);
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    let mut seen = fleet.seen.lock().unwrap();
    let rates = [seen.leases.len(), seen.commits.len(), seen.beats.len()].map(|count| count as f64 / took);
    let (leases, commits) = (percentiles(&mut seen.leases), percentiles(&mut seen.commits));
    let beats = percentiles(&mut seen.beats);
    println!(
        "  {workers} workers, {took:.0} s: lease {leases} ({:.0}/s), commit {commits} ({:.0}/s), heartbeat {beats} \
         ({:.0}/s); {} false expiries; coordinator {:.2} cores, peak memory {} MB",
        rates[0],
        rates[1],
        rates[2],
        fleet.lost.load(Ordering::Relaxed),
        cpu / took,
        at.peak_mb()
    );
}

/// A random time within a range of milliseconds.
fn between(least: u64, most: u64) -> Duration {
    Duration::from_millis(least + (proto::chance::unit() * (most - least) as f64) as u64)
}

/// One worker, from its arrival to the end.
async fn work(fleet: Arc<Fleet>) {
    tokio::time::sleep(between(0, ARRIVAL_MS)).await;
    let Some(channel) = fleet.over.run_until_cancelled(proto::connect(&fleet.url)).await else { return };
    let client = WorkClient::new(channel.unwrap());
    let session = client.open_session(&spec::worker()).await.unwrap();
    let held: Arc<Mutex<Vec<Grant>>> = Arc::default();
    let every = Duration::from_millis(session.heartbeat_ms);
    let beating = tokio::spawn(beat(Arc::clone(&fleet), client.clone(), session.id, Arc::clone(&held), every));
    // The first shard is somewhere in its middle: a fleet that has been running has no rhythm.
    let mut takes = between(0, SHARD_MS[1]);
    while !fleet.over.is_cancelled() {
        let wants = 2 - held.lock().unwrap().len() as u32;
        let asked = Instant::now();
        let leased = client.lease(session.id, RequestId::generate(), wants).await.unwrap();
        fleet.seen.lock().unwrap().leases.push(asked.elapsed());
        held.lock().unwrap().extend(leased.grants);
        let next = held.lock().unwrap().first().cloned();
        let rest = if next.is_some() { takes } else { Duration::from_millis(leased.retry_after_ms) };
        if fleet.over.run_until_cancelled(tokio::time::sleep(rest)).await.is_none() {
            break;
        }
        if let Some(grant) = next {
            commit(&fleet, &client, session.id, &grant).await;
            held.lock().unwrap().retain(|one| one.shard != grant.shard);
            takes = between(SHARD_MS[0], SHARD_MS[1]);
        }
    }
    beating.await.unwrap();
    // Nobody ends a fleet in one moment; a session that is not closed expires.
    tokio::time::sleep(between(0, fleet.leave_ms)).await;
    client.close_session(session.id).await.ok();
}

async fn commit(fleet: &Fleet, client: &WorkClient, session: proto::SessionId, grant: &Grant) {
    let file = fleet.storage.join(&grant.output_key);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, &fleet.sample).unwrap();
    let output = spec::output(grant, fleet.sample.len() as u64);
    let asked = Instant::now();
    let outcome = client.commit(session, grant.shard, grant.epoch, &output).await.unwrap();
    fleet.seen.lock().unwrap().commits.push(asked.elapsed());
    if outcome != CommitOutcome::Committed {
        fleet.lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// Says every so often that the worker lives, and how far its shards are.
async fn beat(
    fleet: Arc<Fleet>,
    client: WorkClient,
    session: proto::SessionId,
    held: Arc<Mutex<Vec<Grant>>>,
    every: Duration,
) {
    let mut wait = between(0, u64::try_from(every.as_millis()).unwrap());
    let mut rows_done = 0;
    while fleet.over.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
        wait = every;
        rows_done += 1;
        let progress = |grant: &Grant| Progress { shard: grant.shard, epoch: grant.epoch, rows_done, tokens_done: 1 };
        let told: Vec<Progress> = held.lock().unwrap().iter().map(progress).collect();
        let asked = Instant::now();
        let answer = client.heartbeat(session, &told).await.unwrap();
        fleet.seen.lock().unwrap().beats.push(asked.elapsed());
        // A lease that was committed while the answer was on its way is not lost.
        let stands = held.lock().unwrap().clone();
        let revoked = told.iter().zip(&answer.directives).filter(|(told, directive)| {
            **directive == Directive::Revoke && stands.iter().any(|one| one.shard == told.shard)
        });
        fleet.lost.fetch_add(revoked.count() as u64 + u64::from(answer.session_lost), Ordering::Relaxed);
    }
}
