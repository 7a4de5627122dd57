//! What the leases of a session share, and how long they try to reach a coordinator.

use std::sync::Arc;
use std::time::Duration;

use common::Backoff;
use dataset::Storage;
use proto::{RpcError, SessionId, WorkClient};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::WorkerError;
use crate::heartbeat::Leases;
use crate::host::WorkerHost;
use crate::source_tasks::SourceTasks;
use crate::trouble::Trouble;

const BACKOFF: Backoff = Backoff { first: Duration::from_millis(200), max: Duration::from_secs(10) };

/// What all shards of one session share.
pub(crate) struct SessionContext {
    pub(crate) client: WorkClient,
    pub(crate) session: SessionId,
    pub(crate) storage: Storage,
    pub(crate) host: Arc<dyn WorkerHost>,
    pub(crate) leases: Leases,
    /// What shards of one source have in common, where it does not travel with each grant.
    pub(crate) tasks: SourceTasks,
    pub(crate) offline_max: Duration,
    /// The session is dead: drop everything.
    pub(crate) lost: CancellationToken,
    /// The worker is stopping: give everything back.
    pub(crate) drain: CancellationToken,
    pub(crate) trouble: Arc<Trouble>,
}

/// Attempts at reaching a coordinator: pauses between them, for so long and no longer.
pub(crate) struct Retries {
    since: Instant,
    total_max: Duration,
    attempts: u32,
}

impl Retries {
    pub(crate) fn new(total_max: Duration) -> Self {
        Self { since: Instant::now(), total_max, attempts: 0 }
    }

    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.total_max);
    }

    /// Returns how long to wait after this failure, or that it has been long enough.
    pub(crate) fn next(&mut self, error: RpcError) -> Result<Duration, WorkerError> {
        if self.attempts > 0 && self.since.elapsed() >= self.total_max {
            return Err(WorkerError::Offline { minutes: self.total_max.as_secs() / 60, source: error });
        }
        Ok(self.pause())
    }

    /// Returns how long to wait after this failure, however long it has been already.
    pub(crate) fn pause(&mut self) -> Duration {
        if self.attempts == 0 {
            self.since = Instant::now();
        }
        self.attempts += 1;
        BACKOFF.pause(self.attempts - 1)
    }

    pub(crate) async fn wait_or(&mut self, error: RpcError, stop: &CancellationToken) -> Result<(), WorkerError> {
        tracing::debug!(error = error.message, "no coordinator");
        let pause = self.next(error)?;
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
        Ok(())
    }
}
