//! What a worker needs of the machine that it runs on: storage, a thread for its heartbeat, and the work itself.

use std::io;
use std::sync::Arc;

use dataset::{DatasetError, Storage};
use futures::future::BoxFuture;
use proto::relay::connect_storage;
use proto::work::{FailureClass, Grant, Output};

use crate::error::ShardError;
use crate::meter::Meter;
use crate::shard_run::{self, ShardRunner};

/// Why a shard was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// What the coordinator should make of it.
    pub class: FailureClass,
    /// What happened, causes included.
    pub message: String,
}

impl From<ShardError> for Failed {
    fn from(error: ShardError) -> Self {
        Self { class: error.class(), message: error.describe() }
    }
}

/// Compares the digest of what was read of a slice with the planned one, if there is one. Where they differ, `again` reads
/// the slice once more and returns the digest of that.
///
/// # Errors
/// The bytes changed since they were planned, or reading them once gave others.
pub async fn check_input(
    grant: &Grant,
    read_blake3: &str,
    again: impl Future<Output = Result<String, DatasetError>>,
) -> Result<(), Failed> {
    Ok(shard_run::check_input(grant, read_blake3, again).await?)
}

/// What a worker needs of the machine that it runs on.
pub trait WorkerHost: Send + Sync + 'static {
    /// Opens the storage that the coordinator names, by whatever way leads there.
    ///
    /// # Errors
    /// It cannot be used from here.
    fn storage<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Storage, DatasetError>>;

    /// Embeds one shard and stores the result, telling `meter` how far it got. Dropping the future stops the work.
    fn embed_shard<'a>(
        &'a self,
        storage: &'a Storage,
        grant: &'a Grant,
        meter: &'a Arc<Meter>,
    ) -> BoxFuture<'a, Result<Output, Failed>>;

    /// Runs a heartbeat where no computing can hold it up. Returns what ends with it.
    ///
    /// # Errors
    /// There is no thread for it.
    fn spawn_heartbeat(&self, heartbeat: BoxFuture<'static, ()>) -> io::Result<BoxFuture<'static, ()>>;
}

impl WorkerHost for ShardRunner {
    fn storage<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Storage, DatasetError>> {
        Box::pin(async move { Ok(connect_storage(self.wire.clone(), url).await) })
    }

    fn embed_shard<'a>(
        &'a self,
        storage: &'a Storage,
        grant: &'a Grant,
        meter: &'a Arc<Meter>,
    ) -> BoxFuture<'a, Result<Output, Failed>> {
        Box::pin(async move { Ok(Box::pin(shard_run::run_shard(self, storage, grant, meter)).await?) })
    }

    /// A thread with its own small runtime.
    fn spawn_heartbeat(&self, heartbeat: BoxFuture<'static, ()>) -> io::Result<BoxFuture<'static, ()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let beat = move || runtime.block_on(heartbeat);
        let thread = std::thread::Builder::new().name("encaje-heartbeat".to_owned()).spawn(beat)?;
        Ok(Box::pin(async move {
            // The thread only beats, and is at most one call away: a panic there has ended the session anyway.
            tokio::task::spawn_blocking(move || thread.join().ok()).await.ok();
        }))
    }
}
