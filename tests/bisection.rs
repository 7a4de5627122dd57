//! A row that kills every worker that reads it: it is found by halves and rejected, and costs no other row its vector.
//! The failpoint is in builds with debug assertions alone.
#![cfg(all(unix, debug_assertions))]

use crate::harness::corpora::{self, sentences};
use crate::harness::daemon::{Daemon, coordinator, fetch_and_verify, status, submit};
use crate::harness::output::{Row, assert_same, rows};
use crate::harness::{TestEnv, wait_for};

const ROWS: u64 = 12;
/// The third row of its shard of four: neither the first half nor a whole half is to blame.
const GUILTY: usize = 6;
const MARKER: &str = "mortal";

/// Starts a worker that dies of the guilty row.
fn mortal(env: &TestEnv, url: &str, life: usize) -> Daemon {
    let words = ["worker", "--coordinator", url, "--name", "w", "--spool", "spool", "--threads", "1", "--json"];
    let mut command = env.command(words);
    command.env("ENCAJE_FAILPOINT_ABORT_ON_TEXT", MARKER);
    Daemon::spawn(env, &format!("w{life}"), command)
}

#[test]
fn a_row_that_kills_workers_is_isolated_and_all_others_have_their_vectors() {
    let env = TestEnv::new();
    let mut texts = sentences(ROWS);
    texts[GUILTY].push_str(MARKER);
    env.write("a.csv", corpora::csv(&texts));
    env.run_ok("a.csv", "alone", &[]);
    let (_coordinator, url) = coordinator(&env, "c", "state.db", &["--lease-ttl", "1s", "--sweep-every", "100ms"]);
    let job = submit(&env, &url, "a.csv", &["--shard-rows", "4"]);

    // As systemd or Kubernetes would.
    let (mut deaths, mut worker) = (0, mortal(&env, &url, 0));
    let found = wait_for("the end of the job", || {
        if worker.is_dead() {
            deaths += 1;
            worker = mortal(&env, &url, deaths);
        }
        let found = status(&env, &url, &job);
        matches!(found["state"].as_str(), Some("succeeded" | "failed")).then_some(found)
    });

    assert_eq!(found["state"], "succeeded", "{found}\n{}", worker.log());
    // Three of the shard, one of a half, three of the row.
    assert_eq!(deaths, 7);
    assert_eq!(found["rejected"], serde_json::json!({ "worker_crash": 1 }), "{found}");
    fetch_and_verify(&env, &url, &job, "a.csv", "out");
    let mut expected = rows(&env.path("alone"));
    let innocent = &expected[GUILTY];
    expected[GUILTY] = Row { embedding: None, n_tokens: 0, error: Some("worker_crash".to_owned()), ..innocent.clone() };
    assert_same(&rows(&env.path("out")), &expected);
}
