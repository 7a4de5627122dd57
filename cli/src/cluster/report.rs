//! Jobs as people and scripts see them.

use std::collections::BTreeMap;

use dataset::RejectReason;
use proto::JobId;
use proto::job::{JobBrief, JobState, ShardCounts};
use serde::Serialize;

use super::client::{Cluster, runtime};
use crate::args::ClusterArgs;
use crate::exit::Exit;
use crate::ui::{self, Ui};

/// Number of jobs that are listed by default: a screen or two, however long the history.
pub(crate) const JOBS_SHOWN: usize = 100;

/// A job as `--json` prints it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct JobReport {
    pub(crate) job: JobId,
    pub(crate) state: JobState,
    pub(crate) paused: bool,
    pub(crate) reason: Option<String>,
    pub(crate) model: String,
    pub(crate) sources: u64,
    /// Rows of the corpus; `null` while they are being counted.
    pub(crate) rows: Option<u64>,
    /// Rows of committed shards, with or without a vector.
    pub(crate) rows_done: u64,
    /// Rows of dead shards that the job succeeded without.
    pub(crate) rows_missing: u64,
    /// Rows done in shards that are being worked on.
    pub(crate) rows_in_flight: u64,
    /// Rows of committed shards whose vector was taken from an earlier output.
    pub(crate) reused: u64,
    pub(crate) rejected: BTreeMap<RejectReason, u64>,
    pub(crate) truncated: u64,
    pub(crate) tokens: u64,
    pub(crate) shards: ShardCounts,
    /// Live workers of the cluster.
    pub(crate) workers: u64,
    /// Live workers that get no shards any more, because they failed at what others could do.
    pub(crate) workers_quarantined: u64,
    /// Live workers that do not know what the job asks for.
    pub(crate) workers_outdated: u64,
    /// Why the coordinator itself paused the job.
    pub(crate) pause_reason: Option<String>,
    /// For how long no worker has been alive though there is work; 0 below a grace period.
    pub(crate) starved_ms: u64,
    /// Second attempts that were begun beside slow ones.
    pub(crate) copies: u64,
    pub(crate) manifest: Option<String>,
    /// Which manifest the job has or will have; every repair or retry of missing rows begins a new one.
    pub(crate) generation: u64,
}

impl JobReport {
    /// Describes a job.
    pub(crate) fn of(status: &JobBrief) -> Self {
        Self {
            job: status.id,
            state: status.state,
            paused: status.paused,
            reason: status.reason.clone(),
            model: status.model.clone(),
            sources: status.sources,
            rows: (status.state != JobState::Planning).then_some(status.rows_planned),
            rows_done: status.counts.rows,
            rows_missing: status.rows_missing(),
            rows_in_flight: status.rows_in_flight,
            reused: status.counts.reused,
            rejected: status.counts.rejects.clone(),
            truncated: status.counts.truncated,
            tokens: status.counts.tokens,
            shards: status.shards,
            workers: status.workers,
            workers_quarantined: status.workers_quarantined,
            workers_outdated: status.workers_outdated,
            pause_reason: status.pause_reason.clone(),
            starved_ms: status.starved_ms,
            copies: status.copies,
            manifest: status.manifest_key.clone(),
            generation: status.generation,
        }
    }

    /// Formats how many rows are done.
    pub(crate) fn rows_text(&self) -> String {
        ui::rows_so_far(self.rows_done, self.rows, self.rows_in_flight)
    }

    /// Formats the state of the job.
    pub(crate) fn state_text(&self) -> String {
        let name = self.state;
        if self.rows_missing > 0 {
            return format!("{name}, {} missing", ui::counted(self.rows_missing, "row"));
        }
        if self.state.is_terminal() {
            return name.to_string();
        }
        let paused = if self.paused { ", paused" } else { "" };
        let starved = if self.starved_ms > 0 { ", STARVED" } else { "" };
        format!("{name}{paused}{starved}")
    }
}

/// Lists the newest jobs of a cluster, newest first, at most `most`.
pub(crate) fn list_jobs(ui: &Ui, args: &ClusterArgs, as_json: bool, most: usize) -> anyhow::Result<Exit> {
    let list = runtime()?.block_on(async {
        let cluster = Cluster::open(args)?;
        cluster.jobs.list(most).await.map_err(|error| cluster.explain(error))
    })?;
    let reports: Vec<JobReport> = list.jobs.iter().map(JobReport::of).collect();
    if list.more {
        ui.note(format!("these are the newest {}; older ones: encaje list --all", ui::counted(most as u64, "job")));
    }
    if as_json {
        ui.json(&reports)?;
        return Ok(Exit::Done);
    }
    if reports.is_empty() {
        ui.note("the cluster has no jobs");
    }
    for report in &reports {
        let (job, state, rows, model) = (report.job, report.state_text(), report.rows_text(), &report.model);
        ui.data(format!("{job}  {state:<18}  {rows}  {model}"))?;
    }
    Ok(Exit::Done)
}
