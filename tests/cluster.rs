//! Clusters of real processes: what a user does with one, and what becomes of a job when parts of it die.
#![cfg(unix)]

use std::path::Path;
use std::time::Duration;

use sqlx::Connection;

use crate::harness::corpora::{self, sentences};
use crate::harness::daemon::{Daemon, coordinator, fetch_and_verify, status, submit, until_committed, worker};
use crate::harness::output::{assert_same, rows};
use crate::harness::{TestEnv, files_below, wait_for};
use testkit::postgres::Server;

/// Enough rows that the job is still under way when something is done to it.
const ROWS: u64 = 6_000;
/// Shards of which there are many.
const SHARDS: &[&str] = &["--shard-rows", "50"];
/// Dead workers are noticed soon: after [`LEASE`].
const SOON: &[&str] = &["--lease-ttl", "2s"];
const LEASE: Duration = Duration::from_secs(2);

fn env(rows: u64) -> TestEnv {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(rows)));
    env
}

#[test]
fn a_corpus_goes_through_a_cluster_and_comes_back() {
    let env = env(300);
    let (mut coordinator, url) = coordinator(&env, "c", "state.db", &[]);
    let job = submit(&env, &url, "a.csv", SHARDS);
    assert_eq!(submit(&env, &url, "a.csv", SHARDS), job, "the same command is the same job");
    let again = submit(&env, &url, "a.csv", &["--again", "--shard-rows", "50"]);
    assert_ne!(again, job);
    env.encaje(["cancel", &again, "--coordinator", &url]).expect_code(0);
    let refused = env.encaje(["download", &job, "--coordinator", &url, "--out", "out"]);
    refused.expect_code(1);
    refused.expect_said(&["not done", "--wait"]);

    let mut worker = worker(&env, "w", &url, &[]);
    fetch_and_verify(&env, &url, &job, "a.csv", "out");
    env.run_ok("a.csv", "alone", SHARDS);
    assert_same(&rows(&env.path("out")), &rows(&env.path("alone")));

    let words = ["download", &job, "--coordinator", &url, "--out", "one.parquet", "--json"];
    assert_eq!(env.encaje(words).json()["was_done"], false);
    assert_eq!(env.encaje(words).json()["was_done"], true);
    assert_same(&rows(&env.path("one.parquet")), &rows(&env.path("alone")));

    let found = status(&env, &url, &job);
    assert_eq!((&found["state"], &found["rows"], &found["workers"]), (&"succeeded".into(), &300.into(), &1.into()));
    let listed = env.encaje(["list", "--coordinator", &url, "--json"]).json();
    let states: Vec<&str> = listed.as_array().unwrap().iter().map(|job| job["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["cancelled", "succeeded"], "newest first");

    worker.signal("TERM");
    assert_eq!(worker.ended(), Some(0));
    assert_eq!(worker.event()["rows"], 300);
    coordinator.signal("INT");
    assert_eq!(coordinator.ended(), Some(0));
    let alone = env.encaje(["status", &job, "--coordinator", &url]);
    alone.expect_code(1);
    alone.expect_said(&["no coordinator answers", &url]);
}

#[test]
fn workers_leave_when_idle_or_when_their_time_is_over() {
    let env = env(ROWS);
    let (_coordinator, url) = coordinator(&env, "c", "state.db", SOON);
    // An idle worker waits as long as it is told, and takes what comes meanwhile.
    let mut patient = worker(&env, "patient", &url, &["--exit-when-idle", "2s"]);
    let small = submit(&env, &url, "a.csv", &["--shard-rows", "3000"]);
    fetch_and_verify(&env, &url, &small, "a.csv", "small");
    assert_eq!(patient.ended(), Some(0));
    assert_eq!(patient.event()["rows"], ROWS);
    // One whose time is over finishes what it has, and gives nothing back.
    let job = submit(&env, &url, "a.csv", &["--again", "--shard-rows", "50"]);
    let mut brief = worker(&env, "brief", &url, &["--max-runtime", "700ms"]);
    assert_eq!(brief.ended(), Some(0));
    assert!(!brief.log().contains("given back"), "{}", brief.log());
    let made = brief.event()["shards"].as_u64().unwrap();
    let found = status(&env, &url, &job);
    assert_eq!(found["shards"]["committed"], made);
    assert_eq!((&found["state"], &found["shards"]["running"]), (&"running".into(), &0.into()), "{found}");
    // A batch system asks with SIGUSR1.
    let mut preempted = worker(&env, "preempted", &url, &[]);
    until_committed(&env, &url, &job, made + 1);
    preempted.signal("USR1");
    assert_eq!(preempted.ended(), Some(0));
    let _last = worker(&env, "last", &url, &[]);
    fetch_and_verify(&env, &url, &job, "a.csv", "out");
}

#[test]
fn a_worker_that_is_killed_costs_nothing_but_time() {
    let env = env(ROWS);
    let (_coordinator, url) = coordinator(&env, "c", "state.db", SOON);
    let job = submit(&env, &url, "a.csv", SHARDS);
    let mut first = worker(&env, "w1", &url, &[]);
    until_committed(&env, &url, &job, 5);
    first.kill();
    let _second = worker(&env, "w2", &url, &[]);
    fetch_and_verify(&env, &url, &job, "a.csv", "out");
}

#[test]
fn a_worker_that_wakes_after_its_leases_are_gone_changes_nothing() {
    let env = env(ROWS);
    let (_coordinator, url) = coordinator(&env, "c", "state.db", SOON);
    let job = submit(&env, &url, "a.csv", SHARDS);
    let sleeper = worker(&env, "w1", &url, &["-v"]);
    until_committed(&env, &url, &job, 5);
    sleeper.signal("STOP");
    // Its session is given up, and somebody else does the shards that it holds.
    wait_for("the end of its session", || (status(&env, &url, &job)["workers"] == 0).then_some(()));
    let mut other = worker(&env, "w2", &url, &[]);
    let before = status(&env, &url, &job)["shards"]["committed"].as_u64().unwrap();
    until_committed(&env, &url, &job, before + 5);
    sleeper.signal("CONT");
    wait_for("its word that it is late", || {
        ["is gone", "not wanted", "session lost", "opening another"]
            .iter()
            .any(|word| sleeper.log().contains(word))
            .then_some(())
    });
    fetch_and_verify(&env, &url, &job, "a.csv", "out");
    other.signal("TERM");
    assert_eq!(other.ended(), Some(0));
    env.run_ok("a.csv", "alone", SHARDS);
    assert_same(&rows(&env.path("out")), &rows(&env.path("alone")));
}

#[test]
fn a_coordinator_that_is_killed_is_started_again_and_goes_on() {
    let env = env(ROWS);
    let (mut first, url) = coordinator(&env, "c", "state.db", &[]);
    let job = submit(&env, &url, "a.csv", SHARDS);
    let _worker = worker(&env, "w", &url, &[]);
    until_committed(&env, &url, &job, 5);
    first.kill();
    let address = url.strip_prefix("http://").unwrap();
    let words = ["coordinator", "--listen", address, "--database", "state.db", "--storage", "storage", "--json"];
    let mut second = Daemon::start(&env, "c2", &words);
    assert_eq!(second.event()["event"], "listening");
    fetch_and_verify(&env, &url, &job, "a.csv", "out");
}

#[test]
fn a_worker_that_is_told_to_stop_gives_its_shards_back_at_once() {
    let env = env(ROWS);
    let (_coordinator, url) = coordinator(&env, "c", "state.db", &[]);
    let job = submit(&env, &url, "a.csv", SHARDS);
    let mut first = worker(&env, "w1", &url, &[]);
    until_committed(&env, &url, &job, 5);
    first.signal("TERM");
    assert_eq!(first.ended(), Some(0));
    let found = status(&env, &url, &job);
    assert_eq!((&found["shards"]["running"], &found["workers"]), (&0.into(), &0.into()), "{found}");

    let partial = env.encaje(["download", &job, "--coordinator", &url, "--out", "out", "--partial", "--json"]);
    partial.expect_code(0);
    assert!(partial.json()["rows"].as_u64().unwrap() >= 250, "{}", partial.stdout);
    assert!(!env.path("out/manifest.json").exists());
    env.write("out/part-00000.parquet", "damaged on the way");

    env.encaje(["pause", &job, "--coordinator", &url]).expect_code(0);
    assert_eq!(status(&env, &url, &job)["paused"], true);
    env.encaje(["resume", &job, "--coordinator", &url]).expect_code(0);
    let _second = worker(&env, "w2", &url, &[]);
    fetch_and_verify(&env, &url, &job, "a.csv", "out");
}

#[test]
fn the_other_coordinator_takes_over() {
    let env = env(ROWS);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_server, database) = runtime.block_on(async {
        let server = Server::start().await;
        let database = server.database("encaje").await;
        (server, database)
    });
    let (first, first_url) = coordinator(&env, "c1", &database, &[]);
    let (second, second_url) = coordinator(&env, "c2", &database, &[]);
    let urls = format!("{first_url},{second_url}");
    let job = submit(&env, &urls, "a.csv", SHARDS);
    let _workers = [worker(&env, "w1", &urls, &[]), worker(&env, "w2", &urls, &[])];
    until_committed(&env, &urls, &job, 5);
    // Whichever the workers talk to: one of the two goes in the middle, then comes back, then the other goes for good.
    let mut first = first;
    first.kill();
    until_committed(&env, &urls, &job, 15);
    let address = first_url.strip_prefix("http://").unwrap();
    let words = ["coordinator", "--listen", address, "--database", &database, "--storage", "storage", "--json"];
    let mut third = Daemon::start(&env, "c3", &words);
    assert_eq!(third.event()["event"], "listening");
    let mut second = second;
    second.kill();
    fetch_and_verify(&env, &urls, &job, "a.csv", "out");
}

#[test]
fn a_database_that_is_away_for_longer_than_a_lease_lives_costs_no_work() {
    let env = env(ROWS);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut server = runtime.block_on(Server::start());
    let database = runtime.block_on(server.database("encaje"));
    // After the outage, everybody has come back before the leases of the time after it run out.
    let lease = 2 * LEASE;
    let (_coordinator, url) = coordinator(&env, "c", &database, &["--lease-ttl", &format!("{}s", lease.as_secs())]);
    let job = submit(&env, &url, "a.csv", SHARDS);
    let workers = ["w1", "w2"].map(|name| worker(&env, name, &url, &["-v"]));
    until_committed(&env, &url, &job, 5);
    server.stop();
    // Nobody can renew a lease meanwhile, and all of them run out.
    std::thread::sleep(2 * lease);
    runtime.block_on(server.start_again());
    fetch_and_verify(&env, &url, &job, "a.csv", "out");
    for worker in workers {
        let (log, words) = (worker.log(), ["revoked", "not wanted", "is gone", "session lost"]);
        assert!(!words.iter().any(|word| log.contains(word)), "work was done in vain: {log}");
    }
    let attempts: Vec<(String, Option<String>, i64)> = runtime.block_on(async {
        let mut connection = sqlx::PgConnection::connect(&database).await.unwrap();
        let ends = "SELECT state, end_reason, count(*) FROM attempt GROUP BY state, end_reason ORDER BY state";
        sqlx::query_as(ends).fetch_all(&mut connection).await.unwrap()
    });
    assert_eq!(attempts[0], ("committed".to_owned(), None, 120), "every shard was done once");
    // A shard may have been granted in the last moment, when the answer could not be told any more.
    let untold = |(state, reason, _): &(String, Option<String>, i64)| {
        state == "released" && reason.as_deref() == Some("its worker does not know of it")
    };
    assert!(attempts[1..].iter().all(untold), "{attempts:?}");
}

#[test]
fn a_sqlite_database_has_one_coordinator() {
    let env = env(1);
    let (first, _) = coordinator(&env, "c1", "state.db", &[]);
    let words = ["coordinator", "--listen", "127.0.0.1:0", "--database", "state.db", "--storage", "storage"];
    let second = env.encaje(words);
    second.expect_code(1);
    second.expect_said(&["in use by process", &first.id().to_string(), "PostgreSQL"]);
}

#[test]
fn what_anybody_could_reach_does_not_start() {
    let env = env(1);
    for address in ["0.0.0.0:0", "[::]:0"] {
        let words = ["coordinator", "--listen", address, "--database", "state.db", "--storage", "storage"];
        let ran = env.encaje(words);
        ran.expect_code(2);
        ran.expect_said(&["can be reached from other machines", "--insecure"]);
        assert!(!env.path("state.db").exists(), "nothing was begun");
    }
    let words = ["coordinator", "--listen", "0.0.0.0:0", "--database", "state.db", "--storage", "storage", "--json"];
    let words: Vec<&str> = words.into_iter().chain(["--insecure"]).collect();
    let mut open = Daemon::start(&env, "open", &words);
    assert_eq!(open.event()["event"], "listening");
    wait_for("the warning", || open.log().contains("warning: --insecure").then_some(()));
}

#[test]
fn a_model_that_the_worker_does_not_have_is_named() {
    let env = env(10);
    let (_coordinator, url) = coordinator(&env, "c", "state.db", &[]);
    let here = env.path("model");
    std::fs::create_dir(&here).unwrap();
    for entry in std::fs::read_dir(crate::harness::model()).unwrap() {
        let from = entry.unwrap().path();
        if from.is_file() {
            std::fs::copy(&from, here.join(from.file_name().unwrap())).unwrap();
        }
    }
    let words = ["submit", "a.csv", "--model", "model", "--coordinator", &url];
    let ran = env.encaje(words);
    ran.expect_code(0);
    ran.expect_said(&["every worker needs it there"]);
    std::fs::rename(&here, env.path("moved")).unwrap();
    let worker = worker(&env, "w", &url, &[]);
    wait_for("the worker's word", || worker.log().contains("this worker does not have").then_some(()));
}

/// The committed output files of a job in the coordinator's storage.
fn stored(env: &TestEnv) -> Vec<std::path::PathBuf> {
    files_below(&env.path("storage"), &|path| path.extension().is_some_and(|end| end == "parquet"))
}

#[test]
fn damaged_and_missing_files_are_made_again() {
    let env = env(400);
    let (_coordinator, url) = coordinator(&env, "c", "state.db", &[]);
    let job = submit(&env, &url, "a.csv", SHARDS);
    let _worker = worker(&env, "w", &url, &[]);
    fetch_and_verify(&env, &url, &job, "a.csv", "before");
    let whole = env.encaje(["repair", &job, "--coordinator", &url, "--json"]).json();
    assert_eq!((&whole["files"], &whole["requeued"]), (&8.into(), &false.into()));

    let files = stored(&env);
    let mut bytes = std::fs::read(&files[2]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&files[2], bytes).unwrap();
    std::fs::remove_file(&files[5]).unwrap();
    let refused = env.encaje(["download", &job, "--coordinator", &url, "--out", "out"]);
    refused.expect_code(1);
    refused.expect_said(&["shards/0000000", "encaje repair"]);
    env.encaje(["repair", &job, "--coordinator", &url, "--dry-run"]).expect_code(1);
    let report = env.encaje(["repair", &job, "--coordinator", &url, "--json"]);
    report.expect_code(0);
    let shards: Vec<u64> =
        report.json()["damaged"].as_array().unwrap().iter().map(|found| found["shard"].as_u64().unwrap()).collect();
    assert_eq!(shards, [2, 5]);
    fetch_and_verify(&env, &url, &job, "a.csv", "out");
    assert_same(&rows(&env.path("out")), &rows(&env.path("before")));
}

#[test]
fn the_damaged_parts_of_a_run_are_made_again() {
    let env = env(400);
    env.run_ok("a.csv", "out", SHARDS);
    let before = rows(&env.path("out"));
    env.encaje(["repair", "out"]).expect_code(0);
    env.write("out/part-00001.parquet", "damaged");
    std::fs::remove_file(env.path("out/part-00006.parquet")).unwrap();
    env.encaje(["verify", "out"]).expect_code(1);
    let repaired = env.encaje(["repair", "out", "--json"]);
    repaired.expect_code(0);
    repaired.expect_said(&["run the same"]);
    assert_eq!(repaired.json()["damaged"].as_array().unwrap().len(), 2);
    env.run_ok("a.csv", "out", SHARDS);
    env.encaje(["verify", "out", "--corpus", "a.csv"]).expect_code(0);
    assert_same(&rows(&env.path("out")), &before);
    env.encaje(["repair", "a.csv"]).expect_code(2);
}

/// The names and sizes of the files of a folder.
fn listing(folder: &Path) -> Vec<(String, u64)> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.metadata().unwrap().len()))
        .collect();
    files.sort();
    files
}

