//! The tokens per batch of a GPU: measured, and lowered when memory runs out. Pure.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::device::Fault;
use crate::Batch;

/// Maximum tokens of a batch: the matrix products are large enough to saturate the GPU.
const TOKENS_BEST: usize = 32 * 1024;
/// Percentage of free memory for batches; the rest is for allocations of the libraries.
const MEMORY_PERCENT: usize = 80;

/// The maximum tokens of a batch, lowered permanently when memory runs out.
#[derive(Debug)]
pub(crate) struct BatchBudget {
    tokens: AtomicUsize,
}

impl BatchBudget {
    /// Returns the budget for `free` bytes shared by `streams` batches at a time, with `bytes_per_token` each.
    pub(crate) fn measured(free: usize, bytes_per_token: usize, streams: usize) -> BatchBudget {
        let fitting = free / 100 * MEMORY_PERCENT / (bytes_per_token.max(1) * streams.max(1));
        BatchBudget { tokens: AtomicUsize::new(fitting.clamp(1, TOKENS_BEST)) }
    }

    pub(crate) fn tokens(&self) -> usize {
        self.tokens.load(Ordering::Relaxed)
    }

    /// Computes a batch by `attempt` in as few parts as memory allows, and returns the vectors in batch order. Fails
    /// with other errors of `attempt`, or if one row alone does not fit.
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

/// The second half first, since the last pushed is computed next.
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

    /// A GPU with memory for `room` tokens, whose vector of a text is its id.
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
    fn the_notebooks_out_of_memory_batch_succeeds() {
        let (budget, mut sizes) = (BatchBudget::measured(2 << 30, 20_000, 2), Vec::new());
        let texts = batch(&[512; 3000]);
        let vectors = budget.run_in_parts(&texts, device(40_000, &mut sizes)).unwrap();
        assert_eq!(vectors, (1..=3000).map(|id| id as f32).collect::<Vec<_>>());
        assert!(sizes.iter().all(|&tokens| tokens <= budget.tokens()), "nothing runs out of memory: {sizes:?}");
    }

    #[test]
    fn a_size_that_failed_is_not_retried() {
        let (budget, mut sizes) = (BatchBudget::measured(usize::MAX, 1, 1), Vec::new());
        budget.run_in_parts(&batch(&[100; 320]), device(9_000, &mut sizes)).unwrap();
        let failures = sizes.iter().filter(|&&tokens| tokens > 9_000).count();
        assert_eq!((failures, budget.tokens()), (2, 8_000));
        sizes.clear();
        budget.run_in_parts(&batch(&[100; 320]), device(9_000, &mut sizes)).unwrap();
        assert!(sizes.iter().all(|&tokens| tokens <= 8_000), "{sizes:?}");
    }

    #[test]
    fn a_row_that_does_not_fit_and_other_faults_are_errors() {
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
        fn split_batches_return_every_row_in_order(lengths in prop::collection::vec(1usize..50, 1..80), room in 50usize..500) {
            let budget = BatchBudget::measured(1 << 30, 1, 1);
            let vectors = budget.run_in_parts(&batch(&lengths), device(room, &mut Vec::new())).unwrap();
            prop_assert_eq!(vectors, (1..=lengths.len()).map(|id| id as f32).collect::<Vec<_>>());
        }
    }
}
