//! UMAP (`McInnes`, Healy, Melville 2018): points of many dimensions to points of two. PURE: numbers in, numbers out.
//!
//! Follows the reference implementation `umap-learn` step by step: nearest neighbours (`exact`, `forest` and
//! `descent`), the fuzzy simplicial set (`fuzzy`), a spectral start (`start`), gradient descent with negative
//! samples (`layout`). The same vectors, options and seed give the same picture on any number of threads: every
//! parallel step either writes to places of its own or keeps the best of a set under a total order.

mod curve;
mod descent;
mod exact;
mod force;
mod forest;
mod fuzzy;
mod layout;
mod lists;
mod parallel;
mod points;
pub mod quality;
mod schedule;
mod spectral;
mod start;
#[cfg(test)]
mod tests;
mod tridiagonal;

pub use layout::default_epochs;
pub use points::Metric;
use points::Points;

/// How to project. `neighbors`, `min_dist` and the default of `epochs` mean what they mean in `umap-learn`.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Neighbours per point, the point itself included; at least 2. More show the large, fewer the small structure.
    pub neighbors: usize,
    /// How close points may lie to each other in the plane, from 0 to 3 (the scale of the plane is 1).
    pub min_dist: f32,
    /// How distance is measured between the vectors.
    pub metric: Metric,
    /// Rounds of gradient descent; 500 up to 10,000 points and 200 above where it is not given.
    pub epochs: Option<usize>,
    /// Seed of everything random.
    pub seed: u64,
    /// Threads to use, at least 1. The result does not depend on it.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { neighbors: 15, min_dist: 0.1, metric: Metric::Cosine, epochs: None, seed: 42, threads }
    }
}

/// Why vectors cannot be projected.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum UmapError {
    /// Nothing to draw.
    #[error("there are no vectors to project")]
    Empty,
    /// A vector with a NaN or an infinity.
    #[error("vector {0} (counted from 0) holds a number that is not finite")]
    NotFinite(usize),
    /// Numbers that are not whole rows.
    #[error("{values} numbers are not whole vectors of {dim} dimensions")]
    Ragged {
        /// How many numbers there are.
        values: usize,
        /// How many a vector has.
        dim: usize,
    },
    /// More points than 32-bit numbers can name.
    #[error("{0} vectors are more than can be projected at once ({max})", max = u32::MAX)]
    TooMany(usize),
    /// Too few neighbours asked for.
    #[error("neighbors must be at least 2, but is {0}")]
    TooFewNeighbors(usize),
    /// `min_dist` outside of the curve's range.
    #[error("min_dist must be from 0 to 3, but is {0}")]
    BadMinDist(f32),
}

/// What is being done, for a progress bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Finding nearest neighbours.
    Neighbors,
    /// Building the graph and the start of the layout.
    Graph,
    /// Moving points.
    Layout,
}

/// The nearest neighbours of `n` points, `k` each, the point itself first. Both arrays are row-major, `n * k`.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbors {
    /// Neighbours per point, the point itself included.
    pub k: usize,
    /// Their indices.
    pub ids: Vec<u32>,
    /// Their distances under the metric, ascending.
    pub distances: Vec<f32>,
}

/// Up to so many points all distances are computed; above, the neighbours are found by trees and descent.
const EXACT_POINTS_MAX: usize = 20_000;

/// Finds the `k` nearest neighbours of every vector, itself included and first: exactly for few vectors, approximately
/// (by a forest of random projection trees and NN-descent) for many. Fewer vectors than `k` are all neighbours.
/// Uses the metric, seed and threads of `options`; `progress` is told the share done, from 0 to 1.
///
/// # Errors
/// No vectors, a number that is not finite, or numbers that are not whole vectors.
pub fn neighbors(
    vectors: &[f32],
    dim: usize,
    k: usize,
    options: &Options,
    progress: &mut dyn FnMut(f64),
) -> Result<Neighbors, UmapError> {
    let points = Points::new(vectors, dim, options.metric, options.threads)?;
    Ok(search(&points, k, options, progress))
}

fn search(points: &Points<'_>, k: usize, options: &Options, progress: &mut dyn FnMut(f64)) -> Neighbors {
    let k = k.clamp(1, points.len());
    let lists = if points.len() <= EXACT_POINTS_MAX.max(2 * k) {
        exact::search(points, k - 1, options.threads, progress)
    } else {
        descent::search(points, k - 1, options, progress)
    };
    lists.into_neighbors(points, options.threads)
}

/// Projects vectors (row-major, `dim` numbers each) to the plane.
///
/// Fewer vectors than neighbours: all are neighbours. One vector lies at the origin. Equal vectors lie close together.
/// `progress` is told the stage and the share of it that is done, from 0 to 1.
///
/// # Errors
/// No vectors, a number that is not finite, numbers that are not whole vectors, or an option out of its range.
pub fn fit(
    vectors: &[f32],
    dim: usize,
    options: &Options,
    progress: &mut dyn FnMut(Stage, f64),
) -> Result<Vec<[f32; 2]>, UmapError> {
    if options.neighbors < 2 {
        return Err(UmapError::TooFewNeighbors(options.neighbors));
    }
    if !(0.0..=3.0).contains(&options.min_dist) {
        return Err(UmapError::BadMinDist(options.min_dist));
    }
    let points = Points::new(vectors, dim, options.metric, options.threads)?;
    if points.len() == 1 {
        return Ok(vec![[0.0, 0.0]]);
    }
    let neighbors = search(&points, options.neighbors, options, &mut |done| progress(Stage::Neighbors, done));
    let epochs = options.epochs.unwrap_or_else(|| layout::default_epochs(points.len()));
    progress(Stage::Graph, 0.0);
    let graph = fuzzy::simplicial_set(&neighbors, options.threads).pruned(epochs);
    drop(neighbors);
    let start = start::positions(&points, &graph, options, &mut |done| progress(Stage::Graph, done));
    progress(Stage::Graph, 1.0);
    let plan = layout::Plan { epochs, min_dist: options.min_dist, seed: options.seed, threads: options.threads };
    Ok(layout::optimize(start, &graph, &plan, &mut |done| progress(Stage::Layout, done)))
}
