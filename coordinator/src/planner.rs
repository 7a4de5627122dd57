//! The planner: cuts the corpora of jobs in state planning and stores their shards page by page, while workers already
//! take the first ones. A page is stored by a compare-and-set on the cursor, so that planning goes on where a crash or
//! another coordinator left it, and no shard is ever stored twice.

use std::collections::HashMap;
use std::sync::Arc;

use common::error_chain;
use dataset::vectors::layout;
use dataset::{CutLimits, DatasetError, ErrorKind, PlannedSource, Slice};
use proto::JobId;
use proto::limits::{self, TooLarge};
use proto::relay;
use tokio::task::{Id, JoinSet};
use tracing::{debug, error, info, warn};

use crate::context::{Context, clean};
use crate::corpora::{Cut, Cutting};
use crate::roots::RootError;
use crate::store::{Planning, StoreError};

/// Most bytes of a reason that a job is given.
const REASON_BYTES_MAX: usize = 8 * 1024;

/// Why an attempt at planning ended early.
#[derive(Debug, thiserror::Error)]
enum PlanError {
    #[error("cannot plan the job")]
    Dataset(#[from] DatasetError),
    #[error("cannot store what was planned")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Root(RootError),
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    #[error("the corpus has more than {most} shards: give a larger --shard-rows, or cut it into several jobs")]
    TooManyShards { most: u64 },
}

impl From<RootError> for PlanError {
    fn from(error: RootError) -> Self {
        match error {
            // It lies in our own storage, and may come back.
            RootError::UploadMissing { uri, source } => {
                PlanError::Dataset(DatasetError::Io { object: uri, source: Box::new(source) })
            }
            RootError::SourceMissing { uri } => PlanError::Dataset(DatasetError::NotFound { object: uri }),
            RootError::NotAllowed { .. } | RootError::Bad(_) | RootError::BadRoot { .. } => PlanError::Root(error),
        }
    }
}

/// How an attempt at planning ended.
enum Planned {
    /// All shards are stored.
    Done { rows: u64 },
    /// Somebody else goes on, the job has ended, or the coordinator shuts down.
    Left,
}

/// Plans jobs until shutdown, several at a time.
pub(crate) async fn run(context: Arc<Context>) {
    let mut tasks: JoinSet<()> = JoinSet::new();
    let mut jobs: HashMap<Id, JobId> = HashMap::new();
    loop {
        start_plans(&context, &mut tasks, &mut jobs).await;
        tokio::select! {
            biased;
            () = context.shutdown.cancelled() => break,
            Some(ended) = tasks.join_next_with_id() => {
                let (id, panicked) = match ended {
                    Ok((id, ())) => (id, false),
                    Err(error) => (error.id(), error.is_panic()),
                };
                if let Some(job) = jobs.remove(&id).filter(|_| panicked) {
                    fail(&context, job, "planning crashed on this corpus: this is a bug, please report it").await;
                }
            }
            _ = context.wait(&context.notices.plan, context.config.poll) => {}
        }
    }
    // Each task looks at the same shutdown between two slices.
    while tasks.join_next().await.is_some() {}
}

async fn start_plans(context: &Arc<Context>, tasks: &mut JoinSet<()>, jobs: &mut HashMap<Id, JobId>) {
    if tasks.len() >= context.config.plans_max || !context.leads().await {
        return;
    }
    let waiting = match context.store.jobs_to_plan().await {
        Ok(waiting) => waiting,
        Err(error) => {
            error!(error = error_chain(&error), "cannot look for jobs to plan");
            return;
        }
    };
    for job in waiting {
        if tasks.len() >= context.config.plans_max {
            break;
        }
        if jobs.values().any(|running| *running == job) {
            continue;
        }
        // Read one by one: what is known of a job may be large.
        if let Some(planning) = find(context, job).await {
            let task = tasks.spawn(plan_job(Arc::clone(context), planning));
            jobs.insert(task.id(), job);
        }
    }
}

/// Plans one job, with as many attempts as it needs while it makes progress.
async fn plan_job(context: Arc<Context>, planning: Planning) {
    let job = planning.job;
    let mut planning = planning;
    let mut failures = 0;
    loop {
        let began_at = planning.cursor.clone();
        let error = match plan(&context, planning).await {
            Ok(Planned::Done { rows }) => {
                info!(job.id = %job, rows, "job planned");
                context.notices.finalize.notify_one();
                return;
            }
            Ok(Planned::Left) => return,
            Err(PlanError::Dataset(error)) => error,
            Err(error @ (PlanError::Root(_) | PlanError::TooLarge(_) | PlanError::TooManyShards { .. })) => {
                return fail(&context, job, &error_chain(&error)).await;
            }
            Err(PlanError::Store(error)) => {
                // The store is out of reach or somebody has to look: the job stays as it is and is tried again.
                warn!(job.id = %job, error = error_chain(&error), "planning interrupted");
                context.pause(context.config.plan_pause).await;
                return;
            }
        };
        let error = swapped(&context, error).await;
        match error.kind() {
            // An operator has to mount it again: waited for as long as it takes.
            ErrorKind::StorageSwapped => {
                warn!(job.id = %job, error = error_chain(&error), "planning waits for the storage");
                context.pause(context.config.plan_pause).await;
                return;
            }
            // Credentials may be renewed while we wait; where they are not, the job says so in the end.
            ErrorKind::Io | ErrorKind::NoSpace | ErrorKind::Throttled | ErrorKind::Auth => {}
            ErrorKind::NotFound | ErrorKind::SourceChanged if is_missing_upload(&error) => {}
            ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::SourceChanged
            | ErrorKind::BadInput
            | ErrorKind::Unsupported
            | ErrorKind::Corrupt => return fail(&context, job, &error_chain(&error)).await,
        }
        let Some(found) = find(&context, job).await else { return };
        failures = if found.cursor == began_at { failures + 1 } else { 1 };
        warn!(job.id = %job, error = error_chain(&error), failures, "planning failed");
        if failures >= context.config.plan_attempts_max {
            return fail(&context, job, &error_chain(&error)).await;
        }
        if !context.pause(context.config.plan_pause * failures).await {
            return;
        }
        planning = found;
    }
}

/// One attempt: from the stored cursor to the end of the corpus.
async fn plan(context: &Context, planning: Planning) -> Result<Planned, PlanError> {
    let Planning { job, spec, sources, cursor } = planning;
    context.storage.confirm().await?;
    let Some(sources) = sources_of(context, job, &spec, sources).await? else { return Ok(Planned::Left) };
    let limits = CutLimits { rows_max: spec.limits.rows_max, bytes_max: spec.limits.bytes_max };
    let recut_prefix = layout::recut_prefix(&job.to_string());
    let storage = context.storage.clone();
    let cutting = Cutting { sources, read: spec.read, limits, storage, recut_prefix, cursor: cursor.clone() };
    let mut cutter = context.config.corpora.cut(cutting).await?;

    let shards = context.store.brief(job).await?.map_or_else(Default::default, |brief| brief.shards);
    let mut count = shards.pending + shards.running + shards.committed + shards.dead + shards.cancelled + shards.split;
    let mut stored = cursor;
    // The first shards go out one by one, so that workers can begin; later ones in pages of growing size.
    let mut page_size = 1;
    loop {
        let Some(page) = next_page(context, &mut *cutter, page_size).await? else { return Ok(Planned::Left) };
        count += page.len() as u64;
        if count > context.config.shards_max {
            return Err(PlanError::TooManyShards { most: context.config.shards_max });
        }
        let done = page.len() < page_size;
        let next = cutter.cursor();
        // The pieces of a source that is re-cut are in it.
        context.storage.confirm().await?;
        if !context.store.insert_shards(job, &stored, &page, &next, done).await? {
            debug!(job.id = %job, "planning goes on elsewhere, or the job has ended");
            return Ok(Planned::Left);
        }
        if done {
            return Ok(Planned::Done { rows: next.next_row });
        }
        stored = next;
        page_size = (page_size * 2).min(context.config.plan_page.max(1));
    }
}

/// Returns the planned sources, looking at them where that was not done yet; `None` where the job is not ours any more.
async fn sources_of(
    context: &Context,
    job: JobId,
    spec: &proto::job::JobSpec,
    stored: Option<Vec<PlannedSource>>,
) -> Result<Option<Vec<PlannedSource>>, PlanError> {
    if stored.is_some() {
        return Ok(stored);
    }
    // What a path leads to may have changed since the job was submitted; and between a look at it and its opening.
    let places =
        || spec.sources.iter().try_for_each(|source| context.config.roots.check(&source.uri, context.storage.url()));
    places()?;
    let inspected = context.config.corpora.inspect(&spec.sources, &spec.read).await?;
    places()?;
    limits::check_planned(&inspected)?;
    let ours = context.store.set_sources(job, &inspected).await?;
    Ok(ours.then_some(inspected))
}

/// Whether what is missing is an uploaded file, which was there when it was uploaded and may come back.
fn is_missing_upload(error: &DatasetError) -> bool {
    let (DatasetError::NotFound { object: uri } | DatasetError::SourceGone { uri }) = error else { return false };
    relay::is_upload(uri)
}

/// Returns why an attempt at planning failed: what is missing may be missing with all of its storage.
async fn swapped(context: &Context, error: DatasetError) -> DatasetError {
    match context.storage.confirm().await {
        Err(swapped) if swapped.kind() == ErrorKind::StorageSwapped => swapped,
        Ok(()) | Err(_) => error,
    }
}

/// Cuts up to `size` slices; fewer mean the end of the corpus, `None` means shutdown.
async fn next_page(context: &Context, cutter: &mut dyn Cut, size: usize) -> Result<Option<Vec<Slice>>, DatasetError> {
    let mut page = Vec::with_capacity(size);
    while page.len() < size {
        let slice = tokio::select! {
            biased;
            () = context.shutdown.cancelled() => return Ok(None),
            slice = cutter.next() => slice?,
        };
        match slice {
            Some(slice) => page.push(slice),
            None => break,
        }
    }
    Ok(Some(page))
}

/// Reads the job; `None` where it is not being planned any more.
async fn find(context: &Context, job: JobId) -> Option<Planning> {
    match context.store.planning(job).await {
        Ok(planning) => planning,
        Err(error) => {
            error!(job.id = %job, error = error_chain(&error), "cannot read the job");
            None
        }
    }
}

async fn fail(context: &Context, job: JobId, reason: &str) {
    let reason = clean(reason, REASON_BYTES_MAX);
    match context.store.fail_job(job, &reason).await {
        Ok(true) => warn!(job.id = %job, reason, "job failed in planning"),
        Ok(false) => {}
        // It stays in planning, is planned again and fails again.
        Err(error) => error!(job.id = %job, error = error_chain(&error), reason, "cannot fail the job"),
    }
}
