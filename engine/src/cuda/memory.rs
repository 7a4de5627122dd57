//! How many tokens a GPU takes at once: found by measuring, made smaller where memory runs out, and remembered. Pure.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::device::Fault;
use crate::Batch;

/// Tokens of a batch where memory is no question: more gain nothing, the matrix products are large enough.
const TOKENS_BEST: usize = 32 * 1024;
/// The share of free memory that batches may take, in percent: the rest is for what libraries take as they run.
const MEMORY_PERCENT: usize = 80;

/// The most tokens of a batch, lowered for good where memory ran out.
#[derive(Debug)]
pub(crate) struct BatchBudget {
    tokens: AtomicUsize,
}

impl BatchBudget {
    /// Returns the budget for `free` bytes that `streams` batches share at a time, each with `bytes_per_token`.
    pub(crate) fn measured(free: usize, bytes_per_token: usize, streams: usize) -> BatchBudget {
        let fitting = free / 100 * MEMORY_PERCENT / (bytes_per_token.max(1) * streams.max(1));
        BatchBudget { tokens: AtomicUsize::new(fitting.clamp(1, TOKENS_BEST)) }
    }

    /// Returns the most tokens of a batch.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens.load(Ordering::Relaxed)
    }

    /// Computes a batch by `attempt`, in as few parts as memory allows, and returns the vectors in its order.
    ///
    /// # Errors
    /// What `attempt` says, where it is something else than too little memory, or too little for one row alone.
    pub(crate) fn run_in_parts(
        &self,
        batch: &Batch,
        mut attempt: impl FnMut(&Batch) -> Result<Vec<f32>, Fault>,
    ) -> Result<Vec<f32>, Fault> {
        let mut vectors = Vec::new();
        let mut waiting = Vec::new();
        waiting.push(0..batch.rows());
        while let Some(rows) = waiting.pop() {
            let tokens = (batch.offsets[rows.end] - batch.offsets[rows.start]) as usize;
            if tokens > self.tokens() && rows.len() > 1 {
                waiting.extend(halves(rows));
                continue;
            }
            let part;
            let whole = match rows.len() == batch.rows() {
                true => batch,
                false => {
                    part = rows.clone().map(|row| batch.row(row)).collect();
                    &part
                }
            };
            match attempt(whole) {
                Ok(more) => vectors.extend(more),
                Err(Fault::OutOfMemory { .. }) if rows.len() > 1 => {
                    self.tokens.fetch_min((tokens / 2).max(1), Ordering::Relaxed);
                    waiting.extend(halves(rows));
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(vectors)
    }
}

/// The second half first: what is pushed last is computed next.
fn halves(rows: Range<usize>) -> [Range<usize>; 2] {
    let middle = rows.start + rows.len() / 2;
    [middle..rows.end, rows.start..middle]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn batch(lengths: &[usize]) -> Batch {
        let mut id = 0;
        let rows = lengths.iter().map(|&length| {
            id += 1;
            vec![id; length]
        });
        rows.collect()
    }

    /// A GPU with room for `room` tokens, whose vector of a text is its id.
    fn device(room: usize, sizes: &mut Vec<usize>) -> impl FnMut(&Batch) -> Result<Vec<f32>, Fault> {
        move |batch| {
            sizes.push(batch.tokens());
            if batch.tokens() > room {
                return Err(Fault::OutOfMemory { bytes: batch.tokens() });
            }
            Ok((0..batch.rows()).map(|row| batch.row(row)[0] as f32).collect())
        }
    }

    #[test]
    fn the_crash_of_the_notebook_is_an_ordinary_batch() {
        let (budget, mut sizes) = (BatchBudget::measured(2 << 30, 20_000, 2), Vec::new());
        let texts = batch(&[512; 3000]);
        let vectors = budget.run_in_parts(&texts, device(40_000, &mut sizes)).unwrap();
        assert_eq!(vectors, (1..=3000).map(|id| id as f32).collect::<Vec<_>>());
        assert!(sizes.iter().all(|&tokens| tokens <= budget.tokens()), "nothing runs out of memory: {sizes:?}");
    }

    #[test]
    fn what_did_not_fit_is_not_tried_again() {
        let (budget, mut sizes) = (BatchBudget::measured(usize::MAX, 1, 1), Vec::new());
        budget.run_in_parts(&batch(&[100; 320]), device(9_000, &mut sizes)).unwrap();
        let failures = sizes.iter().filter(|&&tokens| tokens > 9_000).count();
        assert_eq!((failures, budget.tokens()), (2, 8_000));
        sizes.clear();
        budget.run_in_parts(&batch(&[100; 320]), device(9_000, &mut sizes)).unwrap();
        assert!(sizes.iter().all(|&tokens| tokens <= 8_000), "{sizes:?}");
    }

    #[test]
    fn one_row_that_does_not_fit_is_an_error_and_other_faults_are_not_retried() {
        let budget = BatchBudget::measured(1 << 30, 1, 1);
        let failed = budget.run_in_parts(&batch(&[5, 500]), device(100, &mut Vec::new()));
        assert_eq!(failed, Err(Fault::OutOfMemory { bytes: 500 }));
        let mut calls = 0;
        let lost = budget.run_in_parts(&batch(&[5, 5]), |_| {
            calls += 1;
            Err(Fault::Lost { reason: "an illegal address".into() })
        });
        assert_eq!((lost, calls), (Err(Fault::Lost { reason: "an illegal address".into() }), 1));
    }

    proptest! {
        #[test]
        fn every_row_comes_back_once_and_in_order(lengths in prop::collection::vec(1usize..50, 1..80), room in 50usize..500) {
            let budget = BatchBudget::measured(1 << 30, 1, 1);
            let vectors = budget.run_in_parts(&batch(&lengths), device(room, &mut Vec::new())).unwrap();
            prop_assert_eq!(vectors, (1..=lengths.len()).map(|id| id as f32).collect::<Vec<_>>());
        }
    }
}
