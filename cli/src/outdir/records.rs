//! The records of a run in its output directory: its job, its status, its speed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use dataset::vectors::{AtomicFile, place, write_atomically, write_new};
use dataset::{ErrorKind, HubPin, PlannedSource, RowCounts};
use proto::JobId;
use proto::job::{JobSpec, JobState, ShardCounts};
use serde::{Deserialize, Serialize};

use super::directory::OutDir;
use crate::exit::Advice;
use crate::summary::RunSummary;

/// The file in a folder of state that says the URL of the output.
const URL_NAME: &str = "url";
/// Version of `job.json`.
const RECORD_FORMAT: u32 = 1;

/// The job of a directory: written before the job is submitted, never changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct JobRecord {
    /// Version of this file's format.
    pub(crate) format: u32,
    /// The job.
    pub(crate) job: JobId,
    /// What it does.
    pub(crate) spec: JobSpec,
    /// The sources as they were when the job was made.
    pub(crate) sources: Vec<PlannedSource>,
    /// The commits of the Hub's data sets whose names in the command have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) pins: Vec<HubPin>,
}

impl JobRecord {
    /// Makes the record of a new job.
    pub(crate) fn new(spec: JobSpec, sources: Vec<PlannedSource>, pins: Vec<HubPin>) -> Self {
        Self { format: RECORD_FORMAT, job: JobId::generate(), spec, sources, pins }
    }
}

/// The status that a running process writes about every second.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// The state of the job.
    pub(crate) state: JobState,
    /// Why it failed.
    pub(crate) reason: Option<String>,
    /// Shards by state.
    pub(crate) shards: ShardCounts,
    /// Rows planned so far.
    pub(crate) rows_planned: u64,
    /// Sums over committed shards.
    pub(crate) counts: RowCounts,
    /// Rows embedded in shards that are not committed yet.
    #[serde(default)]
    pub(crate) rows_in_flight: u64,
    /// How long it will still take; `None` where that is not known.
    #[serde(default)]
    pub(crate) seconds_left: Option<u64>,
}

/// How fast a run was, all in all.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct Speed {
    /// Rows embedded, reused or rejected per second.
    pub(crate) rows_per_second: f64,
    /// Their tokens per second.
    pub(crate) tokens_per_second: f64,
}

impl OutDir {
    /// Returns the record of the job of this directory, if it has one. At a URL it is the one there, whatever machine began
    /// the job; the state here is of no use without it.
    pub(crate) fn record(&self) -> anyhow::Result<Option<JobRecord>> {
        let path = self.remote_record_path().unwrap_or_else(|| self.record_path());
        let Some(bytes) = place::read_small(&path)? else { return Ok(None) };
        let damaged = || {
            Advice::failed(format!("`{}` is damaged, or of a newer encaje", path.display()))
                .hint(format!("to start over: {}", self.how_to_start_over()))
        };
        let record: JobRecord = serde_json::from_slice(&bytes).with_context(damaged)?;
        if record.format != RECORD_FORMAT {
            return Err(damaged().into());
        }
        Ok(Some(record))
    }

    /// Forgets the state here of another job than the one at the URL, and notes whose state it is from now on.
    pub(crate) fn adopt_state(&self, record: &JobRecord) -> anyhow::Result<()> {
        if !self.is_remote() {
            return Ok(());
        }
        let path = self.record_path();
        let found = place::read_small(&path)?.and_then(|bytes| serde_json::from_slice::<JobRecord>(&bytes).ok());
        if found.is_some_and(|found| found.job == record.job) {
            return Ok(());
        }
        self.reset_state()?;
        write_atomically(&path, &serde_json::to_vec_pretty(record)?)?;
        write_atomically(&self.state_dir().join(URL_NAME), self.root.as_os_str().as_encoded_bytes())?;
        Ok(())
    }

    /// Returns the URL of the output whose state is in a folder, if it is one of those.
    pub(super) fn url_of_state(folder: &Path) -> Option<PathBuf> {
        fs::read_to_string(folder.join(URL_NAME)).ok().map(PathBuf::from)
    }

    /// Writes the record of the job, atomically: at a URL only where there is none.
    pub(crate) fn write_record(&self, record: &JobRecord) -> anyhow::Result<()> {
        let bytes = serde_json::to_vec_pretty(record)?;
        match self.remote_record_path() {
            Some(path) => match write_new(&path, &bytes) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    let what = format!("another process has just begun a job in `{}`", self.root.display());
                    return Err(Advice::failed(what).hint("run again to see which").into());
                }
                written => written?,
            },
            None => write_atomically(&self.record_path(), &bytes)?,
        }
        Ok(())
    }

    /// Returns the last status that a process working here wrote.
    pub(crate) fn snapshot(&self) -> anyhow::Result<Option<Snapshot>> {
        let path = self.snapshot_path();
        match fs::read(&path) {
            // A snapshot that does not parse says nothing, which is no reason to fail: it is only for showing.
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        }
    }

    /// Writes the status of the job for other processes to show. Nothing depends on it, so it is not synced.
    pub(crate) fn write_snapshot(&self, snapshot: &Snapshot) -> anyhow::Result<()> {
        let file = AtomicFile::create(&self.snapshot_path(), true)?;
        let cannot = || format!("cannot write `{}`", self.snapshot_path().display());
        fs::write(file.path(), serde_json::to_vec(snapshot)?).with_context(cannot)?;
        Ok(file.persist_unsynced()?)
    }

    /// Writes the speed of the run that made the output. It is not part of the manifest, which is deterministic.
    pub(crate) fn write_speed(&self, summary: &RunSummary) -> anyhow::Result<()> {
        write_atomically(&self.speed_path(), &serde_json::to_vec_pretty(summary)?)?;
        Ok(())
    }

    /// Returns the speed of the run that made the output, if it is known.
    pub(crate) fn speed(&self) -> Option<Speed> {
        let speed: Speed = serde_json::from_slice(&fs::read(self.speed_path()).ok()?).ok()?;
        (speed.rows_per_second > 0.0).then_some(speed)
    }

    fn speed_path(&self) -> PathBuf {
        self.state_dir().join("run.json")
    }

    fn snapshot_path(&self) -> PathBuf {
        self.state_dir().join("status.json")
    }
}
