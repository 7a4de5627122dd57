//! Gradient descent over the edges of the graph, with negative samples; `layouts.optimize_layout_euclidean`.
//!
//! `umap-learn` walks over all edges in one order, and moves both ends of an edge. Here every point walks over its own
//! edges and moves itself alone, twice as far (the edge comes up at its other end too), seeing where the others were a
//! moment ago. That way the points of a group can be moved by any number of threads, with one result. The others are
//! brought up to date after each group, so that they lag by a part of an epoch.

use super::fuzzy::Graph;
use super::rng::{Rng, mix};
use super::{curve, parallel};

const LEARNING_RATE: f32 = 1.0;
const GRADIENT_MAX: f32 = 4.0;
const SPREAD: f32 = 1.0;
const SMALL_POINTS_MAX: usize = 10_000;
const EPOCHS_SMALL: usize = 500;
const EPOCHS_LARGE: usize = 200;
/// Groups of points that an epoch moves one after the other.
const GROUPS: usize = 4;
/// Groups smaller than this are moved by one thread: starting others would take longer.
const SHARED_POINTS_MIN: usize = 256;
/// Points that push away for each one that pulls.
const NEGATIVE_SAMPLES: usize = 5;
/// Lanes of one edge: the first pulls, the next [`NEGATIVE_SAMPLES`] push, the rest are idle.
const EDGE_LANES: usize = 8;
/// Two edges of a point are stepped along at once, which hides how long powers and divisions take.
const LANES: usize = 2 * EDGE_LANES;

/// Returns the number of epochs that `umap-learn` would take.
pub(super) fn default_epochs(points: usize) -> usize {
    if points <= SMALL_POINTS_MAX { EPOCHS_SMALL } else { EPOCHS_LARGE }
}

/// How to descend.
pub(super) struct Plan {
    pub(super) epochs: usize,
    pub(super) min_dist: f32,
    pub(super) seed: u64,
    pub(super) threads: usize,
}

/// What an epoch needs to know.
struct Epoch {
    number: f32,
    seed: u64,
    rate: f32,
    a: f32,
    b: f32,
    strongest: f32,
}

/// Moves `positions` along the edges of the graph and returns where they end.
pub(super) fn optimize(
    mut positions: Vec<[f32; 2]>,
    graph: &Graph,
    plan: &Plan,
    progress: &mut dyn FnMut(f64),
) -> Vec<[f32; 2]> {
    let n = graph.len();
    let (a, b) = curve::fit(SPREAD, plan.min_dist);
    let strongest = graph.strongest();
    let mut moved = vec![[0.0; 2]; n.div_ceil(GROUPS)];
    for number in 0..plan.epochs {
        let epoch = Epoch {
            number: number as f32,
            seed: mix(plan.seed ^ mix(number as u64 + 1)),
            rate: LEARNING_RATE * (1.0 - number as f32 / plan.epochs as f32),
            a,
            b,
            strongest,
        };
        for start in (0..n).step_by(n.div_ceil(GROUPS)) {
            let moved = &mut moved[..n.div_ceil(GROUPS).min(n - start)];
            let threads = if moved.len() < SHARED_POINTS_MIN { 1 } else { plan.threads };
            parallel::rows(moved, 1, threads, |first, piece| {
                let first = start + first;
                pulp::Arch::new().dispatch(Move { positions: &positions, graph, epoch: &epoch, first, moved: piece });
            });
            positions[start..start + moved.len()].copy_from_slice(moved);
        }
        progress((number + 1) as f64 / plan.epochs as f64);
    }
    positions
}

/// Writes where the points from `first` on go in this epoch. Compiled once per instruction set; the arithmetic, and so
/// the picture, is the same in all of them.
struct Move<'a> {
    positions: &'a [[f32; 2]],
    graph: &'a Graph,
    epoch: &'a Epoch,
    first: usize,
    moved: &'a mut [[f32; 2]],
}

