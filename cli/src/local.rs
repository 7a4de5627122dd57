//! A cluster in one process: coordinator, worker and client connected by in-process channels, over SQLite and the local disk.
//! It is the production path with other arguments, not a second implementation.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coordinator::{ClaimError, Clock, Policy, Roots, Store, SystemClock};
use dataset::{ErrorKind, Storage};
use engine::DeviceSpec;
use proto::JobId;
use proto::client::JobsClient;
use proto::job::{JobSpec, JobState, JobStatus};
use proto::transport;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use worker::{Preload, Sample, Trouble, WorkerConfig, WorkerError};

use crate::cluster;
use crate::exit::Advice;
use crate::notices::PlannerNotices;
use crate::outdir::{self, OutDir, Snapshot, Uploader};
use crate::signals::{exit_on_interrupt, interrupted};
use crate::ui::{Amount, Reading, Ui};

/// How often the job's status is read once the run has lasted for a while.
const STATUS_EVERY: Duration = Duration::from_millis(200);
/// How often it is read at the beginning, and when the end is near.
const STATUS_EVERY_AT_BOTH_ENDS: Duration = Duration::from_millis(20);
/// The status is read after each tenth of the time that a run has lasted.
const STATUS_PARTS: u32 = 10;
/// How many times in a row it may fail.
const STATUS_FAILURES_MAX: u32 = 10;
/// How often it is written down for `encaje status`.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(1);
/// Heartbeats are for progress here: no network lies between.
const HEARTBEAT_MS: i64 = 500;
/// When an idle worker requests shards again: the first shards of a job are planned soon.
const IDLE: Duration = Duration::from_millis(50);
/// How often the disk is probed while no row is committed.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// How long the worker may take to give its shards back: they are as good as given back when the process ends.
const DRAIN_MS_MAX: u64 = 2_000;
/// How long the uploads of finished shards may take after an interruption.
const LAST_UPLOADS_WITHIN: Duration = Duration::from_secs(10);
/// A failure is said once the run has gone on for so long: what ends the run says its own reason.
const TROUBLE_AFTER: Duration = Duration::from_secs(3);
/// How often a failure that is tried again is said.
const TROUBLE_EVERY: Duration = Duration::from_secs(10);
/// How long coordinator and worker may take to end. Their own bounds are shorter.
const END_WITHIN: Duration = Duration::from_secs(20);

/// What to run.
pub(crate) struct LocalJob<'a> {
    /// Where.
    pub(crate) out: &'a OutDir,
    /// The job's identity.
    pub(crate) job: JobId,
    /// What it does.
    pub(crate) spec: &'a JobSpec,
    /// Bytes of the corpus, as its files are.
    pub(crate) bytes: u64,
    /// What computes.
    pub(crate) devices: Vec<DeviceSpec>,
    /// Forward passes at a time, on a CPU.
    pub(crate) threads: usize,
    /// Where models are.
    pub(crate) hub: worker::HubOptions,
}

/// How it ended.
pub(crate) enum Ended {
    /// The job is in a state that it does not leave by itself.
    Settled {
        /// Its last status.
        status: Box<JobStatus>,
        /// What was done before this run.
        before: Amount,
        /// What went wrong last in this run, if anything did.
        trouble: Option<String>,
    },
    /// The user asked to stop; everything is given back.
    Interrupted,
}

