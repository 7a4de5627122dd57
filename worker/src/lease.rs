//! One lease from grant to end: makes the shard's output, then commits, fails or releases it, and insists until it is heard.

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use proto::job::RowCounts;
use proto::work::{CommitOutcome, FailureClass, Grant, Granted, LightGrant, Output};
use proto::{Epoch, RpcError, RpcErrorKind, ShardId};

use crate::context::{Retries, SessionContext};
use crate::error::ShardError;
use crate::heartbeat::HeldLease;
use crate::host::Failed;
use crate::meter::Meter;

/// How a lease ended.
pub(crate) struct Ended {
    /// The counts of the output, where it became the shard's winner.
    pub(crate) committed: Option<RowCounts>,
    pub(crate) meter: Arc<Meter>,
}

/// A granted shard.
pub(crate) struct Lease {
    context: Arc<SessionContext>,
    granted: Granted,
    shard: ShardId,
    epoch: Epoch,
    held: HeldLease,
    meter: Arc<Meter>,
}

/// Why work on a shard stopped without a failure of its own.
enum Stop {
    Revoked,
    SessionLost,
    Drain,
}

impl Lease {
    pub(crate) fn new(context: Arc<SessionContext>, granted: Granted) -> Self {
        let meter = Arc::new(Meter::default());
        let (shard, epoch) = granted.lease();
        let held = context.leases.hold(shard, epoch, &meter);
        Self { context, granted, shard, epoch, held, meter }
    }

    /// Sees the lease to its end.
    pub(crate) async fn run(self) -> Ended {
        tracing::debug!(shard.id = %self.shard, epoch = %self.epoch, "shard begun");
        let produce = self.produce_output();
        let produced = tokio::select! {
            biased;
            () = self.held.revoked.cancelled() => Err(Stop::Revoked),
            () = self.context.lost.cancelled() => Err(Stop::SessionLost),
            () = self.context.drain.cancelled() => Err(Stop::Drain),
            produced = produce => Ok(produced),
        };
        let committed = match produced {
            Ok(Ok(output)) => self.commit(output).await,
            Ok(Err(failed)) => self.fail(&failed).await,
            Err(stop) => self.stop(stop).await,
        };
        Ended { committed, meter: self.meter }
    }

    /// Makes the shard's output. Whatever goes wrong with it, a panic included, is this attempt's failure alone.
    async fn produce_output(&self) -> Result<Output, Failed> {
        let grant = match &self.granted {
            Granted::Whole(grant) => Cow::Borrowed(&**grant),
            Granted::Light(light) => Cow::Owned(self.completed(light).await?),
            Granted::Unreadable { problem, .. } => {
                let message = format!("this worker cannot read its grant: {problem}");
                return Err(Failed { class: FailureClass::Transient, message });
            }
        };
        let produced = self.context.host.embed_shard(&self.context.storage, &grant, &self.meter);
        let produced = AssertUnwindSafe(produced).catch_unwind().await;
        produced.unwrap_or_else(|_| Err(ShardError::Panicked { stage: "read" }.into()))
    }

    /// Fetches what the grant leaves out.
    async fn completed(&self, light: &LightGrant) -> Result<Grant, Failed> {
        let SessionContext { client, session, tasks, .. } = &*self.context;
        let (job, source) = (light.shard.job, light.slice.source_index);
        let task = match self.retry_until_answered(|| tasks.get(client, *session, job, source)).await {
            Some(Ok(task)) => task,
            Some(Err(error)) => return Err(ShardError::TaskUnknown(error).into()),
            None => {
                let message = "the coordinator does not know its source".to_owned();
                return Err(Failed { class: FailureClass::Transient, message });
            }
        };
        Ok(light.with(&task))
    }

    async fn stop(&self, stop: Stop) -> Option<RowCounts> {
        let shard = self.shard;
        match stop {
            Stop::Revoked => tracing::info!(shard.id = %shard, "shard revoked"),
            Stop::SessionLost => tracing::info!(shard.id = %shard, "shard dropped with its session"),
            Stop::Drain => {
                let SessionContext { client, session, .. } = &*self.context;
                let released = self.retry_until_answered(|| client.release(*session, self.shard, self.epoch)).await;
                tracing::info!(shard.id = %shard, released = released.is_some(), "shard given back");
            }
        }
        None
    }

    async fn commit(&self, output: Output) -> Option<RowCounts> {
        let SessionContext { client, session, .. } = &*self.context;
        let (shard, epoch) = (self.shard, self.epoch);
        let outcome = match self.retry_until_answered(|| client.commit(*session, shard, epoch, &output)).await? {
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
        tracing::warn!(shard.id = %self.shard, ?class, error = message, "shard failed");
        self.context.trouble.note(format!("an attempt at shard {} failed: {message}", self.shard.index));
        let SessionContext { client, session, .. } = &*self.context;
        let (shard, epoch) = (self.shard, self.epoch);
        let reported = self.retry_until_answered(|| client.fail(*session, shard, epoch, *class, message)).await;
        if let Some(Err(error)) = reported {
            tracing::warn!(shard.id = %shard, error = error.message, "the failure could not be reported");
        }
        None
    }

    /// Makes a call until it is answered: the session keeps the lease alive, so nothing else would end it. `None` where the
    /// session is gone, or the coordinator has been away for too long. A revocation ends nothing here: a lease is also revoked
    /// when its commit took effect and the answer was lost, and the repeated call says which it is.
    async fn retry_until_answered<T, F>(&self, call: impl Fn() -> F) -> Option<Result<T, RpcError>>
    where
        F: Future<Output = Result<T, RpcError>>,
    {
        let answered = async {
            let mut retries = Retries::new(self.context.offline_max);
            loop {
                match call().await {
                    Err(error) if error.kind == RpcErrorKind::NotFound => {
                        tracing::info!(shard.id = %self.shard, error = error.message, "lease or session is gone");
                        return None;
                    }
                    Err(error) if error.is_retryable() => tokio::time::sleep(retries.next(error).ok()?).await,
                    answer => return Some(answer),
                }
            }
        };
        tokio::select! {
            biased;
            () = self.context.lost.cancelled() => None,
            answer = answered => answer,
        }
    }
}
