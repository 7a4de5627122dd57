//! Storage that is taken away under a job, with an empty folder in its place, and put back.
#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::{Connection, SqliteConnection};

use crate::harness::corpora::{self, sentences};
use crate::harness::daemon::{coordinator, fetch_and_verify, status, submit, until_committed, worker};
use crate::harness::output::{assert_same, rows};
use crate::harness::{Ran, TestEnv, files_below, run_words, wait_for};

const ROWS: u64 = 3_000;
const SHARDS: &[&str] = &["--shard-rows", "20"];

/// How many finished shards lie in the state of a run.
fn shards(out: &Path) -> usize {
    files_below(&out.join(".encaje/jobs"), &|path| path.extension().is_some_and(|found| found == "parquet")).len()
}

fn swap(folder: &Path) -> PathBuf {
    let away = folder.with_extension("away");
    std::fs::rename(folder, &away).unwrap();
    // A write that was under way may have made it again.
    std::fs::create_dir_all(folder).unwrap();
    away
}

fn put_back(folder: &Path, away: &Path) {
    // A process that has not noticed yet may write into the folder meanwhile.
    wait_for("the place of the folder", || {
        std::fs::remove_dir_all(folder).ok();
        std::fs::rename(away, folder).ok()
    });
}

#[test]
fn a_job_waits_for_its_storage_and_loses_nothing() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(ROWS)));
    env.run_ok("a.csv", "undisturbed", SHARDS);
    let (mut first, url) = coordinator(&env, "c", "books/state.db", &[]);
    let worker = worker(&env, "w", &url, &[]);
    let job = submit(&env, &url, "a.csv", SHARDS);
    until_committed(&env, &url, &job, 5);
    let committed = || status(&env, &url, &job)["shards"]["committed"].as_u64().unwrap();

    let away = swap(&env.path("storage"));
    wait_for("the worker to notice", || {
        worker.log().contains("is not the storage that this work began in").then_some(())
    });
    // A commit that was looked at before the swap may still be under way to the database.
    std::thread::sleep(Duration::from_secs(2));
    let before = committed();
    std::thread::sleep(Duration::from_secs(2));
    assert!(before < ROWS / 20, "the storage was taken away too late");
    assert_eq!(committed(), before, "nothing is committed meanwhile");
    env.write("b.csv", corpora::csv(&sentences(10)));
    let model = crate::harness::model().display().to_string();
    let refused = env.encaje(["submit", "b.csv", "--model", &model, "--coordinator", &url]);
    refused.expect_code(1);
    refused.expect_said(&["is not the storage that this work began in", "mount it"]);

    // Nor does a coordinator start over it, or make the folder again where it is gone.
    first.signal("TERM");
    assert_eq!(first.ended(), Some(0));
    let words = ["coordinator", "--listen", "127.0.0.1:0", "--database", "books/state.db", "--storage", "storage"];
    for problem in ["`storage-id` is missing", "there is no such folder"] {
        let refused = env.encaje(words);
        refused.expect_code(1);
        refused.expect_said(&["is not the storage that the files of this database are in", problem, "mount it"]);
        std::fs::remove_dir_all(env.path("storage")).ok();
    }
    assert!(!env.path("storage").exists());

    std::fs::rename(&away, env.path("storage")).unwrap();
    let port = url.rsplit(':').next().unwrap();
    let listen = format!("127.0.0.1:{port}");
    let words = ["coordinator", "--listen", &listen, "--database", "books/state.db", "--storage", "storage", "--json"];
    let mut second = crate::harness::daemon::Daemon::start(&env, "d", &words);
    assert_eq!(second.event()["event"], "listening");
    fetch_and_verify(&env, &url, &job, "a.csv", "out");
    assert_same(&rows(&env.path("out")), &rows(&env.path("undisturbed")));
}

#[test]
fn a_storage_that_is_back_soon_costs_no_attempt() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(ROWS)));
    let (_coordinator, url) = coordinator(&env, "c", "books/state.db", &[]);
    let worker = worker(&env, "w", &url, &[]);
    let job = submit(&env, &url, "a.csv", SHARDS);
    until_committed(&env, &url, &job, 5);
    let storage = env.path("storage");
    let away = swap(&storage);
    wait_for("the worker to wait", || worker.log().contains("waiting for the storage").then_some(()));
    put_back(&storage, &away);
    fetch_and_verify(&env, &url, &job, "a.csv", "out");
    let found = status(&env, &url, &job);
    assert_eq!(found["shards"]["dead"], 0, "{found}");
}

#[test]
fn a_run_whose_directory_was_replaced_fails_once_and_goes_on_in_the_right_one() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(ROWS)));
    env.run_ok("a.csv", "undisturbed", SHARDS);
    let out = env.path("out");
    for has_spool in [false, true] {
        let child = env.start(run_words("a.csv", "out", SHARDS));
        let done = shards(&out);
        wait_for("ten more shards", || (shards(&out) >= done + 10).then_some(()));
        let away = swap(&out);
        if has_spool {
            std::fs::create_dir_all(out.join(".encaje/spool")).unwrap();
        }
        let ran = Ran::of(child.wait_with_output().unwrap());
        ran.expect_code(1);
        ran.expect_said(&["`out` was removed or replaced while the run worked in it", "run again"]);
        assert!(!ran.stderr.contains("storage"), "{}", ran.stderr);
        assert_eq!(ran.stderr.matches("error:").count(), 1, "{}", ran.stderr);
        let found = files_below(&out, &|path| path.parent() == Some(&out));
        assert!(found.is_empty(), "no success, not even in part: {found:?}");
        put_back(&out, &away);
    }
    env.run_ok("a.csv", "out", SHARDS);
    env.encaje(["verify", "out", "--corpus", "a.csv"]).expect_code(0);
    assert_same(&rows(&out), &rows(&env.path("undisturbed")));
}

/// Makes a run's state that of an earlier release, which noted no storage.
fn forget_storage(out: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let database = out.join(".encaje/state.db");
        let mut connection = SqliteConnection::connect(database.to_str().unwrap()).await.unwrap();
        sqlx::query("DELETE FROM storage").execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
}

#[test]
fn a_run_that_an_earlier_release_began_goes_on() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(ROWS)));
    let out = env.path("out");
    for has_id in [true, false] {
        let mut child = env.start(run_words("a.csv", "out", SHARDS));
        let done = shards(&out);
        wait_for("ten more shards", || (shards(&out) >= done + 10).then_some(()));
        child.kill().unwrap();
        child.wait().unwrap();
        forget_storage(&out);
        if !has_id {
            std::fs::remove_file(out.join(".encaje/storage-id")).unwrap();
        }
    }
    env.run_ok("a.csv", "out", SHARDS);
    env.encaje(["verify", "out", "--corpus", "a.csv"]).expect_code(0);
}
