//! Where computing happens: devices that are not there, the test of a device by itself, and a worker that loses its device.
#![cfg(unix)]

use std::process::Stdio;

use crate::harness::corpora::{self, sentences};
use crate::harness::daemon::{coordinator, fetch_and_verify, status, submit};
use crate::harness::{TestEnv, run_words, wait_for};

#[test]
fn a_gpu_that_is_not_there_is_said_in_plain_words() {
    let env = TestEnv::new();
    env.write("a.csv", "text\nhola\n");
    // The tests' own binary has no kernels; one with kernels finds no driver on a machine without a GPU.
    for device in ["cuda:all", "cuda:7"] {
        let ran = env.encaje(run_words("a.csv", "out", &["--device", device]));
        ran.expect_code(2);
        ran.expect_said(&[&format!("--device {device}")]);
        let said = ran.stderr.contains("this binary has no CUDA") || ran.stderr.contains("no NVIDIA driver found");
        assert!(said, "{}", ran.stderr);
        assert!(!env.path("out").exists(), "nothing was begun");
    }
}

#[test]
fn a_cpu_proves_itself_and_says_how_fast_it_is() {
    let env = TestEnv::new();
    // The second is how 0.1.0 spelled it.
    for command in [&["self-test"][..], &["worker", "--self-test"]] {
        let ran = env.encaje(command.iter().chain(&["--quick", "--device", "cpu", "--json"]).copied());
        ran.expect_code(0);
        let events: Vec<serde_json::Value> =
            ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).count();
        assert!(of("check") >= 30 && of("measure") == 3, "{}", ran.stdout);
        assert!(events.iter().all(|event| event["passed"] != false), "{}", ran.stdout);
        assert_eq!(events.last().unwrap()["event"], "done");
    }
}

/// A worker that loses its device once, at the next `load` of a model or `batch`.
fn worker_with_failpoint(env: &TestEnv, url: &str, moment: &str, more: &[&str]) -> std::process::Child {
    let mut words = vec!["worker", "--coordinator", url, "--spool", "spool", "--threads", "1", "--device", "cpu"];
    words.extend(more);
    let mut command = env.command(&words);
    command.env("ENCAJE_FAILPOINT_LOSE_DEVICE", env.write("lose", moment));
    command.stdout(Stdio::null()).stderr(std::fs::File::create(env.path("worker.log")).unwrap());
    command.spawn().unwrap()
}

#[test]
fn a_lost_device_gives_its_shards_back_and_ends_the_worker_with_a_code_of_its_own() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(60)));
    let (_coordinator, url) = coordinator(&env, "c", "state.db", &[]);
    let job = submit(&env, &url, "a.csv", &["--shard-rows", "20"]);
    for moment in ["load", "batch"] {
        let mut lost = worker_with_failpoint(&env, &url, moment, &[]);
        assert_eq!(wait_for("the worker's end", || lost.try_wait().unwrap()).code(), Some(4), "at {moment}");
        // Nothing waits for a heartbeat to be missed: what was not committed is there for the next worker at once.
        let stands = status(&env, &url, &job);
        let of = |state: &str| stands["shards"][state].as_u64().unwrap();
        assert!(of("pending") >= 1 && of("pending") + of("committed") == 3, "given back at {moment}: {stands}");
        let said = std::fs::read_to_string(env.path("worker.log")).unwrap();
        assert!(said.contains("is lost to this process") && said.contains("given back"), "{said}");
    }
}

#[test]
fn a_supervisor_brings_a_worker_with_a_lost_device_back_and_stops_it_when_told() {
    let env = TestEnv::new();
    env.write("a.csv", corpora::csv(&sentences(60)));
    let (_coordinator, url) = coordinator(&env, "c", "state.db", &[]);
    let job = submit(&env, &url, "a.csv", &["--shard-rows", "20"]);
    let mut supervisor = worker_with_failpoint(&env, &url, "batch", &["--restart"]);
    fetch_and_verify(&env, &url, &job, "a.csv", "out");
    let said = std::fs::read_to_string(env.path("worker.log")).unwrap();
    assert!(said.contains("starting it again"), "{said}");
    let pid = supervisor.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(wait_for("the supervisor's end", || supervisor.try_wait().unwrap()).code(), Some(0));
}
