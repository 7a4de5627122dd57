//! Attention with the vectors of any processor (by `pulp`): one head of one text at a time, in blocks of six queries,
//! with scores in the L1 cache.
//!
//! Keys are transposed once per head, so that scores of sixteen keys are adjacent. Queries and weights are stored in
//! blocks of 6 x 16, so that one base register addresses all six rows; with vectors of eight numbers, six rows of two
//! accumulators just leave room for the operands. The softmax is divided by its sum only after the weighted sum.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::super::{ROUNDING_MAGIC, reduce_sum};
use super::{Heads, RowsView, ScoreBias, Scoring, Window};

/// Queries of a block.
const ROWS: usize = 6;
/// Columns that are summed together.
const COLUMNS: usize = 16;
/// Side of the squares that are transposed.
const SQUARE: usize = 8;

/// Sixteen columns of one row.
type Columns = [f32; COLUMNS];
/// Sixteen columns of six rows.
type Block = [Columns; ROWS];

/// Returns whether heads of this size are whole tiles.
pub(super) fn supports(heads: Heads) -> bool {
    heads.size.is_multiple_of(COLUMNS)
}

/// As [`attend`](super::attend), for head sizes that are [supported](supports).
pub(super) fn attend(
    out: &mut [f32],
    queries: RowsView<'_>,
    (keys, values): (RowsView<'_>, RowsView<'_>),
    (Scoring { heads, bias }, window): (Scoring<'_>, Option<Window>),
    scratch: &mut Vec<f32>,
) {
    let (padded, tokens) = (keys.rows.next_multiple_of(COLUMNS), keys.rows);
    let needed = ROWS * (padded + heads.size) + heads.size * (padded + tokens);
    if scratch.len() < needed {
        scratch.resize(needed, 0.0);
    }
    let (blocks, rest) = scratch.split_at_mut(ROWS * (padded + heads.size));
    let (blocks, rest) = (blocks.as_chunks_mut().0.as_chunks_mut().0, rest.as_chunks_mut().0);
    let (scores, query_block) = blocks.split_at_mut(padded / COLUMNS);
    let (keys_t, rest) = rest.split_at_mut(heads.size * padded / COLUMNS);
    let packed_values = &mut rest[..heads.size * tokens / COLUMNS];
    let width = heads.count * heads.size;
    for head in 0..heads.count {
        let at = head * heads.size;
        let bias = bias.map(|bias| (bias, head));
        transpose_keys(keys.without_columns(at), heads.size, keys_t);
        pack_values(values.without_columns(at), packed_values);
        let (out, queries) = (&mut out[at..], queries.without_columns(at));
        let (keys_t, packed_values, scores, query_block) = (&*keys_t, &*packed_values, &mut *scores, &mut *query_block);
        let head = Head { out, width, queries, tokens, bias, window, keys_t, packed_values, scores, query_block };
        Arch::new().dispatch(head);
    }
}

/// Copies the values of a head in strips of sixteen columns, token after token.
fn pack_values(values: RowsView<'_>, out: &mut [Columns]) {
    for (strip, out) in out.chunks_exact_mut(values.rows).enumerate() {
        for (row, out) in values.data[strip * COLUMNS..].chunks(values.stride).zip(out) {
            out.copy_from_slice(&row[..COLUMNS]);
        }
    }
}

/// Writes the keys of a head transposed, in strips of sixteen keys. Columns beyond the last key repeat it.
fn transpose_keys(keys: RowsView<'_>, size: usize, out: &mut [Columns]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        simd.vectorize(
            #[inline(always)]
            || transpose_keys_with(keys, size, out, |square| transpose_8x8(simd, square)),
        );
        return;
    }
    transpose_keys_with(keys, size, out, |square| {
        let mut keys_t = square;
        for (row, numbers) in square.iter().enumerate() {
            for (keys_t, number) in keys_t.iter_mut().zip(numbers) {
                keys_t[row] = *number;
            }
        }
        keys_t
    });
}

#[inline(always)]
fn transpose_keys_with(
    keys: RowsView<'_>,
    size: usize,
    out: &mut [Columns],
    transpose: impl Fn([[f32; SQUARE]; SQUARE]) -> [[f32; SQUARE]; SQUARE],
) {
    for (strip, out) in out.chunks_exact_mut(size).enumerate() {
        for half in [0, SQUARE] {
            let mut rows: [&[f32]; SQUARE] = [&[]; SQUARE];
            for (row, numbers) in rows.iter_mut().enumerate() {
                *numbers = keys.row((strip * COLUMNS + half + row).min(keys.rows - 1), size);
            }
            for (at, out) in out.as_chunks_mut::<SQUARE>().0.iter_mut().enumerate() {
                let mut square = [[0.0; SQUARE]; SQUARE];
                for (square, row) in square.iter_mut().zip(rows) {
                    square.copy_from_slice(&row[at * SQUARE..][..SQUARE]);
                }
                for (out, column) in out.iter_mut().zip(transpose(square)) {
                    out[half..][..SQUARE].copy_from_slice(&column);
                }
            }
        }
    }
}

