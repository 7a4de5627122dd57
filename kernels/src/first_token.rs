//! Attention from the first token of each text without projecting keys and values, for the last layer of models with
//! CLS pooling.
//!
//! A key is `K x + k`, so its product with a query `q` is `(Kᵀ q) · x` plus a constant, which drops out of the
//! softmax. A value is `V x + v`, and weights sum to one: the context is `V (Σ w x) + v`. Two products per text
//! replace two per token.

use super::Scoring;
use super::attention::softmax;
use super::matmul::{Matrix, MatrixMut, matmul};
use super::rows_view::RowsView;

/// Texts per block, so that the weights are read once for all of them. Short blocks are padded with zeros: the gemm
/// crate sums in another order for one row than for several, and a text's result must not depend on its neighbours.
const TEXT_BLOCK: usize = 16;

/// The weights of keys and values, `[heads * size, inputs]` as in the model file, and the bias of the values.
#[derive(Debug, Clone, Copy)]
pub struct KeysValues<'a> {
    /// Of keys.
    pub keys: &'a [f32],
    /// Of values.
    pub values: &'a [f32],
    /// Of values, `heads * size`. (The bias of keys adds the same to every score.)
    pub bias: &'a [f32],
}

/// Returns the context of one query per text, `heads.count * heads.size` numbers each. Text `i` has the rows
/// `offsets[i]..offsets[i + 1]` of `x`; `queries` has a row per text.
///
/// # Panics
/// When shapes do not fit each other.
pub fn attend_first_token(
    queries: RowsView<'_>,
    x: RowsView<'_>,
    offsets: &[u32],
    weights: KeysValues<'_>,
    Scoring { heads, bias }: Scoring<'_>,
) -> Vec<f32> {
    let (size, width) = (heads.size, heads.count * heads.size);
    let inputs = weights.keys.len() / width;
    let projected_width = heads.count * inputs;
    let mut out = Vec::with_capacity(queries.rows * width);
    let (mut scores, mut query_block, mut context) =
        (Vec::new(), vec![0.0; TEXT_BLOCK * width], vec![0.0; TEXT_BLOCK * width]);
    // For each text and head: first `Kᵀ q`, then the weighted mean of the rows of `x`.
    let mut projected = vec![0.0; TEXT_BLOCK * projected_width];
    for first in (0..queries.rows).step_by(TEXT_BLOCK) {
        let queries = queries.block(first, TEXT_BLOCK);
        query_block.fill(0.0);
        for (row, query_block) in query_block.chunks_exact_mut(width).enumerate().take(queries.rows) {
            query_block.copy_from_slice(&queries.data[row * queries.stride..][..width]);
        }
        for head in 0..heads.count {
            let query = Matrix::new(&query_block[head * size..], TEXT_BLOCK, size, width);
            let projected = MatrixMut::new(&mut projected[head * inputs..], TEXT_BLOCK, inputs, projected_width);
            matmul(projected, query, head_rows(weights.keys, head, size, inputs), 1.0 / (size as f32).sqrt());
        }
        for (projected, span) in projected.chunks_exact_mut(projected_width).zip(offsets[first..].windows(2)) {
            let (start, tokens) = (span[0] as usize, (span[1] - span[0]) as usize);
            let tokens_x = Matrix::new(&x.data[start * x.stride..], tokens, inputs, x.stride);
            scores.resize(heads.count * tokens, 0.0);
            let query = Matrix::new(projected, heads.count, inputs, inputs);
            matmul(MatrixMut::new(&mut scores, heads.count, tokens, tokens), query, tokens_x.transposed(), 1.0);
            if let Some(bias) = bias {
                for (head, scores) in scores.chunks_exact_mut(tokens).enumerate() {
                    scores.iter_mut().zip(bias.row(head, 0, tokens)).for_each(|(score, bias)| *score += bias);
                }
            }
            softmax(&mut scores, tokens);
            let weights = Matrix::new(&scores, heads.count, tokens, tokens);
            matmul(MatrixMut::new(projected, heads.count, inputs, inputs), weights, tokens_x, 1.0);
        }
        for head in 0..heads.count {
            let mean = Matrix::new(&projected[head * inputs..], TEXT_BLOCK, inputs, projected_width);
            let context = MatrixMut::new(&mut context[head * size..], TEXT_BLOCK, size, width);
            matmul(context, mean, head_rows(weights.values, head, size, inputs).transposed(), 1.0);
        }
        out.extend_from_slice(&context[..queries.rows * width]);
    }
    super::activate(&mut out, weights.bias, None);
    out
}

