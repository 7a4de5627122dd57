//! The x86-64 microkernels.
#![expect(unsafe_code, reason = "vector loads at places that were checked to lie inside their slices")]

use std::arch::x86_64::{
    __m256, __m256i, __m512, __m512bh, __m512i, _MM_HINT_T0, _mm_prefetch, _mm256_add_epi32, _mm256_fmadd_ps,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_set1_ps, _mm256_setzero_ps, _mm256_setzero_si256, _mm512_dpbf16_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512,
};
use std::mem::{transmute, transmute_copy};

use super::{Bf16, COLUMNS, F32, Int8, Int8Pairwise, Kernel, LeftRows, NumberFormat, OutRows, Strips};

/// Bytes of a cache line.
const CACHE_LINE: usize = 64;
/// Steps between two groups of prefetches: many at once delay the loads needed now. Measured at 64, 32 and 16 on a Zen
/// 4 core with a peak of 116 GFLOP/s: 94, 110 and 110 with BERT-base's weights.
const PREFETCH_STEPS: usize = 32;

/// Defines a kernel with a tile of `$rows` times `$vectors` accumulator registers (`$narrow_vectors` for panels with
/// few outputs), and the function that returns it where the processor has every `$feature`.
macro_rules! kernel {
    (
        $name:ident, $features:literal: [$($feature:tt)*], $format:ty, $rows:literal rows of $vectors:literal or $narrow_vectors:literal $vector:ty,
        $load:expr, $zero:expr, $broadcast:expr, $multiply_add:expr
    ) => {
        pub(super) fn $name() -> Option<Kernel<$format>> {
            type Left = <$format as NumberFormat>::Left;
            type Right = <$format as NumberFormat>::Right;
            type Sum = <$format as NumberFormat>::Sum;
            /// Columns of a vector.
            const LANES: usize = size_of::<$vector>() / size_of::<Sum>();

            /// `prefetch` is this tile's share of the next strip, `lines` cache lines for every `PREFETCH_STEPS`.
            #[target_feature(enable = $features)]
            fn tile<const VECTORS: usize, const STRIP: usize>(
                rows: [&[Left]; $rows],
                strip: &[[Right; STRIP]],
                prefetch: *const i8,
                lines: usize,
            ) -> [[Sum; STRIP]; $rows] {
                const { assert!(size_of::<Right>() == size_of::<Sum>() && VECTORS * LANES == STRIP) };
                let mut rows = rows;
                for row in &mut rows {
                    *row = &row[..strip.len()];
                }
                let mut sums = [[$zero; VECTORS]; $rows];
                for (part, numbers) in strip.chunks(PREFETCH_STEPS).enumerate() {
                    let prefetch = prefetch.wrapping_add(part * PREFETCH_STEPS * size_of::<[Right; STRIP]>());
                    for line in 0..lines {
                        // A prefetch beyond the allocation has no effect.
                        _mm_prefetch::<_MM_HINT_T0>(prefetch.wrapping_add(line * CACHE_LINE));
                    }
                    for (step, right) in numbers.iter().enumerate() {
                        let numbers = (&raw const *right).cast::<$vector>();
                        // SAFETY: a step has as many numbers of 32 bits as its vectors, and the loads may be unaligned.
                        let right: [_; VECTORS] = std::array::from_fn(|at| unsafe { $load(numbers.add(at).cast()) });
                        for (sums, row) in sums.iter_mut().zip(&rows) {
                            // SAFETY: every row was cut to the length of the strip, and the step is within it.
                            let left = $broadcast(unsafe { *row.get_unchecked(part * PREFETCH_STEPS + step) });
                            for (sum, right) in sums.iter_mut().zip(right) {
                                *sum = $multiply_add(*sum, left, right);
                            }
                        }
                    }
                }
                // SAFETY: the vectors have the bits of their 32-bit numbers, in the same order and number.
                unsafe { transmute_copy::<[[$vector; VECTORS]; $rows], [[Sum; STRIP]; $rows]>(&sums) }
            }

            #[target_feature(enable = $features)]
            fn multiply<const VECTORS: usize, const STRIP: usize>(left: LeftRows<'_, Left>, panel: &[Right], mut out: OutRows<'_, Sum>) {
                const { assert!(COLUMNS.is_multiple_of(STRIP)) };
                let lines = (PREFETCH_STEPS * size_of::<[Right; STRIP]>()).div_ceil(CACHE_LINE * left.count.div_ceil($rows).max(1));
                // A strip stays in the L1 cache for all rows; each tile prefetches its share of the next one.
                for (at, strip) in panel.chunks_exact(left.steps * STRIP).enumerate() {
                    for (index, first) in (0..left.count).step_by($rows).enumerate() {
                        // A short last tile repeats the last row; the repeats are not written.
                        let mut rows: [&[Left]; $rows] = [&[]; $rows];
                        for (row, numbers) in rows.iter_mut().enumerate() {
                            *numbers = left.row((first + row).min(left.count - 1));
                        }
                        let prefetch = strip.as_ptr_range().end.cast::<i8>().wrapping_add(index * lines * CACHE_LINE);
                        let sums = tile::<VECTORS, STRIP>(rows, strip.as_chunks().0, prefetch, lines);
                        for (row, sums) in (first..left.count).zip(&sums) {
                            out.row(row)[at * STRIP..][..STRIP].copy_from_slice(sums);
                        }
                    }
                }
            }

            let found = true $(&& is_x86_feature_detected!($feature))*;
            let wide = Strips { multiply: multiply::<$vectors, { $vectors * LANES }>, columns: $vectors * LANES };
            let narrow = Strips { multiply: multiply::<$narrow_vectors, { $narrow_vectors * LANES }>, columns: $narrow_vectors * LANES };
            found.then_some(Kernel { wide, narrow, rows: $rows, fast: true })
        }
    };
}

