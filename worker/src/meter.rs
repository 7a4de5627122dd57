//! What a shard did and which stage was busy how long: shared by its stages, read by heartbeats, summed up at its end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::config::StageSeconds;

/// A stage of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reading records.
    Read,
    /// Texts to tokens.
    Tokenize,
    /// Dropping repeats and packing.
    Plan,
    /// The forward pass.
    Forward,
    /// Writing Parquet.
    Write,
    /// Putting the file into storage.
    Store,
}

const STAGES: usize = 6;

/// Counters of one shard, or of a whole worker.
#[derive(Debug, Default)]
pub struct Meter {
    rows: AtomicU64,
    tokens: AtomicU64,
    repeats: AtomicU64,
    nanos: [AtomicU64; STAGES],
}

impl Meter {
    /// Adds rows that are computed or rejected, and their tokens.
    pub fn add_rows(&self, rows: u64, tokens: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.tokens.fetch_add(tokens, Ordering::Relaxed);
    }

    /// Adds rows that needed no computing.
    pub(crate) fn add_repeats(&self, repeats: u64) {
        self.repeats.fetch_add(repeats, Ordering::Relaxed);
    }

    /// Adds time that a stage was busy.
    pub(crate) fn add_time(&self, stage: Stage, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanos[stage as usize].fetch_add(nanos, Ordering::Relaxed);
    }

    /// Runs a piece of a stage and adds its time.
    pub(crate) fn time<T>(&self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = work();
        self.add_time(stage, begun.elapsed());
        result
    }

    /// Awaits a piece of a stage and adds its time, waiting included.
    pub(crate) async fn time_async<T>(&self, stage: Stage, work: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let result = work.await;
        self.add_time(stage, begun.elapsed());
        result
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    pub(crate) fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed)
    }

    pub(crate) fn repeats(&self) -> u64 {
        self.repeats.load(Ordering::Relaxed)
    }

    /// Adds the times and repeats of a shard that has ended.
    pub(crate) fn absorb(&self, shard: &Meter) {
        self.add_repeats(shard.repeats());
        for (sum, nanos) in self.nanos.iter().zip(&shard.nanos) {
            sum.fetch_add(nanos.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    pub(crate) fn busy(&self) -> StageSeconds {
        let seconds = |stage: Stage| self.nanos[stage as usize].load(Ordering::Relaxed) as f64 / 1e9;
        StageSeconds {
            read: seconds(Stage::Read),
            tokenize: seconds(Stage::Tokenize),
            plan: seconds(Stage::Plan),
            forward: seconds(Stage::Forward),
            write: seconds(Stage::Write),
            store: seconds(Stage::Store),
        }
    }
}
