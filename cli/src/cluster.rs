//! A cluster as a client sees it: connecting, following a job, and how a job is told to people and scripts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use dataset::RejectReason;
use proto::job::{JobBrief, JobState, JobStatus, ShardCounts};
use proto::{Connection, JobId, JobsClient, RpcError, RpcErrorKind};
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::args::ClusterArgs;
use crate::exit::{Advice, Exit};
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
    security::connect(&urls, &args.identity)
}

/// A client's view of a cluster.
pub(crate) struct Cluster {
    /// What it can be asked.
    pub(crate) jobs: JobsClient,
    /// The way there, for what is relayed.
    pub(crate) connection: Connection,
    urls: String,
}

impl Cluster {
    /// Connects to the coordinators that the arguments name. Call it within a runtime.
    pub(crate) fn open(args: &ClusterArgs) -> anyhow::Result<Self> {
        let connection = connect(args)?;
        Ok(Self { jobs: JobsClient::new(connection.clone()), connection, urls: args.coordinator.join(", ") })
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
        let mut stuck = false;
        let status = self
            .follow(ui, job, |status| {
                let obstacle = obstacle(status);
                if let (Some(obstacle), false) = (&obstacle, stuck) {
                    ui.warn(obstacle);
                }
                stuck = obstacle.is_some();
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

/// Says what a finished job is missing, and returns the exit code that it deserves.
pub(crate) fn exit_of(ui: &Ui, status: &JobStatus) -> Exit {
    let missing = missing(status);
    missing.iter().for_each(|missing| ui.warn(missing));
    if missing.is_some() { Exit::Incomplete } else { Exit::Done }
}

/// Says what a finished job is missing, and how to get it, if it is missing anything.
pub(crate) fn missing(status: &JobStatus) -> Option<String> {
    let (rows, shards) = (ui::counted(status.rows_missing(), "row"), ui::counted(status.shards.dead, "shard"));
    let verb = if status.rows_missing() == 1 { "is" } else { "are" };
    (status.rows_missing() > 0).then(|| {
        let job = status.id;
        format!("{rows} {verb} missing: {shards} out of attempts; to try again: encaje retry {job}")
    })
}

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
    /// For how long no worker has been alive though there is work; 0 while that is no reason to worry.
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

    /// Says how many rows are done.
    pub(crate) fn rows_text(&self) -> String {
        match self.rows {
            Some(rows) => format!("{} of {}", ui::thousands(self.rows_done), ui::counted(rows, "row")),
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
        if self.rows_missing > 0 {
            return format!("{name}, {} missing", ui::counted(self.rows_missing, "row"));
        }
        if self.state.is_terminal() {
            return name.to_owned();
        }
        let paused = if self.paused { ", paused" } else { "" };
        let starved = if self.starved_ms > 0 { ", STARVED" } else { "" };
        format!("{name}{paused}{starved}")
    }
}

/// What keeps a job from going on, in words, if anything does.
pub(crate) fn obstacle(status: &JobStatus) -> Option<String> {
    if status.state.is_terminal() {
        return None;
    }
    if let Some(reason) = &status.pause_reason {
        return Some(format!("the coordinator paused the job: {reason}; to go on: encaje resume {}", status.id));
    }
    let starved = ui::duration(Duration::from_millis(status.starved_ms));
    match (status.starved_ms, outdated(status)) {
        (0, _) => None,
        (_, None) => Some(format!("STARVED: no worker for {starved}; start one with `encaje worker`")),
        (_, Some(unknown)) => Some(format!("STARVED for {starved}: {unknown}")),
    }
}

/// Says what the workers of the cluster do not know, where none of them knows all that a job asks for.
pub(crate) fn outdated(status: &JobStatus) -> Option<String> {
    let others = status.workers.saturating_sub(status.workers_quarantined);
    if status.workers_outdated == 0 || status.workers_outdated < others {
        return None;
    }
    let asked: Vec<&str> = proto::revision::needs(&status.spec).iter().map(|need| need.what).collect();
    Some(format!("no worker knows {}; upgrade the workers", asked.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataset::ReadOptions;
    use proto::job::{
        ComputeDtype, EmbedSpec, JobSpec, MaxRejects, ModelSpec, OnBadRow, OutputDtype, RowCounts, ShardLimits,
    };

    fn running() -> JobStatus {
        let spec = JobSpec {
            sources: vec![],
            read: ReadOptions::default(),
            model: ModelSpec { name: "owner/name".into(), revision: None, digest: "d".into() },
            embed: EmbedSpec {
                pooling: None,
                normalize: true,
                max_length: None,
                prefix: String::new(),
                dtype: ComputeDtype::F32,
                output_dtype: OutputDtype::F32,
                dimensions: None,
                batch_tokens: None,
                prompt: None,
                similarity: None,
            },
            limits: ShardLimits { rows_max: 1, bytes_max: 1 },
            on_bad_row: OnBadRow::Reject,
            max_rejects: MaxRejects::Unlimited,
            allow_partial: false,
        };
        let brief = JobBrief {
            id: JobId::generate(),
            model: spec.model.name.clone(),
            sources: 0,
            state: JobState::Running,
            paused: false,
            reason: None,
            shards: ShardCounts::default(),
            rows_planned: 10,
            counts: RowCounts::default(),
            rows_in_flight: 0,
            tokens_in_flight: 0,
            workers: 0,
            manifest_key: None,
            age_ms: 0,
            pause_reason: None,
            starved_ms: 0,
            copies: 0,
            workers_quarantined: 0,
            workers_outdated: 0,
            generation: 1,
            owner: None,
        };
        JobStatus { spec, brief }
    }

    /// A running job, but for a change.
    fn changed(change: impl FnOnce(&mut JobBrief)) -> JobStatus {
        let mut status = running();
        change(&mut status.brief);
        status
    }

    #[test]
    fn what_keeps_a_job_from_going_on_is_said() {
        let well = running();
        assert_eq!((obstacle(&well), JobReport::of(&well).state_text()), (None, "running".to_owned()));
        let starved = changed(|job| job.starved_ms = 720_000);
        assert_eq!(JobReport::of(&starved).state_text(), "running, STARVED");
        assert!(obstacle(&starved).unwrap().contains("no worker for 12 min"));
        let mut outdated = starved;
        (outdated.brief.workers, outdated.brief.workers_quarantined, outdated.brief.workers_outdated) = (3, 1, 2);
        outdated.spec.read.delimiter = Some(';');
        let worry = obstacle(&outdated).unwrap();
        assert!(worry.contains("no worker knows --delimiter; upgrade the workers"), "{worry}");
        outdated.brief.workers = 4;
        assert_eq!(super::outdated(&outdated), None, "one does");
        let paused = changed(|job| (job.paused, job.pause_reason) = (true, Some("too many failures".into())));
        assert_eq!(JobReport::of(&paused).state_text(), "running, paused");
        assert!(obstacle(&paused).unwrap().contains("too many failures"));
        let shards = ShardCounts { committed: 3, dead: 1, ..ShardCounts::default() };
        let counts = RowCounts { rows: 8, ..RowCounts::default() };
        let holes = changed(|job| (job.state, job.shards, job.counts) = (JobState::Succeeded, shards, counts));
        assert_eq!(JobReport::of(&holes).state_text(), "succeeded, 2 rows missing");
        assert!(missing(&holes).unwrap().starts_with("2 rows are missing: 1 shard out of attempts"));
        let mut failed = holes;
        failed.brief.state = JobState::Failed;
        assert_eq!(missing(&failed), None);
        let ended = changed(|job| (job.state, job.starved_ms) = (JobState::Failed, 1));
        assert_eq!((obstacle(&ended), JobReport::of(&ended).state_text()), (None, "failed".to_owned()));
    }
}
