//! The second and third eigenvectors of a connected graph's normalised Laplacian, by Lanczos iteration.

use super::fuzzy::Graph;
use super::parallel;
use super::points::dot;
use super::tridiagonal;
use crate::rng::Rng;

/// Maximum Lanczos steps. An initial layout needs no exact vectors.
const STEPS_MAX: usize = 100;
/// Norm below which the Krylov space is exhausted.
const NOTHING: f32 = 1e-6;
/// Minimum points for several threads.
const SHARED_POINTS_MIN: usize = 20_000;

/// Returns both vectors, of unit length. The graph must be connected and have at least 3 points.
pub(super) fn eigenvectors(
    graph: &Graph,
    rng: &mut Rng,
    threads: usize,
    progress: &mut dyn FnMut(f64),
) -> [Vec<f32>; 2] {
    let n = graph.len();
    let threads = if n < SHARED_POINTS_MIN { 1 } else { threads };
    let degree: Vec<f32> = (0..n).map(|point| graph.row(point).map(|edge| edge.1).sum::<f32>()).collect();
    let scale: Vec<f32> = degree.iter().map(|degree| 1.0 / degree.max(f32::MIN_POSITIVE).sqrt()).collect();
    // The first eigenvector is known (the square roots of the degrees) and projected out.
    let mut trivial: Vec<f32> = degree.iter().map(|degree| degree.sqrt()).collect();
    normalize(&mut trivial);
    let mut basis = vec![trivial];
    let (mut diagonal, mut off_diagonal) = (Vec::new(), Vec::new());
    let mut next: Vec<f32> = (0..n).map(|_| rng.normal()).collect();
    orthogonalize(&mut next, &basis, threads);
    normalize(&mut next);
    let steps = STEPS_MAX.min(n - 1);
    for step in 0..steps {
        let mut image = vec![0.0; n];
        parallel::rows(&mut image, 1, threads, |first, piece| {
            for (index, value) in piece.iter_mut().enumerate() {
                let point = first + index;
                let sum: f32 = graph.row(point).map(|(other, weight)| weight * scale[other] * next[other]).sum();
                *value = scale[point] * sum;
            }
        });
        diagonal.push(long_dot(&image, &next));
        basis.push(next);
        orthogonalize(&mut image, &basis, threads);
        let length = normalize(&mut image);
        progress((step + 1) as f64 / steps as f64);
        if length < NOTHING || step + 1 == steps {
            break;
        }
        off_diagonal.push(f64::from(length));
        next = image;
    }
    tridiagonal::top_two(&diagonal, &off_diagonal).map(|weights| {
        let mut sum = vec![0.0f32; n];
        for (vector, weight) in basis[1..].iter().zip(weights) {
            sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += weight as f32 * value);
        }
        sum
    })
}

/// Length of partial sums: short enough for f32, and independent of the number of threads.
const PIECE: usize = 4096;

fn long_dot(a: &[f32], b: &[f32]) -> f64 {
    a.chunks(PIECE).zip(b.chunks(PIECE)).map(|(a, b)| f64::from(dot(a, b))).sum()
}

/// Orthogonalises against an orthonormal basis, twice because of rounding.
fn orthogonalize(vector: &mut [f32], basis: &[Vec<f32>], threads: usize) {
    for _ in 0..2 {
        let along = parallel::shares(basis.len(), threads, |share| {
            basis[share].iter().map(|unit| long_dot(vector, unit) as f32).collect::<Vec<_>>()
        });
        let along = along.concat();
        parallel::rows(vector, 1, threads, |first, piece| {
            for (start, piece) in piece.chunks_mut(PIECE).enumerate().map(|(i, piece)| (first + i * PIECE, piece)) {
                for (unit, along) in basis.iter().zip(&along) {
                    let unit = &unit[start..start + piece.len()];
                    piece.iter_mut().zip(unit).for_each(|(value, unit)| *value -= along * unit);
                }
            }
        });
    }
}

/// Normalises to unit length and returns the previous length.
fn normalize(vector: &mut [f32]) -> f32 {
    let length = long_dot(vector, vector).sqrt() as f32;
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value /= length);
    }
    length
}
