//! Who may read what is written: texts of others are for the process's own user, outputs are as the user's umask says.
#![cfg(unix)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::corpora::{self, sentences};
use crate::harness::daemon::{coordinator, fetch_and_verify, submit, worker};
use crate::harness::{TestEnv, files_below, run_words};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Checks that nobody else may do anything with a folder and what is in it.
fn assert_private(folder: &Path) {
    assert_eq!(mode(folder), 0o700, "{}", folder.display());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => assert_private(&path),
            false => assert_eq!(mode(&path), 0o600, "{}", path.display()),
        }
    }
}

/// Checks that the files of an output have the mode that any file of this user has.
fn assert_ours(env: &TestEnv, out: &str) {
    let like = mode(&env.write("like", "any file"));
    let parts = files_below(&env.path(out), &|path| path.parent() == Some(&env.path(out)));
    assert!(parts.len() >= 2, "{parts:?}");
    for part in parts {
        assert_eq!(mode(&part), like, "{}", part.display());
    }
    std::fs::create_dir_all(env.path("likewise")).unwrap();
    assert_eq!(mode(&env.path(out)), mode(&env.path("likewise")));
    assert_eq!(mode(&env.path(out).join(".encaje")), 0o700);
}

#[test]
fn a_cluster_keeps_what_was_submitted_private_and_outputs_are_the_users() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(60)));
    let (mut coordinator, url) = coordinator(&env, "c", "books/state.db", &[]);
    let mut worker = worker(&env, "w", &url, &[]);
    let job = submit(&env, &url, "a.csv", &["--shard-rows", "20"]);
    fetch_and_verify(&env, &url, &job, "a.csv", "out");
    assert!(env.path("storage/uploads").is_dir() && env.path("storage/jobs").is_dir());
    for folder in ["books", "storage", "spool"] {
        assert_private(&env.path(folder));
    }
    for daemon in [&mut worker, &mut coordinator] {
        daemon.signal("TERM");
        assert_eq!(daemon.ended(), Some(0));
    }
    assert_ours(&env, "out");
}

#[test]
fn a_run_keeps_its_state_private_and_its_output_is_the_users() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(60)));
    // What an earlier release left behind was open to everybody.
    std::fs::create_dir_all(env.path("out/.encaje")).unwrap();
    env.encaje(run_words("a.csv", "out", &["--shard-rows", "20"])).expect_code(0);
    assert_ours(&env, "out");
}
