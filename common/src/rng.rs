//! Random numbers: pauses, choices and identifiers. In production they come from the thread's own generator; a test that
//! must be repeatable seeds the generator of the thread that it runs on.

use rand::Rng;
use uuid::Uuid;

#[cfg(feature = "sim")]
mod seeded {
    use std::cell::RefCell;

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    use uuid::Uuid;

    thread_local! {
        static GENERATOR: RefCell<Option<Generator>> = const { RefCell::new(None) };
    }

    struct Generator {
        numbers: StdRng,
        id_count: u64,
    }

    /// Seeds the generator of this thread, until the next call; `None` returns to unpredictable numbers.
    pub fn seed(seed: Option<u64>) {
        let generator = seed.map(|seed| Generator { numbers: StdRng::seed_from_u64(seed), id_count: 0 });
        GENERATOR.with(|cell| *cell.borrow_mut() = generator);
    }

    pub(super) fn next_u64() -> Option<u64> {
        GENERATOR.with(|cell| cell.borrow_mut().as_mut().map(|generator| generator.numbers.random()))
    }

    pub(super) fn uuid_v7() -> Option<Uuid> {
        GENERATOR.with(|cell| {
            let mut cell = cell.borrow_mut();
            let generator = cell.as_mut()?;
            generator.id_count += 1;
            let bytes = generator.numbers.random();
            Some(uuid::Builder::from_unix_timestamp_millis(generator.id_count, &bytes).into_uuid())
        })
    }
}

#[cfg(feature = "sim")]
pub use seeded::seed;

#[cfg(not(feature = "sim"))]
mod seeded {
    pub(super) const fn next_u64() -> Option<u64> {
        None
    }

    pub(super) const fn uuid_v7() -> Option<uuid::Uuid> {
        None
    }
}

/// Returns a random number.
pub fn next_u64() -> u64 {
    seeded::next_u64().unwrap_or_else(|| rand::rng().random())
}

/// Returns a random number in `0.0..1.0`.
pub fn unit_f64() -> f64 {
    // A float has 53 bits of precision.
    (next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Returns a random number in `0..bound`; the bound must not be 0.
pub fn below(bound: u64) -> u64 {
    next_u64() % bound
}

/// Returns a new, time-ordered identifier (UUID version 7).
pub fn uuid_v7() -> Uuid {
    seeded::uuid_v7().unwrap_or_else(Uuid::now_v7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_within_their_bounds() {
        for _ in 0..1_000 {
            assert!((0.0..1.0).contains(&unit_f64()));
            assert!(below(4) < 4);
        }
        assert_eq!(below(1), 0);
    }
}
