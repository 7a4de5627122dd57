//! Attention of one text's tokens to each other, head by head, on strided views: nothing is copied, nothing padded.

use super::activation::exp;
use super::matmul::{Matrix, MatrixMut, matmul};
use super::{sum, vectorized};

/// How queries, keys and values of all heads lie in memory.
#[derive(Clone, Copy)]
pub(crate) struct Heads {
    /// Number of heads.
    pub(crate) count: usize,
    /// Components of a head.
    pub(crate) size: usize,
}

/// Attends from the queries of one text to its keys and values.
///
/// `queries` has one row per asking token and `keys` and `values` one per token of the text; rows are `stride` numbers
/// apart. `out` takes the context, `heads.count * heads.size` numbers per query. `scores` is scratch, kept between calls.
pub(crate) fn attend(
    out: &mut [f32],
    (queries, query_stride): (&[f32], usize),
    (keys, values, stride): (&[f32], &[f32], usize),
    tokens: usize,
    heads: Heads,
    scores: &mut Vec<f32>,
) {
    let width = heads.count * heads.size;
    let asking = out.len() / width;
    let scale = 1.0 / (heads.size as f32).sqrt();
    scores.resize(asking * tokens, 0.0);
    for head in 0..heads.count {
        let at = head * heads.size;
        let query = Matrix::new(&queries[at..], asking, heads.size, query_stride);
        let key = Matrix::new(&keys[at..], tokens, heads.size, stride);
        let value = Matrix::new(&values[at..], tokens, heads.size, stride);
        matmul(MatrixMut::new(scores, asking, tokens, tokens), query, key.transposed(), scale);
        softmax(scores, tokens);
        matmul(
            MatrixMut::new(&mut out[at..], asking, heads.size, width),
            Matrix::new(scores, asking, tokens, tokens),
            value,
            1.0,
        );
    }
}

/// Turns each row of scores into weights that add up to one.
fn softmax(scores: &mut [f32], width: usize) {
    vectorized(
        #[inline(always)]
        || {
            for row in scores.chunks_exact_mut(width) {
                let highest = row.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
                for score in row.iter_mut() {
                    *score = exp(*score - highest);
                }
                let scale = 1.0 / sum(row);
                for weight in row.iter_mut() {
                    *weight *= scale;
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_rows_add_up_to_one_however_large_the_scores() {
        let mut scores = [1000.0, 999.0, 0.0, -1000.0, -1000.0, -1000.0];
        softmax(&mut scores, 3);
        assert!((scores[0] - 0.731_058_6).abs() < 1e-6 && scores[2] == 0.0);
        for third in &scores[3..] {
            assert!((third - 1.0 / 3.0).abs() < 1e-6);
        }
    }

    #[test]
    fn a_query_gets_the_value_of_the_key_it_matches() {
        // Two heads of two; token 1's key of head 0 answers strongly, and head 1 sees equal keys.
        let heads = Heads { count: 2, size: 2 };
        let queries = [10.0, 0.0, 0.0, 0.0];
        let keys = [0.0, 0.0, 1.0, 1.0, 10.0, 0.0, 1.0, 1.0];
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let mut out = [0.0; 4];
        attend(&mut out, (&queries, 4), (&keys, &values, 4), 2, heads, &mut Vec::new());
        for (found, expected) in out.iter().zip([5.0, 6.0, 5.0, 6.0]) {
            assert!((found - expected).abs() < 1e-5, "{out:?}");
        }
    }
}
