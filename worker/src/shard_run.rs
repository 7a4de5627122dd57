//! One shard, top to bottom: model → read → tokenize → embed → write → store. What comes out is ready to be committed.

use std::sync::Arc;

use dataset::{DatasetError, ErrorKind, FileSummary, Storage, VectorWriter};
use engine::LoadError;
use proto::Wire;
use proto::job::RowCounts;
use proto::relay::source_detour;
use proto::work::{Grant, Output};

use crate::engines::EngineCache;
use crate::error::ShardError;
use crate::meter::{Meter, Stage};
use crate::pools::Pools;
use crate::spool::Spool;
use crate::stages::Stages;

/// What every shard of a worker needs.
pub(crate) struct Workshop {
    pub(crate) engines: EngineCache,
    pub(crate) pools: Pools,
    pub(crate) spool: Spool,
    /// The way to the coordinator.
    pub(crate) wire: Wire,
    /// What the coordinator relays: sources that cannot be reached from here.
    pub(crate) relay: Storage,
}

/// Embeds one shard and stores the result. Dropping the future stops the work and removes the spool file.
pub(crate) async fn make(
    workshop: &Workshop,
    storage: &Storage,
    grant: &Grant,
    meter: &Arc<Meter>,
) -> Result<Output, ShardError> {
    let model = match workshop.engines.get(&grant.model, &grant.embed).await {
        Err(ShardError::Load(LoadError::DeviceLost { device, reason })) => {
            workshop.pools.loss.report(device, reason);
            // The shard does not fail: it is given back.
            return std::future::pending().await;
        }
        loaded => loaded?,
    };
    let detour = source_detour(&workshop.relay, grant.shard.job, grant.slice.source_index);
    let reader = dataset::read_by(&grant.source, &grant.slice, &grant.read, storage, &detour).await?;
    let spooled = workshop.spool.file(grant);
    let kept = dataset::kept_schema_of(&grant.source)?;
    let writer = VectorWriter::create(spooled.path(), &kept, &model.file_info(grant))?;
    let stages = Stages { grant, model, pools: &workshop.pools, meter: Arc::clone(meter) };
    // On the heap: the stages hold whole chunks by value.
    let (input_blake3, summary) = Box::pin(stages.run(reader, writer)).await?;
    meter.time_async(Stage::Store, Box::pin(store(storage, grant, spooled.path(), &summary))).await?;
    Ok(Output {
        key: grant.output_key.clone(),
        bytes: summary.bytes,
        blake3: summary.blake3,
        input_blake3,
        counts: RowCounts {
            rows: summary.rows,
            rejects: summary.rejects,
            truncated: summary.truncated,
            tokens: summary.tokens,
        },
    })
}

/// Puts the file under the granted key. The key is this attempt's alone: a file that is there is our own earlier try.
async fn store(
    storage: &Storage,
    grant: &Grant,
    file: &std::path::Path,
    summary: &FileSummary,
) -> Result<(), ShardError> {
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
