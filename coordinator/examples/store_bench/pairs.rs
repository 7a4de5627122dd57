//! Measures the job store: lease+commit pairs per second with p50 and p99 on SQLite and on PostgreSQL (started for the
//! purpose, `fsync` on), and planning and listing a large job. Prints lines of text.
//!
//! `cargo run --release --workspace --example store_bench -- [sqlite|postgres] [--shards N] [--seconds N] [--workers N,N]`

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement prints, and may stop at any error")]

#[path = "../src/store/conformance/server.rs"]
mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use coordinator::{Policy, Store, SystemClock};
use dataset::{Compression, Cursor, Fingerprint, Format, Keep, PlannedSource, ReadOptions, Slice, SliceRange, Source};
use proto::job::{
    ComputeDtype, EmbedSpec, JobSpec, MaxRejects, ModelSpec, OnBadRow, OutputDtype, RowCounts, ShardLimits,
};
use proto::work::{CommitOutcome, Grant, Output, Progress, WorkerInfo};
use proto::{JobId, RequestId};

/// Rows of a shard.
const ROWS: u64 = 1_000;
/// Shards that the planner stores at once.
const PAGE: u64 = 256;
/// Winners that the finalizer reads at once.
const WINNERS: u32 = 1_000;

struct Options {
    databases: Vec<String>,
    shards: u64,
    seconds: u64,
    workers: Vec<usize>,
}

impl Options {
    fn from_arguments() -> Self {
        let mut options = Self { databases: Vec::new(), shards: 60_000, seconds: 5, workers: vec![1, 8, 32, 128] };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().expect("an option is followed by its value");
            match argument.as_str() {
                "--shards" => options.shards = value().parse().unwrap(),
                "--seconds" => options.seconds = value().parse().unwrap(),
                "--workers" => options.workers = value().split(',').map(|one| one.parse().unwrap()).collect(),
                database => options.databases.push(database.to_owned()),
            }
        }
        if options.databases.is_empty() {
            options.databases = vec!["sqlite".to_owned(), "postgres".to_owned()];
        }
        options
    }
}

#[tokio::main]
async fn main() {
    let options = Options::from_arguments();
    for database in &options.databases {
        if database == "sqlite" {
            let folder = tempfile::tempdir().unwrap();
            println!("SQLite, WAL, synchronous=FULL");
            measure(folder.path().join("state.db").to_str().unwrap(), &options).await;
        } else {
            let server = server::Server::start().await;
            println!("PostgreSQL, fsync on, same machine");
            measure(&server.database("bench").await, &options).await;
        }
    }
}

async fn measure(url: &str, options: &Options) {
    let store = Store::open_with(url, Arc::new(SystemClock::new()), Policy::default()).await.unwrap();
    let job = plan(&store, options.shards).await;
    for workers in &options.workers {
        let until = Instant::now() + Duration::from_secs(options.seconds);
        let started = Instant::now();
        let tasks: Vec<_> = (0..*workers).map(|_| tokio::spawn(lease_and_commit(store.clone(), until))).collect();
        let mut times = Times::default();
        for task in tasks {
            times.absorb(task.await.unwrap());
        }
        let rate = times.commits.len() as f64 / started.elapsed().as_secs_f64();
        let (lease, commit) = (percentiles(&mut times.leases), percentiles(&mut times.commits));
        println!("  {workers:>4} workers: {rate:>7.0} pairs/s   lease {lease}   commit {commit}");
    }
    beats(&store, options).await;
    list(&store, job).await;
    store.close().await.unwrap();
}

async fn plan(store: &Store, shards: u64) -> JobId {
    let job = JobId::generate();
    store.submit_job(job, &spec()).await.unwrap();
    assert!(store.set_sources(job, &[source()]).await.unwrap());
    let started = Instant::now();
    for first in (0..shards).step_by(PAGE as usize) {
        let last = (first + PAGE).min(shards);
        let page: Vec<Slice> = (first..last).map(slice).collect();
        assert!(store.insert_shards(job, &cursor(first), &page, &cursor(last), last == shards).await.unwrap());
    }
    println!("  planned {shards} shards in {:.1} s, peak memory {} MB", started.elapsed().as_secs_f64(), peak_mb());
    job
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

fn percentiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    format!("p50 {:.1} ms p99 {:.1} ms", at(0.5), at(0.99))
}

