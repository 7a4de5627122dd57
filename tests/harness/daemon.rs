//! Coordinators and workers as processes: started, watched by the events they print, stopped, killed.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

use super::{TestEnv, model, wait_for};

/// A process that runs until it is stopped. It is killed when this value is dropped.
pub(crate) struct Daemon {
    child: Child,
    stdout: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Daemon {
    /// Starts the program; what it says on stderr is kept in `NAME.log`.
    pub(crate) fn start(env: &TestEnv, name: &str, words: &[&str]) -> Self {
        Self::spawn(env, name, env.command(words))
    }

    /// As [`Daemon::start`], of a command that the caller made.
    pub(crate) fn spawn(env: &TestEnv, name: &str, mut command: Command) -> Self {
        let log = env.path(&format!("{name}.log"));
        command.stderr(Stdio::from(std::fs::File::create(&log).unwrap()));
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout, log }
    }

    /// Waits for the next event. Panics with the log where the process ends instead.
    pub(crate) fn event(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in `{line}`; log:\n{}", self.log()))
    }

    /// What it said so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Whether it has ended by itself.
    pub(crate) fn is_dead(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Sends a signal by its name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let (flag, pid) = (format!("-{name}"), self.id().to_string());
        assert!(std::process::Command::new("kill").args([&flag, &pid]).status().unwrap().success());
    }

    /// Waits for its end and returns the exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let child = &mut self.child;
        wait_for("the end of a process", || child.try_wait().unwrap()).code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Starts a coordinator on a free port. Returns it and its URL.
pub(crate) fn coordinator(env: &TestEnv, name: &str, database: &str, more: &[&str]) -> (Daemon, String) {
    let mut words = vec!["coordinator", "--listen", "127.0.0.1:0", "--database", database, "--storage", "storage"];
    words.push("--json");
    words.extend(more);
    let mut daemon = Daemon::start(env, name, &words);
    let event = daemon.event();
    assert_eq!(event["event"], "listening");
    (daemon, event["url"].as_str().unwrap().to_owned())
}

/// Starts a worker with one forward thread.
pub(crate) fn worker(env: &TestEnv, name: &str, urls: &str, more: &[&str]) -> Daemon {
    let mut words =
        vec!["worker", "--coordinator", urls, "--name", name, "--spool", "spool", "--threads", "1", "--json"];
    words.extend(more);
    let mut daemon = Daemon::start(env, name, &words);
    assert_eq!(daemon.event()["event"], "started");
    daemon
}

/// Submits a corpus with the tiny model and returns the job's id.
pub(crate) fn submit(env: &TestEnv, urls: &str, corpus: &str, more: &[&str]) -> String {
    let model = model().display().to_string();
    let mut words = vec!["submit", corpus, "--model", &model, "--coordinator", urls];
    words.extend(more);
    let ran = env.encaje(&words);
    ran.expect_code(0);
    ran.stdout.trim().to_owned()
}

/// How a job stands, as `status --json` says.
pub(crate) fn status(env: &TestEnv, urls: &str, job: &str) -> Value {
    let ran = env.encaje(["status", job, "--coordinator", urls, "--json"]);
    ran.expect_code(0);
    ran.json()
}

/// Waits until so many shards are committed.
pub(crate) fn until_committed(env: &TestEnv, urls: &str, job: &str, shards: u64) {
    wait_for("commits", || {
        let committed = status(env, urls, job)["shards"]["committed"].as_u64().unwrap();
        (committed >= shards).then_some(())
    });
}

/// Waits for the job, fetches its results into `OUT`, and has every promise about them checked.
pub(crate) fn fetch_and_verify(env: &TestEnv, urls: &str, job: &str, corpus: &str, out: &str) {
    env.encaje(["download", job, "--coordinator", urls, "--out", out, "--wait"]).expect_code(0);
    env.encaje(["verify", out, "--corpus", corpus]).expect_code(0);
}
