//! What every system test needs: a folder of its own, the program, a model, and a way to look at what was made.

pub(crate) mod corpora;
pub(crate) mod daemon;
pub(crate) mod output;
#[cfg(unix)]
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long anything that a test waits for may take: far more than it does, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(120);

/// A folder for one test, and the program in it.
pub(crate) struct TestEnv {
    dir: TempDir,
}

/// What a run of the program said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl TestEnv {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::Builder::new().prefix("encaje-test-").tempdir().unwrap() }
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file in the folder.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// The program, in the folder, free of the surrounding environment's settings.
    pub(crate) fn command<I, S>(&self, words: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_encaje"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ENCAJE_") || name.starts_with("HF_")) {
            command.env_remove(name);
        }
        command.current_dir(self.dir.path()).env("HF_HOME", self.path("hf")).env("HF_HUB_OFFLINE", "1").args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn encaje<I, S>(&self, words: I) -> Ran
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        Ran::of(self.command(words).output().unwrap())
    }

    /// Starts the program; the caller ends it.
    pub(crate) fn start<I, S>(&self, words: I) -> Child
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.command(words).spawn().unwrap()
    }

    /// Runs `encaje run CORPUS --model MODEL --out OUT ...`, which must succeed, and returns what it said.
    pub(crate) fn run_ok(&self, corpus: &str, out: &str, more: &[&str]) -> Ran {
        let ran = self.encaje(run_words(corpus, out, more));
        ran.expect_code(0);
        ran
    }
}

/// The words of a `run` with the tiny model.
pub(crate) fn run_words(corpus: &str, out: &str, more: &[&str]) -> Vec<String> {
    let model = model();
    let mut words: Vec<String> = vec!["run".into(), corpus.into(), "--model".into(), model.display().to_string()];
    words.extend(["--out".to_owned(), out.to_owned()]);
    words.extend(more.iter().map(|word| (*word).to_owned()));
    words
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Checks the exit code, and shows everything if it is another.
    pub(crate) fn expect_code(&self, code: i32) {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
    }

    /// Checks that stderr says each of these.
    pub(crate) fn expect_said(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.stderr.contains(part), "`{part}` is not in stderr:\n{}", self.stderr);
        }
    }

    /// The JSON object on stdout.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in stdout:\n{}", self.stdout))
    }
}

/// The tiny model that tests run: BERT with random weights, a few kilobytes.
pub(crate) fn model() -> PathBuf {
    testdata("beto")
}

/// A model of the engine's test data.
pub(crate) fn testdata(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/testdata").join(name);
    path.canonicalize().unwrap_or_else(|error| panic!("no model `{}`: {error}", path.display()))
}

/// Waits until `ready` returns something. Looks often, and gives up with a message after a long while.
pub(crate) fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "{what} did not happen in {} s", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Files below a folder whose path satisfies `wanted`; a folder that is not there has none.
pub(crate) fn files_below(folder: &Path, wanted: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // The program may be moving or removing files at this very moment.
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if wanted(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
