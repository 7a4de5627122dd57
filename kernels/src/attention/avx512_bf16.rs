//! Attention with 512-bit vectors of brain floats, two to a step, and sums in 32 bits: as [`avx512`](super::avx512), for models
//! whose weights are no more exact than that. Scores and what becomes of them, until they are weights, are 32-bit floats.
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
use super::{Heads, RowsView};

/// Whether this processor has the instructions.
pub(super) fn detected() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
}

/// Where what is keys_t round or halved lies: buffers of one vector, in pairs of brain floats.
struct Buffers<'a> {
    /// Scores, six rows of `padded`; then weights, six rows of as many pairs as begin each of these.
    scores: &'a mut [f32],
    /// Queries, six rows of pairs.
    queries: &'a mut [i32],
    /// Keys: `padded` numbers for each pair of components.
    keys: &'a mut [i32],
    /// Values: a row for each pair of tokens.
    values: &'a mut [i32],
}

/// How large a head is, in numbers and in pairs.
#[derive(Clone, Copy)]
struct HeadShape {
    tokens: usize,
    /// Tokens, up to a whole vector.
    padded: usize,
    size: usize,
    /// Pairs of a head's numbers, up to a whole vector.
    pairs: usize,
    /// A head's numbers, up to a whole vector.
    columns: usize,
}

impl HeadShape {
    fn buffers(self, scratch: &mut Vec<f32>) -> Buffers<'_> {
        let HeadShape { tokens, padded, pairs, columns, .. } = self;
        scratch.resize(ROWS * (padded + pairs) + pairs * padded + tokens.div_ceil(2) * columns, 0.0);
        let (scores, rest) = scratch.split_at_mut(ROWS * padded);
        // SAFETY: any bits are a number of either kind, of the same size and alignment.
        let rest = unsafe { std::slice::from_raw_parts_mut(rest.as_mut_ptr().cast::<i32>(), rest.len()) };
        let (queries, rest) = rest.split_at_mut(ROWS * pairs);
        let (keys, values) = rest.split_at_mut(pairs * padded);
        Buffers { scores, queries, keys, values }
    }
}

/// As [`attend`](super::attend), which has checked that every row lies inside its slice.
///
/// # Safety
/// The processor has the instructions. `out`, `queries`, `keys` and `values` hold whole rows of all heads.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn attend(
    out: &mut [f32],
    queries: RowsView<'_>,
    (keys, values): (RowsView<'_>, RowsView<'_>),
    heads: Heads,
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
        // SAFETY: both are whole rows, and the buffers were made for the shape.
        unsafe {
            transpose_keys(&keys.data[at..], keys.stride, shape, buffers.keys);
            pack_value_pairs(&values.data[at..], values.stride, shape, buffers.values);
        }
        for first in (0..queries.rows).step_by(ROWS) {
            // The last six may be fewer: the last row fills them up, and is not written again.
            let query = |row: usize| (first + row).min(queries.rows - 1);
            let count = ROWS.min(queries.rows - first);
            for (row, pairs) in buffers.queries.chunks_exact_mut(shape.pairs).enumerate() {
                round_to_pairs(&queries.data[query(row) * queries.stride + at..][..shape.size], pairs);
            }
            // SAFETY: the buffers were made for the shape, and `out` has `count` rows, `width` apart, of `size` numbers each.
            unsafe {
                let rows = std::array::from_fn(|row| buffers.queries[row * shape.pairs..].as_ptr());
                score(rows, (buffers.keys.as_ptr(), shape.padded), shape.size.div_ceil(2), buffers.scores);
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

/// Rounds numbers to pairs of brain floats; pairs that stand for none are zero.
#[target_feature(enable = "avx512f,avx512bf16")]
fn round_to_pairs(numbers: &[f32], pairs: &mut [i32]) {
    for (at, pairs) in pairs.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let first = 2 * LANES * at;
        let numbers = numbers.get(first..).unwrap_or_default();
        // SAFETY: the masks end with the numbers, and `pairs` is a vector.
        unsafe { _mm512_storeu_si512(pairs.as_mut_ptr().cast(), load_pairs(numbers.as_ptr(), numbers.len())) };
    }
}

/// Reads up to thirty-two adjacent numbers as sixteen pairs.
///
/// # Safety
/// There are `count` numbers, of which no more than thirty-two are read.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
unsafe fn load_pairs(numbers: *const f32, count: usize) -> __m512i {
    // SAFETY: the masks end with the numbers; 512 bits are 512 bits.
    unsafe {
        let low = _mm512_maskz_loadu_ps(first_lanes(count), numbers);
        let high = _mm512_maskz_loadu_ps(first_lanes(count.saturating_sub(LANES)), numbers.wrapping_add(LANES));
        transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
    }
}

/// Writes the keys of a head as columns: pair of components after pair of components, `padded` each.
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
                // A column that stands for no key gets the last one's numbers: `softmax_block` leaves it out.
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

/// Writes the values of a head by two tokens at a time: what both say of a component is a pair.
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
                // SAFETY: the row lies inside `values`, and the mask ends with the head; 256 bits are 256 bits.
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
    // SAFETY: 512 bits are 512 bits; what they hold are brain floats.
    |sum, pair, column| unsafe {
        _mm512_dpbf16_ps(sum, transmute::<__m512i, __m512bh>(pair), transmute::<__m512i, __m512bh>(column))
    },
    // Sums are of what the weights were rounded to.
    |row: *mut f32, at, weight| {
        let weight = transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(weight));
        _mm256_storeu_si256(row.add(at / 2).cast(), weight);
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(weight)))
    }
);
