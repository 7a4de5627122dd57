//! The templates in `deploy`: YAML, schemas, the rendered chart and scripts in `deploy.py`; here, that this program accepts their
//! commands and variables, and has their metrics.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::TestEnv;

/// Commands that templates give settings to.
const COMMANDS: [&[&str]; 5] = [&["coordinator"], &["worker"], &["submit"], &["list"], &["token", "new"]];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_templates_are_valid_and_their_command_lines_are_accepted() {
    let python = root().join("build/deploy/bin/python");
    if !python.exists() {
        assert!(std::env::var_os("CI").is_none(), "CI must have the packages: sh scripts/setup.sh deploy");
        eprintln!("NOT TESTED: no `{}`; sh scripts/setup.sh deploy makes it", python.display());
        return;
    }
    let checked = Command::new(python).arg(root().join("tests/deploy.py")).output().unwrap();
    let [said, problems] = [&checked.stdout, &checked.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert!(checked.status.success(), "{said}{problems}");
    eprint!("{problems}");
    let lines: Vec<Value> = serde_json::from_str(&said).unwrap();
    let sources: BTreeSet<&str> = lines.iter().map(|line| line["source"].as_str().unwrap()).collect();
    for source in
        ["chart", "kubernetes.yaml", "compose.yaml", "encaje-worker.sbatch", "encaje-worker.service", "NOTES.txt"]
    {
        assert!(sources.contains(source), "no command line was found in {source}: {sources:?}");
    }
    let env = TestEnv::new();
    for line in &lines {
        let ran = env.encaje(words(line));
        assert!(ran.code == Some(0), "{line}\n{}", ran.stderr);
    }
    for wrong in [
        r#"{"args": ["worker"], "env": {"ENCAJE_TOKENS": "a"}}"#,
        r#"{"args": ["worker", "--threads", "0"], "env": {}}"#,
    ] {
        env.encaje(words(&serde_json::from_str(wrong).unwrap())).expect_code(2);
    }
}

/// A template's command line, its variables as options, so that they are checked too; `--help` keeps it from being run.
fn words(line: &Value) -> Vec<String> {
    let mut words: Vec<String> =
        line["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect();
    for (name, value) in line["env"].as_object().unwrap() {
        let option = name.strip_prefix("ENCAJE_").unwrap().to_lowercase().replace('_', "-");
        words.push(format!("--{option}={}", value.as_str().unwrap()));
    }
    words.push("--help".to_owned());
    words
}

#[test]
fn every_variable_in_the_templates_is_one_of_the_program() {
    let env = TestEnv::new();
    let help = COMMANDS.map(|command| env.encaje([command, &["--help"]].concat()).stdout).concat();
    let known = names(&help, "ENCAJE_");
    let found: BTreeSet<String> = templates().iter().flat_map(|(_, text)| names(text, "ENCAJE_")).collect();
    assert!(found.contains("ENCAJE_COORDINATOR"), "{found:?}");
    assert_eq!(found.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn every_metric_in_the_templates_is_one_of_a_coordinator() {
    let sources = ["jobs.rs", "mod.rs"]
        .map(|file| std::fs::read_to_string(root().join("coordinator/src/metrics").join(file)).unwrap());
    let known = names(&sources.concat(), "encaje_");
    let found: BTreeSet<String> = templates().iter().flat_map(|(_, text)| names(text, "encaje_")).collect();
    assert!(found.contains("encaje_shards_pending"), "{found:?}");
    assert_eq!(found.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// The names that begin so.
fn names(text: &str, prefix: &str) -> BTreeSet<String> {
    let is_of_a_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.split(|letter| !is_of_a_name(letter)).filter(|word| word.starts_with(prefix)).map(str::to_owned).collect()
}

/// All files in `deploy`.
fn templates() -> Vec<(PathBuf, String)> {
    let (mut folders, mut files) = (vec![root().join("deploy")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    files
}