#[test]
fn repair_changes_nothing_where_the_corpus_is_gone_or_changed() {
    let env = env(60);
    env.run_ok("a.csv", "out", SHARDS);
    std::fs::remove_file(env.path("out/part-00001.parquet")).unwrap();
    let before = listing(&env.path("out"));
    let corpus = std::fs::read(env.path("a.csv")).unwrap();
    for changed in [Some([&corpus[..], b"one more\n"].concat()), None] {
        match changed {
            Some(bytes) => drop(env.write("a.csv", bytes)),
            None => std::fs::remove_file(env.path("a.csv")).unwrap(),
        }
        let refused = env.encaje(["repair", "out"]);
        refused.expect_code(1);
        refused.expect_said(&["a.csv", "repair needs it to make 1 file again", "nothing was changed"]);
        assert_eq!(listing(&env.path("out")), before);
    }
}

#[test]
fn the_manifest_of_another_run_is_replaced_by_repair() {
    let env = env(60);
    env.run_ok("a.csv", "out", SHARDS);
    env.run_ok("a.csv", "other", SHARDS);
    let own = std::fs::read(env.path("out/manifest.json")).unwrap();
    std::fs::copy(env.path("other/manifest.json"), env.path("out/manifest.json")).unwrap();
    let found = env.encaje(["repair", "out", "--dry-run"]);
    found.expect_code(1);
    assert!(found.stdout.contains("`manifest.json`: it is of another job"), "{}", found.stdout);
    env.encaje(["repair", "out"]).expect_code(0);
    env.run_ok("a.csv", "out", SHARDS);
    assert_eq!(std::fs::read(env.path("out/manifest.json")).unwrap(), own);
}

