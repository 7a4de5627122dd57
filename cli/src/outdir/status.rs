//! The status of an output, from its files: for `status` and `list`.

use std::fmt;
use std::path::{Path, PathBuf};

use dataset::RowCounts;
use dataset::vectors::{Outline, layout, place};
use proto::job::{JobState, ShardCounts};
use serde::Serialize;

use super::directory::{OutDir, Target, is_work_dir};
use super::records::{JobRecord, Snapshot};
use crate::ui;

/// What an output is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OutState {
    /// A process works on it.
    Running,
    /// No process works on it, and it is not done: run again to resume.
    Interrupted,
    /// It is not done, and begun on another machine, which may be working on it.
    Elsewhere,
    /// The job failed.
    Failed,
    /// All is there.
    Done,
}

impl fmt::Display for OutState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            OutState::Running => "running",
            OutState::Interrupted => "interrupted",
            OutState::Elsewhere => "elsewhere",
            OutState::Failed => "failed",
            OutState::Done => "done",
        })
    }
}

/// The status of an output.
#[derive(Debug, Serialize)]
pub(crate) struct OutStatus {
    /// The directory or file.
    pub(crate) out: String,
    /// Its state.
    pub(crate) state: OutState,
    /// Why it failed.
    pub(crate) reason: Option<String>,
    /// The model.
    pub(crate) model: String,
    /// Rows of the corpus; `null` while they are being counted.
    pub(crate) rows: Option<u64>,
    /// Rows that are done, with or without a vector.
    pub(crate) rows_done: u64,
    /// Rows that are embedded in shards not committed yet: an interruption now would lose them.
    pub(crate) rows_in_flight: u64,
    /// How long it will still take; `null` where that is not known.
    pub(crate) seconds_left: Option<u64>,
    /// Rows whose vector was taken from an earlier output.
    pub(crate) reused: u64,
    /// Rows that got a reason instead of a vector.
    pub(crate) rejected: u64,
    /// Rows of a finished output that are in none of its files.
    pub(crate) missing: u64,
    /// Rows whose text was cut to the maximum length.
    pub(crate) truncated: u64,
    /// Tokens of rows with a vector.
    pub(crate) tokens: u64,
    /// Shards by state; `null` when done.
    pub(crate) shards: Option<ShardCounts>,
    /// The job.
    pub(crate) job: String,
}

impl OutStatus {
    /// Reads the status of an output; `None` where there is none.
    pub(crate) fn of(path: &Path) -> anyhow::Result<Option<Self>> {
        if let Some(url) = OutDir::url_of_state(path) {
            return Self::of(&url);
        }
        let target = Target::of(path);
        let out = target.work_dir();
        if let (Target::File(file), false) = (&target, out.is_ours()) {
            let is_there = place::size_of(file)?.is_some();
            let outline = if is_there { Outline::read(file).ok() } else { None };
            return Ok(outline.map(|outline| {
                let (info, missing) = (&outline.info, outline.missing());
                Self::done(path, &info.model, &info.job_id, &outline.totals.totals, missing)
            }));
        }
        match (&target, out.manifest()?) {
            (Target::Dir(_), Some(manifest)) => {
                let (model, job, missing) = (&manifest.info.model, &manifest.job_id, manifest.missing());
                Ok(Some(Self::done(path, model, job, &manifest.totals, missing)))
            }
            (Target::Dir(_) | Target::File(_), _) => Self::unfinished(path, &out),
        }
    }

    fn done(path: &Path, model: &str, job: &str, totals: &RowCounts, missing: u64) -> Self {
        Self {
            out: path.display().to_string(),
            state: OutState::Done,
            reason: None,
            model: model.to_owned(),
            rows: Some(totals.rows.saturating_add(missing)),
            rows_done: totals.rows,
            rows_in_flight: 0,
            seconds_left: None,
            reused: totals.reused,
            rejected: totals.rejected(),
            missing,
            truncated: totals.truncated,
            tokens: totals.tokens,
            shards: None,
            job: job.to_owned(),
        }
    }

