//! A cluster as a client sees it: connecting, following a job, and how a job is told to people and scripts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use dataset::RejectReason;
use proto::job::{JobState, JobStatus, ShardCounts};
use proto::{Connection, JobId, JobsClient, RpcError, RpcErrorKind};
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::args::ClusterArgs;
use crate::exit::Advice;
use crate::security;
use crate::ui::{self, Amount, Progress, Ui};

/// How often a job that is followed is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long following goes on without an answer: coordinators may be started again meanwhile.
const SILENCE_MAX: Duration = Duration::from_secs(15 * 60);

/// Starts the threads of a command that talks to others.
pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")
}

/// Connects to the coordinators that the arguments name. Call it within a runtime.
pub(crate) fn connect(args: &ClusterArgs) -> anyhow::Result<Connection> {
    let urls: Vec<String> = args.coordinator.iter().filter(|url| !url.is_empty()).cloned().collect();
    if urls.is_empty() {
        return Err(Advice::usage("no coordinator is named")
            .hint("give --coordinator URL, or set ENCAJE_COORDINATOR")
            .into());
    }
    let security = security::of_client(&args.identity)?;
    Connection::open(&urls, &security).map_err(|error| Advice::usage(error.to_string()).into())
}

/// A client's view of a cluster.
pub(crate) struct Cluster {
    /// What it can be asked.
    pub(crate) jobs: JobsClient,
    urls: String,
}

impl Cluster {
    /// Connects to the coordinators that the arguments name. Call it within a runtime.
    pub(crate) fn open(args: &ClusterArgs) -> anyhow::Result<Self> {
        Ok(Self { jobs: JobsClient::new(connect(args)?), urls: args.coordinator.join(", ") })
    }

    /// Says what a failed call means to the user.
    pub(crate) fn explain(&self, error: RpcError) -> anyhow::Error {
        match error.kind {
            RpcErrorKind::Unavailable | RpcErrorKind::DeadlineExceeded => {
                Advice::failed(format!("no coordinator answers at {}: {}", self.urls, error.message))
                    .hint("start one with `encaje coordinator`, or check --coordinator; repeating the command is safe")
                    .into()
            }
            RpcErrorKind::NotFound => {
                Advice::failed(error.message).hint("see the jobs of the cluster: encaje list --coordinator URL").into()
            }
            RpcErrorKind::AlreadyExists
            | RpcErrorKind::InvalidArgument
            | RpcErrorKind::FailedPrecondition
            | RpcErrorKind::Unauthenticated
            | RpcErrorKind::PermissionDenied
            | RpcErrorKind::ResourceExhausted => Advice::failed(error.message).into(),
            RpcErrorKind::Unimplemented | RpcErrorKind::Internal | RpcErrorKind::BadAnswer => error.into(),
        }
    }

    /// Returns how a job stands.
    pub(crate) async fn job(&self, job: JobId) -> anyhow::Result<JobStatus> {
        self.jobs.get(job).await.map_err(|error| self.explain(error))
    }

