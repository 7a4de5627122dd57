//! UMAP (`McInnes`, Healy, Melville 2018): projects vectors to two dimensions. Pure.
//!
//! Follows the reference implementation `umap-learn`: nearest neighbours (`exact`, `forest` and `descent`), fuzzy
//! simplicial set (`fuzzy`), spectral initialisation (`initial_layout`), gradient descent with negative samples
//! (`layout`). The same vectors, options and seed give the same result on any number of threads: parallel steps write
//! to disjoint places or keep the best of a set under a total order.

mod curve;
mod descent;
mod exact;
mod force;
mod forest;
mod fuzzy;
mod initial_layout;
mod layout;
mod lists;
mod parallel;
mod points;
pub mod quality;
mod schedule;
mod spectral;
#[cfg(test)]
mod tests;
mod tridiagonal;

pub use layout::default_epochs;
use points::Points;
pub use points::{Metric, first_equals};

/// Options of the projection. `neighbors` and `min_dist` are as in `umap-learn`.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Neighbours per point, the point itself included; at least 2. More emphasise global structure, fewer local.
    pub neighbors: usize,
    /// Minimum distance of points in the plane, from 0 to 3 (the scale of the plane is 1).
    pub min_dist: f32,
    /// The metric of the vectors.
    pub metric: Metric,
    /// Epochs of gradient descent; by default 1,000 up to 10,000 points, 500 up to 100,000 and 200 above.
    pub epochs: Option<usize>,
    /// Random seed.
    pub seed: u64,
    /// Number of threads, at least 1. Does not affect the result.
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
    /// There are no vectors.
    #[error("there are no vectors to project")]
    Empty,
    /// A vector has a NaN or an infinity.
    #[error("vector {0} (counted from 0) holds a number that is not finite")]
    NotFinite(usize),
    /// The numbers are not whole vectors.
    #[error("{values} numbers are not whole vectors of {dim} dimensions")]
    Ragged {
        /// Count of numbers.
        values: usize,
        /// Dimensions of a vector.
        dim: usize,
    },
    /// More points than 32-bit ids.
    #[error("{0} vectors are more than can be projected at once ({max})", max = u32::MAX)]
    TooMany(usize),
    /// Too few neighbours.
    #[error("neighbors must be at least 2, but is {0}")]
    TooFewNeighbors(usize),
    /// `min_dist` is out of range.
    #[error("min_dist must be from 0 to 3, but is {0}")]
    BadMinDist(f32),
}

/// The current stage, for a progress bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Finding nearest neighbours.
    Neighbors,
    /// Building the graph and the initial layout.
    Graph,
    /// Optimizing the layout.
    Layout,
}

/// The nearest neighbours of `n` points, `k` each, the point itself first; both arrays are row-major, `n * k`.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbors {
    /// Neighbours per point, the point itself included.
    pub k: usize,
    /// Their indices.
    pub ids: Vec<u32>,
    /// Their distances under the metric, ascending.
    pub distances: Vec<f32>,
}

/// The nearest others of each of `n` points, nearest first; row-major, `n * k`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nearest {
    /// Others per point.
    pub k: usize,
    /// Their indices.
    pub ids: Vec<u32>,
}

impl Neighbors {
    /// Returns the nearest others of each point, at most so many.
    #[must_use]
    pub fn nearest(&self, most: usize) -> Nearest {
        let k = self.k.saturating_sub(1).min(most);
        let ids = self.ids.chunks(self.k.max(1)).flat_map(|row| row.iter().skip(1).take(k).copied()).collect();
        Nearest { k, ids }
    }

    /// As [`nearest`](Self::nearest), with different vectors before equal ones; `firsts` are the first equals of each.
    fn nearest_different(&self, most: usize, firsts: &[u32]) -> Nearest {
        let k = self.k.saturating_sub(1).min(most);
        let mut ids = Vec::with_capacity(firsts.len() * k);
        for (row, own) in self.ids.chunks(self.k.max(1)).zip(firsts) {
            let start = ids.len();
            for other in row[1..].iter().map(|other| firsts[*other as usize]) {
                if ids.len() < start + k && other != *own && !ids[start..].contains(&other) {
                    ids.push(other);
                }
            }
            ids.extend(row[1..].iter().take(start + k - ids.len()));
        }
        Nearest { k, ids }
    }
}

