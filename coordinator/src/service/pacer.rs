//! When idle workers come again: soon while they are few, and in single file while they are thousands, so that an idle
//! cluster costs a coordinator a bounded number of lease calls a second.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

/// Least time between two idle workers: at most 500 idle lease calls a second.
const GAP_MS: i64 = 2;
/// The longest wait.
const WAIT_MS_MAX: i64 = 30_000;

pub(super) struct Pacer {
    idle_ms: i64,
    /// When the last worker in the queue comes.
    last_ms: Mutex<i64>,
}

impl Pacer {
    pub(super) fn new(idle: Duration) -> Self {
        let idle_ms = i64::try_from(idle.as_millis()).unwrap_or(WAIT_MS_MAX).min(WAIT_MS_MAX);
        Self { idle_ms, last_ms: Mutex::new(0) }
    }

    /// Gives an idle worker a place in the queue. Returns in how many milliseconds its turn comes.
    pub(super) fn wait_ms(&self, now_ms: i64) -> u64 {
        let mut last_ms = self.last_ms.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = (now_ms + self.idle_ms).max(*last_ms + GAP_MS).min(now_ms + WAIT_MS_MAX);
        *last_ms = turn;
        (turn - now_ms).unsigned_abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_workers_come_soon_and_many_in_single_file() {
        let pacer = Pacer::new(Duration::from_millis(500));
        assert_eq!(pacer.wait_ms(10_000), 500);
        assert_eq!(pacer.wait_ms(10_001), 501);
        let last = (0..5_000).map(|_| pacer.wait_ms(10_001)).max();
        assert_eq!(last, Some(501 + 5_000 * 2));
        assert_eq!((0..20_000).map(|_| pacer.wait_ms(10_001)).max(), Some(30_000));
        assert_eq!(pacer.wait_ms(100_000), 500);
    }
}
