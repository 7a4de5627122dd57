//! What may go wrong, and how often: drawn from the seed at the beginning, so that some seeds are quiet in most respects
//! and wild in one.

use common::rng;

/// Probabilities and sizes of one run.
#[derive(Debug, Clone)]
pub(crate) struct Faults {
    /// A request is lost, and the connection with it.
    pub(crate) lose_request: f64,
    /// An answer is lost after the call took effect.
    pub(crate) lose_answer: f64,
    /// A request arrives twice, the second time later.
    pub(crate) double: f64,
    /// A message takes seconds or minutes.
    pub(crate) delay: f64,
    /// A call is cut in the middle, and the handler's future dropped.
    pub(crate) cut: f64,
    /// The database fails before a statement has effect.
    pub(crate) store_before: f64,
    /// The database fails after it had.
    pub(crate) store_after: f64,
    /// A coordinator dies at a step of the database.
    pub(crate) crash_at_store: f64,
    /// A coordinator or worker dies at a step of the disk.
    pub(crate) crash_at_disk: f64,
    /// The disk fails before it did anything.
    pub(crate) disk_before: f64,
    /// The disk fails before it deletes anything.
    pub(crate) delete_before: f64,
    /// The disk fails after it did it.
    pub(crate) disk_after: f64,
    /// The disk says that an object is there that is not (409, 412).
    pub(crate) disk_conflict: f64,
    /// An attempt at a shard fails of its own accord.
    pub(crate) shard_fails: f64,
    /// An attempt at a shard takes minutes.
    pub(crate) shard_slow: f64,
    /// An attempt at a shard never ends, though its worker goes on sending heartbeats.
    pub(crate) shard_hangs: f64,
    /// One row of the first job kills every worker that embeds it.
    pub(crate) poison: bool,
    /// An event of the driver flips a byte of an output instead.
    pub(crate) flip: f64,
    /// Something happens to a process or job at the very moment at which it hurts most.
    pub(crate) hostile: f64,
    /// Users who are hostile cancel too.
    pub(crate) hostile_cancels: bool,
    /// Between two events of the driver: kills, stops, partitions, orders of users.
    pub(crate) event_every_ms: u64,
}

/// Runs in which only a row kills.
const GENTLE: f64 = 0.08;

/// Whether something of this probability happens.
pub(crate) fn happens(probability: f64) -> bool {
    probability > 0.0 && rng::unit_f64() < probability
}

impl Faults {
    /// Draws the faults of a run. In some, nothing goes wrong but that a row kills workers: then it alone must pay.
    pub(crate) fn draw() -> Self {
        let drawn = Self::draw_all();
        if happens(GENTLE) { Self { poison: true, delete_before: 0.0, ..drawn.none() } } else { drawn }
    }

    fn draw_all() -> Self {
        Self {
            lose_request: rate(0.15),
            lose_answer: rate(0.3),
            double: rate(0.2),
            delay: rate(0.1),
            cut: rate(0.1),
            store_before: rate(0.1),
            store_after: rate(0.1),
            crash_at_store: rate(0.01),
            crash_at_disk: rate(0.05),
            disk_before: rate(0.3),
            delete_before: rate(0.3),
            disk_after: rate(0.3),
            disk_conflict: rate(0.05),
            shard_fails: all_beyond_half(rate(0.75)),
            shard_slow: rate(0.2),
            shard_hangs: rate(0.05),
            poison: happens(0.1),
            flip: rate(0.2),
            hostile: rate(0.2),
            hostile_cancels: happens(0.5),
            event_every_ms: 4_000 + rng::below(20_001),
        }
    }

    /// Whether nothing goes wrong but what a row does.
    pub(crate) fn is_gentle(&self) -> bool {
        self.poison
            && self.lose_request + self.lose_answer + self.double + self.delay + self.cut == 0.0
            && self.store_before + self.store_after + self.crash_at_store + self.crash_at_disk == 0.0
            && self.disk_before + self.disk_after + self.disk_conflict + self.shard_fails + self.shard_slow == 0.0
            && self.shard_hangs + self.flip + self.hostile + self.delete_before == 0.0
    }

    /// Returns a world in which nothing goes wrong any more, but that the disk goes on failing now and then: whoever
    /// deletes must insist.
    pub(crate) fn none(&self) -> Self {
        Self {
            delete_before: self.delete_before,
            lose_request: 0.0,
            lose_answer: 0.0,
            double: 0.0,
            delay: 0.0,
            cut: 0.0,
            store_before: 0.0,
            store_after: 0.0,
            crash_at_store: 0.0,
            crash_at_disk: 0.0,
            disk_before: 0.0,
            disk_after: 0.0,
            disk_conflict: 0.0,
            shard_fails: 0.0,
            shard_slow: 0.0,
            shard_hangs: 0.0,
            poison: self.poison,
            flip: 0.0,
            hostile: 0.0,
            hostile_cancels: false,
            event_every_ms: self.event_every_ms,
        }
    }
}

/// What happens about every other time happens always.
fn all_beyond_half(rate: f64) -> f64 {
    if rate > 0.45 { 1.0 } else { rate }
}

/// Half of all runs have none of a fault, the others up to `most`.
fn rate(most: f64) -> f64 {
    if rng::unit_f64() < 0.5 { 0.0 } else { rng::unit_f64() * most }
}
