//! What happens at the moments at which it hurts most: between the two statements of a cancellation, in the middle of a
//! sweep, while a commit or a manifest is under way.

use common::rng;
use object_store::path::Path;

use crate::fault::{Faults, happens};

/// Steps that come every few seconds all the time hurt seldom, so that there is something left to hurt.
const OFTEN: f64 = 0.2;

/// What happens at such a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strike {
    /// The process dies.
    Kill,
    /// The process is stopped for a while.
    Stop,
    /// A user asks for something.
    Order(Order),
}

/// What a user may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Cancel,
    Pause,
    Resume,
    Retry,
    Repair,
}

impl Order {
    /// Draws one for a user who changes a job for no reason; few want its end.
    pub(crate) fn draw() -> Self {
        match rng::below(17) {
            0 | 16 => Order::Cancel,
            1..=4 => Order::Pause,
            5..=8 => Order::Resume,
            9..=11 => Order::Retry,
            _ => Order::Repair,
        }
    }
}

/// How long the database takes, at most, over the first of two statements that belong together, or before one for which
/// another process may be faster, in milliseconds.
pub(crate) fn lingers_ms(faults: &Faults, step: &str, after: bool) -> u64 {
    match (step, after) {
        _ if faults.hostile == 0.0 => 0,
        ("insert_shards", false) => 20_000,
        ("commit", false) => 5_000,
        ("cancel", true) => 30_000,
        ("cancel_pending", true) => 1_000,
        ("fail_job" | "exhaust", true) => 100,
        _ => 0,
    }
}

/// Returns how probable it is that an object is not stored. That of a manifest hurts most.
pub(crate) fn put_fails(faults: &Faults, location: &Path) -> f64 {
    if is_manifest(location) { faults.disk_before.max(faults.hostile * 3.0) } else { faults.disk_before }
}

/// Whether this is the key of a manifest.
pub(crate) fn is_manifest(location: &Path) -> bool {
    location.filename().is_some_and(|name| name.starts_with("manifest"))
}

/// Returns what happens before or after a step of the database, or a `put` of the disk, if anything does.
pub(crate) fn strike(faults: &Faults, step: &str, after: bool) -> Option<Strike> {
    use Order::{Cancel, Pause, Repair, Resume, Retry};
    use Strike::{Kill, Stop};
    if faults.hostile == 0.0 {
        return None;
    }
    let (choices, weight): (&[Strike], f64) = match (step, after) {
        ("commit", false) => (&[Strike::Order(Cancel), Strike::Order(Pause), Kill, Stop], 0.5),
        ("cancel", true) => (&[Kill, Stop, Strike::Order(Retry)], 4.0),
        ("revoke" | "cancel_pending", true) => (&[Strike::Order(Cancel)], OFTEN),
        ("insert_shards", false) => (&[Stop, Stop, Kill, Strike::Order(Cancel)], 5.0),
        ("put", true) => (&[Strike::Order(Cancel), Strike::Order(Cancel), Strike::Order(Pause), Kill, Stop], 2.5),
        ("begin_finalize", true) => (&[Kill, Stop, Strike::Order(Cancel), Strike::Order(Repair)], 1.0),
        ("finish", false) => (&[Kill, Stop, Strike::Order(Cancel), Strike::Order(Repair)], 1.0),
        ("lease", true) => (&[Strike::Order(Pause), Strike::Order(Cancel), Kill, Stop], OFTEN),
        ("pause", true) => (&[Strike::Order(Resume), Strike::Order(Retry), Kill], 0.3),
        ("retry" | "repair", true) => (&[Kill, Strike::Order(Cancel), Strike::Order(Repair)], 0.5),
        ("mark_garbage" | "reap", true) => (&[Kill, Strike::Order(Retry)], OFTEN * 0.3),
        _ => return None,
    };
    if !happens(faults.hostile * weight) {
        return None;
    }
    let strike = choices[usize::try_from(rng::below(choices.len() as u64)).unwrap()];
    (strike != Strike::Order(Cancel) || faults.hostile_cancels).then_some(strike)
}
