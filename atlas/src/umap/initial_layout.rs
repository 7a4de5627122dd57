//! The initial layout: a spectral embedding of each connected component, placed by the principal components of the
//! vectors; only the latter if there are too many components.

use super::fuzzy::Graph;
use super::points::{Points, dot};
use super::{Options, parallel, spectral};
use crate::rng::Rng;

/// Side of the initial square.
const EXTENT: f32 = 10.0;
/// Separates coincident points.
const NOISE: f32 = 1e-4;
const STREAM: u64 = 2;
/// Smaller components are scattered around their centre.
const SPECTRAL_POINTS_MIN: usize = 8;
/// With more components, or fewer points in each, the principal components are used alone.
const COMPONENTS_MAX: usize = 1_000;
const POINTS_PER_COMPONENT_MIN: usize = 8;
const PCA_ROWS_MAX: usize = 4_000;
/// Rows summed together.
const PCA_PIECE_ROWS: usize = 256;
const PCA_STEPS: usize = 30;

/// Returns the initial position of every point, in `0..=10` on both axes.
pub(super) fn positions(
    points: &Points<'_>,
    graph: &Graph,
    options: &Options,
    progress: &mut dyn FnMut(f64),
) -> Vec<[f32; 2]> {
    let mut rng = Rng::new(options.seed, STREAM);
    let n = graph.len();
    let (component, count) = components(graph);
    let mut start = if count == 1 && n >= SPECTRAL_POINTS_MIN {
        let [x, y] = spectral::eigenvectors(graph, &mut rng, options.threads, progress);
        pairs(&x, &y)
    } else if (2..=COMPONENTS_MAX).contains(&count) && count * POINTS_PER_COMPONENT_MIN <= n {
        component_layouts(points, graph, &component, count, options, &mut rng)
    } else {
        principal_components(points, &mut rng, options.threads)
    };
    rescale(&mut start);
    start.iter_mut().flatten().for_each(|value| *value += NOISE * rng.normal());
    start
}

fn pairs(x: &[f32], y: &[f32]) -> Vec<[f32; 2]> {
    x.iter().zip(y).map(|(&x, &y)| [x, y]).collect()
}

/// Maps each axis to `0..=EXTENT`; a constant axis goes to the middle.
fn rescale(positions: &mut [[f32; 2]]) {
    for axis in 0..2 {
        let low = positions.iter().map(|place| place[axis]).fold(f32::INFINITY, f32::min);
        let high = positions.iter().map(|place| place[axis]).fold(f32::NEG_INFINITY, f32::max);
        let width = high - low;
        for place in positions.iter_mut() {
            place[axis] = if width > 0.0 { EXTENT * (place[axis] - low) / width } else { EXTENT / 2.0 };
        }
    }
}

/// Returns the component of every point, numbered by first point, and their number.
fn components(graph: &Graph) -> (Vec<u32>, usize) {
    const UNSEEN: u32 = u32::MAX;
    let mut component = vec![UNSEEN; graph.len()];
    let mut count = 0;
    let mut stack = Vec::new();
    for first in 0..graph.len() {
        if component[first] != UNSEEN {
            continue;
        }
        component[first] = count;
        stack.push(first);
        while let Some(point) = stack.pop() {
            for (other, _) in graph.row(point) {
                if component[other] == UNSEEN {
                    component[other] = count;
                    stack.push(other);
                }
            }
        }
        count += 1;
    }
    (component, count as usize)
}

/// Lays out every component around its centre, half as large as the distance to the nearest other centre.
fn component_layouts(
    points: &Points<'_>,
    graph: &Graph,
    component: &[u32],
    count: usize,
    options: &Options,
    rng: &mut Rng,
) -> Vec<[f32; 2]> {
    let mut members: Vec<Vec<u32>> = vec![Vec::new(); count];
    for (point, &component) in component.iter().enumerate() {
        members[component as usize].push(point as u32);
    }
    let mut start = principal_components(points, rng, options.threads);
    rescale(&mut start);
    let places: Vec<[f32; 2]> = members.iter().map(|members| middle(&start, members)).collect();
    for (index, members) in members.iter().enumerate() {
        let half_gap = half_gap(&places, index);
        let shape = if members.len() < SPECTRAL_POINTS_MIN {
            members.iter().map(|_| [2.0 * rng.uniform() - 1.0, 2.0 * rng.uniform() - 1.0]).collect()
        } else {
            let [x, y] = spectral::eigenvectors(&subgraph(graph, members), rng, options.threads, &mut |_| {});
            pairs(&x, &y)
        };
        let largest = shape.iter().flatten().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
        for (&member, offset) in members.iter().zip(shape) {
            start[member as usize] = [0, 1].map(|axis| places[index][axis] + half_gap * offset[axis] / largest);
        }
    }
    start
}

