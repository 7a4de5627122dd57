//! Gradient descent over the edges of the graph, with negative samples; `layouts.optimize_layout_euclidean`.
//!
//! `umap-learn` walks over all edges in one order, and moves both ends of an edge. Here every point walks over its own
//! edges and moves itself alone, twice as far (the edge comes up at its other end too), seeing where the others were a
//! moment ago. That way the points of a group can be moved by any number of threads, with one result. The others are
//! brought up to date after each group, so that they lag by a part of an epoch.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::curve;
use super::force::{Curve, LANES, OTHERS, Places, step};
use super::fuzzy::Graph;
use super::parallel::{self, Member};
use super::schedule::Schedule;
use crate::rng::{below, mix, mix32};

const LEARNING_RATE: f32 = 1.0;
const SPREAD: f32 = 1.0;
const SMALL_POINTS_MAX: usize = 10_000;
const EPOCHS_SMALL: usize = 500;
const EPOCHS_LARGE: usize = 200;
/// Groups of points that an epoch moves one after the other.
const GROUPS: usize = 4;
/// Points that a thread takes at a time.
const TAKEN_POINTS: usize = 2 * LANES;
/// Fewer points than this for each thread are not worth its start.
const SHARED_POINTS_MIN: usize = 1_024;
/// Slots whose others are looked up together: few enough for a first-level cache.
const BLOCK_SLOTS: usize = 4;
/// What each sample's number is away from the last one's: odd, and all bits mixed.
const STRIDE: u32 = 0x9E37_79B9;

/// Returns the number of epochs that `umap-learn` takes by default.
pub fn default_epochs(points: usize) -> usize {
    if points <= SMALL_POINTS_MAX { EPOCHS_SMALL } else { EPOCHS_LARGE }
}

/// How to descend.
pub(super) struct Plan {
    pub(super) epochs: usize,
    pub(super) min_dist: f32,
    pub(super) seed: u64,
    pub(super) threads: usize,
}

/// Moves `positions` along the edges of the graph and returns where they end.
pub(super) fn optimize(
    positions: Vec<[f32; 2]>,
    graph: &Graph,
    plan: &Plan,
    progress: &mut dyn FnMut(f64),
) -> Vec<[f32; 2]> {
    let schedule = Schedule::new(graph, GROUPS);
    let places: Vec<AtomicU64> =
        schedule.order.iter().map(|&point| AtomicU64::new(pack(positions[point as usize]))).collect();
    let moved = places.iter().map(|place| AtomicU64::new(place.load(Ordering::Relaxed))).collect();
    let descent = Descent {
        schedule: &schedule,
        curve: Curve::new(curve::fit(SPREAD, plan.min_dist)),
        plan,
        places,
        moved,
        taken: [const { AtomicUsize::new(0) }; GROUPS],
    };
    let threads = plan.threads.min(positions.len() / SHARED_POINTS_MIN);
    parallel::crew(threads, |member| descent.run(member, &mut |_| {}), |member| descent.run(member, progress));
    let mut positions = positions;
    for (&point, place) in schedule.order.iter().zip(&descent.places) {
        positions[point as usize] = unpack(place.load(Ordering::Relaxed));
    }
    positions
}

/// A position as one number, so that no one ever sees half of a move.
#[inline(always)]
fn pack([x, y]: [f32; 2]) -> u64 {
    u64::from(x.to_bits()) | u64::from(y.to_bits()) << 32
}

#[inline(always)]
fn unpack(place: u64) -> [f32; 2] {
    [f32::from_bits(place as u32), f32::from_bits((place >> 32) as u32)]
}

/// What all threads see. Positions change between two barriers, and are read outside of these: relaxed access is
/// enough, and there is one result.
struct Descent<'a> {
    schedule: &'a Schedule,
    curve: Curve,
    plan: &'a Plan,
    /// Where the points are, in the order of the schedule.
    places: Vec<AtomicU64>,
    /// Where those of the group at hand go.
    moved: Vec<AtomicU64>,
    /// How many points of each group have been taken by a thread.
    taken: [AtomicUsize; GROUPS],
}

impl Descent<'_> {
    fn run(&self, member: &Member<'_>, progress: &mut dyn FnMut(f64)) {
        let arch = pulp::Arch::new();
        let mut scratch = Scratch {
            queue: vec![0; self.schedule.longest * LANES],
            ids: vec![[[0; LANES]; OTHERS]; BLOCK_SLOTS],
            others: vec![Places::default(); BLOCK_SLOTS * OTHERS],
        };
        for number in 0..self.plan.epochs {
            let epoch = Epoch {
                number: number as u32,
                seed: mix(self.plan.seed ^ mix(number as u64 + 1)),
                rate: LEARNING_RATE * (1.0 - number as f32 / self.plan.epochs as f32),
            };
            for (group, taken) in self.schedule.groups.iter().zip(&self.taken) {
                loop {
                    let first = group.start + taken.fetch_add(TAKEN_POINTS, Ordering::Relaxed);
                    if first >= group.end {
                        break;
                    }
                    let points = first..(first + TAKEN_POINTS).min(group.end);
                    arch.dispatch(Move { descent: self, epoch: &epoch, points, scratch: &mut scratch });
                }
                member.wait();
                for place in member.share(group) {
                    self.places[place].store(self.moved[place].load(Ordering::Relaxed), Ordering::Relaxed);
                }
                taken.store(0, Ordering::Relaxed);
                member.wait();
            }
            progress((number + 1) as f64 / self.plan.epochs as f64);
        }
    }

    #[inline(always)]
    fn place(&self, place: u32) -> u64 {
        self.places[place as usize].load(Ordering::Relaxed)
    }
}