    fn unfinished(path: &Path, out: &OutDir) -> anyhow::Result<Option<Self>> {
        let Some(record) = out.record()? else { return Ok(None) };
        let snapshot = out.snapshot()?;
        let failed = snapshot.as_ref().is_some_and(|snapshot| snapshot.state == JobState::Failed);
        let is_elsewhere = out.is_remote() && snapshot.is_none() && !out.is_busy();
        if is_elsewhere {
            return Self::elsewhere(path, out, &record).map(Some);
        }
        let state = match (out.is_busy(), failed) {
            (true, _) => OutState::Running,
            (false, true) => OutState::Failed,
            (false, false) => OutState::Interrupted,
        };
        let planned = snapshot.as_ref().filter(|snapshot| snapshot.state != JobState::Planning);
        let rows = planned.map(|snapshot| snapshot.rows_planned);
        let running = snapshot.as_ref().filter(|_| state == OutState::Running);
        let (rows_in_flight, seconds_left) =
            running.map_or((0, None), |snapshot| (snapshot.rows_in_flight, snapshot.seconds_left));
        let counts = snapshot.as_ref().map(|snapshot| snapshot.counts.clone()).unwrap_or_default();
        Ok(Some(Self {
            out: path.display().to_string(),
            state,
            reason: snapshot.as_ref().and_then(|snapshot| snapshot.reason.clone()),
            model: record.spec.model.name,
            rows,
            rows_done: counts.rows,
            rows_in_flight,
            seconds_left,
            reused: counts.reused,
            rejected: counts.rejected(),
            missing: 0,
            truncated: counts.truncated,
            tokens: counts.tokens,
            shards: snapshot.map(|snapshot| shards_of(&snapshot, state)),
            job: record.job.to_string(),
        }))
    }

    /// Counts the parts of an unfinished output at a URL, of which nothing is known here.
    fn elsewhere(path: &Path, out: &OutDir, record: &JobRecord) -> anyhow::Result<Self> {
        let mut counts = RowCounts::default();
        let mut shards = ShardCounts::default();
        for entry in place::list(out.root())?.unwrap_or_default() {
            if layout::is_part_name(&entry.name())
                && let Ok(outline) = Outline::read(&entry.path)
            {
                counts.add(&outline.totals.totals);
                shards.committed += 1;
            }
        }
        let done = Self::done(path, &record.spec.model.name, &record.job.to_string(), &counts, 0);
        Ok(Self { state: OutState::Elsewhere, rows: None, shards: Some(shards), ..done })
    }

    /// Formats how many rows are done.
    pub(crate) fn rows_text(&self) -> String {
        match (self.state, self.rows) {
            (OutState::Done, _) if self.missing == 0 => ui::counted(self.rows_done, "row"),
            (_, rows) => ui::rows_so_far(self.rows_done, rows, self.rows_in_flight),
        }
    }
}

/// Shards that a dead process was working on are pending.
fn shards_of(snapshot: &Snapshot, state: OutState) -> ShardCounts {
    let shards = snapshot.shards;
    match state {
        OutState::Running => shards,
        OutState::Interrupted | OutState::Elsewhere | OutState::Failed | OutState::Done => {
            ShardCounts { pending: shards.pending + shards.running, running: 0, ..shards }
        }
    }
}

/// Returns the outputs directly below a directory, sorted by name.
pub(crate) fn outputs_below(parent: &Path) -> anyhow::Result<Vec<OutStatus>> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(parent)? {
        let path = entry?.path();
        // The work directory of `x.parquet` is listed as that file.
        let is_work_of_file =
            is_work_dir(&path) && path.with_extension("").extension().is_some_and(|extension| extension == "parquet");
        paths.push(if is_work_of_file { path.with_extension("") } else { path });
    }
    paths.sort();
    paths.dedup();
    let mut found = Vec::new();
    for path in paths {
        // Damaged or unreadable outputs do not hide the rest.
        if let Ok(Some(status)) = OutStatus::of(&path) {
            found.push(status);
        }
    }
    Ok(found)
}
