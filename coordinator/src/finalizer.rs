//! The finalizer: a job whose shards are all committed gets its manifest and has succeeded. The manifest's bytes follow
//! from the database alone, so that a crash at any point is repaired by doing it all again.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use dataset::vectors::{self, layout};
use dataset::{DatasetError, ErrorKind, FileInfo, Manifest, ManifestFile, ManifestSource, PlannedSource, VectorDtype};
use proto::JobId;
use proto::job::{ComputeDtype, JobSpec, OutputDtype, Pooling};
use proto::planted::{self, Bug};
use tracing::{error, info, warn};

use crate::context::{Context, clean, full_message};
use crate::judge::{Moment, verdict};
use crate::store::{StoreError, Winner};

/// Winners read from the database at once.
const PAGE: u32 = 1_000;
/// Attempts at writing one manifest before the job fails of I/O.
const ATTEMPTS_MAX: u32 = 10;
/// Most bytes of a reason that a job is given.
const REASON_BYTES_MAX: usize = 8 * 1024;

/// Why a job was not finalized.
#[derive(Debug, thiserror::Error)]
enum FinalizeError {
    #[error("cannot write the manifest")]
    Dataset(#[from] DatasetError),
    #[error("the store failed")]
    Store(#[from] StoreError),
    #[error("another manifest is already there: `{key}`; move it away and retry the job")]
    OtherManifest { key: String },
}

/// Finalizes jobs until shutdown.
pub(crate) async fn run(context: Arc<Context>) {
    let mut failures: HashMap<JobId, u32> = HashMap::new();
    loop {
        match context.store.jobs_to_finalize().await {
            Ok(_) if !context.leads().await => {}
            Ok(jobs) => {
                failures.retain(|job, _| jobs.contains(job));
                for job in jobs {
                    settle(&context, job, &mut failures).await;
                }
            }
            Err(error) => error!(error = full_message(&error), "cannot look for jobs to finalize"),
        }
        if !context.pause(context.config.finalize_gap).await
            || !context.wait(&context.notices.finalize, context.config.poll).await
        {
            return;
        }
    }
}

/// Finalizes one job; counts failures that may pass, and fails the job of those that will not.
async fn settle(context: &Context, job: JobId, failures: &mut HashMap<JobId, u32>) {
    let error = match finalize(context, job).await {
        Ok(()) => {
            failures.remove(&job);
            return;
        }
        Err(error) => error,
    };
    let message = full_message(&error);
    let passes = match &error {
        // A store out of reach is no fault of the job: it is tried again for as long as it takes.
        FinalizeError::Store(_) => true,
        FinalizeError::Dataset(error)
            if matches!(error.kind(), ErrorKind::Io | ErrorKind::NoSpace | ErrorKind::Throttled | ErrorKind::Auth) =>
        {
            let count = failures.entry(job).or_default();
            *count += 1;
            *count < ATTEMPTS_MAX
        }
        FinalizeError::Dataset(_) | FinalizeError::OtherManifest { .. } => false,
    };
    warn!(job.id = %job, error = message, passes, "job not finalized");
    if !passes && let Err(error) = context.store.fail_job(job, &clean(&message, REASON_BYTES_MAX)).await {
        error!(job.id = %job, error = full_message(&error), "cannot fail the job");
    }
}

async fn finalize(context: &Context, job: JobId) -> Result<(), FinalizeError> {
    let Some(status) = context.store.job(job).await? else { return Ok(()) };
    if let Some(reason) = verdict(&status.spec, &status.counts, Moment::AtTheEnd) {
        warn!(job.id = %job, reason, "job failed of its rejected rows");
        context.store.fail_job(job, &reason).await?;
        return Ok(());
    }
    if !context.store.begin_finalize(job).await? {
        return Ok(());
    }
    // Only now: a repair in between has begun another generation, and taken the job out of finalizing.
    let Some(status) = context.store.job(job).await? else { return Ok(()) };
    let manifest = manifest_of(context, job, &status.spec).await?;
    let generation = u32::try_from(status.generation).unwrap_or(u32::MAX);
    let key = layout::manifest_key(&job.to_string(), generation);
    if planted::is(Bug::SucceedBeforeManifest) {
        context.store.finish_job(job, status.generation, &key, &manifest.digest()).await?;
    }
    match put_manifest(context, &key, &manifest).await {
        Err(_) if planted::is(Bug::ManifestErrorIgnored) => {}
        put => put?,
    }
    if context.store.finish_job(job, status.generation, &key, &manifest.digest()).await? {
        info!(job.id = %job, rows = manifest.totals.rows, files = manifest.files.len(), "job succeeded");
    }
    Ok(())
}

/// Builds the manifest of a job from its winners.
async fn manifest_of(context: &Context, job: JobId, spec: &JobSpec) -> Result<Manifest, FinalizeError> {
    let planned = context.store.sources(job).await?;
    let mut sources: Vec<ManifestSource> = planned.iter().map(empty_source).collect();
    let mut files: Vec<ManifestFile> = Vec::new();
    let mut after = None;
    loop {
        let page = context.store.winners(job, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.index);
        for winner in page {
            if let Some(source) = sources.get_mut(winner.slice.source_index as usize) {
                source.rows += winner.slice.rows;
            }
            files.push(file_of(winner));
        }
    }
    let info = match files.first() {
        // What the model's own settings came to stands in the files that the workers wrote, the same in each.
        Some(file) => vectors::read_info(&context.storage, &file.name).await?,
        None => info_without_files(job, spec),
    };
    Ok(Manifest::new(info, sources, files)?)
}

/// Writes the manifest, or finds it written: by an attempt that crashed, or by another coordinator.
async fn put_manifest(context: &Context, key: &str, manifest: &Manifest) -> Result<(), FinalizeError> {
    let mut bytes = manifest.to_bytes();
    if planted::is(Bug::ManifestWithTime) {
        bytes.extend(context.config.clock.now_ms().to_string().bytes());
    }
    let bytes = Bytes::from(bytes);
    match context.storage.put_new(key, bytes.clone()).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let found = match context.storage.get(key).await {
                // Some stores say so of a write that ran into another one: it is tried again.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(DatasetError::Io { object: key.to_owned(), source: Box::new(error) }.into());
                }
                found => found?,
            };
            if found == bytes { Ok(()) } else { Err(FinalizeError::OtherManifest { key: key.to_owned() }) }
        }
        Err(error) => Err(error.into()),
    }
}

