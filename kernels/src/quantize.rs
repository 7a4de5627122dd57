//! Conversion of f32 to bfloat16 and to eight-bit integers.

use super::rows_view::RowsView;
use super::{LANES, ROUNDING_MAGIC, vectorized};

/// The bound of the sum of two signed bytes: times 255 it fits 16 bits.
pub(super) const PAIR_MAX: i16 = 128;

/// The quantization of a row: a byte `q` means `scale * (q - zero)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowScale {
    pub(super) scale: f32,
    pub(super) zero: f32,
}

/// Rounds to the nearest bfloat16, ties to even. NaN stays NaN.
#[inline(always)]
pub(super) fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    // A NaN whose payload is in the low bits alone would round to infinity.
    let bits = if x.is_nan() { bits | 0x0040_0000 } else { rounded };
    (bits >> 16) as u16
}

/// Widens a bfloat16.
#[inline(always)]
pub(super) fn from_bf16(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

/// Rounds rows of `width` numbers to pairs of bfloat16; an odd row ends with a zero.
pub(super) fn round_to_bf16(x: RowsView<'_>, width: usize, out: &mut Vec<[u16; 2]>) {
    let steps = width.div_ceil(2);
    out.resize(x.rows * steps, [0; 2]);
    vectorized(
        #[inline(always)]
        || {
            for (row, out) in out.chunks_exact_mut(steps).enumerate() {
                let row = &x.data[row * x.stride..][..width];
                let (halves, rest) = out.as_flattened_mut().split_at_mut(width);
                for (half, x) in halves.iter_mut().zip(row) {
                    *half = to_bf16(*x);
                }
                rest.fill(0);
            }
        },
    );
}

/// Quantizes each row of `width` numbers to 0..=255 between its minimum and maximum, with zero exactly representable,
/// in groups of `N` bytes, the last padded with 0. A row with a number that is not finite gets the scale NaN, so that
/// all its products are.
pub(super) fn quantize_rows<T: Copy + Default + From<u8>, const N: usize>(
    x: RowsView<'_>,
    width: usize,
    out: &mut Vec<[T; N]>,
    scales: &mut Vec<RowScale>,
) {
    let steps = width.div_ceil(N);
    out.resize(x.rows * steps, [T::default(); N]);
    scales.clear();
    vectorized(
        #[inline(always)]
        || {
            for (row, out) in out.chunks_exact_mut(steps).enumerate() {
                let row = &x.data[row * x.stride..][..width];
                let (bytes, rest) = out.as_flattened_mut().split_at_mut(width);
                scales.push(quantize_row(row, bytes));
                rest.fill(T::default());
            }
        },
    );
}

#[inline(always)]
fn quantize_row<T: From<u8>>(row: &[f32], out: &mut [T]) -> RowScale {
    let (mut least, mut greatest, mut not_finite) = ([0f32; LANES], [0f32; LANES], [0f32; LANES]);
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut update = |lane: usize, x: f32| {
        least[lane] = if x < least[lane] { x } else { least[lane] };
        greatest[lane] = if x > greatest[lane] { x } else { greatest[lane] };
        // 0 for finite numbers, NaN for all others.
        not_finite[lane] += x * 0.0;
    };
    for chunk in chunks {
        for (lane, x) in chunk.iter().enumerate() {
            update(lane, *x);
        }
    }
    for (lane, x) in rest.iter().enumerate() {
        update(lane, *x);
    }
    let least = least.into_iter().fold(0.0, f32::min);
    let greatest = greatest.into_iter().fold(0.0, f32::max);
    let span = greatest - least;
    let not_finite: f32 = not_finite.into_iter().sum();
    if not_finite.is_nan() || !span.is_finite() {
        return RowScale { scale: f32::NAN, zero: 0.0 };
    }
    // All zeros, or numbers too small to divide by.
    if span < f32::MIN_POSITIVE * 256.0 {
        return RowScale { scale: 0.0, zero: 0.0 };
    }
    let scale = span / 255.0;
    let inverse = 255.0 / span;
    let zero = (-least * inverse).round();
    for (byte, x) in out.iter_mut().zip(row) {
        let step = (x * inverse + zero).clamp(0.0, 255.0);
        *byte = T::from((step + ROUNDING_MAGIC).to_bits() as u8);
    }
    RowScale { scale, zero }
}

/// Quantizes each row of a weight `[outputs, inputs]` to -127..=127. Returns the bytes, row-major, and for each row
/// its scale and the sum of its bytes. `pairwise` also bounds the sum of every two adjacent bytes by [`PAIR_MAX`].
pub(super) fn quantize_columns(rows: &[&[f32]], pairwise: bool) -> (Vec<i8>, Vec<f32>, Vec<f32>) {
    let numbers = rows.iter().map(|row| row.len()).sum();
    let (mut bytes, mut scales, mut sums) = (Vec::with_capacity(numbers), Vec::new(), Vec::new());
    vectorized(
        #[inline(always)]
        || {
            for row in rows {
                let mut largest = largest(row);
                if pairwise {
                    // Rounding adds at most 1.
                    let share = 127.0 / f32::from(PAIR_MAX - 1);
                    let pairs = row.as_chunks().0.iter();
                    let of_pairs = pairs.fold(0.0f32, |largest, [a, b]| largest.max((a + b).abs() * share));
                    largest = if of_pairs > largest { of_pairs } else { largest };
                }
                let (scale, inverse) = match largest > f32::MIN_POSITIVE * 128.0 {
                    true => (largest / 127.0, 127.0 / largest),
                    // Too small for a scale, or not finite: the scale is 0 or NaN.
                    false => (largest * 0.0, 0.0),
                };
                let start = bytes.len();
                bytes.extend(row.iter().map(|x| (x * inverse).round() as i8));
                scales.push(scale);
                sums.push(bytes[start..].iter().map(|byte| i32::from(*byte)).sum::<i32>() as f32);
            }
        },
    );
    (bytes, scales, sums)
}

/// Returns the largest absolute value; NaN where a number is not finite.
#[inline(always)]
fn largest(row: &[f32]) -> f32 {
    let (mut lanes, mut not_finite) = ([0f32; LANES], [0f32; LANES]);
    for chunk in row.chunks(LANES) {
        for ((lane, not_finite), x) in lanes.iter_mut().zip(&mut not_finite).zip(chunk) {
            *lane = lane.max(x.abs());
            *not_finite += x * 0.0;
        }
    }
    lanes.into_iter().fold(0.0, f32::max) + not_finite.into_iter().sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounds_to_nearest_ties_to_even() {
        let back = |x: f32| from_bf16(to_bf16(x));
        assert_eq!(back(1.0), 1.0);
        assert_eq!(back(1.0 + 1.0 / 256.0), 1.0, "a tie goes to the even neighbour");
        assert_eq!(back(1.0 + 3.0 / 256.0), 1.0 + 1.0 / 64.0);
        assert_eq!(back(f32::MAX), f32::INFINITY);
        assert_eq!(back(f32::NEG_INFINITY), f32::NEG_INFINITY);
        assert!(back(f32::from_bits(0x7f80_0001)).is_nan(), "a payload in the low bits is no infinity");
    }

    #[test]
    fn a_quantized_row_is_within_a_step_and_zero_is_exact() {
        let row: Vec<f32> = (0..37).map(|at| (at as f32 - 5.0) * 0.3).chain([0.0]).collect();
        let (mut bytes, mut scales) = (Vec::<[u8; 4]>::new(), Vec::new());
        quantize_rows(RowsView { data: &row, rows: 1, stride: row.len() }, row.len(), &mut bytes, &mut scales);
        let RowScale { scale, zero } = scales[0];
        for (byte, x) in bytes.as_flattened().iter().zip(&row) {
            let back = scale * (f32::from(*byte) - zero);
            assert!((back - x).abs() <= scale * 1.01, "{x} came back as {back}");
            assert!(*x != 0.0 || back == 0.0);
        }
    }

    #[test]
    fn pairs_of_weights_fit_sixteen_bits() {
        let row: Vec<f32> = (0..1001).map(|at| (at * 7919 % 1000) as f32 / 500.0 - 1.0).collect();
        let (plain, ..) = quantize_columns(&[&row], false);
        let (pairwise, scales, _) = quantize_columns(&[&row], true);
        let largest = |bytes: &[i8]| bytes.as_chunks().0.iter().map(|[a, b]| i16::from(*a) + i16::from(*b)).max();
        assert!(largest(&plain) > Some(PAIR_MAX), "the bound is exceeded without pairwise");
        for [a, b] in pairwise.as_chunks().0 {
            assert!((i16::from(*a) + i16::from(*b)).abs() <= PAIR_MAX, "{a} and {b}");
        }
        for (byte, x) in pairwise.iter().zip(&row) {
            assert!((f32::from(*byte) * scales[0] - x).abs() <= 0.51 * scales[0]);
        }
    }

    #[test]
    fn rows_of_one_sign_zeros_and_tiny_numbers_quantize() {
        for row in [[5.0, 6.0, 7.0], [-5.0, -6.0, -7.0], [0.0; 3], [1e-40, 0.0, 0.0], [1e38, -1e38, 0.0]] {
            let (mut bytes, mut scales) = (Vec::<[u8; 4]>::new(), Vec::new());
            quantize_rows(RowsView { data: &row, rows: 1, stride: 3 }, 3, &mut bytes, &mut scales);
            let RowScale { scale, zero } = scales[0];
            for (byte, x) in bytes.as_flattened().iter().zip(&row) {
                let back = scale * (f32::from(*byte) - zero);
                assert!((back - x).abs() <= scale.max(1e-37), "{row:?}: {x} came back as {back}");
            }
        }
    }
}