fn middle(positions: &[[f32; 2]], members: &[u32]) -> [f32; 2] {
    [0, 1].map(|axis| {
        let sum: f64 = members.iter().map(|&member| f64::from(positions[member as usize][axis])).sum();
        (sum / members.len() as f64) as f32
    })
}

/// Returns half the distance to the nearest other distinct centre.
fn half_gap(places: &[[f32; 2]], index: usize) -> f32 {
    let own = places[index];
    let distances = places.iter().map(|place| ((place[0] - own[0]).powi(2) + (place[1] - own[1]).powi(2)).sqrt());
    let nearest = distances.filter(|&distance| distance > 0.0).fold(f32::INFINITY, f32::min);
    if nearest.is_finite() { nearest / 2.0 } else { EXTENT / 2.0 }
}

/// Returns the graph among the ascending members of one component.
fn subgraph(graph: &Graph, members: &[u32]) -> Graph {
    let mut part = Graph { offsets: vec![0], columns: Vec::new(), weights: Vec::new() };
    for &member in members {
        for (other, weight) in graph.row(member as usize) {
            let place = members.binary_search(&(other as u32)).expect("the edges of a component stay inside it");
            part.columns.push(place as u32);
            part.weights.push(weight);
        }
        part.offsets.push(part.columns.len());
    }
    part
}

/// Returns the scores on the first two principal components, by orthogonal iteration on a sample of rows.
fn principal_components(points: &Points<'_>, rng: &mut Rng, threads: usize) -> Vec<[f32; 2]> {
    let (n, dim) = (points.len(), points.dim());
    let sample: Vec<usize> = (0..n).step_by(n.div_ceil(PCA_ROWS_MAX)).collect();
    let mut mean = vec![0.0f32; dim];
    for &row in &sample {
        mean.iter_mut().zip(points.row(row)).for_each(|(mean, value)| *mean += value / sample.len() as f32);
    }
    let mut axes = [0, 1].map(|_| (0..dim).map(|_| rng.normal()).collect::<Vec<f32>>());
    for _ in 0..PCA_STEPS {
        orthonormalize(&mut axes);
        axes = covariance_times(points, &sample, &mean, &axes, threads);
    }
    orthonormalize(&mut axes);
    let arch = pulp::Arch::new();
    let scores = parallel::shares(n, threads, |share| {
        arch.dispatch(
            #[inline(always)]
            || {
                // A loop, here and in `covariance_times`: a closure in an iterator adapter would be compiled without
                // wide instructions.
                let mut scores = Vec::with_capacity(share.len());
                for row in share {
                    let row = points.row(row);
                    scores.push([dot(row, &axes[0]), dot(row, &axes[1])]);
                }
                scores
            },
        )
    });
    scores.concat()
}

/// Returns the covariance of a sample of rows times each of two vectors.
fn covariance_times(
    points: &Points<'_>,
    sample: &[usize],
    mean: &[f32],
    axes: &[Vec<f32>; 2],
    threads: usize,
) -> [Vec<f32>; 2] {
    let arch = pulp::Arch::new();
    let offsets = [0, 1].map(|axis| dot(mean, &axes[axis]));
    let pieces: Vec<&[usize]> = sample.chunks(PCA_PIECE_ROWS).collect();
    // A fixed number of partial sums, so that rounding does not depend on the threads.
    let sums = parallel::shares(pieces.len(), threads, |share| {
        let sum_of = |piece: &[usize]| {
            let mut sums = [0, 1].map(|_| vec![0.0f32; points.dim()]);
            arch.dispatch(
                #[inline(always)]
                || {
                    for &row in piece {
                        let row = points.row(row);
                        let (x, y) = (dot(row, &axes[0]) - offsets[0], dot(row, &axes[1]) - offsets[1]);
                        let [sums_x, sums_y] = &mut sums;
                        for (((sum_x, sum_y), value), mean) in sums_x.iter_mut().zip(sums_y).zip(row).zip(mean) {
                            *sum_x += x * (value - mean);
                            *sum_y += y * (value - mean);
                        }
                    }
                },
            );
            sums
        };
        pieces[share].iter().map(|piece| sum_of(piece)).collect::<Vec<_>>()
    });
    let mut total = [0, 1].map(|_| vec![0.0f32; points.dim()]);
    for sums in sums.iter().flatten() {
        for (total, sums) in total.iter_mut().zip(sums) {
            total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        }
    }
    total
}

/// Orthonormalises both vectors; those without any extent stay zero.
fn orthonormalize(axes: &mut [Vec<f32>; 2]) {
    let [first, second] = axes;
    normalize(first);
    let along = dot(first, second);
    second.iter_mut().zip(&*first).for_each(|(value, unit)| *value -= along * unit);
    normalize(second);
}

fn normalize(axis: &mut [f32]) {
    let length = dot(axis, axis).sqrt();
    if length > 0.0 {
        axis.iter_mut().for_each(|value| *value /= length);
    }
}
