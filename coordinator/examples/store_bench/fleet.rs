//! Simulated workers at the gRPC service of a coordinator, each with a connection, a session that beats every 15 s and
//! shards that take half a minute: only their computing is left out. Leases and commits are timed at the worker, from when
//! they are first asked for until there is an answer: a call that fails is repeated as a worker repeats it, and counted.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proto::work::{CommitOutcome, Directive, Grant, Granted, Progress};
use proto::{RequestId, RpcError, SessionId, ShardId, WorkClient};
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
/// A failed call is repeated after up to so long, twice as long each time,
const BACKOFF_MS: [u64; 2] = [200, 10_000];
/// for so long.
const OFFLINE_MAX: Duration = Duration::from_secs(900);

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
    /// Calls that were not answered in time, or not at all.
    failed: AtomicU64,
}

impl Fleet {
    /// Repeats a call until it is answered.
    async fn insist<T, A>(&self, call: impl Fn() -> A) -> Result<T, RpcError>
    where
        A: Future<Output = Result<T, RpcError>>,
    {
        let (since, mut most) = (Instant::now(), BACKOFF_MS[0]);
        loop {
            match call().await {
                Err(error) if error.is_retryable() && since.elapsed() < OFFLINE_MAX => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(between(0, most)).await;
                    most = (2 * most).min(BACKOFF_MS[1]);
                }
                answer => return answer,
            }
        }
    }

    fn lose(&self, count: u64) {
        self.lost.fetch_add(count, Ordering::Relaxed);
    }
}

/// The leases of a session.
#[derive(Default)]
struct Held {
    grants: Vec<Grant>,
    /// The shard whose commit is on its way, or was the last one: its answer says whether the lease stood.
    offered: Option<ShardId>,
}

impl Held {
    fn computes(&self, shard: ShardId) -> bool {
        self.offered != Some(shard) && self.grants.iter().any(|one| one.shard == shard)
    }
}

#[derive(Default)]
struct Seen {
    leases: Vec<Duration>,
    commits: Vec<Duration>,
    heartbeats: Vec<Duration>,
}

/// Lets so many workers work for a while, and prints how long they waited.
pub(crate) async fn measure(at: &Coordinator, storage: PathBuf, sample: &[u8], workers: usize, seconds: u64) {
    let (over, url) = (CancellationToken::new(), at.url.clone());
    let (seen, leave_ms, [lost, failed]) = (Mutex::default(), workers as u64 * LEAVE_MS, Default::default());
    let fleet = Arc::new(Fleet { url, storage, sample: sample.to_vec(), over, leave_ms, seen, lost, failed });
    let mut running = JoinSet::new();
    let arrival = Period::begin(at);
    for _ in 0..workers {
        running.spawn(work(Arc::clone(&fleet)));
    }
    let arrives = Duration::from_millis(ARRIVAL_MS).min(Duration::from_secs(seconds));
    tokio::time::sleep(arrives).await;
    println!("  {workers} workers, arriving: {}", arrival.end(&fleet));
    let work = Period::begin(at);
    tokio::time::sleep(Duration::from_secs(seconds).saturating_sub(arrives)).await;
    fleet.over.cancel();
    println!("  {workers} workers, from then on: {}", work.end(&fleet));
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    println!(
        "  {} false expiries, {} calls repeated; peak memory of the coordinator {} MB",
        fleet.lost.load(Ordering::Relaxed),
        fleet.failed.load(Ordering::Relaxed),
        at.peak_mb()
    );
}

/// A part of the time, and what was waited for in it.
struct Period<'a> {
    at: &'a Coordinator,
    since: Instant,
    cpu: f64,
}

impl Period<'_> {
    fn begin(at: &Coordinator) -> Period<'_> {
        Period { at, since: Instant::now(), cpu: at.cpu_seconds() }
    }

    /// Says how long the fleet waited, and forgets it.
    fn end(self, fleet: &Fleet) -> String {
        let mut seen = std::mem::take(&mut *fleet.seen.lock().unwrap());
        let took = self.since.elapsed().as_secs_f64();
        let waited = [("lease", &mut seen.leases), ("commit", &mut seen.commits), ("heartbeat", &mut seen.heartbeats)]
            .map(|(call, waits)| format!("{call} {} ({:.0}/s)", percentiles(waits), waits.len() as f64 / took));
        let cores = (self.at.cpu_seconds() - self.cpu) / took;
        format!("{took:.0} s: {}; coordinator {cores:.2} cores", waited.join(", "))
    }
}