kernel!(
    f32_avx512, "avx512f": ["avx512f"], F32, 8 rows of 3 or 1 __m512,
    |at| _mm512_loadu_ps(at), _mm512_setzero_ps(), |left| _mm512_set1_ps(left),
    |sum, left, right| _mm512_fmadd_ps(left, right, sum)
);

kernel!(
    f32_avx2, "avx2,fma": ["avx2" "fma"], F32, 6 rows of 2 or 2 __m256,
    |at| _mm256_loadu_ps(at), _mm256_setzero_ps(), |left| _mm256_set1_ps(left),
    |sum, left, right| _mm256_fmadd_ps(left, right, sum)
);

kernel!(
    bf16_avx512, "avx512f,avx512bf16": ["avx512f" "avx512bf16"], Bf16, 8 rows of 3 or 1 __m512,
    |at| _mm512_loadu_si512(at), _mm512_setzero_ps(),
    |[first, second]: [u16; 2]| _mm512_set1_epi32((u32::from(first) | u32::from(second) << 16).cast_signed()),
    // SAFETY: all these vector types are 512 bits, and hold bfloat16 values.
    |sum, left, right| unsafe {
        _mm512_dpbf16_ps(sum, transmute::<__m512i, __m512bh>(left), transmute::<__m512i, __m512bh>(right))
    }
);

kernel!(
    int8_avx512, "avx512f,avx512vnni": ["avx512f" "avx512vnni"], Int8, 8 rows of 3 or 1 __m512i,
    |at| _mm512_loadu_si512(at), _mm512_setzero_si512(),
    |left: [u8; 4]| _mm512_set1_epi32(i32::from_le_bytes(left)),
    |sum, left, right| _mm512_dpbusd_epi32(sum, left, right)
);

kernel!(
    int8_pairwise_avx2, "avx2": ["avx2"], Int8Pairwise, 6 rows of 2 or 2 __m256i,
    |at| _mm256_loadu_si256(at), _mm256_setzero_si256(),
    |left: [u8; 4]| _mm256_set1_epi32(i32::from_le_bytes(left)),
    |sum, left, right| {
        _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(left, right), _mm256_set1_epi16(1)))
    }
);
