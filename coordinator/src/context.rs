//! What services and loops share: settings, store, storage, and how one gives another notice.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use common::error_chain;
use dataset::Storage;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;
use uuid::Uuid;

use crate::config::Config;
use crate::store::Store;

/// What services and loops share.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) storage: Storage,
    pub(crate) notices: Notices,
    pub(crate) shutdown: CancellationToken,
    /// The work of calls, which goes on when a client goes away.
    pub(crate) calls: TaskTracker,
    pub(crate) lead: Lead,
}

/// What this process knows of the lead of the upkeep: planning, sweeping and finalizing are done by one coordinator of
/// several. It saves work and carries no safety: whatever the upkeep does is a compare-and-set.
pub(crate) struct Lead {
    process: Uuid,
    /// Until when it is this process's, by its own clock, counted from before the request.
    until_ms: AtomicI64,
}

impl Lead {
    pub(crate) fn new() -> Self {
        Self { process: common::rng::uuid_v7(), until_ms: AtomicI64::new(i64::MIN) }
    }
}

/// Notices from the services to the loops. They save time and carry no meaning: a lost one costs a poll interval.
#[derive(Default)]
pub(crate) struct Notices {
    /// A job was submitted or given another life.
    pub(crate) plan: Notify,
    /// A shard was committed, or planning ended.
    pub(crate) finalize: Notify,
    /// A job was cancelled, or an attempt failed.
    pub(crate) sweep: Notify,
}

impl Context {
    /// Returns whether this process leads the upkeep now; takes or keeps the lead where it can.
    pub(crate) async fn leads(&self) -> bool {
        let (now_ms, lead_ms) = (self.config.clock.now_ms(), self.store.policy().leader_ms);
        let until_ms = self.lead.until_ms.load(Ordering::Relaxed);
        if now_ms < until_ms.saturating_sub(lead_ms / 2) {
            return true;
        }
        match self.store.lead_upkeep(self.lead.process).await {
            Ok(leads) => {
                let until_ms = if leads { now_ms + lead_ms } else { i64::MIN };
                self.lead.until_ms.store(until_ms, Ordering::Relaxed);
                leads
            }
            Err(error) => {
                debug!(error = error_chain(&error), "cannot ask for the lead");
                now_ms < until_ms
            }
        }
    }

    /// Leaves the lead to others, if it is this process's.
    pub(crate) async fn resign(&self) {
        if let Err(error) = self.store.resign_upkeep(self.lead.process).await {
            debug!(error = error_chain(&error), "the lead lapses by itself");
        }
    }

    /// Waits for a notice, but no longer than `interval`. Returns false once the coordinator shuts down.
    pub(crate) async fn wait(&self, notice: &Notify, interval: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => false,
            () = notice.notified() => true,
            () = self.config.clock.sleep(interval) => true,
        }
    }

    /// Waits for `duration`. Returns false once the coordinator shuts down.
    pub(crate) async fn pause(&self, duration: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => false,
            () = self.config.clock.sleep(duration) => true,
        }
    }
}

/// Cuts a message to what is worth storing, and takes out what a database or a terminal chokes on.
pub(crate) fn clean(message: &str, bytes_max: usize) -> String {
    let mut clean: String = message.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
    if clean.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|&at| clean.is_char_boundary(at)).unwrap_or(0);
        clean.truncate(end);
        clean.push('…');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_between_characters_and_loses_its_control_characters() {
        assert_eq!(clean("a\0b\u{1b}[1m\n", 100), "a b [1m\n");
        assert_eq!(clean("ñandú", 3), "ña…");
        assert_eq!(clean("ñandú", 1), "…");
    }
}
