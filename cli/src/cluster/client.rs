//! A cluster as a client sees it: connecting to it and following its jobs.

use std::time::{Duration, Instant};

use anyhow::Context;
use proto::job::JobStatus;
use proto::{Connection, JobId, JobsClient, RpcError, RpcErrorKind};
use tokio::runtime::Runtime;

use super::status::{obstacle, reading};
use crate::args::ClusterArgs;
use crate::exit::{Advice, ErrorKind};
use crate::security;
use crate::ui::{Amount, Progress, Ui};

/// How often the status of a followed job is read.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// How long a job is followed while no coordinator answers: they may be restarting.
const UNREACHABLE_MAX: Duration = Duration::from_secs(15 * 60);

/// Builds the runtime of a command that talks to a cluster.
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
    security::connect(&urls, &args.identity)
}

/// A client's view of a cluster.
pub(crate) struct Cluster {
    /// The client of its jobs.
    pub(crate) jobs: JobsClient,
    /// The connection, for relayed storage.
    pub(crate) connection: Connection,
    urls: String,
}

impl Cluster {
    /// Connects to the coordinators that the arguments name. Call it within a runtime.
    pub(crate) fn open(args: &ClusterArgs) -> anyhow::Result<Self> {
        let connection = connect(args)?;
        Ok(Self { jobs: JobsClient::new(connection.clone()), connection, urls: args.coordinator.join(", ") })
    }

    /// Explains a failed call to the user.
    pub(crate) fn explain(&self, error: RpcError) -> anyhow::Error {
        let advice = match error.kind {
            RpcErrorKind::Unavailable | RpcErrorKind::DeadlineExceeded => {
                Advice::failed(format!("no coordinator answers at {}: {}", self.urls, error.message))
                    .hint("start one with `encaje coordinator`, or check --coordinator; repeating the command is safe")
            }
            RpcErrorKind::NotFound => {
                Advice::failed(error.message).hint("see the jobs of the cluster: encaje list --coordinator URL")
            }
            RpcErrorKind::AlreadyExists
            | RpcErrorKind::InvalidArgument
            | RpcErrorKind::FailedPrecondition
            | RpcErrorKind::Unauthenticated
            | RpcErrorKind::PermissionDenied
            | RpcErrorKind::ResourceExhausted => Advice::failed(error.message),
            RpcErrorKind::Unimplemented | RpcErrorKind::Internal | RpcErrorKind::BadAnswer => return error.into(),
        };
        advice.about(ErrorKind::Cluster).into()
    }

    /// Returns the status of a job.
    pub(crate) async fn job(&self, job: JobId) -> anyhow::Result<JobStatus> {
        self.jobs.get(job).await.map_err(|error| self.explain(error))
    }

    /// Follows a job until it has ended, calling `on_status` with every status. Coordinators may come and go meanwhile.
    pub(crate) async fn follow(
        &self,
        ui: &Ui,
        job: JobId,
        mut on_status: impl FnMut(&JobStatus) -> anyhow::Result<()>,
    ) -> anyhow::Result<JobStatus> {
        let mut unreachable_since: Option<Instant> = None;
        loop {
            match self.jobs.get(job).await {
                Ok(status) => {
                    unreachable_since = None;
                    on_status(&status)?;
                    if status.state.is_terminal() {
                        return Ok(status);
                    }
                }
                Err(error) if error.is_retryable() => {
                    if unreachable_since.is_none() {
                        ui.note("no coordinator answers; still trying");
                    }
                    if unreachable_since.get_or_insert_with(Instant::now).elapsed() > UNREACHABLE_MAX {
                        return Err(self.explain(error));
                    }
                }
                Err(error) => return Err(self.explain(error)),
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    /// Follows a job until it has ended, with a display of progress.
    pub(crate) async fn wait(&self, ui: &Ui, job: JobId) -> anyhow::Result<JobStatus> {
        let mut progress: Option<Progress> = None;
        let mut stuck = false;
        let status = self
            .follow(ui, job, |status| {
                let obstacle = obstacle(status);
                if let (Some(obstacle), false) = (&obstacle, stuck) {
                    ui.warn(obstacle);
                }
                stuck = obstacle.is_some();
                let done = Amount { rows: status.counts.rows, tokens: status.counts.tokens };
                progress.get_or_insert_with(|| ui.progress("embedding", done)).show(&reading(status));
                Ok(())
            })
            .await?;
        Ok(status)
    }
}
