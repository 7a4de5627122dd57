//! Whole-system tests: the built program on real files, as a user runs it. Tests of one module live beside that module.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bisection;
mod buckets;
mod cli;
mod cluster;
mod columnar;
mod crash;
mod crowd;
mod deploy;
mod devices;
mod dialects;
mod disks;
mod end_to_end;
mod foreign;
mod gpu_kit;
mod harness;
mod holes;
mod hostile;
mod hub;
mod looking;
mod metrics;
mod modules;
mod private;
mod project;
mod quantized;
mod readers;
mod relay;
mod reuse;
mod security;
mod swapped;
mod urls;
mod wide;

use std::collections::BTreeSet;
use std::path::Path;

/// Files here that are a test program of their own.
const ON_THEIR_OWN: [&str; 3] = ["main", "sim", "tidy"];

#[test]
fn every_file_here_is_a_module_of_this_program() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests");
    let listed: BTreeSet<&str> = include_str!("main.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')))
        .collect();
    for entry in std::fs::read_dir(here).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let is_code = path.is_dir() || path.extension().is_some_and(|extension| extension == "rs");
        let known = listed.contains(stem.as_str()) || ON_THEIR_OWN.contains(&stem.as_str());
        assert!(!is_code || known || stem.starts_with("__"), "tests/{stem} is not listed in tests/main.rs");
    }
}
