//! Attention of a block of six queries to the keys of a head: scores, softmax, weighted sum; for f32 or pairs of
//! bfloat16.

/// Defines `score`, `softmax_block` and `weighted_sum` for a number format. `$number` is one step of a row, `$load`
/// loads a masked vector of columns, and `$store_weights` writes the weights of sixteen keys to the row of scores and
/// returns what it wrote. It must not write beyond the place it read from.
macro_rules! query_block_functions {
    ($features:literal, $number:ty, $load:expr, $broadcast:expr, $multiply_add:expr, $store_weights:expr) => {
        /// Writes the products of six queries with all keys, `[6, padded]`.
        ///
        /// # Safety
        /// Each query has `steps` numbers, `keys` is `[steps, padded]` with `padded` whole vectors, `scores` has six
        /// rows.
        #[target_feature(enable = $features)]
        unsafe fn score(
            queries: [*const $number; ROWS],
            (keys, padded): (*const $number, usize),
            steps: usize,
            scores: &mut [f32],
        ) {
            let out = scores.as_mut_ptr();
            // SAFETY: guaranteed by the caller.
            unsafe {
                let write = |row: usize, column: usize, _, sum| _mm512_storeu_ps(out.add(row * padded + column), sum);
                product(queries, (keys, padded), (steps, padded), write);
            }
        }

        /// Replaces six rows of scores by softmax numerators and returns their sums.
        ///
        /// # Safety
        /// `scores` has six rows of `padded`, the next multiple of sixteen from `tokens`.
        #[target_feature(enable = $features)]
        unsafe fn softmax_block(scores: &mut [f32], padded: usize, tokens: usize, scale: f32) -> [f32; ROWS] {
            let last = padded - LANES;
            let tail = first_lanes(tokens - last);
            let scale = _mm512_set1_ps(scale * std::f32::consts::LOG2_E);
            let mut sums = [0.0; ROWS];
            for (row, sum) in scores.chunks_exact_mut(padded).zip(&mut sums) {
                let row = row.as_mut_ptr();
                // SAFETY: rows are whole vectors, each of which is read before anything is written to its place.
                unsafe {
                    // Padding columns repeat the last key, so they do not change the maximum.
                    let mut max = _mm512_set1_ps(f32::NEG_INFINITY);
                    for at in (0..padded).step_by(LANES) {
                        max = _mm512_max_ps(_mm512_loadu_ps(row.add(at)), max);
                    }
                    let max = _mm512_set1_ps(_mm512_reduce_max_ps(max));
                    let mut total = _mm512_setzero_ps();
                    for at in (0..padded).step_by(LANES) {
                        let mask = if at == last { tail } else { !0 };
                        let power = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(row.add(at)), max), scale);
                        let weight = _mm512_maskz_mov_ps(mask, exp2(power));
                        total = _mm512_add_ps(total, $store_weights(row, at, weight));
                    }
                    *sum = _mm512_reduce_add_ps(total);
                }
            }
            sums
        }

        /// Writes the context of the first `count` queries: weights times values, divided by the weights' sums.
        ///
        /// # Safety
        /// `weights` has six rows of `padded`, each beginning with `steps` weights; `values` is `[steps, size]`; `out`
        /// has `count` rows of `size`, `width` apart.
        #[target_feature(enable = $features)]
        unsafe fn weighted_sum(
            (weights, padded, sums): (&[f32], usize, [f32; ROWS]),
            values: (*const $number, usize),
            (steps, size): (usize, usize),
            (out, width, count): (&mut [f32], usize, usize),
        ) {
            let inverse = sums.map(|sum| _mm512_set1_ps(1.0 / sum));
            let weights = std::array::from_fn(|row| weights[row * padded..].as_ptr().cast::<$number>());
            let out = out.as_mut_ptr();
            // SAFETY: guaranteed by the caller; the masks end with the head.
            unsafe {
                let write = |row: usize, column: usize, mask, sum| {
                    if row < count {
                        _mm512_mask_storeu_ps(out.add(row * width + column), mask, _mm512_mul_ps(sum, inverse[row]));
                    }
                };
                product(weights, values, (steps, size), write);
            }
        }

        /// Multiplies six rows of `left` with `right`, `[steps, columns]`, and calls `write` with the row, the first
        /// column, the mask and the sums of each vector.
        ///
        /// # Safety
        /// Rows of `left` have `steps` numbers; `right` has `steps` rows of `columns` numbers at the given stride.
        #[target_feature(enable = $features)]
        #[inline]
        unsafe fn product(
            left: [*const $number; ROWS],
            right: (*const $number, usize),
            (steps, columns): (usize, usize),
            write: impl Fn(usize, usize, __mmask16, __m512),
        ) {
            for first in (0..columns).step_by(VECTORS * LANES) {
                let vectors = (columns - first).div_ceil(LANES).min(VECTORS);
                let mask = first_lanes(columns - first - (vectors - 1) * LANES);
                let write = |row: usize, at: usize, sum| {
                    write(row, first + at * LANES, if at + 1 == vectors { mask } else { !0 }, sum);
                };
                // SAFETY: guaranteed by the caller; the mask ends with the columns.
                unsafe {
                    let right = (right.0.add(first), right.1);
                    match vectors {
                        4 => product_of::<4>(left, right, steps, mask, write),
                        3 => product_of::<3>(left, right, steps, mask, write),
                        2 => product_of::<2>(left, right, steps, mask, write),
                        _ => product_of::<1>(left, right, steps, mask, write),
                    }
                }
            }
        }

        /// As [`product`], for `C` vectors of columns, the last of them masked.
        ///
        /// # Safety
        /// Rows have `steps` numbers; a row of `right` holds `C` vectors, except for masked lanes.
        #[target_feature(enable = $features)]
        #[inline]
        unsafe fn product_of<const C: usize>(
            left: [*const $number; ROWS],
            (right, stride): (*const $number, usize),
            steps: usize,
            mask: __mmask16,
            write: impl Fn(usize, usize, __m512),
        ) {
            let mut sums = [[_mm512_setzero_ps(); C]; ROWS];
            for step in 0..steps {
                let columns: [_; C] = std::array::from_fn(|at| {
                    let mask = if at + 1 == C { mask } else { !0 };
                    // SAFETY: guaranteed by the caller; masked lanes are not read.
                    unsafe { $load(mask, right.add(step * stride + at * LANES)) }
                });
                for (sums, row) in sums.iter_mut().zip(left) {
                    // SAFETY: a row has `steps` numbers.
                    let number = $broadcast(unsafe { *row.add(step) });
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = $multiply_add(*sum, number, column);
                    }
                }
            }
            for (row, sums) in sums.into_iter().enumerate() {
                for (at, sum) in sums.into_iter().enumerate() {
                    write(row, at, sum);
                }
            }
        }
    };
}

pub(super) use query_block_functions;
