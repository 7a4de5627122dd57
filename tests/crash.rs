//! The program is killed at every kind of moment, and run again: the result is the one of a run that nothing disturbed.

use std::path::Path;
use std::process::Child;

use crate::harness::corpora::{self, sentences};
use crate::harness::output::{Row, assert_same, rows};
use crate::harness::{Ran, TestEnv, files_below, run_words, wait_for};

const ROWS: u64 = 3_000;
/// 150 shards: enough moments to be killed at.
const SHARDS: &[&str] = &["--shard-rows", "20", "--json"];

/// A moment to be killed at, as it can be seen from outside.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// A path in the output directory is there.
    Exists(&'static str),
    /// So many finished shards lie in the state directory.
    Shards(usize),
    /// So many parts are in place.
    Parts(usize),
}

impl Moment {
    fn has_come(self, out: &Path) -> bool {
        let parquet = |path: &Path| path.extension().is_some_and(|extension| extension == "parquet");
        match self {
            Moment::Exists(name) => out.join(name).exists(),
            Moment::Shards(count) => files_below(&out.join(".encaje/jobs"), &parquet).len() >= count,
            Moment::Parts(count) => {
                let part =
                    |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("part-"));
                files_below(out, &part).len() >= count
            }
        }
    }
}

/// Kills the program when the moment comes, and returns whether it was still alive.
fn kill_at(child: &mut Child, moment: Moment, out: &Path) -> bool {
    let alive = wait_for(&format!("{moment:?}"), || {
        if child.try_wait().unwrap().is_some() {
            return Some(false);
        }
        moment.has_come(out).then_some(true)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    alive
}

fn undisturbed(env: &TestEnv, corpus: &str) -> Vec<Row> {
    env.run_ok(corpus, "undisturbed", SHARDS);
    rows(&env.path("undisturbed"))
}

/// Runs once more, which must finish, and checks everything.
fn finish_and_check(env: &TestEnv, corpus: &str, out: &str, expected: &[Row]) -> Ran {
    let ran = env.run_ok(corpus, out, SHARDS);
    env.encaje(["verify", out, "--corpus", corpus]).expect_code(0);
    assert_same(&rows(&env.path(out)), expected);
    ran
}

#[test]
fn killed_again_and_again_one_job_still_ends_with_the_same_rows() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(ROWS)));
    let expected = undisturbed(&env, "a.csv");
    let moments = [
        Moment::Exists(".encaje"),
        Moment::Exists(".encaje/lock"),
        Moment::Exists(".encaje/job.json"),
        Moment::Exists(".encaje/state.db"),
        Moment::Shards(1),
        Moment::Shards(2),
        Moment::Shards(15),
        Moment::Shards(40),
        Moment::Shards(80),
        Moment::Shards(120),
        Moment::Shards(149),
        Moment::Parts(1),
        Moment::Parts(70),
        Moment::Exists("manifest.json"),
    ];
    let mut killed = 0;
    for moment in moments {
        let mut child = env.start(run_words("a.csv", "out", SHARDS));
        killed += u32::from(kill_at(&mut child, moment, &env.path("out")));
    }
    assert!(killed >= 10, "only {killed} kills came before the end");
    finish_and_check(&env, "a.csv", "out", &expected);
}

#[test]
fn a_compressed_corpus_is_cut_again_the_same_way() {
    let env = TestEnv::new();
    env.write("a.csv.gz", corpora::gzip(corpora::csv(&sentences(ROWS)).as_bytes()));
    let expected = undisturbed(&env, "a.csv.gz");
    for moment in [Moment::Shards(1), Moment::Shards(30), Moment::Shards(110)] {
        let mut child = env.start(run_words("a.csv.gz", "out", SHARDS));
        kill_at(&mut child, moment, &env.path("out"));
    }
    finish_and_check(&env, "a.csv.gz", "out", &expected);
}

#[test]
fn one_file_survives_kills_while_it_is_made_and_merged() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(ROWS)));
    let expected = undisturbed(&env, "a.csv");
    let work = env.path("one.parquet.encaje");
    for moment in [Moment::Shards(20), Moment::Parts(1), Moment::Exists("manifest.json")] {
        let mut child = env.start(run_words("a.csv", "one.parquet", SHARDS));
        kill_at(&mut child, moment, &work);
    }
    finish_and_check(&env, "a.csv", "one.parquet", &expected);
    assert!(!work.exists());
}

#[cfg(unix)]
#[test]
fn an_interrupt_keeps_the_work_and_says_how_to_go_on() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(ROWS)));
    let expected = undisturbed(&env, "a.csv");
    let out = env.path("out");
    let child = env.start(run_words("a.csv", "out", SHARDS));
    wait_for("ten shards", || Moment::Shards(10).has_come(&out).then_some(()));
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let ran = Ran::of(child.wait_with_output().unwrap());
    ran.expect_code(130);
    ran.expect_said(&["interrupted", "run again to resume"]);
    assert_eq!(ran.stdout, "", "no summary of an unfinished job");

    let status = env.encaje(["status", "out", "--json"]).json();
    assert_eq!(status["state"], "interrupted");
    // Of the ten shards that were stored, the two that were worked on may not have been committed any more.
    let done = status["rows_done"].as_u64().unwrap();
    assert!((160..ROWS).contains(&done), "{done}");
    let ran = finish_and_check(&env, "a.csv", "out", &expected);
    assert_eq!(ran.json()["was_done"], false);
}

#[cfg(unix)]
#[test]
fn status_counts_what_is_embedded_and_not_yet_committed() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(40_000)));
    let mut run = env.start(run_words("a.csv", "out", &["--shard-rows", "100000", "--threads", "1"]));
    wait_for("rows of a running shard", || {
        let said = env.encaje(["status", "out"]).stdout;
        assert!(run.try_wait().unwrap().is_none(), "the run ended before its status had rows: {said}");
        said.contains("embedded but not committed yet").then_some(())
    });
    run.kill().unwrap();
    run.wait().unwrap();
    let status = env.encaje(["status", "out", "--json"]).json();
    assert_eq!(status["rows_in_flight"], 0, "what a killed run had not committed is lost");
}

#[test]
fn two_runs_do_not_share_a_directory() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(ROWS)));
    let out = env.path("out");
    let first = env.start(run_words("a.csv", "out", SHARDS));
    wait_for("the first shard", || Moment::Shards(1).has_come(&out).then_some(()));
    // The second waits a moment for the lock: the first must not end meanwhile.
    let signal = |name: &str| {
        let words = [name, &first.id().to_string()];
        assert!(std::process::Command::new("kill").args(words).status().unwrap().success());
    };
    signal("-STOP");
    let second = env.encaje(run_words("a.csv", "out", SHARDS));
    let status = env.encaje(["status", "out", "--json"]).json();
    signal("-CONT");
    second.expect_code(1);
    second.expect_said(&["another encaje is working in", &first.id().to_string()]);
    assert_eq!(status["state"], "running");
    Ran::of(first.wait_with_output().unwrap()).expect_code(0);
    env.encaje(["verify", "out", "--corpus", "a.csv"]).expect_code(0);
}
