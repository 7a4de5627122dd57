//! The data plane: leases shards and turns their texts into vectors.

pub mod config;
pub mod error;
pub mod model_store;

pub use config::{Preload, StageSeconds, WorkerConfig, WorkerSummary};
pub use error::WorkerError;
pub use model_store::{HubOptions, ModelError, ResolvedModel};

use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Works on shards until `shutdown`, then gives its leases back and returns what it did.
pub async fn run(
    config: WorkerConfig,
    channel: Channel,
    shutdown: CancellationToken,
) -> Result<WorkerSummary, WorkerError> {
    drop((config, channel, shutdown));
    unimplemented!("published early for its signature")
}