/// Runs the job until it settles or the user interrupts. A job that failed before is tried again.
pub(crate) async fn run(ui: &Ui, local: LocalJob<'_>, storage: Storage) -> anyhow::Result<Ended> {
    let policy = Policy { heartbeat_ms: HEARTBEAT_MS, ..Policy::default() };
    let database = outdir::absolute_text(&local.out.database())?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let store = Store::open_with(&database, Arc::clone(&clock), policy).await?;
    let storage = coordinator::claim_storage(&store, storage).await.map_err(|error| unfit_state(local.out, error))?;
    // This process holds the lock on the directory, so all earlier sessions are dead: their leases need not expire first.
    store.close_all_sessions().await?;

    let stop = Stop { coordinator: CancellationToken::new(), worker: CancellationToken::new() };
    let (channel, incoming) = transport::in_process();
    let notices = PlannerNotices::default();
    let config = coordinator::Config {
        clock,
        corpora: Arc::new(notices.corpora()),
        idle: IDLE,
        roots: Roots::anywhere(),
        ..coordinator::Config::default()
    };
    let served = coordinator::run(config, store, storage.clone(), incoming, stop.coordinator.clone());
    let coordinator = tokio::spawn(served);
    let client = JobsClient::new(channel.clone());
    let first = start(&client, &local).await;
    let config = worker_config(&local);
    let (sample, trouble) = (Arc::clone(&config.sample), Arc::clone(&config.trouble));
    let worker = tokio::spawn(worker::run(config, channel, stop.worker.clone()));

    let mut tasks = Tasks { coordinator, worker };
    let mut uploader = Uploader::new(local.out, (&storage, &client), local.job, &trouble);
    let ended = match first {
        Ok(first) => {
            let disk = DiskWatch::new(local.out.state_dir(), storage.clone());
            let watched = watch(ui, &local, &client, first, (&mut tasks, &notices, disk, &sample, &trouble));
            tokio::select! {
                ended = watched => ended,
                never = uploader.run(), if local.out.is_remote() => match never {}
            }
        }
        Err(error) => Err(error),
    };
    if let Ok(Ended::Interrupted) = &ended {
        ui.note("stopping: unfinished shards are given back; press ctrl-C again to stop at once");
    }
    exit_on_interrupt(*ui, "stopped at once; run again to resume");
    if let Err(error) = &ended
        && matches!(error.downcast_ref(), Some(WorkerError::Disk { .. } | WorkerError::StorageSwapped { .. }))
    {
        // Nothing can be written any more, so there is nothing to wait for. Committed shards are durable.
        tasks.abort();
        return ended.map_err(|error| removed(local.out, error));
    }
    let worker_ended = tasks.end_worker(&stop).await;
    if local.out.is_remote() && matches!(ended, Ok(Ended::Interrupted)) {
        // This machine may be taken away: what is done is worth a few seconds.
        match timeout(LAST_UPLOADS_WITHIN, uploader.upload_new()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => ui.warn(format!("finished shards are not uploaded: {error:#}")),
            Err(_) => ui.warn("some finished shards are not uploaded yet"),
        }
    }
    // The last leases are released or committed by now.
    if let Ok(status) = client.get(local.job).await {
        write_snapshot(local.out, &status, None);
    }
    let coordinator_ended = tasks.end_coordinator(&stop).await;
    let ended = ended?;
    worker_ended.and(coordinator_ended)?;
    Ok(ended)
}

/// Says that the files of a run are not those that its database knows. There is no `--storage` to give here.
fn unfit_state(out: &OutDir, error: ClaimError) -> anyhow::Error {
    let what = format!("the state in `{}` does not fit together", out.state_dir().display());
    let advice = |what| Advice::failed(what).hint(format!("to start over: {}", out.how_to_start_over()));
    match error {
        ClaimError::Other { problem, .. } => advice(format!("{what}: {problem}")).into(),
        ClaimError::Foreign { .. } => advice(format!("{what}: its files are of another run")).into(),
        ClaimError::Storage(_) | ClaimError::Store(_) => anyhow::Error::from(error).context(advice(what)),
    }
}

/// Adds what to do where the directory of a run was taken away under it.
fn removed(out: &OutDir, error: anyhow::Error) -> anyhow::Error {
    let Some(WorkerError::StorageSwapped { .. }) = error.downcast_ref() else { return error };
    let root = out.root().display();
    Advice::failed(format!("`{root}` was removed or replaced while the run worked in it"))
        .hint("put it back (or mount it) and run again to resume; without it, running again starts over")
        .into()
}

/// Submits the job; submitting it again changes nothing, and what failed is given another chance.
async fn start(client: &JobsClient, local: &LocalJob<'_>) -> anyhow::Result<JobStatus> {
    let status = client.submit(local.job, local.spec).await?;
    if status.state == JobState::Failed {
        client.retry(local.job).await?;
    } else if status.paused {
        client.resume(local.job).await?;
    } else {
        return Ok(status);
    }
    Ok(client.get(local.job).await?)
}