/// A random time within a range of milliseconds.
fn between(least: u64, most: u64) -> Duration {
    Duration::from_millis(least + (common::rng::unit_f64() * (most - least) as f64) as u64)
}

/// One worker, from its arrival to the end.
async fn work(fleet: Arc<Fleet>) {
    tokio::time::sleep(between(0, ARRIVAL_MS)).await;
    let Some(channel) = fleet.over.run_until_cancelled(proto::connect(&fleet.url)).await else { return };
    let client = WorkClient::new(channel.unwrap());
    // A fleet that has been running has no rhythm: the first shard is somewhere in its middle.
    let mut takes = between(0, SHARD_MS[1]);
    while !fleet.over.is_cancelled() {
        takes = serve(&fleet, &client, takes).await;
    }
}

/// One session, whose first shard takes so long. Ends with the fleet, or when the session is lost.
async fn serve(fleet: &Arc<Fleet>, client: &WorkClient, mut takes: Duration) -> Duration {
    let info = spec::worker();
    let session = fleet.insist(|| client.open_session(&info)).await.unwrap();
    let held: Arc<Mutex<Held>> = Arc::default();
    let every = Duration::from_millis(session.heartbeat_ms);
    let over = fleet.over.child_token();
    let beating =
        tokio::spawn(heartbeat(Arc::clone(fleet), over.clone(), client.clone(), session.id, Arc::clone(&held), every));
    while !over.is_cancelled() {
        let wants = 2 - held.lock().unwrap().grants.len() as u32;
        let (asked, request) = (Instant::now(), RequestId::generate());
        let leased = fleet.insist(|| client.lease(session.id, request, wants)).await;
        fleet.seen.lock().unwrap().leases.push(asked.elapsed());
        let Ok(leased) = leased else {
            // The coordinator does not know the session any more.
            fleet.lose(1);
            over.cancel();
            break;
        };
        held.lock().unwrap().grants.extend(leased.grants.into_iter().filter_map(Granted::into_whole));
        let next = held.lock().unwrap().grants.first().cloned();
        let rest = if next.is_some() { takes } else { Duration::from_millis(leased.retry_after_ms) };
        if over.run_until_cancelled(tokio::time::sleep(rest)).await.is_none() {
            break;
        }
        if let Some(grant) = next {
            held.lock().unwrap().offered = Some(grant.shard);
            commit(fleet, client, session.id, &grant).await;
            held.lock().unwrap().grants.retain(|one| one.shard != grant.shard);
            takes = between(SHARD_MS[0], SHARD_MS[1]);
        }
    }
    beating.await.unwrap();
    if fleet.over.is_cancelled() {
        // Nobody ends a fleet in one moment; a session that is not closed expires.
        tokio::time::sleep(between(0, fleet.leave_ms)).await;
        fleet.insist(|| client.close_session(session.id)).await.unwrap();
    }
    takes
}

async fn commit(fleet: &Fleet, client: &WorkClient, session: SessionId, grant: &Grant) {
    let file = fleet.storage.join(&grant.output_key);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, &fleet.sample).unwrap();
    let output = spec::output(grant, fleet.sample.len() as u64);
    let asked = Instant::now();
    let outcome = fleet.insist(|| client.commit(session, grant.shard, grant.epoch, &output)).await.unwrap();
    fleet.seen.lock().unwrap().commits.push(asked.elapsed());
    fleet.lose(u64::from(outcome != CommitOutcome::Committed));
}

/// Says every so often that the worker lives, and how far its shards are. What gets no answer waits for the next time.
async fn heartbeat(
    fleet: Arc<Fleet>,
    over: CancellationToken,
    client: WorkClient,
    session: SessionId,
    held: Arc<Mutex<Held>>,
    every: Duration,
) {
    let mut wait = between(0, u64::try_from(every.as_millis()).unwrap());
    let mut rows_done = 0;
    while over.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
        wait = every;
        rows_done += 1;
        let progress = |grant: &Grant| Progress { shard: grant.shard, epoch: grant.epoch, rows_done, tokens_done: 1 };
        let told: Vec<Progress> = held.lock().unwrap().grants.iter().map(progress).collect();
        let asked = Instant::now();
        let answer = client.heartbeat(session, &told).await;
        fleet.seen.lock().unwrap().heartbeats.push(asked.elapsed());
        let Ok(answer) = answer else {
            fleet.failed.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let revoked = told
            .iter()
            .zip(&answer.directives)
            .filter(|(told, directive)| **directive == Directive::Stop && held.lock().unwrap().computes(told.shard));
        fleet.lose(revoked.count() as u64);
        if answer.session_lost {
            fleet.lose(1);
            over.cancel();
        }
    }
}
