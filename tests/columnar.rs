//! Parquet and Arrow files as other programs write them, and the output as they read it: every type, codec and layout.
//! The files and the comparisons are made by `kept_types.py` and `containers.py`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{TestEnv, run_words};

/// Runs a script beside this file with the Python that `make setup` installs.
fn python(script: &str, words: &[&str], folder: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let python = root.join("build/venv/bin/python");
    assert!(python.is_file(), "`{}` is missing: run `make setup`", python.display());
    let script = root.join("tests").join(script);
    let output = Command::new(python).arg("-B").arg(script).args(words).current_dir(folder).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    stdout.into_owned()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn every_type_means_the_same_to_other_programs() {
    let env = TestEnv::new();
    python("kept_types.py", &["make", "."], &env.path(""));
    for container in ["parquet", "arrow", "arrows"] {
        let corpus = format!("accepted.{container}");
        env.run_ok(&corpus, container, &[]);
        env.encaje(["verify", container, "--corpus", &corpus]).expect_code(0);
        let merged = format!("{container}.merged.parquet");
        env.encaje(["merge", container, "--out", &merged]).expect_code(0);
        env.encaje(["verify", &merged, "--corpus", &corpus]).expect_code(0);
        python("kept_types.py", &["check", ".", container, container], &env.path(""));
        python("kept_types.py", &["check", ".", container, &merged], &env.path(""));
    }
}

#[test]
fn every_kept_type_can_be_drawn() {
    let env = TestEnv::new();
    python("kept_types.py", &["make", "."], &env.path(""));
    env.run_ok("accepted.arrow", "out", &[]);
    let names = python("kept_types.py", &["names", "."], &env.path(""));
    for label in names.lines() {
        env.encaje(["project", "out", "--label", label, "--out", "a.svg", "--force"]).expect_code(0);
    }
    env.encaje(["compare", "out", "out", "--label", "utc", "--out", "b.svg"]).expect_code(0);
}

#[test]
fn a_type_that_cannot_be_kept_is_refused_before_any_work() {
    let env = TestEnv::new();
    python("kept_types.py", &["make", "."], &env.path(""));
    let refused: Vec<PathBuf> =
        files(&env.path("")).into_iter().filter(|path| name(path).starts_with("refused-")).collect();
    assert!(refused.len() > 12, "{refused:?}");
    for path in refused {
        let file = name(&path);
        let column = path.file_stem().unwrap().to_str().unwrap()["refused-".len()..].replace('-', " ");
        let ran = env.encaje(run_words(&file, "out", &[]));
        ran.expect_code(1);
        ran.expect_said(&[&format!("`{column}`"), "--keep", &file]);
        assert!(!env.path("out").exists(), "{file}: something was begun");
        let out = format!("{file}.out");
        env.run_ok(&file, &out, &["--keep", "text"]);
        env.encaje(["verify", &out, "--corpus", &file, "--keep", "text"]).expect_code(0);
    }
}

#[test]
fn every_container_holds_the_same_rows() {
    let env = TestEnv::new();
    python("containers.py", &["make", "."], &env.path(""));
    for path in files(&env.path("sound")) {
        let file = path.display().to_string();
        let out = format!("out/{}.parquet", name(&path));
        env.run_ok(&file, &out, &["--shard-rows", "7"]);
        env.encaje(["verify", &out, "--corpus", &file]).expect_code(0);
    }
    python("containers.py", &["check", "."], &env.path(""));
    for path in files(&env.path("empty")) {
        let ran = env.encaje(run_words(&path.display().to_string(), &format!("no/{}", name(&path)), &["--json"]));
        ran.expect_code(0);
        assert_eq!(ran.json()["rows"], 0, "{}", path.display());
    }
}

#[test]
fn a_container_that_cannot_be_read_is_named_and_not_called_damaged() {
    let env = TestEnv::new();
    python("containers.py", &["make", "."], &env.path(""));
    for path in files(&env.path("refused")).into_iter().filter(|path| path.extension().unwrap() != "said") {
        let said = std::fs::read_to_string(format!("{}.said", path.display())).unwrap();
        let ran = env.encaje(run_words(&path.display().to_string(), "out", &[]));
        ran.expect_code(1);
        ran.expect_said(&[&said, &name(&path)]);
        assert!(!ran.stderr.contains("damaged"), "{}", ran.stderr);
    }
    env.run_ok("refused/encrypted-label.parquet", "kept", &["--keep", "id"]);
}