    /// Follows a job until it has ended, calling `look` with every status. Coordinators may come and go meanwhile.
    pub(crate) async fn follow(
        &self,
        ui: &Ui,
        job: JobId,
        mut look: impl FnMut(&JobStatus) -> anyhow::Result<()>,
    ) -> anyhow::Result<JobStatus> {
        let mut silent_since: Option<Instant> = None;
        loop {
            match self.jobs.get(job).await {
                Ok(status) => {
                    silent_since = None;
                    look(&status)?;
                    if status.state.is_terminal() {
                        return Ok(status);
                    }
                }
                Err(error) if error.is_retryable() => {
                    if silent_since.is_none() {
                        ui.note("no coordinator answers; still asking");
                    }
                    if silent_since.get_or_insert_with(Instant::now).elapsed() > SILENCE_MAX {
                        return Err(self.explain(error));
                    }
                }
                Err(error) => return Err(self.explain(error)),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Follows a job until it has ended, with a display of progress.
    pub(crate) async fn wait(&self, ui: &Ui, job: JobId) -> anyhow::Result<JobStatus> {
        let mut progress: Option<Progress> = None;
        let status = self
            .follow(ui, job, |status| {
                let done = Amount { rows: status.counts.rows, tokens: status.counts.tokens };
                show(progress.get_or_insert_with(|| ui.progress("embedding", done)), status);
                Ok(())
            })
            .await?;
        Ok(status)
    }
}

/// Shows how far a job got.
pub(crate) fn show(progress: &mut Progress, status: &JobStatus) {
    let done = Amount {
        rows: status.counts.rows + status.rows_in_flight,
        tokens: status.counts.tokens + status.tokens_in_flight,
    };
    let total = (status.state != JobState::Planning).then_some(status.rows_planned);
    progress.update(done, status.rows_planned, total);
}

/// Says why a job that has ended has no result, if it has none.
pub(crate) fn without_result(status: &JobStatus) -> Option<anyhow::Error> {
    let job = status.id;
    match status.state {
        JobState::Failed => {
            let reason = status.reason.as_deref().unwrap_or("no reason was given");
            let advice = Advice::failed(format!("job {job} failed: {reason}"));
            Some(advice.hint(format!("to try again what failed: encaje retry {job}")).into())
        }
        JobState::Cancelled | JobState::Cancelling => Some(Advice::failed(format!("job {job} was cancelled")).into()),
        JobState::Planning | JobState::Running | JobState::Finalizing | JobState::Succeeded => None,
    }
}

/// A job as `--json` prints it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct JobReport {
    pub(crate) job: JobId,
    pub(crate) state: JobState,
    pub(crate) paused: bool,
    pub(crate) reason: Option<String>,
    pub(crate) model: String,
    pub(crate) sources: usize,
    /// Rows of the corpus; `null` while they are being counted.
    pub(crate) rows: Option<u64>,
    /// Rows of committed shards, with or without a vector.
    pub(crate) rows_done: u64,
    /// Rows done in shards that are being worked on.
    pub(crate) rows_in_flight: u64,
    pub(crate) rejected: BTreeMap<RejectReason, u64>,
    pub(crate) truncated: u64,
    pub(crate) tokens: u64,
    pub(crate) shards: ShardCounts,
    /// Live workers of the cluster.
    pub(crate) workers: u64,
    pub(crate) manifest: Option<String>,
}

impl JobReport {
    /// Describes a job.
    pub(crate) fn of(status: &JobStatus) -> Self {
        Self {
            job: status.id,
            state: status.state,
            paused: status.paused,
            reason: status.reason.clone(),
            model: status.spec.model.name.clone(),
            sources: status.spec.sources.len(),
            rows: (status.state != JobState::Planning).then_some(status.rows_planned),
            rows_done: status.counts.rows,
            rows_in_flight: status.rows_in_flight,
            rejected: status.counts.rejects.clone(),
            truncated: status.counts.truncated,
            tokens: status.counts.tokens,
            shards: status.shards,
            workers: status.workers,
            manifest: status.manifest_key.clone(),
        }
    }

    /// Says how many rows are done.
    pub(crate) fn rows_text(&self) -> String {
        match self.rows {
            Some(rows) => format!("{} of {}", ui::count(self.rows_done), ui::counted(rows, "row")),
            None => format!("{} so far", ui::counted(self.rows_done, "row")),
        }
    }

    /// Says where the job stands in a word or two.
    pub(crate) fn state_text(&self) -> String {
        let name = match self.state {
            JobState::Planning => "planning",
            JobState::Running => "running",
            JobState::Finalizing => "finalizing",
            JobState::Succeeded => "succeeded",
            JobState::Failed => "failed",
            JobState::Cancelling => "cancelling",
            JobState::Cancelled => "cancelled",
        };
        if self.paused && !self.state.is_terminal() { format!("{name}, paused") } else { name.to_owned() }
    }
}
