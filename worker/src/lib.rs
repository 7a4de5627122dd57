#![doc = include_str!("../README.md")]

pub mod config;
pub mod error;
mod failpoint;
pub mod model_store;

mod context;
mod session;

mod host;

mod heartbeat;
mod lease;
mod source_tasks;

mod shard_run;

mod parts;
mod plan;
mod pools;
mod queue;
mod reuse;
mod stages;

mod engines;
mod meter;
mod sample;
mod spool;
mod trouble;

use std::sync::Arc;

use engine::LoadError;
use error::ShardError;
use proto::{Wire, WorkClient};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use config::{Preload, StageSeconds, WorkerConfig, WorkerSummary};
pub use error::WorkerError;
pub use host::{Failed, WorkerHost, check_input};
pub use meter::{Meter, Stage};
pub use model_store::{HubOptions, ModelError, ResolvedModel};
pub use sample::Sample;
pub use trouble::Trouble;

/// Works on shards until `shutdown`, then gives its leases back and returns what it did.
///
/// # Errors
/// Where it cannot start (spool folder, preloaded model, threads), is refused, or finds no coordinator for `offline_ms_max`.
pub async fn run(
    config: WorkerConfig,
    wire: impl Into<Wire>,
    shutdown: CancellationToken,
) -> Result<WorkerSummary, WorkerError> {
    let engines = engines::EngineCache::new(config.devices.clone(), config.hub.clone());
    let spool = spool::Spool::open(&config.spool_dir)?;
    if let Some(Preload { model, embed }) = &config.preload {
        engines.get(model, embed).await.map_err(|error| match error {
            ShardError::Load(LoadError::DeviceLost { device, reason }) => WorkerError::DeviceLost { device, reason },
            error => WorkerError::Model { model: model.name.clone(), reason: error.describe() },
        })?;
    }
    let pools = pools::Pools::start(&config)?;
    let wire = wire.into();
    let relay = proto::relay::relayed(wire.clone());
    let (own_storage, parts) = (config.own_storage, config.parts.clone());
    let (sample, trouble) = (Arc::clone(&config.sample), Arc::clone(&config.trouble));
    let reuse = reuse::ReuseCache::default();
    let wire_of_runner = wire.clone();
    let runner = shard_run::ShardRunner {
        engines,
        reuse,
        pools,
        spool,
        wire: wire_of_runner,
        relay,
        own_storage,
        parts,
        sample,
        trouble,
    };
    let runner = Arc::new(runner);
    let host = Arc::clone(&runner);
    let (loss, stop) = (runner.pools.loss.clone(), shutdown.child_token());
    let stop_at_loss = tokio::spawn({
        let (lost, stop) = (loss.token.clone(), stop.clone());
        async move {
            lost.cancelled().await;
            stop.cancel();
        }
    });
    let served = serve(config, wire, host, stop).await;
    stop_at_loss.abort();
    if let Some(error) = loss.take_error() {
        // Threads that wait for the device may wait for ever.
        return Err(error);
    }
    // A shard that did not stop in time still holds the threads; they end with it.
    if let Ok(runner) = Arc::try_unwrap(runner).map_err(drop) {
        tokio::task::spawn_blocking(move || runner.pools.stop()).await.ok();
    }
    served
}

/// Works on shards until `shutdown` with what `machine` has: [`run`] without the engine, the threads and the spool.
///
/// # Errors
/// As [`run`], once it has started.
pub async fn serve(
    config: WorkerConfig,
    wire: impl Into<Wire>,
    host: Arc<dyn WorkerHost>,
    shutdown: CancellationToken,
) -> Result<WorkerSummary, WorkerError> {
    let client = WorkClient::new(wire);
    let now = Instant::now();
    let tally = session::Tally::default();
    let mut worker = session::Worker { config, client, host, shutdown, tally, begun: now, last_busy: now };
    worker.serve().await?;
    let tally = worker.tally;
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
