//! A job that is allowed to end without the shards that always fail: what users see of it, and how they get the rest.
#![cfg(unix)]

use std::fs;

use crate::harness::corpora::{self, sentences};
use crate::harness::daemon::{coordinator, fetch_and_verify, status, submit, worker};
use crate::harness::output::{assert_same, rows};
use crate::harness::{TestEnv, model, wait_for};

const ROWS: u64 = 200;
const SHARDS: &[&str] = &["--shard-rows", "50", "--allow-partial"];

#[test]
fn rows_that_are_missing_are_told_by_all_and_come_with_a_retry() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(ROWS)));
    let (_coordinator, url) = coordinator(&env, "c", "state.db", &["--sweep-every", "100ms"]);
    let job = submit(&env, &url, "a.csv", SHARDS);
    // The folder for the outputs of the second shard cannot be made.
    let obstacle = env.write(&format!("storage/jobs/{job}/shards/00000001"), "in the way");
    let _worker = worker(&env, "w", &url, &[]);

    let model = model().display().to_string();
    let waited = ["submit", "a.csv", "--model", &model, "--coordinator", &url, "--wait"];
    let waited = env.encaje(waited.iter().chain(SHARDS));
    waited.expect_code(3);
    assert_eq!(waited.stdout.trim(), job, "the same job");
    waited.expect_said(&["50 rows are missing: 1 shard out of attempts", "encaje retry"]);
    let found = status(&env, &url, &job);
    let numbers = [&found["rows"], &found["rows_done"], &found["rows_missing"]];
    assert_eq!((found["state"].as_str(), numbers), (Some("succeeded"), [&200.into(), &150.into(), &50.into()]));
    let listed = env.encaje(["list", "--coordinator", &url]).stdout;
    assert!(listed.contains("succeeded, 50 rows missing"), "{listed}");

    for out in ["out", "one.parquet"] {
        let fetched = env.encaje(["download", &job, "--coordinator", &url, "--out", out]);
        fetched.expect_code(3);
        fetched.expect_said(&["50 rows of the corpus missing"]);
    }
    readers(&env);

    fs::remove_file(obstacle).unwrap();
    env.encaje(["retry", &job, "--coordinator", &url]).expect_code(0);
    let done = wait_for("the end of the job", || {
        let found = status(&env, &url, &job);
        (found["state"] == "succeeded").then_some(found)
    });
    assert_eq!((&done["rows_missing"], &done["generation"]), (&0.into(), &2.into()));
    fetch_and_verify(&env, &url, &job, "a.csv", "out");
    fetch_and_verify(&env, &url, &job, "a.csv", "one.parquet");
    env.run_ok("a.csv", "alone", &["--shard-rows", "50"]);
    assert_same(&rows(&env.path("out")), &rows(&env.path("alone")));
    assert_same(&rows(&env.path("one.parquet")), &rows(&env.path("alone")));
}

/// Every command that reads an output does so with what is there, and says what is not.
fn readers(env: &TestEnv) {
    let merged = env.encaje(["merge", "out", "--out", "merged.parquet", "--json"]);
    merged.expect_code(0);
    merged.expect_said(&["50 rows of the corpus missing"]);
    assert_eq!((&merged.json()["totals"]["rows"], &merged.json()["missing"]), (&150.into(), &50.into()));
    for target in ["out", "one.parquet", "merged.parquet"] {
        let verified = env.encaje(["verify", target, "--corpus", "a.csv"]);
        verified.expect_code(3);
        assert!(verified.stdout.contains("missing: rows 50 to 99: "), "{}", verified.stdout);
        assert!(verified.stdout.contains("50 MISSING: every promise holds of the rows"), "{}", verified.stdout);
        let shown = env.encaje(["status", target]).stdout;
        assert!(shown.contains("150 of 200 rows"), "{shown}");
    }
    let exported = env.encaje(["export", "out", "--format", "npy", "--out", "out.npy", "--json"]);
    exported.expect_code(0);
    exported.expect_said(&["50 rows of the corpus missing", "NaN"]);
    assert_eq!((&exported.json()["rows"], &exported.json()["missing"]), (&200.into(), &50.into()));
    let projected = env.encaje(["project", "out", "--label", "label", "--out", "out.svg", "--json"]);
    projected.expect_code(0);
    projected.expect_said(&["50 rows of the corpus missing"]);
    assert_eq!((&projected.json()["points"], &projected.json()["missing"]), (&150.into(), &50.into()));
    let drawn = fs::read_to_string(env.path("out.svg")).unwrap();
    assert!(drawn.contains("50 rows without a vector left out"), "{drawn}");
    let compared = env.encaje(["compare", "out", "merged.parquet", "--label", "label", "--out", "both.svg", "--json"]);
    compared.expect_code(0);
    compared.expect_said(&["50 rows of the corpus missing", "50 rows that lack a vector"]);
    assert_eq!((&compared.json()["left_out"], &compared.json()["models"][1]["missing"]), (&50.into(), &50.into()));
}
