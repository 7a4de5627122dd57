//! Time as an argument. Wall time exists only here; the wire carries durations, never instants.
//!
//! [`SystemClock`] anchors wall time once and then follows the monotonic clock, so that an operator who sets the
//! system clock cannot expire a lease. What differs between two starts of the process is the store's to rebase.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

/// A future that ends when a clock says so.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Knows what time it is, and waits.
pub trait Clock: Send + Sync + 'static {
    /// Returns milliseconds since the Unix epoch. Within one process it never goes back and never jumps.
    fn now_ms(&self) -> i64;

    /// Returns a future that ends once `duration` has passed.
    fn sleep(&self, duration: Duration) -> Sleep;

    /// Returns the instant that a database must take for its own. `None`, in production, leaves PostgreSQL its own
    /// clock, the only one that all coordinators share.
    fn now_override_ms(&self) -> Option<i64> {
        None
    }
}

/// The clock of production.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
    started_ms: i64,
}

impl SystemClock {
    /// Anchors a clock at the present wall time.
    #[expect(clippy::new_without_default, reason = "reading the time is an effect, not a default")]
    pub fn new() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_ms: duration_ms(since_epoch) }
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        self.started_ms.saturating_add(duration_ms(self.started.elapsed()))
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A clock that moves only when a test moves it. Clones share the time.
#[derive(Debug, Clone, Default)]
pub struct TestClock {
    inner: Arc<Mutex<TestTime>>,
}

#[derive(Debug, Default)]
struct TestTime {
    now_ms: i64,
    sleepers: BTreeMap<(i64, u64), oneshot::Sender<()>>,
    next_sleeper: u64,
}

impl TestClock {
    /// Makes a clock that starts at `now_ms`.
    pub fn at(now_ms: i64) -> Self {
        let clock = Self::default();
        clock.lock().now_ms = now_ms;
        clock
    }

    /// Moves time forward and wakes every sleeper whose time has come.
    pub fn advance(&self, duration: Duration) {
        let mut time = self.lock();
        time.now_ms = time.now_ms.saturating_add(duration_ms(duration));
        let after_now = (time.now_ms.saturating_add(1), 0);
        let later = time.sleepers.split_off(&after_now);
        let due = std::mem::replace(&mut time.sleepers, later);
        for (_, wake) in due {
            // The sleeper may have been dropped.
            wake.send(()).ok();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, TestTime> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        self.lock().now_ms
    }

    fn now_override_ms(&self) -> Option<i64> {
        Some(self.now_ms())
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let (wake, woken) = oneshot::channel();
        let mut time = self.lock();
        let due_ms = time.now_ms.saturating_add(duration_ms(duration));
        if due_ms > time.now_ms {
            let number = time.next_sleeper;
            time.next_sleeper += 1;
            time.sleepers.insert((due_ms, number), wake);
        } else {
            wake.send(()).ok();
        }
        Box::pin(async move {
            // An error means that the clock is gone and with it the test: waking up is the kinder end.
            woken.await.ok();
        })
    }
}

fn duration_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_test_clock_wakes_sleepers_when_their_time_has_come() {
        let clock = TestClock::at(1_000);
        let short = clock.sleep(Duration::from_millis(10));
        let mut long = clock.sleep(Duration::from_millis(11));
        clock.advance(Duration::from_millis(10));
        short.await;
        assert_eq!(clock.now_ms(), 1_010);
        assert!(futures::poll!(&mut long).is_pending());
        clock.advance(Duration::from_millis(1));
        long.await;
    }

    #[test]
    fn the_system_clock_does_not_go_back() {
        let clock = SystemClock::new();
        let first = clock.now_ms();
        assert!(first > 0);
        assert!(clock.now_ms() >= first);
    }
}
