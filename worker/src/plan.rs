//! PURE: what is computed for a chunk and where the results go. Exact repeats are computed once; batches are packed by the
//! engine's rule; results come back in any order and end in the order of the records.

use std::collections::HashMap;

use dataset::{RejectReason, RowStatus};
use engine::{Batch, pack};

/// What tokenizing made of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Row {
    /// Its token ids.
    Tokens { ids: Vec<u32>, truncated: bool },
    /// An earlier output has its vector.
    Reused { n_tokens: i32, truncated: bool },
    /// Why there are none.
    Rejected(RejectReason),
}

/// One forward pass of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedBatch {
    /// The token ids.
    pub(crate) batch: Batch,
    /// For each row of the batch: which of the chunk's distinct texts it is.
    pub(crate) places: Vec<usize>,
    /// Records that get their vector from this batch.
    pub(crate) rows: u64,
    /// Their tokens.
    pub(crate) tokens: u64,
}

/// A chunk, ready to be computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChunkPlan {
    /// Forward passes, longest texts first.
    pub(crate) batches: Vec<PlannedBatch>,
    /// Where the vectors go.
    pub(crate) layout: Layout,
}

/// Which record takes which vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// What becomes of each record.
    status: Vec<RowStatus>,
    /// For each record: its place among the distinct texts.
    place_of_row: Vec<Option<usize>>,
    /// Number of distinct texts.
    distinct: usize,
}

/// Plans a chunk. The same rows and budget give the same batches on every worker.
pub(crate) fn plan(rows: &[Row], token_budget: usize) -> ChunkPlan {
    let (firsts, place_of_row) = distinct(rows);
    let texts: Vec<&[u32]> = firsts.iter().map(|&row| ids(&rows[row])).collect();
    let mut copies = vec![0_u64; texts.len()];
    for place in place_of_row.iter().flatten() {
        copies[*place] += 1;
    }
    let lengths: Vec<usize> = texts.iter().map(|ids| ids.len()).collect();
    let planned = |places: Vec<usize>| PlannedBatch {
        batch: places.iter().map(|&place| texts[place]).collect(),
        rows: places.iter().map(|&place| copies[place]).sum(),
        tokens: places.iter().map(|&place| copies[place] * lengths[place] as u64).sum(),
        places,
    };
    let batches = pack(&lengths, token_budget).into_iter().map(planned).collect();
    let status = rows.iter().map(status).collect();
    ChunkPlan { batches, layout: Layout { status, place_of_row, distinct: texts.len() } }
}

/// Returns the first row of each distinct text, and each row's place among them.
fn distinct(rows: &[Row]) -> (Vec<usize>, Vec<Option<usize>>) {
    let mut firsts = Vec::new();
    let mut known: HashMap<&[u32], usize> = HashMap::with_capacity(rows.len());
    let mut places = Vec::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        places.push(match row {
            Row::Rejected(_) | Row::Reused { .. } => None,
            Row::Tokens { ids, .. } => Some(*known.entry(ids).or_insert_with(|| {
                firsts.push(index);
                firsts.len() - 1
            })),
        });
    }
    (firsts, places)
}

fn ids(row: &Row) -> &[u32] {
    match row {
        Row::Tokens { ids, .. } => ids,
        Row::Rejected(_) | Row::Reused { .. } => &[],
    }
}

fn status(row: &Row) -> RowStatus {
    match row {
        Row::Tokens { ids, truncated } => {
            let n_tokens = i32::try_from(ids.len()).expect("a text is cut to far fewer than 2^31 tokens");
            RowStatus { n_tokens, truncated: *truncated, error: None }
        }
        Row::Reused { n_tokens, truncated } => RowStatus { n_tokens: *n_tokens, truncated: *truncated, error: None },
        Row::Rejected(reason) => RowStatus { n_tokens: 0, truncated: false, error: Some(*reason) },
    }
}

/// Rows whose vectors an earlier output has, and their tokens.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reused {
    pub(crate) rows: u64,
    pub(crate) tokens: u64,
}

/// Counts the rows whose vectors an earlier output has.
pub(crate) fn reused(rows: &[Row]) -> Reused {
    let mut sum = Reused::default();
    for row in rows {
        if let Row::Reused { n_tokens, .. } = row {
            sum.rows += 1;
            sum.tokens += u64::from(n_tokens.unsigned_abs());
        }
    }
    sum
}

impl Layout {
    /// Returns the first rejected record, counted within the chunk.
    pub(crate) fn first_reject(&self) -> Option<(usize, RejectReason)> {
        self.status.iter().enumerate().find_map(|(row, status)| status.error.map(|reason| (row, reason)))
    }

    /// Returns the number of rejected records.
    pub(crate) fn rejects(&self) -> u64 {
        self.status.iter().filter(|status| status.error.is_some()).count() as u64
    }

    /// Returns the number of records that repeat an earlier one of the chunk.
    pub(crate) fn repeats(&self) -> u64 {
        (self.place_of_row.iter().flatten().count() - self.distinct) as u64
    }

    /// Returns room for the vectors of the distinct texts.
    pub(crate) fn room(&self, dimensions: usize) -> Vec<f32> {
        vec![0.0; self.distinct * dimensions]
    }

