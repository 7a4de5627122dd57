//! Numbers that are added to the scores before the softmax: relative positions as in T5 and `MPNet`, or slopes as in `ALiBi`.

/// A bias for each head, query and key: `numbers[first + head * head_stride + query * query_stride + key]`.
///
/// A query stride of the number of keys is a full table. One of -1 is a bias by `key - query`, for texts of any length
/// from one row of numbers per head; `first` is then the index of distance 0.
#[derive(Debug, Clone, Copy)]
pub struct ScoreBias<'a> {
    /// All of them.
    pub numbers: &'a [f32],
    /// Index for the first head, query and key.
    pub first: usize,
    /// From one head to the next.
    pub head_stride: usize,
    /// From one query to the next.
    pub query_stride: isize,
}

impl<'a> ScoreBias<'a> {
    /// Returns the bias of a query for the first `keys` keys.
    ///
    /// # Panics
    /// When there are too few numbers.
    pub(crate) fn row(&self, head: usize, query: usize, keys: usize) -> &'a [f32] {
        let first = self.first + head * self.head_stride;
        let first = first.checked_add_signed(query as isize * self.query_stride);
        &self.numbers[first.expect("distances are at most those of the table")..][..keys]
    }

    /// Adds the bias of a query to its scores, which are still to be multiplied by `1 / unscale`. Columns beyond `keys`
    /// repeat the last key.
    #[inline(always)]
    pub(super) fn add_to(&self, scores: &mut [f32], (head, query, keys): (usize, usize, usize), unscale: f32) {
        let (scores, padding) = scores.split_at_mut(keys);
        for (score, bias) in scores.iter_mut().zip(self.row(head, query, keys)) {
            *score += bias * unscale;
        }
        padding.fill(scores[keys - 1]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Heads, Precision, Scoring, attend};
    use super::*;
    use crate::RowsView;

    /// Softmax attention in f64, one score at a time.
    fn reference(rows: [&[f32]; 3], tokens: usize, Heads { count, size }: Heads, bias: &[f32]) -> Vec<f64> {
        let width = count * size;
        let number =
            |rows: &[f32], token: usize, head: usize, at: usize| f64::from(rows[token * width + head * size + at]);
        let mut out = vec![0.0; tokens * width];
        for head in 0..count {
            for query in 0..tokens {
                let score = |key: usize| {
                    let dot: f64 =
                        (0..size).map(|at| number(rows[0], query, head, at) * number(rows[1], key, head, at)).sum();
                    dot / (size as f64).sqrt() + f64::from(bias[(head * tokens + query) * tokens + key])
                };
                let weights: Vec<f64> = (0..tokens).map(|key| score(key).exp()).collect();
                let total: f64 = weights.iter().sum();
                for at in 0..size {
                    let sum: f64 = (0..tokens).map(|key| weights[key] * number(rows[2], key, head, at)).sum();
                    out[query * width + head * size + at] = sum / total;
                }
            }
        }
        out
    }

    #[test]
    fn a_bias_is_added_to_the_scaled_scores_of_each_head_query_and_key() {
        let mut state = 7u32;
        let mut numbers = |count: usize| -> Vec<f32> {
            (0..count)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 8) as f32 / (1 << 23) as f32 - 1.0
                })
                .collect()
        };
        for (tokens, heads) in
            [(1, Heads { count: 2, size: 3 }), (7, Heads { count: 2, size: 16 }), (33, Heads { count: 3, size: 20 })]
        {
            let width = heads.count * heads.size;
            let [queries, keys, values] = [(); 3].map(|()| numbers(tokens * width));
            let table: Vec<f32> = numbers(heads.count * tokens * tokens).iter().map(|x| 4.0 * x).collect();
            let bias =
                ScoreBias { numbers: &table, first: 0, head_stride: tokens * tokens, query_stride: tokens as isize };
            let expected = reference([&queries, &keys, &values], tokens, heads, &table);
            let rows = |data| RowsView { data, rows: tokens, stride: width };
            for (precision, error_max) in [(Precision::Single, 1e-5), (Precision::Half, 3e-2)] {
                let mut found = vec![0.0; tokens * width];
                let scoring = Scoring { heads, bias: Some(bias) };
                let (queries, keys, values) = (rows(&queries[..]), rows(&keys[..]), rows(&values[..]));
                attend(&mut found, queries, keys, values, (scoring, precision), &mut Vec::new());
                for (found, expected) in found.iter().zip(&expected) {
                    assert!(
                        (f64::from(*found) - expected).abs() < error_max,
                        "{tokens} tokens: {found} for {expected}"
                    );
                }
            }
        }
    }
}