#[test]
fn a_lost_manifest_of_a_finished_run_is_restored_by_repair() {
    let env = env(60);
    env.run_ok("a.csv", "out", SHARDS);
    let before = rows(&env.path("out"));
    let run = crate::harness::run_words("a.csv", "out", SHARDS);
    for damage in [None, Some("{}")] {
        std::fs::remove_file(env.path("out/manifest.json")).unwrap();
        if let Some(content) = damage {
            env.write("out/manifest.json", content);
        } else {
            for words in [&["verify", "out"][..], &["merge", "out", "--out", "m.parquet"]] {
                let refused = env.encaje(words);
                refused.expect_code(1);
                refused.expect_said(&["encaje repair out"]);
            }
            let refused = env.encaje(&run);
            refused.expect_code(1);
            refused.expect_said(&["its `manifest.json` is gone", "encaje repair out"]);
        }
        let repaired = env.encaje(["repair", "out"]);
        repaired.expect_code(0);
        repaired.expect_said(&["run the same"]);
        env.run_ok("a.csv", "out", SHARDS);
        env.encaje(["verify", "out", "--corpus", "a.csv"]).expect_code(0);
        assert_same(&rows(&env.path("out")), &before);
    }
}

#[test]
fn two_workers_take_vectors_from_an_earlier_output() {
    let env = TestEnv::new();
    let texts = sentences(600);
    env.write("old.csv", corpora::csv(&texts[..400]));
    env.run_ok("old.csv", "old", &["--shard-rows", "150"]);
    env.write("a.csv", corpora::csv(&texts));
    let root = env.path("old").display().to_string();
    let (_coordinator, url) = coordinator(&env, "c", "state.db", &["--corpus-root", &root]);
    // Nothing else is read from a disk for those who submit jobs.
    let model = crate::harness::model().display().to_string();
    std::fs::create_dir(env.path("other")).unwrap();
    for file in files_below(&env.path("old"), &|_| true) {
        std::fs::copy(&file, env.path("other").join(file.file_name().unwrap())).unwrap();
    }
    let words = ["submit", "a.csv", "--model", &model, "--coordinator", &url, "--reuse", "other"];
    env.encaje(words).expect_said(&["does not read", "/other"]);
    let job = submit(&env, &url, "a.csv", &["--shard-rows", "50", "--reuse", "old"]);
    let _workers = [worker(&env, "w1", &url, &[]), worker(&env, "w2", &url, &[])];
    fetch_and_verify(&env, &url, &job, "a.csv", "out");
    assert_eq!(submit(&env, &url, "a.csv", &["--shard-rows", "50"]), job, "it is the same job without");
    assert_eq!(status(&env, &url, &job)["reused"], 400);
    assert_eq!(dataset::Manifest::load(&env.path("out")).unwrap().totals.reused, 400);
    env.run_ok("a.csv", "alone", &["--shard-rows", "50"]);
    assert_same(&rows(&env.path("out")), &rows(&env.path("alone")));
}