/// Views the rows of a weight that belong to one head.
fn head_rows(weights: &[f32], head: usize, size: usize, inputs: usize) -> Matrix<'_> {
    Matrix::new(&weights[head * size * inputs..], size, inputs, inputs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Heads, Precision, ScoreBias, attend};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn it_equals_attention_with_projected_keys_and_values(
            lengths in prop::collection::vec(1u32..30, 1..40), count in 1usize..4, size in 1usize..20, seed: u32, biased: bool,
        ) {
            let mut state = seed;
            let mut numbers = |length: usize| -> Vec<f32> {
                (0..length).map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 8) as f32 / (1 << 23) as f32 - 1.0
                }).collect()
            };
            let (heads, width) = (Heads { count, size }, count * size);
            let mut offsets = vec![0];
            lengths.iter().for_each(|length| offsets.push(offsets[offsets.len() - 1] + length));
            let tokens = offsets[offsets.len() - 1] as usize;
            let (x, queries) = (numbers(tokens * width), numbers(lengths.len() * width));
            let (keys, values) = (numbers(width * width), numbers(width * width));
            let (key_bias, bias) = (numbers(width), numbers(width));
            let rows = |data, rows| RowsView { data, rows, stride: width };
            let weights = KeysValues { keys: &keys, values: &values, bias: &bias };
            let score_bias = numbers(count * 30);
            let score_bias = ScoreBias { numbers: &score_bias, first: 0, head_stride: 30, query_stride: 0 };
            let scoring = Scoring { heads, bias: biased.then_some(score_bias) };
            let found = attend_first_token(rows(&queries, lengths.len()), rows(&x, tokens), &offsets, weights, scoring);

            let project = |weights: &[f32], bias: &[f32]| -> Vec<f32> {
                let mut out = vec![0.0; tokens * width];
                crate::dot_products(&mut out, &x, weights, width);
                super::super::activate(&mut out, bias, None);
                out
            };
            let (keys, values) = (project(&keys, &key_bias), project(&values, &bias));
            for (text, span) in offsets.windows(2).enumerate() {
                let mut expected = vec![0.0; width];
                let (start, tokens) = (span[0] as usize * width, (span[1] - span[0]) as usize);
                attend(
                    &mut expected, rows(&queries[text * width..], 1), rows(&keys[start..], tokens),
                    rows(&values[start..], tokens), (scoring, Precision::Single), &mut Vec::new(),
                );
                for (found, expected) in found[text * width..].iter().zip(&expected) {
                    prop_assert!((found - expected).abs() <= 5e-5 * (1.0 + expected.abs()), "{found} for {expected}");
                }
            }
        }
    }

    #[test]
    fn a_text_gives_the_same_bits_in_every_place_of_every_batch() {
        let (heads, width) = (Heads { count: 4, size: 24 }, 96);
        let number = |at: usize| (at * 7919 % 1000) as f32 / 500.0 - 1.0;
        let numbers = |length: usize, from: usize| -> Vec<f32> { (from..from + length).map(number).collect() };
        let offsets: Vec<u32> = (0..=37).map(|text| text * 5).collect();
        let (x, queries) = (numbers(37 * 5 * width, 3), numbers(37 * width, 5));
        let (keys, values, bias) = (numbers(width * width, 11), numbers(width * width, 13), numbers(width, 17));
        let weights = KeysValues { keys: &keys, values: &values, bias: &bias };
        let rows = |data, rows| RowsView { data, rows, stride: width };
        let all = attend_first_token(rows(&queries, 37), rows(&x, 37 * 5), &offsets, weights, heads.into());
        for text in 0..37 {
            let alone = attend_first_token(
                rows(&queries[text * width..], 1),
                rows(&x[text * 5 * width..], 5),
                &[0, 5],
                weights,
                heads.into(),
            );
            assert_eq!(alone, all[text * width..][..width], "text {text}");
        }
    }
}
