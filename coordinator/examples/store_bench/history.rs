//! A coordinator with a long history: jobs that have ended, some of them described by megabytes. What a probe, a scrape and
//! somebody who lists jobs wait for, and what it takes of memory.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coordinator::{Store, SystemClock};
use dataset::Source;
use proto::job::JobSpec;
use proto::{JobId, JobsClient};
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};

use crate::child::Coordinator;
use crate::{percentiles, spec};

/// Jobs whose spec is about as large as a message.
const LARGE: u64 = 30;
/// Sources of such a job, and bytes of the name of each.
const SOURCES: usize = 30_000;
const NAME_BYTES: usize = 115;
/// Requests that are timed.
const PROBES: usize = 500;
const LISTS: usize = 20;

/// Measures a coordinator beside so many jobs that have ended.
pub(crate) async fn measure(url: &str, folder: &Path, jobs: u64) {
    if jobs == 0 {
        return;
    }
    let storage = folder.join("history");
    // The first start notes which storage belongs to the database, while that has no jobs.
    Coordinator::start(url, storage.to_str().unwrap()).stop();
    let newest = fill(url, jobs).await;
    let coordinator = Coordinator::start(url, storage.to_str().unwrap());
    let client = JobsClient::new(proto::connect(&coordinator.url).await.unwrap());
    let mut health: Vec<Duration> = (0..PROBES).map(|_| get(&coordinator.metrics, "/healthz")).collect();
    let mut metrics: Vec<Duration> = (0..LISTS).map(|_| get(&coordinator.metrics, "/metrics")).collect();
    std::thread::sleep(Duration::from_millis(1_100));
    metrics.push(get(&coordinator.metrics, "/metrics"));
    let (mut page, mut all, mut one) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..LISTS {
        let asked = Instant::now();
        assert_eq!(client.list(100).await.unwrap().jobs.len(), 100);
        page.push(asked.elapsed());
        let asked = Instant::now();
        client.get(newest).await.unwrap();
        one.push(asked.elapsed());
    }
    let asked = Instant::now();
    assert_eq!(client.list(usize::MAX).await.unwrap().jobs.len() as u64, jobs + LARGE);
    all.push(asked.elapsed());
    println!("  {jobs} jobs of history, and {LARGE} described by {} MB each:", (SOURCES * (NAME_BYTES + 16)) >> 20);
    println!("    /healthz {}", percentiles(&mut health));
    println!("    /metrics {}", percentiles(&mut metrics));
    println!("    list of 100 {}; of all {}", percentiles(&mut page), percentiles(&mut all));
    println!("    status of one {}", percentiles(&mut one));
    println!("    peak memory of the coordinator {} MB", coordinator.peak_mb());
    coordinator.stop();
}

/// Stores the jobs; returns one of the small ones.
async fn fill(url: &str, jobs: u64) -> JobId {
    let store = Store::open(url, Arc::new(SystemClock::new())).await.unwrap();
    let small = spec::spec("/corpus/a.csv", 1_000);
    let template = JobId::generate();
    store.submit_job(template, &small).await.unwrap();
    store.fail_job(template, "made up").await.unwrap();
    let source = |number: usize| Source { uri: format!("/{number:0>NAME_BYTES$}"), ..small.sources[0].clone() };
    let large = JobSpec { sources: (0..SOURCES).map(source).collect(), ..small.clone() };
    for _ in 0..LARGE {
        let job = JobId::generate();
        store.submit_job(job, &large).await.unwrap();
        store.fail_job(job, "made up").await.unwrap();
    }
    store.close().await.unwrap();
    let statements = statements(url, template, jobs - 1);
    if url.starts_with("postgres:") {
        let mut connection = PgConnection::connect(url).await.unwrap();
        for statement in statements {
            connection.execute(AssertSqlSafe(statement)).await.unwrap();
        }
        connection.execute("VACUUM ANALYZE").await.unwrap();
    } else {
        let mut connection = SqliteConnection::connect(url).await.unwrap();
        for statement in statements {
            connection.execute(AssertSqlSafe(statement)).await.unwrap();
        }
    }
    template
}

/// Copies a job many times, into the hours before it, with counters as a job of many rows has them.
fn statements(url: &str, template: JobId, copies: u64) -> [String; 3] {
    let postgres = url.starts_with("postgres:");
    let (id, name, slots) = match postgres {
        true => (format!("'{template}'"), "gen_random_uuid()", "generate_series(0, 7) AS k (slot)"),
        false => (format!("x'{}'", template.0.simple()), "randomblob(16)", "(SELECT 0 AS slot) AS k"),
    };
    let numbers = format!("WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {copies})");
    [
        format!(
            "INSERT INTO job (job_id, spec_digest, spec, task, state, submitted_ms, planned, manifest_key,
                manifest_digest, model_name, source_total)
            {numbers}
            SELECT {name}, j.spec_digest, j.spec, j.task, 'succeeded', j.submitted_ms - n.n * 1000, TRUE, 'k', 'd',
                j.model_name, j.source_total
            FROM job j CROSS JOIN n WHERE j.job_id = {id}"
        ),
        format!(
            "INSERT INTO job_count (job_id, slot, committed, row_count, tokens, ended)
            SELECT j.job_id, k.slot, 100, 100000, 1000000, 100 FROM job j CROSS JOIN {slots} WHERE j.state = 'succeeded'"
        ),
        "INSERT INTO job_reject (job_id, slot, reason, row_count)
            SELECT job_id, 0, 'empty_text', 3 FROM job WHERE state = 'succeeded'"
            .to_owned(),
    ]
}

/// Asks for a page over a connection of its own, as probes do.
fn get(address: &str, page: &str) -> Duration {
    let asked = Instant::now();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {page} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    asked.elapsed()
}
