//! Layer normalisation, fused with the additions before it.

use super::{LANES, reduce_sum, sum, vectorized};

/// Overwrites each row of `x` with `layer_norm(x + bias + residual)`.
pub fn add_layer_norm(x: &mut [f32], bias: &[f32], residual: &[f32], weight: &[f32], shift: &[f32], eps: f32) {
    let width = weight.len();
    vectorized(
        #[inline(always)]
        || {
            for (row, residual) in x.chunks_exact_mut(width).zip(residual.chunks_exact(width)) {
                for ((x, b), r) in row.iter_mut().zip(bias).zip(residual) {
                    *x = *x + b + r;
                }
                normalize(row, weight, shift, eps);
            }
        },
    );
}

/// Overwrites each row of `x` with its layer norm.
pub fn layer_norm(x: &mut [f32], weight: &[f32], shift: &[f32], eps: f32) {
    vectorized(
        #[inline(always)]
        || {
            for row in x.chunks_exact_mut(weight.len()) {
                normalize(row, weight, shift, eps);
            }
        },
    );
}

/// Divides each row of `x` by its root mean square and multiplies it by `weight`.
pub fn rms_norm(x: &mut [f32], weight: &[f32], eps: f32) {
    vectorized(
        #[inline(always)]
        || {
            for row in x.chunks_exact_mut(weight.len()) {
                let scale = 1.0 / (sum_of_squares(row) / weight.len() as f32 + eps).sqrt();
                for (x, w) in row.iter_mut().zip(weight) {
                    *x = *x * scale * w;
                }
            }
        },
    );
}

#[inline(always)]
fn sum_of_squares(row: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += chunk[lane] * chunk[lane];
        }
    }
    for (lane, x) in rest.iter().enumerate() {
        lanes[lane] += x * x;
    }
    reduce_sum(lanes)
}

/// Returns the layer norm of the sum of word and position embedding of every token. Panics for ids or positions
/// outside the tables.
pub fn embed_layer_norm(
    tokens: impl ExactSizeIterator<Item = (u32, u32)>,
    words: &[f32],
    positions: &[f32],
    (weight, shift, eps): (&[f32], &[f32], f32),
) -> Vec<f32> {
    let width = weight.len();
    let mut out = Vec::with_capacity(tokens.len() * width);
    vectorized(
        #[inline(always)]
        || {
            for (id, position) in tokens {
                let start = out.len();
                let word_row = &words[id as usize * width..][..width];
                let position_row = &positions[position as usize * width..][..width];
                out.extend(word_row.iter().zip(position_row).map(|(w, p)| w + p));
                normalize(&mut out[start..], weight, shift, eps);
            }
        },
    );
    out
}

/// Mean and variance are taken in two passes: one pass loses digits where the mean is large.
#[inline(always)]
fn normalize(row: &mut [f32], weight: &[f32], shift: &[f32], eps: f32) {
    let width = row.len() as f32;
    let mean = sum(row) / width;
    let mut lanes = [0f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            let d = chunk[lane] - mean;
            lanes[lane] += d * d;
        }
    }
    for (lane, x) in rest.iter().enumerate() {
        lanes[lane] += (x - mean) * (x - mean);
    }
    let scale = 1.0 / (reduce_sum(lanes) / width + eps).sqrt();
    for ((x, w), s) in row.iter_mut().zip(weight).zip(shift) {
        *x = (*x - mean) * scale * w + s;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_normalised_with_its_bias_and_residual() {
        // An odd width exercises the remainder of the lanes; the mean is large.
        let width = 37;
        let value = |i: usize, k: usize| ((i * k) % 11) as f32 * 0.25 + 100.0;
        let mut x: Vec<f32> = (0..2 * width).map(|i| value(i, 3)).collect();
        let residual: Vec<f32> = (0..2 * width).map(|i| value(i, 5)).collect();
        let per_column = |k: usize| -> Vec<f32> { (0..width).map(|i| value(i, k) - 100.0).collect() };
        let (bias, weight, shift) = (per_column(2), per_column(7), per_column(4));
        let input = x.clone();
        add_layer_norm(&mut x, &bias, &residual, &weight, &shift, 1e-5);
        for row in 0..2 {
            let sums: Vec<f64> = (0..width)
                .map(|c| f64::from(input[row * width + c]) + f64::from(bias[c]) + f64::from(residual[row * width + c]))
                .collect();
            let mean = sums.iter().sum::<f64>() / width as f64;
            let variance = sums.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / width as f64;
            for c in 0..width {
                let exact = (sums[c] - mean) / (variance + 1e-5).sqrt() * f64::from(weight[c]) + f64::from(shift[c]);
                assert!((exact - f64::from(x[row * width + c])).abs() < 1e-4, "row {row} column {c}");
            }
        }
    }

    #[test]
    fn epsilon_is_added_to_the_variance() {
        let norm = |eps| {
            let mut x = vec![1e-4, -1e-4, 1e-4, -1e-4];
            add_layer_norm(&mut x, &[0.0; 4], &[0.0; 4], &[1.0; 4], &[0.0; 4], eps);
            x[0]
        };
        assert!((norm(1e-12) - 1.0).abs() < 1e-3);
        assert!(norm(1e-5) < 0.05);
    }

    #[test]
    fn a_row_is_divided_by_its_root_mean_square() {
        let mut x: Vec<f32> = (0..2 * 37).map(|i| (i * 5 % 11) as f32 - 4.0).collect();
        let weight: Vec<f32> = (0..37).map(|i| i as f32 * 0.25).collect();
        let input = x.clone();
        rms_norm(&mut x, &weight, 0.5);
        for (found, input) in x.chunks_exact(37).zip(input.chunks_exact(37)) {
            let mean = input.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 37.0;
            for ((found, x), weight) in found.iter().zip(input).zip(&weight) {
                let exact = f64::from(*x) / (mean + 0.5).sqrt() * f64::from(*weight);
                assert!((f64::from(*found) - exact).abs() < 1e-5, "{found} for {exact}");
            }
        }
    }

    #[test]
    fn word_and_position_embeddings_are_added() {
        let words = [1.0, 2.0, 5.0, 3.0];
        let positions = [0.0, 0.0, 10.0, 0.0];
        let out = embed_layer_norm([(1, 0), (0, 1)].into_iter(), &words, &positions, (&[1.0, 1.0], &[0.0, 0.0], 0.0));
        assert_eq!(out, [1.0, -1.0, 1.0, -1.0]);
    }
}
