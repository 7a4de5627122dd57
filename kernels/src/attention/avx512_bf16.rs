//! As [`avx512`](super::avx512) with bfloat16 products (two per step) and f32 sums, for models whose weights have no
//! more precision. Scores and the softmax are f32; only the finished weights are rounded.
#![expect(unsafe_code, reason = "vector loads and stores at places that were checked to lie inside their slices")]

use std::arch::x86_64::{
    __m256bh, __m256i, __m512, __m512bh, __m512i, __mmask16, _mm256_setzero_si256, _mm256_storeu_si256, _mm512_add_ps,
    _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cvtepu16_epi32, _mm512_cvtne2ps_pbh, _mm512_cvtneps_pbh,
    _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_epi32, _mm512_maskz_loadu_ps,
    _mm512_maskz_mov_ps, _mm512_max_ps, _mm512_mul_ps, _mm512_or_si512, _mm512_reduce_add_ps, _mm512_reduce_max_ps,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_slli_epi32, _mm512_storeu_ps, _mm512_storeu_si512,
    _mm512_sub_ps,
};
use std::mem::transmute;

use super::avx512::{LANES, ROWS, VECTORS, exp2, first_lanes, transpose_16x16};
use super::query_block::query_block_functions;
use super::{RowsView, Scoring, Window};

/// Returns whether the processor has the instructions.
pub(super) fn detected() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
}

/// Parts of the scratch vector; bfloat16 values are stored in pairs.
struct Buffers<'a> {
    /// Scores `[6, padded]`; after the softmax each row begins with its weights, in pairs.
    scores: &'a mut [f32],
    /// Queries, six rows of pairs.
    queries: &'a mut [i32],
    /// Transposed keys: `padded` pairs for each pair of components.
    keys: &'a mut [i32],
    /// Values: a row for each pair of tokens.
    values: &'a mut [i32],
}

/// The size of a head, in numbers and in pairs.
#[derive(Clone, Copy)]
struct HeadShape {
    tokens: usize,
    /// Tokens, rounded up to whole vectors.
    padded: usize,
    size: usize,
    /// Pairs of components, rounded up to whole vectors.
    pairs: usize,
    /// Components, rounded up to whole vectors.
    columns: usize,
}

impl HeadShape {
    fn buffers(self, scratch: &mut Vec<f32>) -> Buffers<'_> {
        let HeadShape { tokens, padded, pairs, columns, .. } = self;
        scratch.resize(ROWS * (padded + pairs) + pairs * padded + tokens.div_ceil(2) * columns, 0.0);
        let (scores, rest) = scratch.split_at_mut(ROWS * padded);
        // SAFETY: every bit pattern is a valid f32 and i32, which have the same size and alignment.
        let rest = unsafe { std::slice::from_raw_parts_mut(rest.as_mut_ptr().cast::<i32>(), rest.len()) };
        let (queries, rest) = rest.split_at_mut(ROWS * pairs);
        let (keys, values) = rest.split_at_mut(pairs * padded);
        Buffers { scores, queries, keys, values }
    }
}

/// As [`attend`](super::attend), which has checked that every row lies inside its slice.
///
/// # Safety
/// The processor has AVX-512F and AVX512-BF16. `out`, `queries`, `keys` and `values` hold whole rows of all heads.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn attend(
    out: &mut [f32],
    queries: RowsView<'_>,
    (keys, values): (RowsView<'_>, RowsView<'_>),
    (Scoring { heads, bias }, window): (Scoring<'_>, Option<Window>),
    scratch: &mut Vec<f32>,
) {
    let (tokens, width) = (keys.rows, heads.count * heads.size);
    let shape = HeadShape {
        tokens,
        padded: tokens.next_multiple_of(LANES),
        size: heads.size,
        pairs: heads.size.div_ceil(2).next_multiple_of(LANES),
        columns: heads.size.next_multiple_of(LANES),
    };
    let buffers = shape.buffers(scratch);
    let scale = 1.0 / (heads.size as f32).sqrt();
    for head in 0..heads.count {
        let at = head * heads.size;
        // SAFETY: both are whole rows, and the buffers have the sizes of the shape.
        unsafe {
            transpose_keys(&keys.data[at..], keys.stride, shape, buffers.keys);
            pack_value_pairs(&values.data[at..], values.stride, shape, buffers.values);
        }
        for first in (0..queries.rows).step_by(ROWS) {
            // A block with fewer than six queries repeats the last one; the repeats are not written.
            let query = |row: usize| (first + row).min(queries.rows - 1);
            let count = ROWS.min(queries.rows - first);
            for (row, pairs) in buffers.queries.chunks_exact_mut(shape.pairs).enumerate() {
                round_to_pairs(&queries.data[query(row) * queries.stride + at..][..shape.size], pairs);
            }
            let rows = std::array::from_fn(|row| buffers.queries[row * shape.pairs..].as_ptr());
            // SAFETY: the buffers have the sizes of the shape.
            unsafe { score(rows, (buffers.keys.as_ptr(), shape.padded), shape.size.div_ceil(2), buffers.scores) };
            if let Some(bias) = bias {
                for (row, scores) in buffers.scores.chunks_exact_mut(shape.padded).enumerate() {
                    bias.add_to(scores, (head, query(row), tokens), 1.0 / scale);
                }
            }
            if let Some(window) = window {
                for (row, scores) in buffers.scores.chunks_exact_mut(shape.padded).enumerate() {
                    window.hide_others(scores, query(row));
                }
            }
            // SAFETY: as before, and `out` has `count` rows, `width` apart, of `size` numbers each.
            unsafe {
                let sums = softmax_block(buffers.scores, shape.padded, tokens, scale);
                weighted_sum(
                    (buffers.scores, shape.padded, sums),
                    (buffers.values.as_ptr(), shape.columns),
                    (tokens.div_ceil(2), shape.size),
                    (&mut out[first * width + at..], width, count),
                );
            }
        }
    }
}

