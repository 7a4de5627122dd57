//! Attention with AVX-512: one head of one text at a time, in blocks of six queries, with scores in the L1 cache.
//!
//! Keys are transposed once per head, so that a score vector covers sixteen keys; queries and values are read in
//! place. Six rows of four registers leave room for the operands. The softmax is divided by its sum only after the
//! weighted sum.
#![expect(unsafe_code, reason = "vector loads and stores at places that were checked to lie inside their slices")]

use std::arch::x86_64::{
    __m512, __mmask16, _mm512_add_ps, _mm512_castpd_ps, _mm512_castps_pd, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_maskz_mov_ps, _mm512_max_ps, _mm512_mul_ps,
    _mm512_reduce_add_ps, _mm512_reduce_max_ps, _mm512_roundscale_ps, _mm512_scalef_ps, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_shuffle_f32x4, _mm512_storeu_ps, _mm512_sub_ps, _mm512_unpackhi_pd, _mm512_unpackhi_ps,
    _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};

use super::query_block::query_block_functions;
use super::{RowsView, Scoring, Window};

/// f32 lanes of a vector.
pub(super) const LANES: usize = 16;
/// Queries of a block.
pub(super) const ROWS: usize = 6;
/// Accumulator vectors per query row.
pub(super) const VECTORS: usize = 4;

/// Returns whether the processor has the instructions.
pub(super) fn detected() -> bool {
    is_x86_feature_detected!("avx512f")
}

/// As [`attend`](super::attend), which has checked that every row lies inside its slice.
///
/// # Safety
/// The processor has AVX-512F. `out`, `queries`, `keys` and `values` hold whole rows of all heads.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn attend(
    out: &mut [f32],
    queries: RowsView<'_>,
    (keys, values): (RowsView<'_>, RowsView<'_>),
    (Scoring { heads, bias }, window): (Scoring<'_>, Option<Window>),
    scratch: &mut Vec<f32>,
) {
    let (tokens, width) = (keys.rows, heads.count * heads.size);
    let padded = tokens.next_multiple_of(LANES);
    scratch.resize((heads.size.next_multiple_of(LANES) + ROWS) * padded, 0.0);
    let (scores, keys_t) = scratch.split_at_mut(ROWS * padded);
    let scale = 1.0 / (heads.size as f32).sqrt();
    for head in 0..heads.count {
        let at = head * heads.size;
        // SAFETY: keys are whole rows, and `keys_t` has `padded` numbers for each component, rounded up.
        unsafe { transpose_keys(&keys.data[at..], keys.stride, (tokens, heads.size), padded, keys_t) };
        for first in (0..queries.rows).step_by(ROWS) {
            // A block with fewer than six queries repeats the last one; the repeats are not written.
            let query = |row: usize| (first + row).min(queries.rows - 1);
            let rows =
                std::array::from_fn(|row| queries.data[query(row) * queries.stride + at..][..heads.size].as_ptr());
            // SAFETY: `keys_t` has a row of `padded` per component of a query, and `scores` has six rows.
            unsafe { score(rows, (keys_t.as_ptr(), padded), heads.size, scores) };
            if let Some(bias) = bias {
                for (row, scores) in scores.chunks_exact_mut(padded).enumerate() {
                    bias.add_to(scores, (head, query(row), tokens), 1.0 / scale);
                }
            }
            if let Some(window) = window {
                for (row, scores) in scores.chunks_exact_mut(padded).enumerate() {
                    window.hide_others(scores, query(row));
                }
            }
            // SAFETY: `scores` has six rows of `padded`.
            let sums = unsafe { softmax_block(scores, padded, tokens, scale) };
            let out = &mut out[first * width + at..];
            let count = ROWS.min(queries.rows - first);
            // SAFETY: values have `tokens` rows, and `out` has `count`, `width` apart, of `size` numbers each.
            unsafe {
                weighted_sum(
                    (scores, padded, sums),
                    (values.data[at..].as_ptr(), values.stride),
                    (tokens, heads.size),
                    (out, width, count),
                );
            };
        }
    }
}

