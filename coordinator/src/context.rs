//! What services and loops share: settings, store, storage, and how one gives another notice.

use std::time::Duration;

use dataset::Storage;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

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

/// An error with all its causes, for the reason of a job or a log line.
pub(crate) fn full_message(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        cause = error.source();
    }
    message
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
