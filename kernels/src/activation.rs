//! exp and the activations built on it, as polynomials that vectorise.

use super::{ROUNDING_MAGIC, vectorized};

/// The activation between the two linear layers of a feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * Φ(x)`, by the error function.
    GeluErf,
    /// Its approximation by tanh.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `x * sigmoid(x)`.
    Silu,
}

/// Adds the bias to every row and applies the activation, if any.
pub fn activate(rows: &mut [f32], bias: &[f32], activation: Option<Activation>) {
    match activation {
        None => add_bias_then(rows, bias, |x| x),
        Some(Activation::GeluErf) => add_bias_then(rows, bias, gelu_erf),
        Some(Activation::GeluTanh) => add_bias_then(rows, bias, gelu_tanh),
        Some(Activation::Relu) => add_bias_then(rows, bias, |x| if x < 0.0 { 0.0 } else { x }),
        Some(Activation::Silu) => add_bias_then(rows, bias, |x| x * sigmoid(x)),
    }
}

/// A row holds a gate, then what it multiplies. Adds the bias to every row and overwrites the gate by
/// `activation(gate) * other`.
pub fn gate(rows: &mut [f32], bias: &[f32], activation: Activation) {
    match activation {
        Activation::GeluErf => add_bias_then_gate(rows, bias, gelu_erf),
        Activation::GeluTanh => add_bias_then_gate(rows, bias, gelu_tanh),
        Activation::Relu => add_bias_then_gate(rows, bias, |x| if x < 0.0 { 0.0 } else { x }),
        Activation::Silu => add_bias_then_gate(rows, bias, |x| x * sigmoid(x)),
    }
}

#[inline(always)]
fn add_bias_then_gate(rows: &mut [f32], bias: &[f32], f: impl Fn(f32) -> f32) {
    let (gate_bias, other_bias) = bias.split_at(bias.len() / 2);
    vectorized(
        #[inline(always)]
        || {
            for row in rows.chunks_exact_mut(bias.len()) {
                let (gates, others) = row.split_at_mut(gate_bias.len());
                for (((x, b), y), c) in gates.iter_mut().zip(gate_bias).zip(others).zip(other_bias) {
                    *x = f(*x + b) * (*y + c);
                }
            }
        },
    );
}

#[inline(always)]
fn add_bias_then(rows: &mut [f32], bias: &[f32], f: impl Fn(f32) -> f32) {
    vectorized(
        #[inline(always)]
        || {
            for row in rows.chunks_exact_mut(bias.len()) {
                for (x, b) in row.iter_mut().zip(bias) {
                    *x = f(*x + b);
                }
            }
        },
    );
}

/// e^x, to two units in the last place; 0 below -87.3, where the true value leaves the normal numbers, and infinite
/// above 88.7. NaN stays NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let clamped = x.clamp(-88.0, 88.8);
    let rounded = clamped.mul_add(std::f32::consts::LOG2_E, ROUNDING_MAGIC);
    let n = rounded - ROUNDING_MAGIC;
    // ln 2 in two parts, so that the difference keeps its low bits.
    let r = n.mul_add(2.121_944_4e-4, n.mul_add(-355.0 / 512.0, clamped));
    let mut p = 1.987_569_1e-4f32;
    for term in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5, 1.0, 1.0] {
        p = p.mul_add(r, term);
    }
    let fraction = p;
    // 2^n in two steps, because n reaches 128, one more than an exponent holds.
    let exponent = (rounded.to_bits() as i32) - (ROUNDING_MAGIC.to_bits() as i32);
    let half = exponent >> 1;
    let power = |e: i32| f32::from_bits(((e + 127) << 23) as u32);
    let result = fraction * power(half) * power(exponent - half);
    if x < -87.3 { 0.0 } else { result }
}

