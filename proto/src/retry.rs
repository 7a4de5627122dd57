//! When a call is repeated: only on UNAVAILABLE, a bounded number of times, after a random pause, within a budget.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::Backoff;

/// How a client repeats calls that found no coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Most attempts at one call, the first included.
    pub attempts_max: u32,
    /// Pauses between attempts.
    pub backoff: Backoff,
    /// Caps the deadline of every call, repeats included; calls have 10 s or 30 s of their own.
    pub deadline_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts_max: 5,
            backoff: Backoff { first: Duration::from_millis(100), max: Duration::from_secs(2) },
            deadline_max: Duration::from_secs(30),
        }
    }
}

/// Tokens that repeats cost and successes earn back, as gRPC's retry throttling: a coordinator in trouble is not made
/// worse by everybody's repeats.
#[derive(Debug)]
pub(crate) struct Budget {
    tenths: AtomicU32,
}

const BUDGET_TENTHS_MAX: u32 = 100;
const COST_TENTHS: u32 = 10;
const EARNED_TENTHS: u32 = 5;

impl Budget {
    pub(crate) fn full() -> Self {
        Self { tenths: AtomicU32::new(BUDGET_TENTHS_MAX) }
    }

    /// Takes one repeat out of the budget; false where there is none left.
    pub(crate) fn take(&self) -> bool {
        self.tenths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tenths| tenths.checked_sub(COST_TENTHS)).is_ok()
    }

    /// Notes a call that got through.
    pub(crate) fn earn(&self) {
        let more = |tenths: u32| Some((tenths + EARNED_TENTHS).min(BUDGET_TENTHS_MAX));
        self.tenths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_budget_is_earned_back_by_successes() {
        let budget = Budget::full();
        let taken = (0..100).take_while(|_| budget.take()).count();
        assert_eq!(taken, 10);
        budget.earn();
        assert!(!budget.take());
        budget.earn();
        assert!(budget.take());
    }
}
