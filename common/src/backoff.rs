//! Pauses between attempts: exponential backoff with full jitter, so that a fleet does not come back in step.

use std::time::Duration;

use crate::rng;

/// Bounds of the pauses between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The longest pause after the first failure; it doubles with each further one.
    pub first: Duration,
    /// The longest pause at all.
    pub max: Duration,
}

impl Backoff {
    /// Returns the longest pause after `earlier` failures before this one.
    pub fn ceiling(&self, earlier: u32) -> Duration {
        self.first.saturating_mul(1 << earlier.min(30)).min(self.max)
    }

    /// Returns a random pause of at most the ceiling.
    pub fn pause(&self, earlier: u32) -> Duration {
        self.ceiling(earlier).mul_f64(rng::unit_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_maximum() {
        let backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(2) };
        let ceilings: Vec<u128> = (0..6).map(|earlier| backoff.ceiling(earlier).as_millis()).collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1_600, 2_000]);
        assert_eq!(backoff.ceiling(u32::MAX), backoff.max);
        for earlier in 0..40 {
            assert!(backoff.pause(earlier) <= backoff.ceiling(earlier));
        }
    }
}
