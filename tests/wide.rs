//! Corpora with more columns than anybody would write by hand, and prefixes longer than any model reads: they work, or are
//! refused with the remedy, and nobody else's job stands still.
#![cfg(unix)]

use std::fmt::Write;

use crate::harness::daemon::{coordinator, fetch_and_verify, status, submit, worker};
use crate::harness::{TestEnv, corpora, model, run_words, wait_for};

/// A CSV file of some rows with the column `text` and so many others, whose names have so many digits.
fn wide(columns: usize, digits: usize) -> String {
    let mut csv = String::from("text");
    (0..columns).for_each(|column| write!(csv, ",c{column:0>digits$}").unwrap());
    for text in corpora::sentences(3) {
        write!(csv, "\n\"{text}\"").unwrap();
        csv.push_str(&",x".repeat(columns));
    }
    csv
}

#[test]
fn a_corpus_with_a_very_long_header_ends_no_worker_and_stops_no_other_job() {
    let env = TestEnv::new();
    env.write("wide.csv", wide(13_000, 70));
    env.write("a.csv", corpora::csv(&corpora::sentences(100)));
    let (_coordinator, url) = coordinator(&env, "c", "state.db", &[]);
    let first = submit(&env, &url, "wide.csv", &[]);
    let second = submit(&env, &url, "a.csv", &["--shard-rows", "50"]);
    let mut worker = worker(&env, "w", &url, &[]);
    fetch_and_verify(&env, &url, &second, "a.csv", "out");
    fetch_and_verify(&env, &url, &first, "wide.csv", "wide");
    assert!(!worker.is_dead(), "{}", worker.log());
}

#[test]
fn more_columns_than_a_worker_has_memory_for_are_refused_with_the_option() {
    let env = TestEnv::new();
    env.write("wide.csv", wide(50_000, 5));
    let refused = env.encaje(run_words("wide.csv", "out", &[]));
    refused.expect_code(2);
    refused.expect_said(&["50001 columns to pass through, at most 50000", "--keep none"]);
    env.run_ok("wide.csv", "out", &["--keep", "none"]);
}

#[test]
fn forty_thousand_columns_are_embedded_or_as_few_as_are_named() {
    let env = TestEnv::new();
    env.write("wide.csv", wide(40_000, 5));
    env.run_ok("wide.csv", "all", &[]);
    env.run_ok("wide.csv", "few", &["--keep", "c00007,c39999"]);
    env.encaje(["verify", "few", "--corpus", "wide.csv"]).expect_code(0);
}

#[test]
fn a_prefix_that_no_model_reads_is_refused_before_any_work() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&corpora::sentences(3)));
    let prefix = "x".repeat(100_000);
    let ran = env.encaje(run_words("a.csv", "out", &["--prefix", &prefix]));
    ran.expect_code(2);
    ran.expect_said(&["shorten --prefix"]);
    assert!(!env.path("out").exists(), "nothing was begun");
    let (_coordinator, url) = coordinator(&env, "c", "state.db", &[]);
    let model = model().display().to_string();
    let ran = env.encaje(["submit", "a.csv", "--model", &model, "--coordinator", &url, "--prefix", &prefix]);
    ran.expect_code(2);
    ran.expect_said(&["shorten --prefix"]);
}

#[test]
fn a_list_shows_the_newest_jobs_and_says_that_there_are_older_ones() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&corpora::sentences(3)));
    let (_coordinator, url) = coordinator(&env, "c", "state.db", &[]);
    let jobs: Vec<String> = (0..3).map(|_| submit(&env, &url, "a.csv", &["--again"])).collect();
    wait_for("the plans", || jobs.iter().all(|job| status(&env, &url, job)["state"] == "running").then_some(()));
    let listed = |more: &[&str]| {
        let ran = env.encaje([&["list", "--coordinator", &url], more].concat());
        ran.expect_code(0);
        let ids: Vec<String> =
            ran.stdout.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect();
        (ids, ran)
    };
    let (newest, ran) = listed(&["--limit", "2"]);
    assert_eq!(newest, [jobs[2].clone(), jobs[1].clone()]);
    ran.expect_said(&["newest 2 jobs", "--all"]);
    assert_eq!(listed(&["--all"]).0.len(), 3);
    assert_eq!(listed(&[]).0.len(), 3);
}
