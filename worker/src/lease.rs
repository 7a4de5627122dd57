//! One lease from grant to end: makes the shard's output, then commits, fails or releases it, and insists until it is heard.

use std::sync::Arc;

use proto::job::RowCounts;
use proto::work::{CommitOutcome, Grant, Output};
use proto::{RpcError, RpcErrorKind};

use crate::error::ShardError;
use crate::lease_keeper::Held;
use crate::machine::Failed;
use crate::meter::Meter;
use crate::session::{Backoff, Shared};

/// How a lease ended.
pub(crate) struct Ended {
    /// The counts of the output, where it became the shard's winner.
    pub(crate) committed: Option<RowCounts>,
    pub(crate) meter: Arc<Meter>,
}

/// A granted shard.
pub(crate) struct Lease {
    shared: Arc<Shared>,
    grant: Grant,
    held: Held,
    meter: Arc<Meter>,
}

/// Why work on a shard stopped without a failure of its own.
enum Stop {
    Revoked,
    SessionLost,
    Drain,
}

impl Lease {
    pub(crate) fn new(shared: Arc<Shared>, grant: Grant) -> Self {
        let meter = Arc::new(Meter::default());
        let held = shared.leases.hold(&grant, &meter);
        Self { shared, grant, held, meter }
    }

    /// Sees the lease to its end.
    pub(crate) async fn run(self) -> Ended {
        tracing::debug!(shard.id = %self.grant.shard, epoch = %self.grant.epoch, rows = self.grant.slice.rows, "shard begun");
        let make = self.shared.machine.make(&self.shared.storage, &self.grant, &self.meter);
        let made = tokio::select! {
            biased;
            () = self.held.revoked.cancelled() => Err(Stop::Revoked),
            () = self.shared.lost.cancelled() => Err(Stop::SessionLost),
            () = self.shared.drain.cancelled() => Err(Stop::Drain),
            made = make => Ok(made),
        };
        let committed = match made {
            Ok(Ok(output)) => self.commit(output).await,
            Ok(Err(failed)) => self.fail(&failed).await,
            Err(stop) => self.stop(stop).await,
        };
        Ended { committed, meter: self.meter }
    }

    async fn stop(&self, stop: Stop) -> Option<RowCounts> {
        let shard = self.grant.shard;
        match stop {
            Stop::Revoked => tracing::info!(shard.id = %shard, "shard revoked"),
            Stop::SessionLost => tracing::info!(shard.id = %shard, "shard dropped with its session"),
            Stop::Drain => {
                let Shared { client, session, .. } = &*self.shared;
                let released = self.insist(|| client.release(*session, self.grant.shard, self.grant.epoch)).await;
                tracing::info!(shard.id = %shard, released = released.is_some(), "shard given back");
            }
        }
        None
    }

    async fn commit(&self, output: Output) -> Option<RowCounts> {
        let Shared { client, session, .. } = &*self.shared;
        let (shard, epoch) = (self.grant.shard, self.grant.epoch);
        let outcome = match self.insist(|| client.commit(*session, shard, epoch, &output)).await? {
            Ok(outcome) => outcome,
            Err(error) => return self.fail(&ShardError::CommitRefused(error).into()).await,
        };
        let busy = self.meter.busy();
        match outcome {
            CommitOutcome::Committed => {
                tracing::debug!(
                    shard.id = %shard, rows = output.counts.rows, tokens = output.counts.tokens, bytes = output.bytes,
                    read_s = busy.read, tokenize_s = busy.tokenize, plan_s = busy.plan, forward_s = busy.forward,
                    write_s = busy.write, store_s = busy.store, "shard committed"
                );
                Some(output.counts)
            }
            CommitOutcome::Stale | CommitOutcome::LostRace | CommitOutcome::Cancelled => {
                tracing::info!(shard.id = %shard, ?outcome, "output not wanted any more");
                None
            }
        }
    }

    async fn fail(&self, failed: &Failed) -> Option<RowCounts> {
        let Failed { class, message } = failed;
        tracing::warn!(shard.id = %self.grant.shard, ?class, error = message, "shard failed");
        let Shared { client, session, .. } = &*self.shared;
        let (shard, epoch) = (self.grant.shard, self.grant.epoch);
        let told = self.insist(|| client.fail(*session, shard, epoch, *class, message)).await;
        if let Some(Err(error)) = told {
            tracing::warn!(shard.id = %shard, error = error.message, "the failure could not be reported");
        }
        None
    }

    /// Makes a call until it is answered: the session keeps the lease alive, so nobody else would end it. `None` where the
    /// session is gone, or the coordinator has been away for too long. A revocation ends nothing here: a lease is also revoked
    /// when its commit took effect and the answer was lost, and the repeated call says which it is.
    async fn insist<T, F>(&self, call: impl Fn() -> F) -> Option<Result<T, RpcError>>
    where
        F: Future<Output = Result<T, RpcError>>,
    {
        let answered = async {
            let mut backoff = Backoff::new(self.shared.offline_max);
            loop {
                match call().await {
                    Err(error) if error.kind == RpcErrorKind::NotFound => {
                        tracing::info!(shard.id = %self.grant.shard, error = error.message, "lease or session is gone");
                        return None;
                    }
                    Err(error) if error.is_retryable() => tokio::time::sleep(backoff.next(error).ok()?).await,
                    answer => return Some(answer),
                }
            }
        };
        tokio::select! {
            biased;
            () = self.shared.lost.cancelled() => None,
            answer = answered => answer,
        }
    }
}