/// Rounds numbers to pairs of bfloat16, padded with zeros.
#[target_feature(enable = "avx512f,avx512bf16")]
fn round_to_pairs(numbers: &[f32], pairs: &mut [i32]) {
    for (at, pairs) in pairs.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let first = 2 * LANES * at;
        let numbers = numbers.get(first..).unwrap_or_default();
        // SAFETY: the masks end with the numbers, and `pairs` is a vector.
        unsafe { _mm512_storeu_si512(pairs.as_mut_ptr().cast(), load_pairs(numbers.as_ptr(), numbers.len())) };
    }
}

/// Loads up to thirty-two adjacent numbers as sixteen pairs.
///
/// # Safety
/// `numbers` points to `count` numbers, of which at most thirty-two are read.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
unsafe fn load_pairs(numbers: *const f32, count: usize) -> __m512i {
    // SAFETY: the masks end with the numbers, and both vector types are 512 bits.
    unsafe {
        let low = _mm512_maskz_loadu_ps(first_lanes(count), numbers);
        let high = _mm512_maskz_loadu_ps(first_lanes(count.saturating_sub(LANES)), numbers.wrapping_add(LANES));
        transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
    }
}

/// Writes the keys of a head transposed: `[pairs, padded]`.
///
/// # Safety
/// `keys` has `tokens` rows of `size` numbers, `out` has `padded` pairs for each of `pairs`.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn transpose_keys(keys: &[f32], stride: usize, shape: HeadShape, out: &mut [i32]) {
    let HeadShape { tokens, padded, size, pairs, .. } = shape;
    debug_assert!(out.len() >= pairs * padded);
    for first in (0..tokens).step_by(LANES) {
        for pair in (0..pairs).step_by(LANES) {
            let rows: [__m512; LANES] = std::array::from_fn(|row| {
                // Padding columns repeat the last key; `softmax_block` masks them.
                let at = (first + row).min(tokens - 1) * stride + 2 * pair;
                // SAFETY: the row lies inside `keys`, with as many numbers from there on.
                _mm512_castsi512_ps(unsafe {
                    load_pairs(keys.as_ptr().wrapping_add(at), size.saturating_sub(2 * pair))
                })
            });
            for (row, vector) in transpose_16x16(rows).into_iter().enumerate() {
                let vector = _mm512_castps_si512(vector);
                // SAFETY: `out` has whole vectors for every pair.
                unsafe { _mm512_storeu_si512(out.as_mut_ptr().add((pair + row) * padded + first).cast(), vector) };
            }
        }
    }
}

/// Writes the values of a head with two adjacent tokens interleaved: a pair holds one component of both.
///
/// # Safety
/// `values` has `tokens` rows of `size` numbers, `out` has `columns` pairs for every two of them.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn pack_value_pairs(values: &[f32], stride: usize, shape: HeadShape, out: &mut [i32]) {
    let HeadShape { tokens, size, columns, .. } = shape;
    debug_assert!(out.len() >= tokens.div_ceil(2) * columns);
    for token in (0..tokens).step_by(2) {
        for column in (0..size).step_by(LANES) {
            let mask = first_lanes(size - column);
            let load_half = |token: usize| {
                if token == tokens {
                    return _mm256_setzero_si256();
                }
                // SAFETY: the row lies inside `values`, the mask ends with the head, and both vector types are 256
                // bits.
                unsafe {
                    let row = _mm512_maskz_loadu_ps(mask, values.as_ptr().add(token * stride + column));
                    transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(row))
                }
            };
            let (first, second) =
                (_mm512_cvtepu16_epi32(load_half(token)), _mm512_cvtepu16_epi32(load_half(token + 1)));
            let pairs = _mm512_or_si512(first, _mm512_slli_epi32::<16>(second));
            // SAFETY: `out` has whole vectors for every two tokens.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().add(token / 2 * columns + column).cast(), pairs) };
        }
    }
}

query_block_functions!(
    "avx512f,avx512bf16",
    i32,
    |mask, at| _mm512_maskz_loadu_epi32(mask, at),
    |pair| _mm512_set1_epi32(pair),
    // SAFETY: all these vector types are 512 bits, and hold bfloat16 values.
    |sum, pair, column| unsafe {
        _mm512_dpbf16_ps(sum, transmute::<__m512i, __m512bh>(pair), transmute::<__m512i, __m512bh>(column))
    },
    // Returns the rounded weights, so that the sums match what is multiplied.
    |row: *mut f32, at, weight| {
        let weight = transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(weight));
        _mm256_storeu_si256(row.add(at / 2).cast(), weight);
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(weight)))
    }
);