/// Maximum points for the exact search.
const EXACT_POINTS_MAX: usize = 20_000;

/// Finds the `k` nearest neighbours of every vector, itself included and first: exactly for few vectors, approximately
/// (random projection trees and NN-descent) for many. With fewer than `k` vectors all are neighbours. Uses the metric,
/// seed and threads of `options`; `progress` gets the completed share, from 0 to 1.
///
/// # Errors
/// No vectors, a non-finite number, or numbers that are not whole vectors.
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
/// With fewer vectors than neighbours all are neighbours. A single vector is at the origin, and equal vectors are
/// at the same place. `progress` gets the stage and its completed share, from 0 to 1.
///
/// # Errors
/// No vectors, a non-finite number, numbers that are not whole vectors, or an option out of range.
pub fn fit(
    vectors: &[f32],
    dim: usize,
    options: &Options,
    progress: &mut dyn FnMut(Stage, f64),
) -> Result<Vec<[f32; 2]>, UmapError> {
    fit_with_nearest(vectors, dim, 0, options, progress).map(|(places, _)| places)
}

/// As [`fit`], and returns the nearest others of each vector, at most `most` and `options.neighbors` less one: different
/// ones, of equal ones the first, before those that equal it.
///
/// # Errors
/// As [`fit`].
pub fn fit_with_nearest(
    vectors: &[f32],
    dim: usize,
    most: usize,
    options: &Options,
    progress: &mut dyn FnMut(Stage, f64),
) -> Result<(Vec<[f32; 2]>, Nearest), UmapError> {
    if options.neighbors < 2 {
        return Err(UmapError::TooFewNeighbors(options.neighbors));
    }
    if !(0.0..=3.0).contains(&options.min_dist) {
        return Err(UmapError::BadMinDist(options.min_dist));
    }
    let points = Points::new(vectors, dim, options.metric, options.threads)?;
    if points.len() == 1 {
        return Ok((vec![[0.0, 0.0]], Nearest::default()));
    }
    let neighbors = search(&points, options.neighbors, options, &mut |done| progress(Stage::Neighbors, done));
    let epochs = options.epochs.unwrap_or_else(|| layout::default_epochs(points.len()));
    progress(Stage::Graph, 0.0);
    let graph = fuzzy::simplicial_set(&neighbors, options.threads).pruned(epochs);
    let firsts = points.first_equals(options.threads);
    let nearest = match &firsts {
        Some(firsts) => neighbors.nearest_different(most, firsts),
        None => neighbors.nearest(most),
    };
    drop(neighbors);
    let start = initial_layout::positions(&points, &graph, options, &mut |done| progress(Stage::Graph, done));
    progress(Stage::Graph, 1.0);
    let plan =
        layout::LayoutOptions { epochs, min_dist: options.min_dist, seed: options.seed, threads: options.threads };
    let places = layout::optimize(start, &graph, &plan, &mut |done| progress(Stage::Layout, done));
    let places = match firsts {
        Some(firsts) => joined(places, &firsts),
        None => places,
    };
    Ok((places, nearest))
}

/// Moves the places of equal points to their mean.
fn joined(mut places: Vec<[f32; 2]>, firsts: &[u32]) -> Vec<[f32; 2]> {
    let mut sums = vec![([0.0f64; 2], 0.0f64); places.len()];
    for (first, place) in firsts.iter().zip(&places) {
        let (sum, count) = &mut sums[*first as usize];
        *sum = [sum[0] + f64::from(place[0]), sum[1] + f64::from(place[1])];
        *count += 1.0;
    }
    for (first, place) in firsts.iter().zip(&mut places) {
        let (sum, count) = sums[*first as usize];
        *place = sum.map(|sum| (sum / count) as f32);
    }
    places
}
