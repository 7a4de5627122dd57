//! One shard, top to bottom: model → read → tokenize → embed → write → store. What comes out is ready to be committed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dataset::vectors::VectorsError;
use dataset::{DatasetError, ErrorKind, FileSummary, Storage, VectorWriter, probe_folder};
use engine::LoadError;
use proto::Wire;
use proto::job::RowCounts;
use proto::relay::{fallback_source, is_upload};
use proto::work::{Grant, Output};
use tokio::time::Instant;

use crate::engines::EngineCache;
use crate::error::{ShardError, WorkerError};
use crate::meter::{Meter, Stage};
use crate::parts;
use crate::pools::Pools;
use crate::reuse::ReuseCache;
use crate::sample::Sample;
use crate::spool::Spool;
use crate::stages::Stages;
use crate::trouble::Trouble;

/// How long a shard waits for an output in a bucket that does not answer.
const OUTPUT_AWAY_MAX: Duration = Duration::from_secs(15 * 60);
/// A shard waits so long for its storage before it is given back.
const AWAY_MAX: Duration = Duration::from_secs(10);
/// How often it is looked for meanwhile.
const AWAY_LOOK: Duration = Duration::from_secs(2);

/// What every shard of a worker needs.
pub(crate) struct ShardRunner {
    pub(crate) engines: EngineCache,
    /// What earlier outputs have.
    pub(crate) reuse: ReuseCache,
    pub(crate) pools: Pools,
    pub(crate) spool: Spool,
    /// The way to the coordinator.
    pub(crate) wire: Wire,
    /// What the coordinator relays: sources that cannot be reached from here.
    pub(crate) relay: Storage,
    /// Whether only this process writes to the storage: see [`crate::WorkerConfig::own_storage`].
    pub(crate) own_storage: bool,
    /// See [`crate::WorkerConfig::parts`].
    pub(crate) parts: Option<PathBuf>,
    pub(crate) trouble: Arc<Trouble>,
    /// What was tokenized so far.
    pub(crate) sample: Arc<Sample>,
}

/// Embeds one shard and stores the result. Dropping the future stops the work and removes the spool file.
pub(crate) async fn run_shard(
    runner: &ShardRunner,
    storage: &Storage,
    grant: &Grant,
    meter: &Arc<Meter>,
) -> Result<Output, ShardError> {
    let error = match embed(runner, storage, grant, meter).await {
        Ok(output) => return Ok(output),
        Err(error) => explained(storage, error).await,
    };
    match loss_behind(runner, storage, &error) {
        Some(loss) => {
            runner.pools.loss.report(loss);
            // The shard does not fail: it is given back.
            std::future::pending().await
        }
        None => Err(error),
    }
}

/// Returns why the shard failed: what is missing may be missing with all of its storage, and an upload may come back.
async fn explained(storage: &Storage, error: ShardError) -> ShardError {
    let ShardError::Dataset(failed) = &error else { return error };
    if let Err(swapped) = storage.confirm().await
        && swapped.kind() == ErrorKind::StorageSwapped
    {
        return ShardError::Dataset(swapped);
    }
    if let DatasetError::SourceGone { uri } = failed
        && is_upload(uri)
    {
        return ShardError::UploadMissing { uri: uri.clone() };
    }
    error
}

/// Returns what this worker has lost, if that is why the shard failed: its device, or a disk that it alone writes to.
fn loss_behind(runner: &ShardRunner, storage: &Storage, error: &ShardError) -> Option<WorkerError> {
    if let ShardError::Load(LoadError::DeviceLost { device, reason }) = error {
        return Some(WorkerError::DeviceLost { device: device.clone(), reason: reason.clone() });
    }
    let ShardError::Dataset(error) = error else { return None };
    if error.kind() == ErrorKind::StorageSwapped {
        // Only the user of this process can put it back.
        return runner.own_storage.then(|| WorkerError::StorageSwapped { reason: error.to_string() });
    }
    let spool = runner.spool.path();
    let own_storage = storage.local_root().filter(|_| runner.own_storage);
    for folder in std::iter::once(spool).chain(own_storage) {
        if let Err(refused) = probe_folder(folder) {
            return Some(WorkerError::Disk { path: folder.to_owned(), reason: refused.to_string() });
        }
    }
    // The file that did not fit is gone again, and a small one fits.
    let is_spooled = error.vector_file().is_some_and(|file| file.starts_with(spool));
    let folder = if is_spooled { spool } else { own_storage? };
    (error.kind() == ErrorKind::NoSpace)
        .then(|| WorkerError::Disk { path: folder.to_owned(), reason: "no space left".to_owned() })
}

