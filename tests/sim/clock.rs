//! Clocks over the simulated time of the runtime. Each process has its own, which may be wrong.

use std::time::Duration;

use coordinator::Clock;
use coordinator::clock::Sleep;
use tokio::time::Instant;

/// When simulations begin, in milliseconds since the Unix epoch.
pub(crate) const BEGIN_MS: i64 = 1_700_000_000_000;

/// A clock that is wrong by so much, and runs with simulated time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SimClock {
    begin: Instant,
    wrong_by_ms: i64,
}

impl SimClock {
    pub(crate) fn new(begin: Instant, wrong_by_ms: i64) -> Self {
        Self { begin, wrong_by_ms }
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> i64 {
        BEGIN_MS + self.wrong_by_ms + i64::try_from(self.begin.elapsed().as_millis()).unwrap()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(duration))
    }
}
