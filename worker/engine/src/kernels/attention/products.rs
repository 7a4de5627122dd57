//! The products of six rows and any columns, of numbers in 32 bits, or of two to 32 bits.

/// Makes `product` for a format: `$number` is a step of a row, `$load` takes a masked vector of columns.
macro_rules! products {
    ($features:literal, $number:ty, $load:expr, $spread:expr, $multiply_add:expr) => {
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
                    let number = $spread(unsafe { *row.add(step) });
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

pub(super) use products;
