//! What a coordinator tells Prometheus: over HTTP, before, during and after a job, and without its database.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::daemon::{Daemon, fetch_and_verify, submit, worker};
use crate::harness::{TestEnv, corpora, wait_for};
use testkit::postgres::Server;

/// Asks for a page and returns status and text.
fn get(address: &str, page: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {page} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Reads the page as Prometheus does: every sample is a number below the type of its metric.
fn samples(address: &str) -> BTreeMap<String, f64> {
    let (status, page) = get(address, "/metrics");
    assert_eq!(status, 200, "{page}");
    let (mut samples, mut metric) = (BTreeMap::new(), String::new());
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            metric = rest.split(' ').next().unwrap().to_owned();
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with(&metric), "`{line}` stands below {metric}");
            assert_eq!(samples.insert(name.to_owned(), value.parse().unwrap()), None, "`{name}` stands twice");
        }
    }
    samples
}

#[test]
fn jobs_rows_and_calls_are_told_and_so_is_a_database_that_is_gone() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&corpora::sentences(300)));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (server, database) = runtime.block_on(async {
        let server = Server::start().await;
        let database = server.database("encaje").await;
        (server, database)
    });
    let words = ["coordinator", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--json"];
    let places = ["--database", &database, "--storage", "storage"];
    let mut coordinator = Daemon::start(&env, "c", &[&words[..], &places[..]].concat());
    let event = coordinator.event();
    let (url, metrics) = (event["url"].as_str().unwrap(), event["metrics"].as_str().unwrap());
    let address = metrics.strip_prefix("http://").unwrap().strip_suffix("/metrics").unwrap();
    assert_eq!(get(address, "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(get(address, "/nothing").0, 404);

    let job = submit(&env, url, "a.csv", &["--shard-rows", "50"]);
    wait_for("the plan", || {
        (samples(address).get(&format!("encaje_job_shards{{job=\"{job}\",state=\"pending\"}}")) == Some(&6.0))
            .then_some(())
    });
    let before = samples(address);
    assert_eq!(before[&format!("encaje_job_rows_planned{{job=\"{job}\"}}")], 300.0);
    assert_eq!(before["encaje_workers{state=\"serving\"}"], 0.0);
    assert_eq!((before["encaje_shards_pending"], before["encaje_shards_running"]), (6.0, 0.0));
    env.encaje(["pause", &job, "--coordinator", url]).expect_code(0);
    wait_for("numbers of the paused job", || (samples(address)["encaje_shards_pending"] == 0.0).then_some(()));
    env.encaje(["resume", &job, "--coordinator", url]).expect_code(0);

    let _worker = worker(&env, "w", url, &[]);
    fetch_and_verify(&env, url, &job, "a.csv", "out");
    // What the database said is repeated for a second.
    let after = wait_for("numbers of after the job", || {
        let found = samples(address);
        (found["encaje_jobs{state=\"succeeded\"}"] == 1.0).then_some(found)
    });
    assert_eq!(after["encaje_store_up"], 1.0);
    assert_eq!(after["encaje_rows_total{result=\"embedded\"}"], 300.0);
    assert_eq!(after["encaje_workers{state=\"serving\"}"], 1.0);
    let commits = |name: &str| after[&format!("{name}{{grpc_service=\"encaje.v1.Work\",grpc_method=\"Commit\"}}")];
    assert_eq!(commits("grpc_server_handling_seconds_count"), 6.0);
    assert!(commits("grpc_server_handling_seconds_sum") > 0.0);
    assert!(!after.keys().any(|name| name.contains(&job)), "a job that has ended has no series of its own");

    drop(server);
    assert_eq!(get(address, "/healthz").0, 503);
    let without = samples(address);
    assert_eq!(without["encaje_store_up"], 0.0);
    assert!(!without.contains_key("encaje_jobs{state=\"succeeded\"}"));
    coordinator.signal("TERM");
    assert_eq!(coordinator.ended(), Some(0));
}
