//! Gradient descent over the edges of the graph with negative samples; `layouts.optimize_layout_euclidean`.
//!
//! `umap-learn` walks over all edges in order and moves both ends. Here every point walks over its own edges and moves
//! itself, against slightly outdated positions of the others; what the other end of an edge moves is summed up, and added
//! after each group of points, a fraction of an epoch. The sums are of integers, which give the same in any order: so any
//! number of threads moves the points of a group with the same result. (A point that moved twice as far instead, and left
//! the other end to its own turn, would need more than twice as many epochs for plots as good as `umap-learn`'s: attraction
//! would move the middle of every cluster at random.)

use std::ops::Range;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use super::curve;
use super::force::{Curve, INTERACTIONS, LANES, Positions, step};
use super::fuzzy::Graph;
use super::parallel::{self, Member};
use super::schedule::Schedule;
use crate::rng::{below, mix, mix32};

const LEARNING_RATE: f32 = 1.0;
const SPREAD: f32 = 1.0;
const SMALL_POINTS_MAX: usize = 10_000;
const MEDIUM_POINTS_MAX: usize = 100_000;
const EPOCHS_SMALL: usize = 1_000;
const EPOCHS_MEDIUM: usize = 500;
const EPOCHS_LARGE: usize = 200;
/// Groups of points per epoch, moved one after the other.
const GROUPS: usize = 4;
/// Points that a thread claims at a time.
const CHUNK_POINTS: usize = 2 * LANES;
/// Minimum points per thread.
const SHARED_POINTS_MIN: usize = 1_024;
/// Slots whose others are loaded together: few enough for the L1 cache.
const BLOCK_SLOTS: usize = 4;
/// Increment of the counter that is mixed into each sample: odd, with well-distributed bits.
const STRIDE: u32 = 0x9E37_79B9;

/// Returns the default number of epochs: that of `umap-learn`, but more for few points.
pub fn default_epochs(points: usize) -> usize {
    if points <= SMALL_POINTS_MAX {
        EPOCHS_SMALL
    } else if points <= MEDIUM_POINTS_MAX {
        EPOCHS_MEDIUM
    } else {
        EPOCHS_LARGE
    }
}

pub(super) struct LayoutOptions {
    pub(super) epochs: usize,
    pub(super) min_dist: f32,
    pub(super) seed: u64,
    pub(super) threads: usize,
}

/// Optimizes `positions` along the edges of the graph.
pub(super) fn optimize(
    positions: Vec<[f32; 2]>,
    graph: &Graph,
    options: &LayoutOptions,
    progress: &mut dyn FnMut(f64),
) -> Vec<[f32; 2]> {
    let schedule = Schedule::new(graph, GROUPS);
    let places: Vec<AtomicU64> =
        schedule.order.iter().map(|&point| AtomicU64::new(pack(positions[point as usize]))).collect();
    let next_positions = places.iter().map(|place| AtomicU64::new(place.load(Ordering::Relaxed))).collect();
    let threads = options.threads.min(positions.len() / SHARED_POINTS_MIN).max(1);
    let reactions = (0..threads).map(|_| places.iter().map(|_| AtomicI64::new(0)).collect()).collect();
    let descent = Descent {
        schedule: &schedule,
        curve: Curve::new(curve::fit(SPREAD, options.min_dist)),
        options,
        places,
        next_positions,
        reactions,
        claimed: [const { AtomicUsize::new(0) }; GROUPS],
    };
    parallel::team(threads, |member| descent.run(member, &mut |_| {}), |member| descent.run(member, progress));
    let mut positions = positions;
    for (&point, place) in schedule.order.iter().zip(&descent.places) {
        positions[point as usize] = unpack(place.load(Ordering::Relaxed));
    }
    positions
}

/// Packs a position into one word, so that reads and writes are atomic.
#[inline(always)]
fn pack([x, y]: [f32; 2]) -> u64 {
    u64::from(x.to_bits()) | u64::from(y.to_bits()) << 32
}

#[inline(always)]
fn unpack(place: u64) -> [f32; 2] {
    [f32::from_bits(place as u32), f32::from_bits((place >> 32) as u32)]
}

/// Units of a reaction: a plane of some hundred has steps that cannot be seen, and a point takes 30,000 of the strongest
/// pulls at once.
const REACTION_UNITS: f32 = (1 << 14) as f32;

/// Returns displacements in units, rounded, for all lanes at once.
#[inline(always)]
fn in_units(values: &[f32; LANES]) -> [i32; LANES] {
    /// 1.5 * 2^23: adding it rounds to an integer, in the last bits.
    const ROUNDING_MAGIC: f32 = 12_582_912.0;
    let mut units = [0; LANES];
    for (units, value) in units.iter_mut().zip(values) {
        let rounded = (value * REACTION_UNITS + ROUNDING_MAGIC).to_bits();
        *units = rounded.wrapping_sub(ROUNDING_MAGIC.to_bits()).cast_signed();
    }
    units
}

