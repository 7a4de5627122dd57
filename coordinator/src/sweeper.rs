//! The sweeper: what must happen without a request. Each task is one call of the store; the
//! coordinator that leads the upkeep does it, and several at once would only do it in vain.

use std::sync::Arc;

use common::error_chain;
use dataset::Storage;
use tracing::{error, info, warn};

use crate::context::Context;
use crate::store::StoreError;

/// Objects of losing attempts deleted in one sweep.
const GARBAGE_MAX: u32 = 200;

/// Sweeps until shutdown.
pub(crate) async fn run(context: Arc<Context>) {
    loop {
        if context.leads().await {
            sweep(&context).await;
        }
        if !context.wait(&context.notices.sweep, context.config.sweep).await {
            return;
        }
    }
}

/// One sweep. A task that fails does not keep the others from their turn, and has its own again in a few seconds.
pub(crate) async fn sweep(context: &Context) {
    for (task, result) in [
        ("expire sessions", expire_sessions(context).await),
        ("settle cancelled jobs", settle_cancelled(context).await),
        ("fail exhausted jobs", fail_exhausted(context).await),
        ("pause failing jobs", trip_breakers(context).await),
        ("quarantine workers", quarantine(context).await),
        ("collect garbage", collect_garbage(context).await),
    ] {
        if let Err(error) = result {
            error!(task, error = error_chain(&error), "sweep failed");
        }
    }
}

/// Takes back the leases of workers that are gone; the store knows how many at once are credible.
async fn expire_sessions(context: &Context) -> Result<(), StoreError> {
    let swept = context.store.expire_sessions().await?;
    if swept.sessions > 0 || swept.leases > 0 {
        warn!(sessions = swept.sessions, leases = swept.leases, "workers lost");
    }
    Ok(())
}

async fn settle_cancelled(context: &Context) -> Result<(), StoreError> {
    let jobs = context.store.settle_cancelled().await?;
    if jobs > 0 {
        info!(jobs, "jobs cancelled");
    }
    Ok(())
}

async fn fail_exhausted(context: &Context) -> Result<(), StoreError> {
    for job in context.store.fail_exhausted().await? {
        warn!(job.id = %job, "job failed: shards are dead");
    }
    Ok(())
}

async fn trip_breakers(context: &Context) -> Result<(), StoreError> {
    for job in context.store.trip_breakers().await? {
        warn!(job.id = %job, "job paused: too many of its attempts end in the same way");
    }
    Ok(())
}

async fn quarantine(context: &Context) -> Result<(), StoreError> {
    for session in context.store.quarantine_sessions().await? {
        warn!(session.id = %session, "worker gets no more shards: others completed what it failed; mend and restart it");
    }
    Ok(())
}

/// Deletes the objects of attempts that did not win: marked in the database first, so that none of them can win after
/// all, and reported once they are gone.
async fn collect_garbage(context: &Context) -> Result<(), StoreError> {
    let marked = context.store.mark_garbage(GARBAGE_MAX).await?;
    if marked.is_empty() {
        return Ok(());
    }
    if !is_ours(&context.storage).await {
        return Ok(());
    }
    let mut deleted = Vec::with_capacity(marked.len());
    for garbage in marked {
        match context.storage.delete(&garbage.key).await {
            Ok(()) => deleted.push(garbage),
            Err(error) => warn!(key = garbage.key, error = error_chain(&error), "cannot delete a losing output"),
        }
    }
    if !deleted.is_empty() && is_ours(&context.storage).await {
        info!(objects = deleted.len(), "garbage collected");
        context.store.garbage_deleted(&deleted).await?;
    }
    Ok(())
}

/// Whether the storage is the one that losing outputs are in: in another there is nothing to delete, and ours would keep it
/// for ever. Asked before and after.
async fn is_ours(storage: &Storage) -> bool {
    let confirmed = storage.confirm().await;
    if let Err(error) = &confirmed {
        warn!(error = error_chain(error), "losing outputs are not deleted now");
    }
    confirmed.is_ok()
}
