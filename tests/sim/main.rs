//! A whole cluster on one thread: the real coordinators and workers over a simulated network, disk, database and clock,
//! with the faults that a seed asks for. Whatever goes wrong is told with the seed that does it again:
//!
//! ```text
//! ENCAJE_SIM_SEED=1234 cargo nextest run --workspace -E 'binary(sim) & test(one_seed)'     (ENCAJE_SIM_TRACE=1 tells all,
//!                                                                                         RUST_LOG=debug more)
//! make soak SEEDS=10000
//! ```
//!
//! **Real:** the services with tonic's client and server code, planner, sweeper, finalizer, the store's facade, and the
//! worker's sessions, leases, heartbeats, commits, failures and drains; manifests and Parquet files.
//! **Not real:** HTTP/2 below gRPC (calls are dropped, delayed, doubled and cut as messages), the SQL databases (the pure
//! model stands in, which the conformance suite holds to both of them), the pipeline that makes a shard's file (its
//! vectors follow from the row numbers), and files under a corpus.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bugs;
mod check;
mod clock;
mod corpus;
mod disk;
mod driver;
mod fault;
mod files;
mod gate;
mod host;
mod hostile;
mod life;
mod network;
mod outage;
mod planted;
mod world;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};

use coordinator::store::memory::planted::{Bug, plant};
use tracing_subscriber::EnvFilter;

/// Seeds of `make test`; `ENCAJE_SIM_SEEDS` asks for more.
const SEEDS: u64 = 300;
/// Where the seeds of `make test` begin.
const FIRST: u64 = 1;

/// What came of one seed.
pub(crate) struct Outcome {
    /// A digest of everything that happened, in order.
    pub(crate) trace: String,
    /// What must not be.
    pub(crate) problems: Vec<String>,
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

thread_local! {
    /// Panics of the run on this thread, also those that a task has swallowed; `None` where none is under way.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Has panics of simulations written down, where no task can hide them.
fn listen_for_panics() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let simulated = PANICS.with(|panics| {
                panics.borrow_mut().as_mut().map(|panics| panics.push(format!("panicked: {panic}"))).is_some()
            });
            if !simulated {
                loud(panic);
            }
        }));
    });
}

/// Runs one seed on this thread, with at most one planted bug. A panic is a problem too.
fn run(seed: u64, bug: Option<Bug>) -> Outcome {
    listen_for_panics();
    plant(bug);
    PANICS.set(Some(Vec::new()));
    let outcome = catch_unwind(AssertUnwindSafe(|| driver::run(seed)));
    let panics = PANICS.take().unwrap_or_default();
    plant(None);
    common::rng::seed(None);
    let mut outcome = outcome.unwrap_or_else(|_| Outcome { trace: String::new(), problems: Vec::new() });
    outcome.problems.splice(0..0, panics);
    outcome
}

/// Hands the numbers from `first` on to all cores. Returns what `work` returned, in order of the numbers.
pub(crate) fn on_all_cores<T: Send>(first: u64, count: u64, work: impl Fn(u64) -> Option<T> + Sync) -> Vec<(u64, T)> {
    let (next, found) = (AtomicU64::new(first), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= first + count {
                        return;
                    }
                    if let Some(result) = work(number) {
                        found.lock().unwrap().push((number, result));
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap();
    found.sort_by_key(|(number, _)| *number);
    found
}

#[test]
fn no_seed_breaks_an_invariant() {
    let (first, seeds) = (number("ENCAJE_SIM_FIRST").unwrap_or(FIRST), number("ENCAJE_SIM_SEEDS").unwrap_or(SEEDS));
    let broken = on_all_cores(first, seeds, |seed| {
        let problems = run(seed, None).problems;
        if seeds > SEEDS && !problems.is_empty() {
            // Hours may pass until the end.
            eprintln!("ENCAJE_SIM_SEED={seed}: {problems:#?}");
        }
        (!problems.is_empty()).then_some(problems)
    });
    if seeds > SEEDS {
        eprintln!("{seeds} seeds from {first} on, {} broken", broken.len());
    }
    let list: Vec<String> =
        broken.iter().take(10).map(|(seed, problems)| format!("ENCAJE_SIM_SEED={seed}: {problems:#?}")).collect();
    assert!(broken.is_empty(), "{} of {seeds} seeds are broken:\n{}", broken.len(), list.join("\n"));
}

#[test]
fn one_seed() {
    tracing_subscriber::fmt().with_env_filter(EnvFilter::from_default_env()).with_writer(std::io::stderr).init();
    let seed = number("ENCAJE_SIM_SEED").unwrap_or(FIRST);
    let outcome = run(seed, None);
    assert!(outcome.problems.is_empty(), "ENCAJE_SIM_SEED={seed}: {:#?}", outcome.problems);
}

#[test]
fn the_same_seed_is_the_same_history() {
    let differing = on_all_cores(FIRST, 20, |seed| {
        let (first, second) = (run(seed, None).trace, run(seed, None).trace);
        (first != second).then_some((first, second))
    });
    assert!(differing.is_empty(), "{differing:?}");
    assert_ne!(run(1, None).trace, run(2, None).trace);
}