fn empty_source(planned: &PlannedSource) -> ManifestSource {
    ManifestSource {
        uri: planned.source.uri.clone(),
        size: planned.fingerprint.size,
        etag: planned.fingerprint.etag.clone(),
        rows: 0,
    }
}

fn file_of(winner: Winner) -> ManifestFile {
    let Winner { index: _, slice, output } = winner;
    ManifestFile {
        name: output.key,
        first_row: slice.first_row,
        rows: output.counts.rows,
        bytes: output.bytes,
        blake3: output.blake3,
        rejects: output.counts.rejects,
        truncated: output.counts.truncated,
        tokens: output.counts.tokens,
    }
}

/// A corpus without records has no output files: what the job asked for is all that is known; 0 and `auto` stand for
/// what only the model knows.
fn info_without_files(job: JobId, spec: &JobSpec) -> FileInfo {
    let pooling = match spec.embed.pooling {
        None => "auto",
        Some(Pooling::Cls) => "cls",
        Some(Pooling::Mean) => "mean",
        Some(Pooling::Max) => "max",
        Some(Pooling::Last) => "last",
    };
    let dtype = match spec.embed.dtype {
        ComputeDtype::F32 => "f32",
        ComputeDtype::F16 => "f16",
        ComputeDtype::Bf16 => "bf16",
        ComputeDtype::Int8 => "int8",
    };
    let output_dtype = match spec.embed.output_dtype {
        OutputDtype::F32 => VectorDtype::F32,
        OutputDtype::F16 => VectorDtype::F16,
    };
    FileInfo {
        model: spec.model.name.clone(),
        revision: spec.model.revision.clone(),
        model_digest: spec.model.digest.clone(),
        pooling: pooling.to_owned(),
        normalized: spec.embed.normalize,
        max_length: spec.embed.max_length.unwrap_or(0),
        dtype: dtype.to_owned(),
        output_dtype,
        prefix: spec.embed.prefix.clone(),
        dimensions: spec.embed.dimensions.unwrap_or(0),
        job_id: job.to_string(),
        spec_digest: proto::spec_digest(spec),
    }
}