/// `x * Φ(x)` as `max(x, 0) - |x| * Φ(-|x|)`: the tail is small where x is large, so no digits cancel. The tail is
/// `|x|` over the 16th power of a polynomial (the form of Abramowitz and Stegun 7.1.28 for erfc, fitted to the tail):
/// error 5e-7 as computed.
#[inline(always)]
fn gelu_erf(x: f32) -> f32 {
    // Beyond 14 the tail is 0 in f32, and infinity / infinity would be NaN.
    let a = if x.abs() > 14.0 { 14.0 } else { x.abs() };
    let mut p = 6.988_018e-6f32;
    for term in [3.964_92e-5, 7.532_225e-5, 3.370_510_7e-3, 2.211_371_7e-2, 5.206_398e-2, 1.044_274_9] {
        p = p.mul_add(a, term);
    }
    for _ in 0..4 {
        p *= p;
    }
    let positive = if x < 0.0 { 0.0 } else { x };
    positive - a / p
}

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    // 0.5 * (1 + tanh(y)) is the logistic function of 2y.
    x * sigmoid(2.0 * SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x))
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error function in f64, by its Taylor series: exact to 1e-13 for |x| <= 4.5.
    fn erf_exact(x: f64) -> f64 {
        if x.abs() > 4.5 {
            return x.signum();
        }
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term.abs() > 1e-18 {
            n += 1.0;
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    fn max_error(activation: Activation, exact: impl Fn(f64) -> f64) -> f64 {
        let xs: Vec<f32> = (-120_000..=120_000).map(|i| i as f32 * 1e-4).collect();
        let mut ys = xs.clone();
        activate(&mut ys, &vec![0.0; xs.len()], Some(activation));
        xs.iter().zip(&ys).map(|(x, y)| (exact(f64::from(*x)) - f64::from(*y)).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn activations_are_within_a_millionth() {
        let gelu = max_error(Activation::GeluErf, |x| 0.5 * x * (1.0 + erf_exact(x / std::f64::consts::SQRT_2)));
        assert!(gelu <= 1e-6, "gelu: {gelu:e}");
        let tanh = max_error(Activation::GeluTanh, |x| {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        });
        assert!(tanh <= 1e-6, "gelu_new: {tanh:e}");
        // Near 12 an f32 has a resolution of half a millionth, and a product rounds twice.
        assert!(max_error(Activation::Silu, |x| x / (1.0 + (-x).exp())) <= 2e-6);
        assert_eq!(max_error(Activation::Relu, |x| x.max(0.0)), 0.0);
    }

    #[test]
    fn erf_and_tanh_gelu_differ() {
        let mut erf = vec![1.0f32; 4];
        let mut tanh = erf.clone();
        activate(&mut erf, &[1.0, 0.0, 0.0, 0.0], Some(Activation::GeluErf));
        activate(&mut tanh, &[1.0, 0.0, 0.0, 0.0], Some(Activation::GeluTanh));
        assert!((erf[0] - tanh[0]).abs() > 5e-5, "the bias is added first: gelu(2)");
        assert!((erf[0] - 1.954_499_7).abs() < 1e-6);
    }

    #[test]
    fn a_gate_multiplies_the_other_half_of_its_row() {
        let mut rows = [1.0, -1.0, 2.0, 3.0, 0.5, 0.0, 4.0, 5.0];
        gate(&mut rows, &[1.0, 0.0, 0.0, 1.0], Activation::Relu);
        assert_eq!((&rows[..2], &rows[4..6]), (&[4.0, 0.0][..], &[6.0, 0.0][..]));
        for activation in [Activation::GeluErf, Activation::GeluTanh, Activation::Silu] {
            let (mut gated, mut alone) = ([0.7, 3.0], [0.7]);
            gate(&mut gated, &[0.1, -1.0], activation);
            activate(&mut alone, &[0.1], Some(activation));
            assert_eq!(gated[0], alone[0] * 2.0, "{activation:?}");
        }
    }

    #[test]
    fn exp_is_accurate_over_its_whole_range() {
        for i in -87_000..=88_000 {
            let x = i as f32 * 1e-3;
            let exact = f64::from(x).exp();
            let relative = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(relative < 3e-7, "exp({x}): off by {relative:e}");
        }
        assert_eq!((exp(0.0), exp(-100.0), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
        assert_eq!(exp(100.0), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn activations_keep_nan_and_infinity() {
        let mut values = [f32::NAN, f32::INFINITY];
        activate(&mut values, &[0.0, 0.0], Some(Activation::GeluErf));
        assert!(values[0].is_nan() && values[1] == f32::INFINITY, "{values:?}");
    }
}