/// Writes the keys of a head transposed: `[size, padded]`, in squares of 16 x 16.
///
/// # Safety
/// `keys` has `tokens` rows of `size` numbers, `out` has `padded` numbers for each component, rounded up to whole vectors.
#[target_feature(enable = "avx512f")]
unsafe fn transpose_keys(keys: &[f32], stride: usize, (tokens, size): (usize, usize), padded: usize, out: &mut [f32]) {
    debug_assert!(out.len() >= size.next_multiple_of(LANES) * padded);
    for first in (0..tokens).step_by(LANES) {
        for component in (0..size).step_by(LANES) {
            let mask = first_lanes(size - component);
            let rows: [__m512; LANES] = std::array::from_fn(|row| {
                // Padding columns repeat the last key; `softmax_block` masks them.
                let at = (first + row).min(tokens - 1) * stride + component;
                debug_assert!(at + LANES.min(size - component) <= keys.len());
                // SAFETY: the row lies inside `keys`, and the mask ends with the head.
                unsafe { _mm512_maskz_loadu_ps(mask, keys.as_ptr().add(at)) }
            });
            for (row, vector) in transpose_16x16(rows).into_iter().enumerate() {
                // SAFETY: `out` has whole vectors for every component, rounded up.
                unsafe { _mm512_storeu_ps(out.as_mut_ptr().add((component + row) * padded + first), vector) };
            }
        }
    }
}

/// Transposes a 16 x 16 matrix of 32-bit numbers.
#[target_feature(enable = "avx512f")]
pub(super) fn transpose_16x16(rows: [__m512; LANES]) -> [__m512; LANES] {
    let pairs: [__m512; LANES] = std::array::from_fn(|at| {
        let (a, b) = (rows[at & !1], rows[at | 1]);
        if at & 1 == 0 { _mm512_unpacklo_ps(a, b) } else { _mm512_unpackhi_ps(a, b) }
    });
    // Quarter `q` of the quads that begin at row 4g: column 4q + i of rows 4g..4g + 4.
    let quads: [__m512; LANES] = std::array::from_fn(|at| {
        let (group, column) = (at & !3, at & 3);
        let (a, b) = (pairs[group + (column >> 1)], pairs[group + 2 + (column >> 1)]);
        let (a, b) = (_mm512_castps_pd(a), _mm512_castps_pd(b));
        _mm512_castpd_ps(if column & 1 == 0 { _mm512_unpacklo_pd(a, b) } else { _mm512_unpackhi_pd(a, b) })
    });
    let octets: [__m512; LANES] = std::array::from_fn(|at| {
        let (half, column) = (at & 8, at & 3);
        let (a, b) = (quads[half + column], quads[half + 4 + column]);
        if at & 4 == 0 {
            _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b)
        } else {
            _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b)
        }
    });
    std::array::from_fn(|at| {
        // Columns 4q + i: quarters 0 and 2 lie in the even octets, 1 and 3 in the odd.
        let (quarter, column) = (at >> 2, at & 3);
        let from = column + 4 * (quarter & 1);
        let (a, b) = (octets[from], octets[8 + from]);
        if quarter < 2 {
            _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b)
        } else {
            _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b)
        }
    })
}

/// Returns the mask of the first `count` lanes, at most all.
pub(super) fn first_lanes(count: usize) -> __mmask16 {
    if count >= LANES { !0 } else { (1 << count) - 1 }
}

query_block_functions!(
    "avx512f",
    f32,
    |mask, at| _mm512_maskz_loadu_ps(mask, at),
    |number| _mm512_set1_ps(number),
    |sum, number, column| _mm512_fmadd_ps(number, column, sum),
    |row: *mut f32, at, weight| {
        _mm512_storeu_ps(row.add(at), weight);
        weight
    }
);

/// 2^x for x <= 0, within two units in the last place. NaN stays NaN.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn exp2(x: __m512) -> __m512 {
    // The operand order propagates NaN; the bound keeps the power normal and the fraction of infinity finite.
    let x = _mm512_max_ps(_mm512_set1_ps(-160.0), x);
    let whole = _mm512_roundscale_ps::<0>(x);
    let fraction = _mm512_sub_ps(x, whole);
    // Taylor coefficients of e^(x ln 2), within half a step of 0.
    let mut sum = _mm512_set1_ps(1.540_353e-4);
    for term in [1.333_355_8e-3, 9.618_129e-3, 5.550_411e-2, 2.402_265e-1, 6.931_472e-1, 1.0] {
        sum = _mm512_fmadd_ps(sum, fraction, _mm512_set1_ps(term));
    }
    _mm512_scalef_ps(sum, whole)
}
