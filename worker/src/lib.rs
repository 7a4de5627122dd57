#![doc = include_str!("../README.md")]

pub mod config;
pub mod error;
pub mod model_store;

mod session;

mod lease;
mod lease_keeper;

mod shard_run;

mod plan;
mod pools;
mod queue;
mod stages;

mod engines;
mod meter;
mod spool;

use std::sync::Arc;

use proto::WorkClient;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

pub use config::{Preload, StageSeconds, WorkerConfig, WorkerSummary};
pub use error::WorkerError;
pub use model_store::{HubOptions, ModelError, ResolvedModel};

/// Works on shards until `shutdown`, then gives its leases back and returns what it did.
///
/// # Errors
/// Where it cannot start (spool folder, preloaded model, threads), is refused, or finds no coordinator for `offline_ms_max`.
pub async fn run(
    config: WorkerConfig,
    channel: Channel,
    shutdown: CancellationToken,
) -> Result<WorkerSummary, WorkerError> {
    let engines = engines::EngineCache::new(config.devices.clone(), config.hub.clone());
    let spool = spool::Spool::open(&config.spool_dir)?;
    if let Some(Preload { model, embed }) = &config.preload {
        engines
            .get(model, embed)
            .await
            .map_err(|error| WorkerError::Model { model: model.name.clone(), reason: error.describe() })?;
    }
    let pools = pools::Pools::start(&config)?;
    let workshop = Arc::new(shard_run::Workshop { engines, pools, spool });
    let client = WorkClient::new(channel);
    let tally = session::Tally::default();
    let mut worker = session::Worker { config, client, workshop: Arc::clone(&workshop), shutdown, tally };
    let served = worker.serve().await;
    let session::Worker { tally, workshop: theirs, .. } = worker;
    drop(theirs);
    // A shard that did not stop in time still holds the threads; they end with it.
    if let Ok(workshop) = Arc::try_unwrap(workshop).map_err(drop) {
        tokio::task::spawn_blocking(move || workshop.pools.stop()).await.ok();
    }
    served?;
    let busy = tally.meter.busy();
    tracing::debug!(
        shards = tally.shards,
        rows = tally.rows,
        tokens = tally.tokens,
        read_s = busy.read,
        tokenize_s = busy.tokenize,
        plan_s = busy.plan,
        forward_s = busy.forward,
        write_s = busy.write,
        store_s = busy.store,
        "worker ended"
    );
    Ok(WorkerSummary {
        shards: tally.shards,
        rows: tally.rows,
        rejected: tally.rejected,
        tokens: tally.tokens,
        repeats: tally.meter.repeats(),
        busy,
    })
}