impl pulp::NullaryFnOnce for Move<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { positions, graph, epoch, first, moved } = self;
        for (index, place) in moved.iter_mut().enumerate() {
            let point = first + index;
            let mut rng = Rng::of_item(epoch.seed, point as u64);
            let mut own = positions[point];
            let mut due = graph.row(point).filter(|edge| is_due(edge.1 / epoch.strongest, epoch.number));
            while let Some((first, _)) = due.next() {
                let (mut x, mut y) = ([own[0]; LANES], [own[1]; LANES]);
                for (edge, other) in [Some(first), due.next().map(|edge| edge.0)].into_iter().flatten().enumerate() {
                    let lane = edge * EDGE_LANES;
                    [x[lane], y[lane]] = positions[other];
                    for lane in lane + 1..=lane + NEGATIVE_SAMPLES {
                        [x[lane], y[lane]] = positions[rng.below(positions.len())];
                    }
                }
                own = step(own, &x, &y, epoch);
            }
            *place = own;
        }
    }
}

/// An edge of full strength is due in every epoch but the first, a weaker one in proportion.
#[inline(always)]
fn is_due(share: f32, epoch: f32) -> bool {
    (share * epoch) as i32 > (share * (epoch - 1.0).max(0.0)) as i32
}

/// Pulls `own` towards the first of each edge's others and pushes it away from the rest. One in the same place does
/// nothing.
#[inline(always)]
fn step(own: [f32; 2], x: &[f32; LANES], y: &[f32; LANES], epoch: &Epoch) -> [f32; 2] {
    let mut moves = [[0.0f32; LANES]; 2];
    for lane in 0..LANES {
        let (dx, dy) = (own[0] - x[lane], own[1] - y[lane]);
        let squared = (dx * dx + dy * dy).max(f32::MIN_POSITIVE);
        let power = power(squared, epoch.b);
        let pull = -2.0 * epoch.a * epoch.b * power / squared;
        let push = 2.0 * epoch.b / (0.001 + squared);
        let slope = if lane % EDGE_LANES == 0 { pull } else { push } / (epoch.a * power + 1.0);
        let weight = if lane % EDGE_LANES == 0 { 2.0 } else { 1.0 };
        moves[0][lane] = weight * (slope * dx).clamp(-GRADIENT_MAX, GRADIENT_MAX);
        moves[1][lane] = weight * (slope * dy).clamp(-GRADIENT_MAX, GRADIENT_MAX);
    }
    [own[0] + epoch.rate * sum(&moves[0]), own[1] + epoch.rate * sum(&moves[1])]
}

#[inline(always)]
fn sum(lanes: &[f32; LANES]) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|lane| lanes[lane] + lanes[lane + 8]);
    let four: [f32; 4] = std::array::from_fn(|lane| eight[lane] + eight[lane + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// Returns `base.powf(exponent)` for a positive base to about three digits, in operations that vectorise.
#[inline(always)]
fn power(base: f32, exponent: f32) -> f32 {
    exp2(exponent * log2(base))
}

/// Rational approximation over the mantissa, after P. Mineiro's fastapprox.
#[inline(always)]
fn log2(value: f32) -> f32 {
    let bits = value.to_bits();
    let mantissa = f32::from_bits((bits & 0x007F_FFFF) | 0x3F00_0000);
    let scaled = bits as i32 as f32 * (1.0 / (1u32 << 23) as f32);
    scaled - 124.225_52 - 1.498_030_3 * mantissa - 1.725_88 / (0.352_088_7 + mantissa)
}

#[inline(always)]
fn exp2(value: f32) -> f32 {
    let value = value.clamp(-126.0, 126.0);
    // Rounds down as a cast does, once the value is not negative.
    let fraction = (value + 128.0) - ((value + 128.0) as i32 as f32);
    let mantissa = value + 121.274_06 + 27.728_024 / (4.842_525_5 - fraction) - 1.490_129_1 * fraction;
    f32::from_bits((mantissa * (1u32 << 23) as f32) as i32 as u32)
}

#[cfg(test)]
mod tests {
    use super::{is_due, power};

    #[test]
    fn powers_are_good_to_three_digits() {
        for exponent in [0.5f32, 0.79, 0.895, 1.1, 1.6] {
            for step in -200..200 {
                let base = 2f32.powf(step as f32 / 10.0);
                let (near, exact) = (power(base, exponent), base.powf(exponent));
                assert!((near / exact - 1.0).abs() < 1e-3, "{base}^{exponent}: {near}, {exact}");
            }
        }
    }

    #[test]
    fn edges_come_up_in_proportion_to_their_weight() {
        for (share, times) in [(1.0, 499), (0.5, 249), (0.002, 0), (0.1, 49)] {
            assert_eq!((0..500).filter(|&epoch| is_due(share, epoch as f32)).count(), times, "{share}");
        }
    }
}
