//! Attention of six queries to the keys of a head, for numbers of 32 bits, or of two to 32 bits: scores, weights, context.

/// Makes `score`, `softmax_block` and `weighted_sum` for a format: `$number` is a step of a row, `$load` takes a masked vector of columns,
/// and `$store_weights` writes the weights of sixteen keys into the row of scores, from the given one on, and returns what was written.
/// It may write to no later place than where it read.
macro_rules! query_block_functions {
    ($features:literal, $number:ty, $load:expr, $broadcast:expr, $multiply_add:expr, $store_weights:expr) => {
        /// Writes the query_block_functions of six queries with all keys: six rows of `padded`.
        ///
        /// # Safety
        /// The queries have so many steps, keys a row of `padded`, which is whole vectors, for each; `scores` has six.
        #[target_feature(enable = $features)]
        unsafe fn score(
            queries: [*const $number; ROWS],
            (keys, padded): (*const $number, usize),
            steps: usize,
            scores: &mut [f32],
        ) {
            let out = scores.as_mut_ptr();
            // SAFETY: as the caller says.
            unsafe {
                let write = |row: usize, column: usize, _, sum| _mm512_storeu_ps(out.add(row * padded + column), sum);
                product(queries, (keys, padded), (steps, padded), write);
            }
        }

        /// Turns six rows of scores into weights that are not yet divided by their sums, and returns those.
        ///
        /// # Safety
        /// `scores` has six rows of `padded`, which is the next multiple of sixteen after `tokens`.
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
                    // Columns beyond the last key repeat it: they do not change what is reduce_max.
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

        /// Writes the context of six queries, `count` of which are wanted: values times weights, divided by the weights' sums.
        ///
        /// # Safety
        /// `weights` has six rows of `padded`, which begin with so many steps; `values` has a row of `size` for each step;
        /// `out` has `count` of them, `width` apart.
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
            // SAFETY: as the caller says; the masks end with the head.
            unsafe {
                let write = |row: usize, column: usize, mask, sum| {
                    if row < count {
                        _mm512_mask_storeu_ps(out.add(row * width + column), mask, _mm512_mul_ps(sum, inverse[row]));
                    }
                };
                product(weights, values, (steps, size), write);
            }
        }

        /// Sums `left[row][step] * right[step]` over the steps, for six rows and so many columns, and hands the sums on: vectors,
        /// each with its row, its first column and the mask of those that there are.
        ///
        /// # Safety
        /// Rows of `left` have a number for each step; `right` has a row of as many numbers as columns for each, so far apart.
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
                // SAFETY: as the caller says; the mask ends with the columns.
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

        /// As [`product`], for `C` vectors of columns, of which the last is masked.
        ///
        /// # Safety
        /// Rows have a number for each step; a row of `right` holds `C` vectors, but for what the mask leaves out.
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
                    // SAFETY: as the caller says; what the mask leaves out is not touched.
                    unsafe { $load(mask, right.add(step * stride + at * LANES)) }
                });
                for (sums, row) in sums.iter_mut().zip(left) {
                    // SAFETY: a row has as many numbers as there are steps.
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