/// Packs a reaction into one word, so that words add up to the sums of both axes.
#[inline(always)]
fn pack_reaction(x: i32, y: i32) -> i64 {
    (i64::from(x) << 32).wrapping_add(i64::from(y))
}

#[inline(always)]
fn unpack_reaction(sum: i64) -> [f32; 2] {
    let y = sum as i32;
    let x = (sum.wrapping_sub(i64::from(y)) >> 32) as i32;
    [x as f32 / REACTION_UNITS, y as f32 / REACTION_UNITS]
}

/// State shared by all threads. Positions change only between two barriers and are read outside of them, so relaxed
/// access suffices and the result is deterministic.
struct Descent<'a> {
    schedule: &'a Schedule,
    curve: Curve,
    options: &'a LayoutOptions,
    /// Positions, in schedule order.
    places: Vec<AtomicU64>,
    /// New positions of the current group.
    next_positions: Vec<AtomicU64>,
    /// What the edges of the current group's points move their other ends, by thread: locked additions are slow.
    reactions: Vec<Vec<AtomicI64>>,
    /// Points of each group claimed by threads.
    claimed: [AtomicUsize; GROUPS],
}

impl Descent<'_> {
    fn run(&self, member: &Member<'_>, progress: &mut dyn FnMut(f64)) {
        let arch = pulp::Arch::new();
        let mut scratch = Scratch {
            queue: vec![0; self.schedule.longest * LANES],
            ids: vec![[[0; LANES]; INTERACTIONS]; BLOCK_SLOTS],
            others: vec![Positions::default(); BLOCK_SLOTS * INTERACTIONS],
        };
        for number in 0..self.options.epochs {
            let epoch = Epoch {
                number: number as u32,
                seed: mix(self.options.seed ^ mix(number as u64 + 1)),
                rate: LEARNING_RATE * (1.0 - number as f32 / self.options.epochs as f32),
            };
            for (group, claimed) in self.schedule.groups.iter().zip(&self.claimed) {
                loop {
                    let first = group.start + claimed.fetch_add(CHUNK_POINTS, Ordering::Relaxed);
                    if first >= group.end {
                        break;
                    }
                    let points = first..(first + CHUNK_POINTS).min(group.end);
                    let reactions = &self.reactions[member.index];
                    arch.dispatch(Move { descent: self, epoch: &epoch, points, reactions, scratch: &mut scratch });
                }
                member.wait();
                for place in member.share(&(0..self.places.len())) {
                    self.publish(place, group.contains(&place));
                }
                claimed.store(0, Ordering::Relaxed);
                member.wait();
            }
            progress((number + 1) as f64 / self.options.epochs as f64);
        }
    }

    /// Publishes where a point is after the current group.
    #[inline(always)]
    fn publish(&self, place: usize, has_moved: bool) {
        let from = if has_moved { &self.next_positions } else { &self.places };
        let [x, y] = unpack(from[place].load(Ordering::Relaxed));
        let mut sum = 0i64;
        for reactions in &self.reactions {
            sum = sum.wrapping_add(reactions[place].load(Ordering::Relaxed));
            reactions[place].store(0, Ordering::Relaxed);
        }
        let [dx, dy] = unpack_reaction(sum);
        self.places[place].store(pack([x + dx, y + dy]), Ordering::Relaxed);
    }

    #[inline(always)]
    fn place(&self, place: u32) -> u64 {
        self.places[place as usize].load(Ordering::Relaxed)
    }
}

/// Constants of an epoch.
struct Epoch {
    number: u32,
    seed: u64,
    rate: f32,
}

/// Buffers of a thread.
struct Scratch {
    /// Due edges: the first of every lane, then the second, and so on.
    queue: Vec<u32>,
    /// The interacting points of each slot in a block.
    ids: Vec<[[u32; LANES]; INTERACTIONS]>,
    /// Their positions.
    others: Vec<Positions>,
}

/// Computes new positions of some points in this epoch. Compiled per instruction set with identical arithmetic, so the
/// result does not depend on it.
struct Move<'a> {
    descent: &'a Descent<'a>,
    epoch: &'a Epoch,
    points: Range<usize>,
    /// Those of this thread.
    reactions: &'a [AtomicI64],
    scratch: &'a mut Scratch,
}

impl pulp::NullaryFnOnce for Move<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { descent, epoch, points, reactions, scratch } = self;
        for first in points.clone().step_by(LANES) {
            move_lanes(descent, epoch, first..(first + LANES).min(points.end), reactions, scratch);
        }
    }
}