async fn embed(
    runner: &ShardRunner,
    storage: &Storage,
    grant: &Grant,
    meter: &Arc<Meter>,
) -> Result<Output, ShardError> {
    in_place(runner, storage).await?;
    let fallback = fallback_source(&runner.relay, grant.shard.job, grant.slice.source_index);
    let spooled = runner.spool.file(grant);
    if let Some(summary) = take_part(runner, grant, spooled.path()).await? {
        let input_blake3 = dataset::slice_blake3(&grant.source, &grant.slice, &grant.read, storage, &fallback).await?;
        check_input(grant, &input_blake3, std::future::ready(Ok(input_blake3.clone()))).await?;
        store(storage, grant, spooled.path(), &summary).await?;
        return Ok(output(grant, summary, input_blake3));
    }
    let model = runner.engines.get(&grant.model, &grant.embed).await?;
    let info = model.file_info(grant);
    let reuse = runner.reuse.get(&grant.reuse, &model.file_info_of_any_job(grant)).await?;
    let reader = dataset::read_with_fallback(&grant.source, &grant.slice, &grant.read, storage, &fallback).await?;
    let kept = dataset::kept_schema_of(&grant.source)?;
    let writer = VectorWriter::create(spooled.path(), &kept, &info)?.with_text_column(&grant.read.text_column);
    let (pools, sample) = (&runner.pools, &*runner.sample);
    let stages = Stages { grant, model, reuse, pools, meter: Arc::clone(meter), sample };
    // On the heap: the stages hold whole chunks by value.
    let (input_blake3, summary) = Box::pin(stages.run(reader, writer)).await?;
    let again = dataset::slice_blake3(&grant.source, &grant.slice, &grant.read, storage, &fallback);
    check_input(grant, &input_blake3, again).await?;
    meter.time_async(Stage::Store, Box::pin(store(storage, grant, spooled.path(), &summary))).await?;
    Ok(output(grant, summary, input_blake3))
}

fn output(grant: &Grant, summary: FileSummary, input_blake3: String) -> Output {
    let FileSummary { first_row: _, rows, rejects, truncated, tokens, reused, bytes, blake3 } = summary;
    let counts = RowCounts { rows, rejects, truncated, tokens, reused };
    Output { key: grant.output_key.clone(), bytes, blake3, input_blake3, counts }
}

/// Takes the part that an earlier run made of the shard, if there is one.
async fn take_part(runner: &ShardRunner, grant: &Grant, file: &Path) -> Result<Option<FileSummary>, ShardError> {
    let Some(parts) = runner.parts.clone() else { return Ok(None) };
    let since = Instant::now();
    loop {
        let (parts, grant, file) = (parts.clone(), grant.clone(), file.to_owned());
        let taken = tokio::task::spawn_blocking(move || parts::take(&parts, &grant, &file)).await;
        let crashed =
            |error| DatasetError::Io { object: "a part of an earlier run".to_owned(), source: Box::new(error) };
        match taken.map_err(crashed)? {
            // A network that is away for some minutes must not end a run of hours.
            Err(error) if is_away(&error) && since.elapsed() < OUTPUT_AWAY_MAX => {
                runner.trouble.note(format!("waiting for the output: {}", common::error_chain(&error)));
            }
            taken => return Ok(taken?),
        }
        tokio::time::sleep(AWAY_LOOK).await;
    }
}

fn is_away(error: &DatasetError) -> bool {
    let is_of_this_machine = matches!(error, DatasetError::Vectors(VectorsError::Temporary { .. }));
    !is_of_this_machine && matches!(error.kind(), ErrorKind::Io | ErrorKind::Throttled)
}

/// Waits a while for a storage that is not in its place. It may be mounted again; and shards that fail at once would be
/// leased and fail again as fast as calls can be made.
async fn in_place(runner: &ShardRunner, storage: &Storage) -> Result<(), DatasetError> {
    let since = Instant::now();
    loop {
        match storage.confirm().await {
            Err(error) if error.kind() == ErrorKind::StorageSwapped && !runner.own_storage => {
                if since.elapsed() >= AWAY_MAX {
                    return Err(error);
                }
                tracing::warn!(error = %error, "waiting for the storage");
            }
            confirmed => return confirmed,
        }
        tokio::time::sleep(AWAY_LOOK).await;
    }
}

/// Compares the digest of what was read with the planned one, if there is one. Where they differ, `again` reads the slice
/// once more: its bytes changed, or reading them once gave others.
pub(crate) async fn check_input(
    grant: &Grant,
    read_blake3: &str,
    again: impl Future<Output = Result<String, DatasetError>>,
) -> Result<(), ShardError> {
    let Some(planned) = &grant.slice.blake3 else { return Ok(()) };
    if planned == read_blake3 {
        return Ok(());
    }
    let uri = grant.source.source.uri.clone();
    if again.await? == *planned {
        return Err(ShardError::ReadDiffers { uri });
    }
    let change = "other bytes, with the same size and time".to_owned();
    Err(DatasetError::SourceChanged { uri, change }.into())
}

/// Puts the file under the granted key. The key is this attempt's alone: a file that is there is our own earlier try.
async fn store(storage: &Storage, grant: &Grant, file: &Path, summary: &FileSummary) -> Result<(), ShardError> {
    let key = &grant.output_key;
    let found = match storage.put_new_file(key, file).await {
        Ok(object) => object.size,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => match storage.head(key).await {
            Ok(object) => object.size,
            // Some stores say so of a write that ran into another one: nothing need be there.
            Err(error) => return Err(named_as_output(error, key)),
        },
        Err(error) => return Err(named_as_output(error, key)),
    };
    // Not before: what was written to another storage must not be committed as if it were in this one.
    storage.confirm().await?;
    if found == summary.bytes {
        return Ok(());
    }
    Err(ShardError::OutputDiffers { key: key.clone(), expected: summary.bytes, found })
}

/// A missing folder of the storage is not a missing source: it may come back.
fn named_as_output(error: DatasetError, key: &str) -> ShardError {
    match error.kind() {
        ErrorKind::NotFound => {
            ShardError::Dataset(DatasetError::Io { object: key.to_owned(), source: Box::new(error) })
        }
        _ => ShardError::Dataset(error),
    }
}
