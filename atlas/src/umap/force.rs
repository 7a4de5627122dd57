//! Attractive and repulsive forces, for as many points at a time as there are vector lanes.

/// Points that are moved together: two of the widest registers, to hide the latency of dependent forces.
pub(super) const LANES: usize = 32;
/// Repelling samples per attracting edge.
const NEGATIVE_SAMPLES: usize = 5;
/// The attracting point first, then the repelling ones.
pub(super) const INTERACTIONS: usize = 1 + NEGATIVE_SAMPLES;

const GRADIENT_MAX: f32 = 4.0;

/// One position per lane.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[repr(align(64))]
pub(super) struct Positions {
    pub(super) x: [f32; LANES],
    pub(super) y: [f32; LANES],
}

/// The similarity curve `1 / (1 + a·d^(2b))` over distance.
pub(super) struct Curve {
    a: f32,
    b: f32,
}

impl Curve {
    pub(super) fn new((a, b): (f32, f32)) -> Self {
        Self { a, b }
    }

    /// Returns the attraction as a factor of the difference, at a squared distance.
    #[inline(always)]
    fn pull(&self, squared: f32) -> f32 {
        let squared = squared.max(f32::MIN_POSITIVE);
        let power = power(squared, self.b);
        -2.0 * self.a * self.b * power / (squared * (self.a * power + 1.0))
    }

    /// Returns the repulsion as a factor of the difference.
    #[inline(always)]
    fn push(&self, squared: f32) -> f32 {
        let power = power(squared.max(f32::MIN_POSITIVE), self.b);
        2.0 * self.b / ((0.001 + squared) * (self.a * power + 1.0))
    }
}

/// Moves every lane by its own rate: towards the first of its others, then away from each of the rest. Coincident points
/// exert no force. Returns how far the first has pulled, as it is pulled back.
///
/// Forces are applied one after the other: summed up first, those of a dense cluster would tear it apart.
#[inline(always)]
pub(super) fn step(
    own: &mut Positions,
    others: &[Positions; INTERACTIONS],
    rates: &[f32; LANES],
    curve: &Curve,
) -> Positions {
    let before = *own;
    shift(
        own,
        &others[0],
        rates,
        #[inline(always)]
        |squared| curve.pull(squared),
    );
    let mut pulled = *own;
    for lane in 0..LANES {
        pulled.x[lane] -= before.x[lane];
        pulled.y[lane] -= before.y[lane];
    }
    for pushes in &others[1..] {
        shift(
            own,
            pushes,
            rates,
            #[inline(always)]
            |squared| curve.push(squared),
        );
    }
    pulled
}

#[inline(always)]
fn shift(own: &mut Positions, others: &Positions, rates: &[f32; LANES], slope: impl Fn(f32) -> f32) {
    for (lane, rate) in rates.iter().enumerate() {
        let (dx, dy) = (own.x[lane] - others.x[lane], own.y[lane] - others.y[lane]);
        let slope = slope(dx * dx + dy * dy);
        own.x[lane] += rate * clip(slope * dx);
        own.y[lane] += rate * clip(slope * dy);
    }
}

#[inline(always)]
fn clip(value: f32) -> f32 {
    value.clamp(-GRADIENT_MAX, GRADIENT_MAX)
}

/// Returns `base.powf(exponent)` for a positive base to about three digits, in operations that vectorise.
#[inline(always)]
fn power(base: f32, exponent: f32) -> f32 {
    exp2(exponent * log2(base))
}

/// Extracts the exponent, and evaluates a polynomial (Chebyshev nodes) of the mantissa in `[√½, √2]`.
#[inline(always)]
fn log2(value: f32) -> f32 {
    const ROOT_OF_HALF: u32 = 0x3F35_04F3;
    let exponent = (value.to_bits().wrapping_sub(ROOT_OF_HALF)).cast_signed() >> 23;
    let t = f32::from_bits(value.to_bits().wrapping_sub((exponent << 23).cast_unsigned())) - 1.0;
    exponent as f32 + t * (1.442_262_4 + t * (-0.724_190_1 + t * (0.511_527_8 - t * 0.329_088)))
}

/// Rounds to an integer exponent, and evaluates a polynomial of the rest in `[-½, ½]`.
#[inline(always)]
fn exp2(value: f32) -> f32 {
    /// 1.5 * 2^23: adding it rounds to an integer.
    const ROUNDING_MAGIC: f32 = 12_582_912.0;
    let value = value.clamp(-126.0, 126.0);
    let rounded = value + ROUNDING_MAGIC;
    let t = value - (rounded - ROUNDING_MAGIC);
    let mantissa = 0.999_924_5 + t * (0.693_121 + t * (0.242_640_1 + t * 0.055_922_04));
    let exponent = rounded.to_bits().wrapping_sub(ROUNDING_MAGIC.to_bits());
    f32::from_bits(mantissa.to_bits().wrapping_add(exponent << 23))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_accurate_to_three_digits() {
        for exponent in [0.5f32, 0.79, 0.895, 1.1, 1.6] {
            for step in -200..200 {
                let base = 2f32.powf(step as f32 / 10.0);
                let (near, exact) = (power(base, exponent), base.powf(exponent));
                assert!((near / exact - 1.0).abs() < 1e-3, "{base}^{exponent}: {near}, {exact}");
            }
        }
    }

    #[test]
    fn gradients_match_umap_learn() {
        let (a, b) = (1.576_943_5f64, 0.895_060_9f64);
        let curve = Curve::new((a as f32, b as f32));
        for squared in [1e-6, 1e-3, 0.04, 1.0, 3.7, 250.0f64] {
            let pull = -2.0 * a * b * squared.powf(b - 1.0) / (a * squared.powf(b) + 1.0);
            let push = 2.0 * b / ((0.001 + squared) * (a * squared.powf(b) + 1.0));
            let near = |found: f32, exact: f64| (f64::from(found) / exact - 1.0).abs() < 2e-3;
            assert!(near(curve.pull(squared as f32), pull) && near(curve.push(squared as f32), push), "{squared}");
        }
        assert!(curve.pull(0.0).is_finite() && curve.push(0.0).is_finite() && curve.push(1e30) >= 0.0);
    }

    #[test]
    fn lanes_move_by_their_own_rate_and_neighbours() {
        let curve = Curve::new((1.5, 0.9));
        let mut own = Positions { x: [1.0; LANES], y: [2.0; LANES] };
        // All repelling points but one coincide with the point and exert no force.
        let mut others = [own; INTERACTIONS];
        others[0].x = [3.0; LANES];
        others[1].y[2] = 2.5;
        let mut rates = [0.5; LANES];
        rates[1] = 0.0;
        let pulled = step(&mut own, &others, &rates, &curve);
        assert!(pulled.x[0] > 0.0 && pulled.x[1] == 0.0 && pulled.y == [0.0; LANES], "{pulled:?}");
        assert_eq!((own.x[1], own.y[1]), (1.0, 2.0));
        assert!(own.x[0] > 1.0 && own.y[0] == 2.0, "pulled: {own:?}");
        assert!(own.x[2] > 1.0 && own.y[2] < 2.0, "pulled and pushed: {own:?}");
    }
}