async fn lease_and_commit(store: Store, until: Instant) -> Times {
    let session = store.open_session(&worker()).await.unwrap();
    let mut times = Times::default();
    while Instant::now() < until {
        let asked = Instant::now();
        let grants = store.lease(session, RequestId::generate(), 1).await.unwrap();
        times.leases.push(asked.elapsed());
        for grant in grants {
            let asked = Instant::now();
            let outcome = store.commit(session, grant.shard, grant.epoch, &output(&grant)).await.unwrap();
            assert_eq!(outcome, CommitOutcome::Committed);
            times.commits.push(asked.elapsed());
        }
    }
    store.close_session(session).await.unwrap();
    times
}

/// Ten thousand workers with a lease each would beat 667 times a second.
async fn beats(store: &Store, options: &Options) {
    const SESSIONS: usize = 1_000;
    let mut holders = Vec::new();
    for _ in 0..SESSIONS {
        let session = store.open_session(&worker()).await.unwrap();
        let grants = store.lease(session, RequestId::generate(), 1).await.unwrap();
        holders.push((session, grants));
    }
    let started = Instant::now();
    let mut rows_done = 0;
    let mut beats = 0_usize;
    while started.elapsed() < Duration::from_secs(options.seconds) {
        rows_done += 1;
        let round = holders.iter().map(|(session, grants)| {
            let progress: Vec<Progress> = grants
                .iter()
                .map(|one| Progress { shard: one.shard, epoch: one.epoch, rows_done, tokens_done: rows_done })
                .collect();
            let (store, session) = (store.clone(), *session);
            tokio::spawn(async move { store.beat(session, &progress).await.unwrap() })
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

/// What status and the finalizer ask of a job.
async fn list(store: &Store, job: JobId) {
    let started = Instant::now();
    let status = store.job(job).await.unwrap().unwrap();
    println!("  status: {:.1} ms, {} committed", started.elapsed().as_secs_f64() * 1e3, status.shards.committed);
    let started = Instant::now();
    let (mut after, mut listed) = (None, 0);
    loop {
        let page = store.winners(job, after, WINNERS).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.index);
        listed += page.len();
    }
    println!("  {listed} winners listed in {:.1} s, peak memory {} MB", started.elapsed().as_secs_f64(), peak_mb());
}

/// The most memory that this process ever had.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn worker() -> WorkerInfo {
    WorkerInfo { name: "host/1".into(), devices: vec!["cpu".into()], version: "0.1.0".into() }
}

fn spec() -> JobSpec {
    JobSpec {
        sources: vec![source().source],
        read: ReadOptions { text_column: "text".into(), id_column: None, keep: Keep::All },
        model: ModelSpec { name: "owner/model".into(), revision: None, digest: "ab".into() },
        embed: EmbedSpec {
            pooling: None,
            normalize: true,
            max_length: None,
            prefix: String::new(),
            dtype: ComputeDtype::F32,
            output_dtype: OutputDtype::F32,
            dimensions: None,
            batch_tokens: None,
        },
        limits: ShardLimits { rows_max: ROWS, bytes_max: 1_000_000 },
        on_bad_row: OnBadRow::Reject,
        max_rejects: MaxRejects::Unlimited,
    }
}

fn source() -> PlannedSource {
    PlannedSource {
        source: Source { uri: "/corpus/a.csv".into(), format: Format::Csv, compression: Compression::None },
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
    }
}

fn output(grant: &Grant) -> Output {
    Output {
        key: grant.output_key.clone(),
        bytes: 4_096,
        blake3: "d".repeat(64),
        input_blake3: "e".repeat(64),
        counts: RowCounts { rows: grant.slice.rows, rejects: [].into(), truncated: 3, tokens: 100 },
    }
}