/// Transposes an 8 x 8 matrix.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn transpose_8x8(simd: pulp::x86::V3, rows: [[f32; SQUARE]; SQUARE]) -> [[f32; SQUARE]; SQUARE] {
    use std::arch::x86_64::__m256;
    let avx = simd.avx;
    let rows: [__m256; SQUARE] = pulp::cast(rows);
    let (mut pairs, mut quads, mut octets) = (rows, rows, rows);
    for at in (0..SQUARE).step_by(2) {
        pairs[at] = avx._mm256_unpacklo_ps(rows[at], rows[at + 1]);
        pairs[at + 1] = avx._mm256_unpackhi_ps(rows[at], rows[at + 1]);
    }
    for at in [0, 4] {
        for half in [0, 1] {
            let (a, b) = (pairs[at + half], pairs[at + 2 + half]);
            quads[at + 2 * half] = avx._mm256_shuffle_ps::<0b01_00_01_00>(a, b);
            quads[at + 2 * half + 1] = avx._mm256_shuffle_ps::<0b11_10_11_10>(a, b);
        }
    }
    for at in 0..SQUARE / 2 {
        octets[at] = avx._mm256_permute2f128_ps::<0x20>(quads[at], quads[at + 4]);
        octets[at + 4] = avx._mm256_permute2f128_ps::<0x31>(quads[at], quads[at + 4]);
    }
    pulp::cast(octets)
}

/// One head of one text.
struct Head<'a> {
    /// The context, `width` numbers from row to row.
    out: &'a mut [f32],
    width: usize,
    queries: RowsView<'a>,
    /// Number of keys and values.
    tokens: usize,
    /// The bias of the scores, and the number of the head.
    bias: Option<(ScoreBias<'a>, usize)>,
    /// The keys that a query attends to, if not all.
    window: Option<Window>,
    /// The keys, as [`transpose_keys`] writes them.
    keys_t: &'a [Columns],
    /// The values, as [`pack_values`] copies them.
    packed_values: &'a [Columns],
    /// Buffer for the scores of six queries.
    scores: &'a mut [Block],
    /// Buffer for six queries.
    query_block: &'a mut [Block],
}

impl WithSimd for Head<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.attend::<S, 1>(simd),
            8 => self.attend::<S, 2>(simd),
            4 => self.attend::<S, 4>(simd),
            _ => self.attend::<S, 16>(simd),
        }
    }
}

impl Head<'_> {
    /// Computes the context of all queries, with `VECTORS` vectors per sixteen columns.
    #[inline(always)]
    fn attend<S: Simd, const VECTORS: usize>(self, simd: S) {
        let Head { out, width, queries, tokens, bias, window, keys_t, packed_values, scores, query_block } = self;
        let size = query_block.len() * COLUMNS;
        let scale = std::f32::consts::LOG2_E / (size as f32).sqrt();
        for first in (0..queries.rows).step_by(ROWS) {
            for row in 0..ROWS {
                // A block with fewer than six queries repeats the last one; the repeats are not written.
                let query = queries.row((first + row).min(queries.rows - 1), size);
                for (block, query) in query_block.iter_mut().zip(query.as_chunks().0) {
                    block[row] = *query;
                }
            }
            for (scores, keys_t) in scores.iter_mut().zip(keys_t.chunks_exact(size)) {
                store(simd, &product::<S, VECTORS>(simd, query_block, keys_t), scores);
            }
            if let Some((bias, head)) = bias {
                for row in 0..ROWS {
                    let bias = bias.row(head, (first + row).min(queries.rows - 1), tokens);
                    add_bias(scores, row, bias, (size as f32).sqrt());
                }
            }
            if let Some(window) = window {
                for row in 0..ROWS {
                    hide_others(scores, row, window.visible((first + row).min(queries.rows - 1)));
                }
            }
            let sums = softmax_block(scores, tokens, scale);
            for (column, values) in packed_values.chunks_exact(tokens).enumerate() {
                let mut context = product::<S, VECTORS>(simd, scores, values);
                for (context, sum) in context.iter_mut().zip(sums) {
                    let inverse = simd.splat_f32s(1.0 / sum);
                    for context in context {
                        *context = simd.mul_f32s(*context, inverse);
                    }
                }
                let mut block = [[0.0; COLUMNS]; ROWS];
                store(simd, &context, &mut block);
                for (row, context) in (first..queries.rows).zip(&block) {
                    out[row * width + column * COLUMNS..][..COLUMNS].copy_from_slice(context);
                }
            }
        }
    }
}

