//! Scaled dot-product attention within one text, head by head, on strided views, without padding.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_bf16;
mod bias;
mod disentangled;
mod portable;
#[cfg(target_arch = "x86_64")]
mod query_block;
mod window;

use super::activation::exp;
use super::matmul::{Matrix, MatrixMut, matmul};
use super::rows_view::RowsView;
use super::{sum, vectorized};

pub use self::bias::ScoreBias;
pub use self::disentangled::{RelativePositions, attend_disentangled};
pub use self::window::{Reach, Window, attend_within};

/// The layout of queries, keys and values: all heads side by side.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Number of heads.
    pub count: usize,
    /// Components of a head.
    pub size: usize,
}

/// The precision of the products of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats.
    Single,
    /// bfloat16 where the processor multiplies it faster, else 32-bit floats.
    Half,
}

/// Heads up to this size are computed in f32: between 2.3 times as fast as in bfloat16 (16 tokens) and a fifth slower (512).
#[cfg(target_arch = "x86_64")]
const SINGLE_HEAD_SIZE_MAX: usize = 16;

/// Texts up to this many tokens are computed in f32: rounding and laying out costs more than the products gain.
#[cfg(target_arch = "x86_64")]
const SINGLE_TOKENS_MAX: usize = 31;

/// What the scores of a text are computed with, beside queries and keys.
#[derive(Clone, Copy)]
pub struct Scoring<'a> {
    /// The heads, by whose size scores are scaled.
    pub heads: Heads,
    /// Added to the scaled scores.
    pub bias: Option<ScoreBias<'a>>,
}

impl From<Heads> for Scoring<'_> {
    fn from(heads: Heads) -> Self {
        Scoring { heads, bias: None }
    }
}

