//! Chance in one place: pauses, choices and identifiers. In production it is the thread's own generator; a test that
//! must be repeatable seeds it for the thread that it runs on.

use rand::Rng;
use uuid::Uuid;

#[cfg(feature = "sim")]
mod seeded {
    use std::cell::RefCell;

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    use uuid::Uuid;

    thread_local! {
        static SOURCE: RefCell<Option<Source>> = const { RefCell::new(None) };
    }

    struct Source {
        numbers: StdRng,
        ids_made: u64,
    }

    /// Seeds the chance of this thread, until the next call; `None` goes back to what nobody can foresee.
    pub fn seed(seed: Option<u64>) {
        let source = seed.map(|seed| Source { numbers: StdRng::seed_from_u64(seed), ids_made: 0 });
        SOURCE.with(|cell| *cell.borrow_mut() = source);
    }

    pub(super) fn number() -> Option<u64> {
        SOURCE.with(|cell| cell.borrow_mut().as_mut().map(|source| source.numbers.random()))
    }

    pub(super) fn id() -> Option<Uuid> {
        SOURCE.with(|cell| {
            let mut cell = cell.borrow_mut();
            let source = cell.as_mut()?;
            source.ids_made += 1;
            Some(uuid::Builder::from_unix_timestamp_millis(source.ids_made, &source.numbers.random()).into_uuid())
        })
    }
}

#[cfg(feature = "sim")]
pub use seeded::seed;

#[cfg(not(feature = "sim"))]
mod seeded {
    pub(super) const fn number() -> Option<u64> {
        None
    }

    pub(super) const fn id() -> Option<uuid::Uuid> {
        None
    }
}

/// Returns a number, each as likely as the other.
pub fn number() -> u64 {
    seeded::number().unwrap_or_else(|| rand::rng().random())
}

/// Returns a number in `0.0..1.0`.
pub fn unit() -> f64 {
    // The upper 53 bits are what a float can tell apart.
    (number() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Returns a number from 0 to `most`, both included.
pub fn up_to(most: u64) -> u64 {
    match most.checked_add(1) {
        Some(count) => number() % count,
        None => number(),
    }
}

/// Returns a new, time-ordered identifier (UUID version 7).
pub fn id() -> Uuid {
    seeded::id().unwrap_or_else(Uuid::now_v7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_bounds() {
        for _ in 0..1_000 {
            assert!((0.0..1.0).contains(&unit()));
            assert!(up_to(3) <= 3);
        }
        assert_eq!(up_to(0), 0);
    }
}