/// Returns the products of six rows with sixteen columns.
#[inline(always)]
fn product<S: Simd, const VECTORS: usize>(simd: S, left: &[Block], right: &[Columns]) -> [[S::f32s; VECTORS]; ROWS] {
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    for (block, steps) in left.iter().zip(right.chunks(COLUMNS)) {
        for (step, right) in steps.iter().enumerate() {
            let mut columns = [simd.splat_f32s(0.0); VECTORS];
            columns.copy_from_slice(S::as_simd_f32s(right).0);
            for row in 0..ROWS {
                let number = simd.splat_f32s(block[row][step]);
                for at in 0..VECTORS {
                    sums[row][at] = simd.mul_add_f32s(number, columns[at], sums[row][at]);
                }
            }
        }
    }
    sums
}

#[inline(always)]
fn store<S: Simd, const VECTORS: usize>(_: S, vectors: &[[S::f32s; VECTORS]; ROWS], block: &mut Block) {
    for (vectors, row) in vectors.iter().zip(block) {
        S::as_mut_simd_f32s(row).0.copy_from_slice(vectors);
    }
}

/// Adds a bias to one row of scores, which are still to be divided by `unscale`. Padding columns repeat the last key.
#[inline(always)]
fn add_bias(scores: &mut [Block], row: usize, bias: &[f32], unscale: f32) {
    for (block, bias) in scores.iter_mut().zip(bias.chunks(COLUMNS)) {
        let scores = &mut block[row];
        for (score, bias) in scores.iter_mut().zip(bias) {
            *score += bias * unscale;
        }
        let last = scores[bias.len() - 1];
        scores[bias.len()..].fill(last);
    }
}

/// Hides all keys but the visible ones from one row.
#[inline(always)]
fn hide_others(scores: &mut [Block], row: usize, visible: Range<usize>) {
    for (at, block) in scores.iter_mut().enumerate() {
        for (column, score) in block[row].iter_mut().enumerate() {
            let key = at * COLUMNS + column;
            *score = if key >= visible.start && key < visible.end { *score } else { f32::NEG_INFINITY };
        }
    }
}

/// Replaces scores by softmax numerators and returns their sums. Padding columns get 0.
#[inline(always)]
fn softmax_block(scores: &mut [Block], tokens: usize, scale: f32) -> [f32; ROWS] {
    let last = scores.len() - 1;
    let mut valid = [0.0; COLUMNS];
    valid[..tokens - last * COLUMNS].fill(1.0);
    let mut sums = [0.0; ROWS];
    for (row, sum) in sums.iter_mut().enumerate() {
        let mut max = [f32::NEG_INFINITY; COLUMNS];
        for block in &*scores {
            for (max, score) in max.iter_mut().zip(&block[row]) {
                *max = if *score > *max { *score } else { *max };
            }
        }
        let max = reduce_max(max);
        let mut total = [0.0; COLUMNS];
        for (at, block) in scores.iter_mut().enumerate() {
            let step = &mut block[row];
            for score in step.iter_mut() {
                *score = exp2((*score - max) * scale);
            }
            if at == last {
                for (weight, valid) in step.iter_mut().zip(valid) {
                    *weight *= valid;
                }
            }
            for (total, weight) in total.iter_mut().zip(step) {
                *total += *weight;
            }
        }
        *sum = reduce_sum(total);
    }
    sums
}

#[inline(always)]
fn reduce_max(mut lanes: Columns) -> f32 {
    let mut width = COLUMNS / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = if lanes[lane + width] > lanes[lane] { lanes[lane + width] } else { lanes[lane] };
        }
        width /= 2;
    }
    lanes[0]
}

/// 2^x for x <= 0, within two units in the last place; below 1e-37 for x < -126. NaN stays NaN.
#[inline(always)]
fn exp2(x: f32) -> f32 {
    let x = if x < -126.0 { -126.0 } else { x };
    let rounded = x + ROUNDING_MAGIC;
    let fraction = x - (rounded - ROUNDING_MAGIC);
    let mut sum = 1.327_647_2e-3f32;
    for term in [9.675_541e-3, 5.550_713_3e-2, 0.240_221_2, 0.693_146_97, 1.000_000_1] {
        sum = sum.mul_add(fraction, term);
    }
    // The integer part is in the low bits; the shift drops what is above them.
    sum * f32::from_bits(rounded.to_bits().wrapping_add(127) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp2_is_accurate_over_its_whole_range() {
        for i in -125_999..=0 {
            let x = i as f32 * 1e-3;
            let exact = f64::from(x).exp2();
            let relative = (f64::from(exp2(x)) - exact).abs() / exact;
            assert!(relative < 3e-7, "2^{x}: off by {relative:e}");
        }
        assert!(exp2(f32::NEG_INFINITY) < 1e-37 && exp2(f32::NAN).is_nan());
        assert!(exp2(f32::from_bits(0x7f80_0001)).is_nan(), "whatever its payload");
    }
}