    /// Spreads the vectors of the distinct texts over the records. A record whose vector is not finite is rejected.
    pub(crate) fn scatter(mut self, distinct: &[f32], dimensions: usize) -> (Vec<f32>, Vec<RowStatus>) {
        let mut vectors = vec![0.0; self.status.len() * dimensions];
        let finite: Vec<bool> =
            distinct.chunks_exact(dimensions).map(|vector| vector.iter().all(|value| value.is_finite())).collect();
        for (row, place) in self.place_of_row.iter().enumerate() {
            let Some(place) = *place else { continue };
            if finite[place] {
                let vector = &distinct[place * dimensions..][..dimensions];
                vectors[row * dimensions..][..dimensions].copy_from_slice(vector);
            } else {
                self.status[row].error = Some(RejectReason::NonFinite);
            }
        }
        (vectors, self.status)
    }
}

/// Puts the result of a batch where its texts belong among the distinct ones.
pub(crate) fn gather(room: &mut [f32], places: &[usize], result: &[f32], dimensions: usize) {
    for (vector, &place) in result.chunks_exact(dimensions).zip(places) {
        room[place * dimensions..][..dimensions].copy_from_slice(vector);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A stand-in for the model: the vector of a text is its length and its sum.
    fn embed(batch: &Batch) -> Vec<f32> {
        (0..batch.rows()).flat_map(|row| vector(batch.row(row))).collect()
    }

    fn vector(ids: &[u32]) -> [f32; 2] {
        [ids.len() as f32, ids.iter().sum::<u32>() as f32]
    }

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let tokens = (prop::collection::vec(0..4_u32, 1..6), any::<bool>())
            .prop_map(|(ids, truncated)| Row::Tokens { ids, truncated });
        let reused = Row::Reused { n_tokens: 7, truncated: true };
        let row = prop_oneof![5 => tokens, 1 => Just(Row::Rejected(RejectReason::EmptyText)), 1 => Just(reused)];
        prop::collection::vec(row, 0..60)
    }

    proptest! {
        #[test]
        fn every_record_gets_the_vector_of_its_own_text_in_whatever_order_batches_end(
            rows in rows(), budget in 1..30_usize, reversed in any::<bool>(),
        ) {
            let ChunkPlan { mut batches, layout } = plan(&rows, budget);
            if reversed {
                batches.reverse();
            }
            let mut room = layout.room(2);
            for planned in &batches {
                gather(&mut room, &planned.places, &embed(&planned.batch), 2);
            }
            let (vectors, status) = layout.scatter(&room, 2);
            prop_assert_eq!(status.len(), rows.len());
            for (index, row) in rows.iter().enumerate() {
                match row {
                    Row::Tokens { ids, truncated } => {
                        prop_assert_eq!(&vectors[index * 2..][..2], &vector(ids));
                        let expected = RowStatus { n_tokens: ids.len() as i32, truncated: *truncated, error: None };
                        prop_assert_eq!(status[index], expected);
                    }
                    Row::Rejected(reason) => prop_assert_eq!(status[index].error, Some(*reason)),
                    Row::Reused { n_tokens, .. } => prop_assert_eq!(status[index].n_tokens, *n_tokens),
                }
            }
        }

        #[test]
        fn no_text_is_computed_twice_and_all_rows_are_counted(rows in rows(), budget in 1..30_usize) {
            let ChunkPlan { batches, layout } = plan(&rows, budget);
            let texts: Vec<&[u32]> = batches.iter().flat_map(|b| (0..b.batch.rows()).map(|row| b.batch.row(row))).collect();
            let distinct: std::collections::HashSet<&[u32]> = texts.iter().copied().collect();
            prop_assert_eq!(distinct.len(), texts.len());
            let counted: u64 = batches.iter().map(|batch| batch.rows).sum();
            let reused = rows.iter().filter(|row| matches!(row, Row::Reused { .. })).count() as u64;
            let others = rows.len() as u64 - reused - layout.rejects();
            prop_assert_eq!(counted, others);
            prop_assert_eq!(layout.repeats() + texts.len() as u64, others);
            let tokens: usize = rows.iter().map(|row| ids(row).len()).sum();
            prop_assert_eq!(batches.iter().map(|batch| batch.tokens).sum::<u64>(), tokens as u64);
            prop_assert!(batches.iter().all(|b| b.batch.tokens() <= budget || b.batch.rows() == 1));
        }
    }

    #[test]
    fn a_vector_that_is_not_finite_rejects_every_record_that_shares_it() {
        let row = |id| Row::Tokens { ids: vec![id], truncated: false };
        let ChunkPlan { batches, layout } = plan(&[row(7), row(8), row(7)], 100);
        let mut room = layout.room(1);
        let result: Vec<f32> = (0..2).map(|at| if batches[0].batch.row(at) == [7] { f32::NAN } else { 1.0 }).collect();
        gather(&mut room, &batches[0].places, &result, 1);
        let (vectors, status) = layout.scatter(&room, 1);
        let errors: Vec<_> = status.iter().map(|row| row.error).collect();
        assert_eq!(errors, [Some(RejectReason::NonFinite), None, Some(RejectReason::NonFinite)]);
        assert_eq!(vectors, [0.0, 1.0, 0.0]);
    }
}
