//! The GPU kit (`make gpu-kit`): on a machine without a GPU every step says so and the table is printed; on a CPU its steps
//! measure and compare, so that what a GPU runs has run before.
#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Ran, TestEnv, files_below};

/// What may come back from the machine.
const FILES_MAX: usize = 8;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn python() -> PathBuf {
    let python = root().join("build/venv/bin/python");
    assert!(python.is_file(), "`{}` is missing: run `make setup`", python.display());
    python
}

/// Assembles a kit of the tests' own program, which has no kernels, and of the real MiniLM; runs it, and returns what it
/// printed.
fn run_kit(env: &TestEnv, args: &str) -> Ran {
    let model = root().join("build/models/all-MiniLM-L6-v2");
    assert!(model.join("config.json").is_file(), "`{}` is missing: run `make setup`", model.display());
    let mut assemble = Command::new(python());
    assemble.arg(root().join("scripts/gpu_kit.py")).arg("--plain").arg("--encaje").arg(env!("CARGO_BIN_EXE_encaje"));
    assemble.arg("--model").arg(model).arg("--out").arg(env.path("kit"));
    Ran::of(assemble.output().unwrap()).expect_code(0);
    let mut run = Command::new("sh");
    run.arg(env.path("kit/run.sh")).arg(env.path("results")).env("PYTHON", python()).env("KIT_ARGS", args);
    Ran::of(run.output().unwrap())
}

/// The rows of the table: a step, what became of it, and its figures.
fn table(ran: &Ran) -> Vec<(String, String, String)> {
    let mut lines = ran.stdout.lines();
    assert!(lines.next().is_some_and(|line| line.starts_with("step ")), "{}\n{}", ran.stdout, ran.stderr);
    let rows = lines.take_while(|line| line.contains("  ")).map(|line| {
        let mut cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
        let mut cell = || cells.next().unwrap_or_default().to_owned();
        let (step, result, _seconds) = (cell(), cell(), cell());
        (step, result, cell())
    });
    rows.collect()
}

#[test]
fn the_gpu_kit_says_at_every_step_that_there_is_no_gpu() {
    let env = TestEnv::new();
    let began = Instant::now();
    let ran = run_kit(&env, "--scale 0.01");
    assert!(began.elapsed() < Duration::from_secs(100), "it takes seconds: {:?}\n{}", began.elapsed(), ran.stdout);
    ran.expect_code(0);
    let rows = table(&ran);
    assert!(rows.len() >= 18, "{}", ran.stdout);
    for (step, result, figures) in &rows {
        // Torch may be there, but sees no GPU either.
        let expected = if step == "peak" { "skipped" } else { "no device" };
        assert_eq!(result, expected, "`{step}`: {figures}\n{}", ran.stdout);
    }
    let files = files_below(&env.path("results"), &|_| true);
    assert!(files.len() <= FILES_MAX && files.contains(&env.path("results/table.txt")), "{files:?}");
}

#[test]
fn the_steps_of_the_gpu_kit_measure_and_compare_on_a_cpu() {
    let env = TestEnv::new();
    let ran = run_kit(&env, "--device cpu --scale 0.001");
    let rows = table(&ran);
    let of = |name: &str| {
        let row = rows.iter().find(|row| row.0 == name);
        row.unwrap_or_else(|| panic!("no step `{name}`:\n{}", ran.stdout))
    };
    for (step, figures) in [
        ("self-test", "checks passed"),
        ("448 sentences, f32", "448 rows, least cosine"),
        ("3,000 texts of 512 tokens", "texts of 512 tokens in"),
        ("speed, 512 tokens", "tokens/s f32"),
        ("speed, mixed tokens", "tokens/s f32"),
        ("huge batches", "--batch-tokens 4000000000:"),
    ] {
        let (_, result, found) = of(step);
        assert!(
            result == "ok" && found.contains(figures),
            "`{step}`: {result}: {found}\n{}\n{}",
            ran.stdout,
            ran.stderr
        );
    }
    let failed: Vec<_> = rows.iter().filter(|row| row.1 == "failed").collect();
    assert!(failed.is_empty() && ran.code == Some(0), "{failed:?}\n{}", ran.stdout);
    assert!(files_below(&env.path("results"), &|_| true).len() <= FILES_MAX);
}
