//! Attention in the vectors of any processor: one head of one text at a time, six queries at a time, scores in the
//! first-level cache.
//!
//! Keys are turned round once per head, so that scores of sixteen keys lie side by side; queries and values are read
//! where they lie. With vectors of eight numbers, six rows of two leave just room for what they are multiplied with. A
//! query's context is summed with weights as they come out of the exponential, and divided by their sum at the end.

use pulp::{Arch, Simd, WithSimd};

use super::super::activation::exp;
use super::super::sum;
use super::{Heads, RowsView};

/// Queries that are taken together.
const ROWS: usize = 6;
/// Columns that are summed at once.
const COLUMNS: usize = 16;

/// Whether heads of this size are whole tiles.
pub(super) fn suits(heads: Heads) -> bool {
    heads.size.is_multiple_of(COLUMNS)
}

/// As [`attend`](super::attend), for heads that [suit](suits) it.
pub(super) fn attend(
    out: &mut [f32],
    queries: RowsView<'_>,
    keys: RowsView<'_>,
    values: RowsView<'_>,
    heads: Heads,
    scratch: &mut Vec<f32>,
) {
    let padded = keys.rows.next_multiple_of(COLUMNS);
    scratch.resize((heads.size + ROWS) * padded, 0.0);
    for head in 0..heads.count {
        let at = head * heads.size;
        Arch::new().dispatch(Head {
            out: &mut out[at..],
            width: heads.count * heads.size,
            queries: queries.from_column(at),
            keys: keys.from_column(at),
            values: values.from_column(at),
            size: heads.size,
            scratch: &mut *scratch,
            padded,
        });
    }
}

/// One head of one text: its columns of all rows, and where its context goes, `width` numbers from row to row.
struct Head<'a> {
    out: &'a mut [f32],
    width: usize,
    queries: RowsView<'a>,
    keys: RowsView<'a>,
    values: RowsView<'a>,
    size: usize,
    /// Room for six rows of scores and a row for every component of the keys, `padded` numbers each.
    scratch: &'a mut [f32],
    padded: usize,
}

impl WithSimd for Head<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Head { out, width, queries, keys, values, size, scratch, padded } = self;
        let (scores, turned) = scratch.split_at_mut(ROWS * padded);
        turn(keys, size, padded, turned);
        let scale = 1.0 / (size as f32).sqrt();
        for first in (0..queries.rows).step_by(ROWS) {
            // The last six may be fewer: the last row fills them up, and is not written again.
            let rows = std::array::from_fn(|row| queries.row((first + row).min(queries.rows - 1), size));
            for column in (0..padded).step_by(COLUMNS) {
                product(simd, rows, (&turned[column..], padded), |row, sums| {
                    scores[row * padded + column..][..COLUMNS].copy_from_slice(&sums);
                });
            }
            let sums = weigh(scores, padded, keys.rows, scale);
            let weights = std::array::from_fn(|row| &scores[row * padded..][..keys.rows]);
            for column in (0..size).step_by(COLUMNS) {
                product(simd, weights, (&values.data[column..], values.stride), |row, context| {
                    if first + row < queries.rows {
                        let out = &mut out[(first + row) * width + column..][..COLUMNS];
                        out.iter_mut().zip(context).for_each(|(out, context)| *out = context / sums[row]);
                    }
                });
            }
        }
    }
}

/// Writes keys as columns: component after component, `padded` numbers each. Columns beyond the last key repeat it.
#[inline(always)]
fn turn(keys: RowsView<'_>, size: usize, padded: usize, out: &mut [f32]) {
    for first in (0..padded).step_by(COLUMNS) {
        let rows: [&[f32]; COLUMNS] = std::array::from_fn(|row| keys.row((first + row).min(keys.rows - 1), size));
        for (component, out) in out.chunks_exact_mut(padded).enumerate() {
            for (out, row) in out[first..][..COLUMNS].iter_mut().zip(rows) {
                *out = row[component];
            }
        }
    }
}

/// Sums `left[row][step] * right[step]` over the steps, for six rows and sixteen columns, and hands on row by row. Rows of
/// `right` are `stride` apart.
#[inline(always)]
fn product<S: Simd>(simd: S, left: [&[f32]; ROWS], right: (&[f32], usize), write: impl FnMut(usize, [f32; COLUMNS])) {
    match S::F32_LANES {
        16 => product_of::<S, 1>(simd, left, right, write),
        8 => product_of::<S, 2>(simd, left, right, write),
        4 => product_of::<S, 4>(simd, left, right, write),
        _ => product_of::<S, 16>(simd, left, right, write),
    }
}

/// As [`product`], with `VECTORS` vectors to sixteen columns.
#[inline(always)]
fn product_of<S: Simd, const VECTORS: usize>(
    simd: S,
    left: [&[f32]; ROWS],
    (right, stride): (&[f32], usize),
    mut write: impl FnMut(usize, [f32; COLUMNS]),
) {
    let steps = left[0].len();
    let left = left.map(|row| &row[..steps]);
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    for step in 0..steps {
        let columns = S::as_simd_f32s(&right[step * stride..][..COLUMNS]).0;
        let columns: [S::f32s; VECTORS] = std::array::from_fn(|at| columns[at]);
        for (sums, row) in sums.iter_mut().zip(left) {
            let number = simd.splat_f32s(row[step]);
            for (sum, column) in sums.iter_mut().zip(columns) {
                *sum = simd.mul_add_f32s(number, column, *sum);
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        let mut numbers = [0.0; COLUMNS];
        S::as_mut_simd_f32s(&mut numbers).0.copy_from_slice(sums);
        write(row, numbers);
    }
}

/// Turns six rows of scores into weights that are not yet divided by their sums, and returns those.
#[inline(always)]
fn weigh(scores: &mut [f32], padded: usize, tokens: usize, scale: f32) -> [f32; ROWS] {
    let mut sums = [0.0; ROWS];
    for (row, total) in scores.chunks_exact_mut(padded).zip(&mut sums) {
        let mut highest = [f32::NEG_INFINITY; COLUMNS];
        for scores in row.as_chunks::<COLUMNS>().0 {
            for (highest, score) in highest.iter_mut().zip(scores) {
                *highest = if *score > *highest { *score } else { *highest };
            }
        }
        let highest = highest.into_iter().fold(f32::NEG_INFINITY, f32::max);
        for score in &mut *row {
            *score = exp((*score - highest) * scale);
        }
        *total = sum(&row[..tokens]);
    }
    sums
}
