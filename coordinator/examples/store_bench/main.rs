//! Measures the control plane, on SQLite and on PostgreSQL (started for the purpose, `fsync` on). Prints lines of text:
//! lease+commit pairs per second of the store; a job of a million shards, planned and finalized by a coordinator in a
//! process of its own; what probes and lists wait for beside ten thousand jobs of history; on PostgreSQL also a fleet of
//! simulated workers at its gRPC service, and what the hot statements read once a million shards are done.
//!
//! `cargo run --release --workspace --example store_bench -- [sqlite|postgres] [--pairs-seconds N] [--workers N,N]
//! [--shards N] [--fleet N,N] [--fleet-seconds N] [--history N]`; 0 for `--pairs-seconds`, `--shards`, `--fleet` or
//! `--history` leaves a part out.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement prints, and may stop at any error")]

mod child;
mod fill;
mod fleet;
mod history;
mod million;
mod pairs;
mod spec;

use std::time::Duration;

/// What to measure.
struct Options {
    databases: Vec<String>,
    pairs_seconds: u64,
    workers: Vec<usize>,
    shards: u64,
    fleets: Vec<usize>,
    fleet_seconds: u64,
    history: u64,
}

impl Options {
    fn from(mut arguments: impl Iterator<Item = String>) -> Self {
        let mut options = Self {
            databases: Vec::new(),
            pairs_seconds: 5,
            workers: vec![1, 32, 128, 512],
            shards: 1_000_000,
            fleets: vec![1_000, 10_000],
            fleet_seconds: 60,
            history: 10_000,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().expect("an option is followed by its value");
            let list = |text: String| text.split(',').map(|one| one.parse().unwrap()).filter(|one| *one > 0).collect();
            match argument.as_str() {
                "--pairs-seconds" => options.pairs_seconds = value().parse().unwrap(),
                "--workers" => options.workers = list(value()),
                "--shards" => options.shards = value().parse().unwrap(),
                "--fleet" => options.fleets = list(value()),
                "--fleet-seconds" => options.fleet_seconds = value().parse().unwrap(),
                "--history" => options.history = value().parse().unwrap(),
                "sqlite" | "postgres" => options.databases.push(argument),
                _ => panic!("unknown argument `{argument}`"),
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
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|first| first == child::SERVE).is_some() {
        let (database, storage) = (arguments.next().unwrap(), arguments.next().unwrap());
        return child::serve(&database, &storage).await;
    }
    let options = Options::from(arguments);
    for database in &options.databases {
        let folder = tempfile::tempdir().unwrap();
        let seconds = Duration::from_secs(options.pairs_seconds);
        if database == "sqlite" {
            let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
            println!("SQLite, WAL, synchronous=FULL");
            pairs::measure(&file("pairs.db"), &options.workers, seconds).await;
            million::measure(&file("million.db"), folder.path(), options.shards, &[], 0).await;
            history::measure(&file("history.db"), folder.path(), options.history).await;
        } else {
            let server = testkit::postgres::Server::start().await;
            println!("PostgreSQL, fsync on, same machine");
            pairs::measure(&server.database("pairs").await, &options.workers, seconds).await;
            let url = server.database("million").await;
            million::measure(&url, folder.path(), options.shards, &options.fleets, options.fleet_seconds).await;
            history::measure(&server.database("history").await, folder.path(), options.history).await;
        }
    }
}

/// Fractions of times, in words.
fn percentiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    format!("p50 {:.1} ms p99 {:.1} ms", at(0.5), at(0.99))
}