/// Computes the attention of the queries of one text to its keys and values (a row per token; a row per query).
///
/// Overwrites `out` with the context, `heads.count * heads.size` numbers per query. `scratch` is reused between calls.
///
/// # Panics
/// When a slice is too short for its rows, or a text has no token.
pub fn attend(
    out: &mut [f32],
    queries: RowsView<'_>,
    keys: RowsView<'_>,
    values: RowsView<'_>,
    (scoring, precision): (Scoring<'_>, Precision),
    scratch: &mut Vec<f32>,
) {
    attend_visible(out, queries, (keys, values), (scoring, None), precision, scratch);
}

/// As [`attend`], to the keys inside the window.
#[expect(
    unsafe_code,
    reason = "calls a function compiled for instructions that were detected, on rows that were checked"
)]
fn attend_visible(
    out: &mut [f32],
    queries: RowsView<'_>,
    (keys, values): (RowsView<'_>, RowsView<'_>),
    (scoring, window): (Scoring<'_>, Option<Window>),
    precision: Precision,
    scratch: &mut Vec<f32>,
) {
    let heads = scoring.heads;
    let width = heads.count * heads.size;
    for rows in [queries, keys, values] {
        assert!(
            rows.rows > 0 && rows.data.len() >= (rows.rows - 1) * rows.stride + width,
            "rows lie inside their slice"
        );
    }
    assert!(values.rows == keys.rows && out.len() == queries.rows * width, "shapes fit each other");
    #[cfg(target_arch = "x86_64")]
    if avx512::detected() {
        // SAFETY: the instructions were detected, and all rows were checked to lie inside their slices.
        let gains = heads.size > SINGLE_HEAD_SIZE_MAX && keys.rows > SINGLE_TOKENS_MAX;
        return unsafe {
            match precision == Precision::Half && gains && avx512_bf16::detected() {
                true => avx512_bf16::attend(out, queries, (keys, values), (scoring, window), scratch),
                false => avx512::attend(out, queries, (keys, values), (scoring, window), scratch),
            }
        };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = precision;
    match portable::supports(heads) {
        true => portable::attend(out, queries, (keys, values), (scoring, window), scratch),
        false => attend_generic(out, queries, (keys, values), (scoring, window), scratch),
    }
}

/// Attention for any head size; the fast paths are tested against it.
fn attend_generic(
    out: &mut [f32],
    queries: RowsView<'_>,
    (keys, values): (RowsView<'_>, RowsView<'_>),
    (Scoring { heads, bias }, window): (Scoring<'_>, Option<Window>),
    scores: &mut Vec<f32>,
) {
    let (width, tokens) = (heads.count * heads.size, keys.rows);
    let scale = 1.0 / (heads.size as f32).sqrt();
    scores.resize(queries.rows * tokens, 0.0);
    for head in 0..heads.count {
        let at = head * heads.size;
        let columns_of = |rows| columns_of(rows, at, heads.size);
        matmul(
            MatrixMut::new(scores, queries.rows, tokens, tokens),
            columns_of(queries),
            columns_of(keys).transposed(),
            scale,
        );
        if let Some(bias) = bias {
            for (query, scores) in scores.chunks_exact_mut(tokens).enumerate() {
                scores.iter_mut().zip(bias.row(head, query, tokens)).for_each(|(score, bias)| *score += bias);
            }
        }
        if let Some(window) = window {
            for (query, scores) in scores.chunks_exact_mut(tokens).enumerate() {
                window.hide_others(scores, query);
            }
        }
        softmax(scores, tokens);
        matmul(
            MatrixMut::new(&mut out[at..], queries.rows, heads.size, width),
            Matrix::new(scores, queries.rows, tokens, tokens),
            columns_of(values),
            1.0,
        );
    }
}

/// Views `columns` columns of the rows, from `first` on.
fn columns_of(rows: RowsView<'_>, first: usize, columns: usize) -> Matrix<'_> {
    Matrix::new(&rows.data[first..], rows.rows, columns, rows.stride)
}

/// Replaces each row by its softmax.
pub(super) fn softmax(scores: &mut [f32], width: usize) {
    vectorized(
        #[inline(always)]
        || {
            for row in scores.chunks_exact_mut(width) {
                let max = row.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
                for score in row.iter_mut() {
                    *score = exp(*score - max);
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
    use proptest::prelude::*;

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
    fn a_query_attends_to_its_matching_key() {
        // Two heads of two: the key of token 1 matches strongly in head 0, and the keys of head 1 are equal.
        let heads = Heads { count: 2, size: 2 };
        let queries = [10.0, 0.0, 0.0, 0.0];
        let keys = [0.0, 0.0, 1.0, 1.0, 10.0, 0.0, 1.0, 1.0];
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let mut out = [0.0; 4];
        let rows = |data| RowsView { data, rows: 2, stride: 4 };
        let query = RowsView { rows: 1, ..rows(&queries[..]) };
        for precision in [Precision::Single, Precision::Half] {
            let (keys, values) = (rows(&keys[..]), rows(&values[..]));
            attend(&mut out, query, keys, values, (heads.into(), precision), &mut Vec::new());
            for (found, expected) in out.iter().zip([5.0, 6.0, 5.0, 6.0]) {
                assert!((found - expected).abs() < 1e-5, "{out:?}");
            }
        }
    }

    /// Arbitrary sizes, and those of real models.
    fn head_sizes() -> impl Strategy<Value = usize> {
        prop_oneof![1usize..80, (1usize..5).prop_map(|sixteens| 16 * sixteens)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(120))]

        #[test]
        fn every_kernel_agrees_with_the_generic_one(
            query_count in 1usize..20, tokens in 1usize..150, count in 1usize..4, size in head_sizes(), gap in 0usize..9,
            offset in 0usize..17, seed: u32, biased: bool,
        ) {
            let mut state = seed;
            let mut numbers = |length: usize| -> Vec<f32> {
                (0..length).map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 8) as f32 / (1 << 22) as f32 - 2.0
                }).collect()
            };
            let (heads, stride) = (Heads { count, size }, count * size + gap);
            // Slices end with their last row, so that a read beyond it leaves the allocation.
            let length = |rows: usize| offset + (rows - 1) * stride + count * size;
            let (q, k, v) = (numbers(length(query_count)), numbers(length(tokens)), numbers(length(tokens)));
            let view = |data, rows| RowsView { data, rows, stride };
            let (q, k, v) = (view(&q[offset..], query_count), view(&k[offset..], tokens), view(&v[offset..], tokens));
            // Toeplitz for several queries of a text, as where positions are relative.
            let numbers_of_bias = numbers(count * (tokens + query_count - 1));
            let bias = ScoreBias {
                numbers: &numbers_of_bias, first: query_count - 1, head_stride: tokens + query_count - 1, query_stride: -1,
            };
            let scoring = Scoring { heads, bias: biased.then_some(bias) };
            let (mut found, mut expected) = (vec![9.0; query_count * count * size], vec![9.0; query_count * count * size]);
            attend_generic(&mut expected, q, (k, v), (scoring, None), &mut Vec::new());
            attend(&mut found, q, k, v, (scoring, Precision::Single), &mut vec![f32::NAN; 7]);
            for (found, expected) in found.iter().zip(&expected) {
                prop_assert!((found - expected).abs() <= 2e-5, "{found} for {expected}");
            }
            // bfloat16 has eight bits: a weight of 1 is off by up to 2^-9, and a product has two numbers of up to 2.
            attend(&mut found, q, k, v, (scoring, Precision::Half), &mut vec![f32::NAN; 7]);
            for (found, expected) in found.iter().zip(&expected) {
                prop_assert!((found - expected).abs() <= 5e-2, "{found} for {expected}, in avx512_bf16");
            }
            if portable::supports(heads) {
                portable::attend(&mut found, q, (k, v), (scoring, None), &mut vec![f32::NAN; 7]);
                for (found, expected) in found.iter().zip(&expected) {
                    prop_assert!((found - expected).abs() <= 2e-5, "{found} for {expected}, in portable");
                }
            }
        }
    }

    #[test]
    fn short_texts_and_small_heads_are_computed_in_f32() {
        for (tokens, size) in [(16, 64), (40, 8)] {
            let heads = Heads { count: 2, size };
            let numbers: Vec<f32> = (0..tokens * 2 * size).map(|i| (i * 7 % 101) as f32 / 25.3 - 2.0).collect();
            let rows = RowsView { data: &numbers, rows: tokens, stride: 2 * size };
            let [single, half] = [Precision::Single, Precision::Half].map(|precision| {
                let mut out = vec![0.0; numbers.len()];
                attend(&mut out, rows, rows, rows, (heads.into(), precision), &mut Vec::new());
                out
            });
            assert_eq!(single, half, "{tokens} tokens, heads of {size}");
        }
    }

    #[test]
    fn a_non_finite_query_affects_only_its_own_row() {
        let heads = Heads { count: 1, size: 2 };
        let queries = [1.0, 0.0, f32::NAN, 0.0, 0.0, 1.0];
        let keys = [1.0, 1.0, 2.0, 0.0];
        let mut out = [0.0; 6];
        let rows = |data, rows| RowsView { data, rows, stride: 2 };
        for precision in [Precision::Single, Precision::Half] {
            let keys = rows(&keys, 2);
            attend(&mut out, rows(&queries, 3), keys, keys, (heads.into(), precision), &mut Vec::new());
            let finite: Vec<bool> = out.iter().map(|x| x.is_finite()).collect();
            assert_eq!(finite, [true, true, false, false, true, true], "{out:?}");
        }
    }
}