/// What is the same for all moves of an epoch.
struct Epoch {
    number: u32,
    seed: u64,
    rate: f32,
}

/// What a thread keeps from move to move.
struct Scratch {
    /// Edges that are due: the first of every lane, then the second, and so on.
    queue: Vec<u32>,
    /// Who pulls and pushes in each slot of a block,
    ids: Vec<[[u32; LANES]; OTHERS]>,
    /// and where they are.
    others: Vec<Places>,
}

/// Finds where some points go in this epoch. Compiled once per instruction set; the arithmetic, and so the picture, is
/// the same in all of them.
struct Move<'a> {
    descent: &'a Descent<'a>,
    epoch: &'a Epoch,
    points: Range<usize>,
    scratch: &'a mut Scratch,
}

impl pulp::NullaryFnOnce for Move<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { descent, epoch, points, scratch } = self;
        for first in points.clone().step_by(LANES) {
            move_lanes(descent, epoch, first..(first + LANES).min(points.end), scratch);
        }
    }
}

/// Moves as many points as there are lanes, side by side: each along its first edge that is due, then along its second.
#[inline(always)]
fn move_lanes(descent: &Descent<'_>, epoch: &Epoch, points: Range<usize>, scratch: &mut Scratch) {
    let counts = fill(descent.schedule, epoch.number, &points, &mut scratch.queue);
    let mut base = [0u32; LANES];
    let mut own = Places::default();
    for (lane, point) in points.clone().enumerate() {
        base[lane] = mix32(point as u32 ^ epoch.seed as u32).wrapping_add((epoch.seed >> 32) as u32);
        [own.x[lane], own.y[lane]] = unpack(descent.place(point as u32));
    }
    let slots = counts.iter().copied().max().unwrap_or(0) as usize;
    let queue = &scratch.queue.as_chunks::<LANES>().0[..slots];
    for (block, due) in queue.chunks(BLOCK_SLOTS).enumerate() {
        let first = block * BLOCK_SLOTS;
        choose(due, first, &base, descent.places.len() as u32, &mut scratch.ids);
        // Looked up all at once: no lookup waits for what another one found.
        let places = descent.places.as_slice();
        let ids = &scratch.ids.as_flattened()[..due.len() * OTHERS];
        for (others, ids) in scratch.others.iter_mut().zip(ids) {
            for (lane, &id) in ids.iter().enumerate() {
                [others.x[lane], others.y[lane]] = unpack(places[id as usize].load(Ordering::Relaxed));
            }
        }
        for (slot, others) in scratch.others.as_chunks::<OTHERS>().0[..due.len()].iter().enumerate() {
            let mut rates = [0.0f32; LANES];
            for lane in 0..LANES {
                rates[lane] = if ((first + slot) as u32) < counts[lane] { epoch.rate } else { 0.0 };
            }
            step(&mut own, others, &rates, &descent.curve);
        }
    }
    for (lane, point) in points.enumerate() {
        descent.moved[point].store(pack([own.x[lane], own.y[lane]]), Ordering::Relaxed);
    }
}

/// Lists, for every slot and lane, who pulls and, by chance, who pushes.
#[inline(always)]
fn choose(due: &[[u32; LANES]], first: usize, base: &[u32; LANES], n: u32, ids: &mut [[[u32; LANES]; OTHERS]]) {
    for (slot, (due, ids)) in due.iter().zip(ids).enumerate() {
        ids[0] = *due;
        for (sample, ids) in ids.iter_mut().enumerate().skip(1) {
            let number = (((first + slot) * OTHERS + sample) as u32).wrapping_mul(STRIDE);
            for lane in 0..LANES {
                ids[lane] = below(mix32(base[lane].wrapping_add(number)), n);
            }
        }
    }
}

/// Queues the edges that are due, a lane per point, and returns how many each lane has. Lanes with fewer than others
/// have the point itself in their place.
#[inline(always)]
fn fill(schedule: &Schedule, epoch: u32, points: &Range<usize>, queue: &mut [u32]) -> [u32; LANES] {
    let mut counts = [0u32; LANES];
    for (lane, point) in points.clone().enumerate() {
        let mut place = lane;
        for edge in schedule.edges(point) {
            // Written in any case, and kept if due: no branch to be guessed wrong.
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