/// Moves one point per lane: each along its first due edge, then along its second, and so on.
#[inline(always)]
fn move_lanes(
    descent: &Descent<'_>,
    epoch: &Epoch,
    points: Range<usize>,
    reactions: &[AtomicI64],
    scratch: &mut Scratch,
) {
    let counts = fill(descent.schedule, epoch.number, &points, &mut scratch.queue);
    let mut base = [0u32; LANES];
    let mut own = Positions::default();
    for (lane, point) in points.clone().enumerate() {
        base[lane] = mix32(point as u32 ^ epoch.seed as u32).wrapping_add((epoch.seed >> 32) as u32);
        [own.x[lane], own.y[lane]] = unpack(descent.place(point as u32));
    }
    let slots = counts.iter().copied().max().unwrap_or(0) as usize;
    let queue = &scratch.queue.as_chunks::<LANES>().0[..slots];
    for (block, due) in queue.chunks(BLOCK_SLOTS).enumerate() {
        let first = block * BLOCK_SLOTS;
        select_interactions(due, first, &base, descent.places.len() as u32, &mut scratch.ids);
        // Loaded together, so that no load waits for another's result.
        let positions = descent.places.as_slice();
        let ids = &scratch.ids.as_flattened()[..due.len() * INTERACTIONS];
        for (others, ids) in scratch.others.iter_mut().zip(ids) {
            for (lane, &id) in ids.iter().enumerate() {
                [others.x[lane], others.y[lane]] = unpack(positions[id as usize].load(Ordering::Relaxed));
            }
        }
        for (slot, others) in scratch.others.as_chunks::<INTERACTIONS>().0[..due.len()].iter().enumerate() {
            let mut rates = [0.0f32; LANES];
            for lane in 0..LANES {
                rates[lane] = if ((first + slot) as u32) < counts[lane] { epoch.rate } else { 0.0 };
            }
            let pulled = step(&mut own, others, &rates, &descent.curve);
            let (xs, ys) = (in_units(&pulled.x), in_units(&pulled.y));
            for (lane, &other) in due[slot].iter().enumerate().filter(|(lane, _)| rates[*lane] > 0.0) {
                let sum = &reactions[other as usize];
                let moved = sum.load(Ordering::Relaxed).wrapping_sub(pack_reaction(xs[lane], ys[lane]));
                sum.store(moved, Ordering::Relaxed);
            }
        }
    }
    for (lane, point) in points.enumerate() {
        descent.next_positions[point].store(pack([own.x[lane], own.y[lane]]), Ordering::Relaxed);
    }
}

/// Selects the attracting and random repelling points of every slot and lane.
#[inline(always)]
fn select_interactions(
    due: &[[u32; LANES]],
    first: usize,
    base: &[u32; LANES],
    n: u32,
    ids: &mut [[[u32; LANES]; INTERACTIONS]],
) {
    for (slot, (due, ids)) in due.iter().zip(ids).enumerate() {
        ids[0] = *due;
        for (sample, ids) in ids.iter_mut().enumerate().skip(1) {
            let number = (((first + slot) * INTERACTIONS + sample) as u32).wrapping_mul(STRIDE);
            for lane in 0..LANES {
                ids[lane] = below(mix32(base[lane].wrapping_add(number)), n);
            }
        }
    }
}

/// Queues the due edges, a lane per point, and returns their number per lane. Shorter lanes are padded, and get rate
/// 0.
#[inline(always)]
fn fill(schedule: &Schedule, epoch: u32, points: &Range<usize>, queue: &mut [u32]) -> [u32; LANES] {
    let mut counts = [0u32; LANES];
    for (lane, point) in points.clone().enumerate() {
        let mut place = lane;
        for edge in schedule.edges(point) {
            // Written always and kept only if due, to avoid a mispredicted branch.
            queue[place] = edge.other;
            place += LANES * usize::from(edge.is_due(epoch));
        }
        counts[lane] = (place / LANES) as u32;
    }
    let longest = counts.iter().copied().max().unwrap_or(0);
    for (lane, &count) in counts.iter().enumerate() {
        for slot in count..longest {
            queue[slot as usize * LANES + lane] = points.start as u32;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reactions_add_up_whatever_their_order_and_signs() {
        let steps = [[3.5, -4.0], [-0.25, 4.0], [-4.0, -0.000_1], [0.0, 1.75]];
        let mut sum = 0i64;
        for [x, y] in steps {
            let (x, y) = (in_units(&[x; LANES])[7], in_units(&[y; LANES])[7]);
            sum = sum.wrapping_sub(pack_reaction(x, y));
        }
        let [x, y] = unpack_reaction(sum);
        assert!((x - 0.75).abs() < 1e-3 && (y + 1.75).abs() < 1e-3, "{x} {y}");
        let many = (0..30_000).fold(0i64, |sum, _| sum.wrapping_sub(pack_reaction(65_536, -65_536)));
        assert_eq!(unpack_reaction(many), [-120_000.0, 120_000.0]);
    }
}
