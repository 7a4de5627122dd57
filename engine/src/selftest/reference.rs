//! Reference implementations of the operations: scalar arithmetic in f64.

use kernels::{Activation, Heads};

/// A deterministic generator of roughly normal numbers.
pub(crate) struct TestRng(u64);

impl TestRng {
    pub(crate) fn new(seed: u64) -> TestRng {
        TestRng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns an integer below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % bound
    }

    /// Returns `count` numbers around 0 with the standard deviation `spread`.
    pub(crate) fn numbers(&mut self, count: usize, spread: f32) -> Vec<f32> {
        // The sum of four uniform numbers from -1 to 1 has a variance of 4/3.
        let scale = spread * (0.75f32).sqrt() / 32_768.0;
        let mut uniform = || self.below(65_536) as f32 - 32_768.0;
        (0..count).map(|_| (uniform() + uniform() + uniform() + uniform()) * scale).collect()
    }
}

/// Returns `x * weights^T + bias`; `x` is `[rows, inputs]`, `weights` `[outputs, inputs]`.
pub(crate) fn linear(x: &[f64], weights: &[f32], bias: &[f32]) -> Vec<f64> {
    let inputs = weights.len() / bias.len();
    let product = |row: &[f64], weights: &[f32]| row.iter().zip(weights).map(|(x, w)| x * f64::from(*w)).sum::<f64>();
    x.chunks_exact(inputs)
        .flat_map(|row| {
            let outputs = weights.chunks_exact(inputs).zip(bias);
            outputs.map(move |(weights, bias)| product(row, weights) + f64::from(*bias))
        })
        .collect()
}

pub(crate) fn norm(x: &[f64], weight: &[f32], shift: &[f32], eps: f64) -> Vec<f64> {
    let width = weight.len();
    let mut out = Vec::with_capacity(x.len());
    for row in x.chunks_exact(width) {
        let mean = row.iter().sum::<f64>() / width as f64;
        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / width as f64;
        let scale = 1.0 / (variance + eps).sqrt();
        let scaled = row.iter().zip(weight.iter().zip(shift));
        out.extend(scaled.map(|(x, (weight, shift))| (x - mean) * scale * f64::from(*weight) + f64::from(*shift)));
    }
    out
}

/// Divides each row by its root mean square.
pub(crate) fn rms_norm(x: &[f64], weight: &[f32], eps: f64) -> Vec<f64> {
    let mut out = Vec::with_capacity(x.len());
    for row in x.chunks_exact(weight.len()) {
        let scale = 1.0 / (row.iter().map(|x| x * x).sum::<f64>() / weight.len() as f64 + eps).sqrt();
        out.extend(row.iter().zip(weight).map(|(x, weight)| x * scale * f64::from(*weight)));
    }
    out
}

/// Rotates the heads of rows of one text, the first of which has the position `first`. The angle is rounded as on a device.
pub(crate) fn rotated(rows: &[f64], width: usize, first: usize, frequencies: &[f32]) -> Vec<f64> {
    let (mut rows, pairs) = (rows.to_vec(), frequencies.len());
    for (row, position) in rows.chunks_exact_mut(width).zip(first..) {
        for head in row.chunks_exact_mut(2 * pairs) {
            for pair in 0..pairs {
                let (sin, cos) = f64::from(position as f32 * frequencies[pair]).sin_cos();
                let (a, b) = (head[pair], head[pairs + pair]);
                (head[pair], head[pairs + pair]) = (a * cos - b * sin, b * cos + a * sin);
            }
        }
    }
    rows
}

/// Returns the context of queries over one text; all are rows of whole heads, those of keys and values `stride` apart.
/// The heads of queries share the `key_heads` in turn. `bias` is what is added to the score of a head, query and key, or
/// `None` where the query does not attend to the key.
pub(crate) fn attention(
    queries: &[f64],
    (keys, values, stride): (&[f64], &[f64], usize),
    tokens: usize,
    (heads, key_heads): (Heads, usize),
    bias: impl Fn(usize, usize, usize) -> Option<f64>,
) -> Vec<f64> {
    let Heads { count, size } = heads;
    let width = count * size;
    let mut out = vec![0.0; queries.len()];
    for (index, (query, out)) in queries.chunks_exact(width).zip(out.chunks_exact_mut(width)).enumerate() {
        for head in 0..count {
            let query = &query[head * size..][..size];
            let row = |rows: &[f64], token: usize| rows[token * stride + head % key_heads * size..][..size].to_vec();
            let dot = |key: &[f64]| query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>();
            let score = |token: usize| {
                let bias = bias(head, index, token).unwrap_or(f64::NEG_INFINITY);
                dot(&row(keys, token)) / (size as f64).sqrt() + bias
            };
            let scores: Vec<f64> = (0..tokens).map(score).collect();
            let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - highest).exp()).collect();
            let total: f64 = weights.iter().sum();
            for (token, weight) in weights.iter().enumerate() {
                let value = row(values, token);
                out[head * size..].iter_mut().zip(value).for_each(|(sum, value)| *sum += weight / total * value);
            }
        }
    }
    out
}

/// Returns an activation.
pub(crate) fn activation(x: f64, activation: Activation) -> f64 {
    match activation {
        Activation::GeluErf => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::Relu => x.max(0.0),
        Activation::Silu => x / (1.0 + (-x).exp()),
    }
}

fn erf(x: f64) -> f64 {
    if x.abs() > 3.0 {
        // erfc(x) = exp(-x^2) / (x sqrt(pi)) * 1/(1 + 1/(2x^2) / (1 + 2/(2x^2) / (1 + ...)))
        let mut fraction = 1.0;
        for step in (1..60).rev() {
            fraction = 1.0 + f64::from(step) / (2.0 * x * x) / fraction;
        }
        return x.signum() - (-x * x).exp() / (x * std::f64::consts::PI.sqrt() * fraction);
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..80 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_is_accurate_in_both_branches() {
        for (x, expected) in
            [(0.5, 0.520_499_877_813_046_5), (2.9, 0.999_958_902_121_900_5), (3.1, 0.999_988_351_342_632_8)]
        {
            assert!((erf(x) - expected).abs() < 1e-12 && (erf(-x) + expected).abs() < 1e-12, "{x}: {}", erf(x));
        }
    }

    #[test]
    fn generated_numbers_have_the_requested_deviation() {
        let numbers = TestRng::new(3).numbers(20_000, 2.0);
        let variance = numbers.iter().map(|x| x * x).sum::<f32>() / 20_000.0;
        assert!((variance - 4.0).abs() < 0.2, "{variance}");
    }
}
