//! Quality measures of a projection.

use std::ops::Range;

use super::points::Points;
use super::{Neighbors, Options, UmapError, neighbors, parallel};

/// Maximum points for trustworthiness, sampled evenly; each is compared with all others.
const SAMPLE_MAX: usize = 10_000;
const BLOCK: usize = 256;

/// Returns the trustworthiness (Venna and Kaski 2001) of a plane for the `k` nearest neighbours: 1 if all neighbours
/// in the plane are neighbours among the vectors, about 0.5 at random; `sklearn.manifold.trustworthiness`. Exact up to
/// 10,000 points, estimated from 10,000 above. `k` is clamped to what the number of points allows, and fewer than 3
/// points have 1.
///
/// # Errors
/// As [`neighbors`].
pub fn trustworthiness(
    vectors: &[f32],
    dim: usize,
    plane: &[[f32; 2]],
    k: usize,
    options: &Options,
) -> Result<f64, UmapError> {
    let points = Points::new(vectors, dim, options.metric, options.threads)?;
    let n = points.len();
    let k = k.min(n.saturating_sub(1) / 2);
    if k == 0 || n < 3 {
        return Ok(1.0);
    }
    let near = in_plane(plane, k + 1, options)?;
    let sample: Vec<usize> = (0..n).step_by(n.div_ceil(SAMPLE_MAX)).collect();
    let penalties = parallel::shares(sample.len(), options.threads, |share| {
        let mut blocks = Vec::new();
        for start in share.clone().step_by(BLOCK) {
            let block = &sample[start..(start + BLOCK).min(share.end)];
            blocks.push(penalty(&points, block, &near, k));
        }
        blocks.iter().sum::<u64>()
    });
    let penalty = penalties.iter().sum::<u64>() as f64 / sample.len() as f64;
    let (n, k) = (n as f64, k as f64);
    Ok(1.0 - penalty * 2.0 / (k * (2.0 * n - 3.0 * k - 1.0)))
}

/// Sums the excess of ranks over `k`, among the vectors, of neighbours in the plane, over a block of points.
fn penalty(points: &Points<'_>, block: &[usize], near: &Neighbors, k: usize) -> u64 {
    let (n, dim) = (points.len(), points.dim());
    let own: Vec<f32> = block.iter().flat_map(|&point| points.row(point).iter().copied()).collect();
    let mut keys = vec![0.0f32; block.len() * n];
    let mut products = vec![0.0f32; block.len() * BLOCK];
    for start in (0..n).step_by(BLOCK) {
        let others: Range<usize> = start..(start + BLOCK).min(n);
        let products = &mut products[..block.len() * others.len()];
        kernels::dot_products(products, &own, points.rows(others.clone()), dim);
        for (row, products) in products.chunks_exact(others.len()).enumerate() {
            for (other, product) in others.clone().zip(products) {
                keys[row * n + other] = points.half_norm(block[row]) + points.half_norm(other) - product;
            }
        }
    }
    let mut penalty = 0;
    for (&point, keys) in block.iter().zip(keys.chunks_exact(n)) {
        for &neighbor in &near.ids[point * near.k + 1..][..k] {
            let own = keys[neighbor as usize];
            let nearer = keys.iter().filter(|&&key| key < own).count();
            // The point itself is nearest, or ties and is then not counted by `<`.
            let nearer = nearer - usize::from(keys[point] < own);
            penalty += (nearer + 1).saturating_sub(k) as u64;
        }
    }
    penalty
}

/// Finds the nearest neighbours in the plane.
pub fn in_plane(plane: &[[f32; 2]], k: usize, options: &Options) -> Result<Neighbors, UmapError> {
    let options = Options { metric: super::Metric::Euclidean, ..options.clone() };
    neighbors(plane.as_flattened(), 2, k, &options, &mut |_| {})
}