fn worker_config(local: &LocalJob<'_>) -> WorkerConfig {
    let name = format!("local-{}", std::process::id());
    let preload = Preload { model: local.spec.model.clone(), embed: local.spec.embed.clone() };
    let mut config = WorkerConfig {
        threads: local.threads,
        hub: local.hub.clone(),
        preload: Some(preload),
        own_storage: true,
        parts: local.out.is_remote().then(|| local.out.root().to_owned()),
        drain_ms_max: DRAIN_MS_MAX,
        ..WorkerConfig::new(name, local.out.spool())
    };
    config.use_devices(local.devices.clone());
    config
}

/// Shows progress until the job settles, a task dies, or the user interrupts.
async fn watch(
    ui: &Ui,
    local: &LocalJob<'_>,
    client: &JobsClient,
    first: JobStatus,
    (tasks, notices, mut disk, sample, trouble): (&mut Tasks, &PlannerNotices, DiskWatch, &Sample, &Trouble),
) -> anyhow::Result<Ended> {
    let before = Amount { rows: first.counts.rows, tokens: first.counts.tokens };
    let mut progress = ui.progress("embedding", before);
    let begun = Instant::now();
    let mut pause = Duration::ZERO;
    let mut interrupt = std::pin::pin!(interrupted());
    let mut written: Option<Instant> = None;
    let mut failures = 0;
    // A job that was paused may have dead shards, which resuming it does not try again.
    let mut may_retry = first.shards.dead > 0;
    let mut last_trouble: Option<String> = None;
    // When a failure that is not said yet was seen, and when one was last said.
    let (mut unsaid, mut said): (Option<Instant>, Option<Instant>) = (None, None);
    loop {
        tokio::select! {
            signal = &mut interrupt => {
                signal?;
                return Ok(Ended::Interrupted);
            }
            error = tasks.ended_early() => return Err(error),
            () = sleep(pause) => {}
        }
        let status = match client.get(local.job).await {
            Ok(status) => status,
            // A busy or suspended machine answers late; only repeated failures end the run.
            Err(error) if failures < STATUS_FAILURES_MAX => {
                disk.check(None).await?;
                failures += 1;
                pause = STATUS_EVERY;
                tracing::warn!(%error, failures, "no status");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        failures = 0;
        disk.check(Some(status.counts.rows)).await?;
        pause = match status.shards.pending {
            0 => STATUS_EVERY_AT_BOTH_ENDS,
            _ => (begun.elapsed() / STATUS_PARTS).clamp(STATUS_EVERY_AT_BOTH_ENDS, STATUS_EVERY),
        };
        // A paused job does not resume by itself: only the user can remove the reason.
        let settled = status.state.is_terminal() || status.pause_reason.is_some();
        notices.take().iter().for_each(|notice| progress.warn(notice));
        if let Some(what) = trouble.take() {
            unsaid.get_or_insert_with(Instant::now);
            last_trouble = Some(what);
        }
        if let Some(what) = &last_trouble
            && unsaid.is_some_and(|since| since.elapsed() >= TROUBLE_AFTER)
            && said.is_none_or(|at| at.elapsed() >= TROUBLE_EVERY)
        {
            progress.warn(what);
            (unsaid, said) = (None, Some(Instant::now()));
        }
        progress.show(&reading(local, sample, &status));
        if settled || written.is_none_or(|at| at.elapsed() >= SNAPSHOT_EVERY) {
            write_snapshot(local.out, &status, progress.left());
            written = Some(Instant::now());
        }
        if status.state == JobState::Failed && may_retry {
            may_retry = false;
            client.retry(local.job).await?;
        } else if settled {
            return Ok(Ended::Settled { status: Box::new(status), before, trouble: last_trouble });
        }
    }
}

/// Returns how far the job got, with the tokens expected from those that the worker has counted so far.
fn reading(local: &LocalJob<'_>, sample: &Sample, status: &JobStatus) -> Reading {
    let reading = cluster::reading(status);
    let expected = sample.tokens_of(local.bytes, reading.total);
    Reading { tokens_expected: expected.or(reading.tokens_expected), ..reading }
}

/// Writes the status of the job for `encaje status`.
fn write_snapshot(out: &OutDir, status: &JobStatus, left: Option<Duration>) {
    let snapshot = Snapshot {
        state: status.state,
        reason: status.reason.clone(),
        shards: status.shards,
        rows_planned: status.rows_planned,
        counts: status.counts.clone(),
        rows_in_flight: status.rows_in_flight,
        seconds_left: left.map(|left| left.as_secs()),
    };
    if let Err(error) = out.write_snapshot(&snapshot) {
        tracing::warn!(error = format!("{error:#}"), "`encaje status` will show old numbers");
    }
}

/// How the two tasks are stopped.
struct Stop {
    coordinator: CancellationToken,
    worker: CancellationToken,
}

/// The two tasks.
struct Tasks {
    coordinator: JoinHandle<Result<(), coordinator::CoordinatorError>>,
    worker: JoinHandle<Result<worker::WorkerSummary, worker::WorkerError>>,
}

impl Tasks {
    /// Waits until a task ends without having been stopped, and returns why.
    async fn ended_early(&mut self) -> anyhow::Error {
        tokio::select! {
            ended = &mut self.worker => reason(ended, "the worker"),
            ended = &mut self.coordinator => reason(ended, "the coordinator"),
        }
    }

    /// Ends both at once.
    fn abort(&self) {
        self.worker.abort();
        self.coordinator.abort();
    }

    /// Ends the worker, which gives its leases back.
    async fn end_worker(&mut self, stop: &Stop) -> anyhow::Result<()> {
        stop.worker.cancel();
        bounded(&mut self.worker, "the worker").await
    }

    /// Ends the coordinator.
    async fn end_coordinator(&mut self, stop: &Stop) -> anyhow::Result<()> {
        stop.coordinator.cancel();
        bounded(&mut self.coordinator, "the coordinator").await
    }
}

/// Probes the disk while no row is committed: coordinator and worker wait silently for an unwritable disk or a missing
/// storage.
struct DiskWatch {
    folder: PathBuf,
    storage: Storage,
    rows: u64,
    checked: Instant,
}

impl DiskWatch {
    fn new(folder: PathBuf, storage: Storage) -> Self {
        Self { folder, storage, rows: 0, checked: Instant::now() }
    }

    /// Fails if the disk cannot be written, or is another. `rows` is how many are committed; `None` where that is not known.
    async fn check(&mut self, rows: Option<u64>) -> anyhow::Result<()> {
        if let Some(rows) = rows.filter(|rows| *rows != self.rows) {
            (self.rows, self.checked) = (rows, Instant::now());
        }
        if self.checked.elapsed() < PROBE_EVERY {
            return Ok(());
        }
        match self.storage.confirm().await {
            Err(error) if error.kind() == ErrorKind::StorageSwapped => {
                return Err(WorkerError::StorageSwapped { reason: error.to_string() }.into());
            }
            // The trial write explains any other failure better.
            Ok(()) | Err(_) => {}
        }
        let folder = self.folder.clone();
        let probed = tokio::task::spawn_blocking(move || dataset::probe_folder(&folder)).await?;
        self.checked = Instant::now();
        let path = self.folder.clone();
        probed.map_err(|error| WorkerError::Disk { path, reason: error.to_string() }.into())
    }
}

fn reason<T, E>(ended: Result<Result<T, E>, tokio::task::JoinError>, who: &'static str) -> anyhow::Error
where
    E: std::error::Error + Send + Sync + 'static,
{
    match ended {
        Ok(Ok(_)) => anyhow::anyhow!("{who} ended before the job did"),
        Ok(Err(error)) => anyhow::Error::from(error).context(format!("{who} failed")),
        Err(error) => anyhow::Error::from(error).context(format!("{who} crashed")),
    }
}

/// Waits for a stopped task, for a bounded time: the process exits soon in any case.
async fn bounded<T, E>(task: &mut JoinHandle<Result<T, E>>, who: &'static str) -> anyhow::Result<()>
where
    E: std::error::Error + Send + Sync + 'static,
{
    if task.is_finished() {
        return Ok(());
    }
    match timeout(END_WITHIN, task).await {
        Ok(Ok(Ok(_))) => Ok(()),
        Ok(ended) => Err(reason(ended, who)),
        Err(_) => {
            tracing::warn!(who, "did not end in time");
            Ok(())
        }
    }
}
