//! The finalizer: a job whose shards are all committed (or dead, where it may have holes) gets its manifest and has
//! succeeded. The manifest's bytes follow from the database alone, so that a crash at any point is repaired by doing it all
//! again. They go from the database to storage in pieces: a job of a million shards takes no more memory than one of a
//! thousand.

use std::collections::HashMap;
use std::sync::Arc;

use common::error_chain;
use dataset::vectors::{self, layout};
use dataset::{
    DatasetError, ErrorKind, FileInfo, ManifestFile, ManifestReuse, ManifestSeal, ManifestSource, ManifestWriter,
    NewObject, PlannedSource,
};
use proto::JobId;
use proto::job::{JobSpec, JobState, JobStatus};
use tracing::{error, info, warn};

use crate::context::{Context, clean};
use crate::judge::{Moment, verdict};
use crate::store::{StoreError, Winner};

/// The manifest is written in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;
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
            Err(error) => error!(error = error_chain(&error), "cannot look for jobs to finalize"),
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
    let begun = match begin(context, job).await {
        Ok(Some(begun)) => begun,
        Ok(None) => return,
        Err(error) => {
            warn!(job.id = %job, error = error_chain(&error), "job not finalized");
            return;
        }
    };
    let Err(error) = finish(context, job, &begun).await else { return };
    let message = error_chain(&error);
    let passes = match &error {
        // A store out of reach is no fault of the job: it is tried again for as long as it takes.
        FinalizeError::Store(_) => true,
        // Nor is a storage that is not mounted a fault of the job.
        FinalizeError::Dataset(error) if error.kind() == ErrorKind::StorageSwapped => true,
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
    if passes {
        return;
    }
    // A repair that began meanwhile took winners away, and began another generation: what went wrong is of the past then.
    let reason = clean(&message, REASON_BYTES_MAX);
    if let Err(error) = context.store.fail_finalize(job, begun.generation, &reason).await {
        error!(job.id = %job, error = error_chain(&error), "cannot fail the job");
    }
}

/// Brings a job to finalizing. Returns it as it is then; `None` where it must not be finalized (any more).
async fn begin(context: &Context, job: JobId) -> Result<Option<JobStatus>, StoreError> {
    let Some(status) = context.store.known_job(job).await? else { return Ok(None) };
    if let Some(reason) = verdict(&status.spec, &status.counts, Moment::AtTheEnd) {
        warn!(job.id = %job, reason, "job exceeds its reject limit");
        context.store.fail_job(job, &reason).await?;
        return Ok(None);
    }
    if !context.store.begin_finalize(job).await? {
        return Ok(None);
    }
    // Read again: a repair in between has begun another generation, and taken the job out of finalizing.
    let begun = context.store.job(job).await?;
    Ok(begun.filter(|begun| begun.state == JobState::Finalizing))
}

/// Writes the manifest of a finalizing job, after which it has succeeded.
async fn finish(context: &Context, job: JobId, begun: &JobStatus) -> Result<(), FinalizeError> {
    context.storage.confirm().await?;
    let generation = begun.generation;
    let key = layout::manifest_key(&job.to_string(), u32::try_from(generation).unwrap_or(u32::MAX));
    let written = put_manifest(context, job, &begun.spec, &key).await;
    // What is missing may be missing with all of its storage.
    context.storage.confirm().await?;
    let seal = written?;
    if context.store.finish_job(job, generation, &key, &seal.blake3.to_hex()).await? {
        info!(job.id = %job, rows = seal.totals.rows, files = seal.files, missing = seal.missing, "job succeeded");
    }
    Ok(())
}

/// Writes the manifest, or finds it written: by an attempt that crashed, or by another coordinator.
async fn put_manifest(context: &Context, job: JobId, spec: &JobSpec, key: &str) -> Result<ManifestSeal, FinalizeError> {
    let storage = &context.storage;
    let mut object = match storage.create_new(key).await {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => None,
        created => Some(created?),
    };
    let seal = match describe(context, job, spec, &mut object).await {
        Err(error) => {
            if let Some(object) = object {
                object.abort().await;
            }
            return Err(error);
        }
        Ok(seal) => seal,
    };
    if let Some(object) = object {
        match object.finish().await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(seal),
        }
    }
    match storage.has_digest(key, seal.blake3).await {
        Ok(true) => Ok(seal),
        Ok(false) => Err(FinalizeError::OtherManifest { key: key.to_owned() }),
        // Some stores say so of a write that ran into another one: it is tried again.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(DatasetError::Io { object: key.to_owned(), source: Box::new(error) }.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes the manifest of a job from its winners and dead shards, page by page, and writes it to `object` if there is one.
async fn describe(
    context: &Context,
    job: JobId,
    spec: &JobSpec,
    object: &mut Option<NewObject>,
) -> Result<ManifestSeal, FinalizeError> {
    let planned = context.store.sources(job).await?;
    let mut sources: Vec<ManifestSource> = planned.iter().map(empty_source).collect();
    let mut count = |source: u32, rows: u64| {
        if let Some(source) = sources.get_mut(source as usize) {
            source.rows += rows;
        }
    };
    let dead_shards = || context.store.holes_by_row(job, spec.allow_partial);
    let (mut winners, mut holes) = (context.store.winners_by_row(job), dead_shards());
    let mut next = winners.next().await?;
    let info = match &next {
        // The resolved settings of the model are in every file that the workers wrote.
        Some(winner) => vectors::read_info(&context.storage, &winner.output.key, &winner.output.blake3).await?,
        None => FileInfo {
            job_id: job.to_string(),
            spec_digest: spec.digest(),
            ..FileInfo::of(&spec.model, &spec.embed, &spec.read, None)
        },
    };
    let mut manifest = ManifestWriter::new(&info);
    loop {
        let row = next.as_ref().map_or(u64::MAX, |winner| winner.slice.first_row);
        while let Some(hole) = holes.next_before(row).await? {
            count(hole.source, hole.rows);
            manifest.skip(&hole)?;
        }
        let Some(winner) = next else { break };
        count(winner.slice.source_index, winner.slice.rows);
        manifest.add(&file_of(winner))?;
        write_pieces(object, &mut manifest).await?;
        next = winners.next().await?;
    }
    // They are read again rather than held: they come after all files, and there may be as many.
    let mut holes = dead_shards();
    while let Some(hole) = holes.next_before(u64::MAX).await? {
        manifest.add_hole(&hole);
        write_pieces(object, &mut manifest).await?;
    }
    let reuse: Vec<ManifestReuse> = spec.reuse.iter().map(ManifestReuse::from).collect();
    let (rest, seal) = manifest.finish(&sources, &reuse)?;
    write(object, &rest).await?;
    Ok(seal)
}

/// Writes what a manifest has ready, once it is a piece.
async fn write_pieces(object: &mut Option<NewObject>, manifest: &mut ManifestWriter) -> Result<(), DatasetError> {
    match manifest.pending() >= PIECE_BYTES {
        true => write(object, &manifest.take()).await,
        false => Ok(()),
    }
}

async fn write(object: &mut Option<NewObject>, bytes: &[u8]) -> Result<(), DatasetError> {
    match object {
        Some(object) => object.write(bytes).await,
        None => Ok(()),
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
        reused: output.counts.reused,
    }
}
