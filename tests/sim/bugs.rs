//! The proof of the proof: every planted bug is found.

use proto::planted::Bug;

use crate::{on_all_cores, run};

/// A bug that so many seeds do not find is not found.
const SEEDS: u64 = 200;

#[test]
fn every_planted_bug_is_found_within_200_seeds() {
    let only = std::env::var("ENCAJE_SIM_BUG").ok();
    let missed = on_all_cores(0, Bug::ALL.len() as u64, |number| {
        let bug = Bug::ALL[usize::try_from(number).unwrap()];
        if only.as_ref().is_some_and(|only| *only != format!("{bug:?}")) {
            return None;
        }
        for seed in 1..=SEEDS {
            if let Some(problem) = run(seed, Some(bug)).problems.into_iter().next() {
                eprintln!("{bug:?}: seed {seed}: {problem}");
                return None;
            }
        }
        Some(bug)
    });
    assert!(missed.is_empty(), "not found: {missed:?}");
}
