//! The vectors, normalised so that under either metric the key is half the squared distance.
//!
//! Cosine: rows have unit length, and half the squared distance is 1 - cosine. A zero vector, as in `umap-learn`, is
//! at distance 0 from other zero vectors and 1 from the rest, by an extra dimension that only zero vectors use.
//! Euclidean: the distance is the root of twice the key.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use super::{UmapError, parallel};

/// The metric of the vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// One minus the cosine of the angle.
    Cosine,
    /// Straight-line distance.
    Euclidean,
}

pub(super) struct Points<'a> {
    values: Cow<'a, [f32]>,
    dim: usize,
    metric: Metric,
    /// Half the squared length of each row.
    half_norms: Vec<f32>,
    /// Factor applied to the rows, so that no square over- or underflows.
    scale: f32,
}

const LANES: usize = 16;
/// Tolerance of the squared length for rows to be used without copying.
const UNIT_TOLERANCE: f64 = 1e-5;
/// Coordinates outside of this range are rescaled.
const MAGNITUDES: Range<f32> = 1e-12..1e12;

/// Dot product in a fixed number of lanes: vectorises, with a deterministic order of summation.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    reduce(a, b, |x, y| x * y)
}

/// Half the squared distance, exactly 0 for equal rows.
#[inline(always)]
pub(super) fn half_squared_distance(a: &[f32], b: &[f32]) -> f32 {
    reduce(a, b, |x, y| (x - y) * (x - y)) / 2.0
}

#[inline(always)]
fn reduce(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += term(x[lane], y[lane]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| term(*x, *y)).sum();
    sums.iter().sum::<f32>() + rest
}

impl<'a> Points<'a> {
    /// Normalises vectors, copying them only if needed.
    pub(super) fn new(vectors: &'a [f32], dim: usize, metric: Metric, threads: usize) -> Result<Self, UmapError> {
        if dim == 0 || !vectors.len().is_multiple_of(dim) {
            return Err(UmapError::Ragged { values: vectors.len(), dim });
        }
        let n = vectors.len() / dim;
        if n == 0 {
            return Err(UmapError::Empty);
        }
        if u32::try_from(n).is_err() {
            return Err(UmapError::TooMany(n));
        }
        let bad = parallel::shares(n, threads, |share| {
            share.into_iter().find(|row| vectors[row * dim..(row + 1) * dim].iter().any(|value| !value.is_finite()))
        });
        if let Some(row) = bad.into_iter().flatten().min() {
            return Err(UmapError::NotFinite(row));
        }
        let (values, dim, scale) = match metric {
            Metric::Cosine => {
                let (values, dim) = unit_rows(vectors, dim, threads);
                (values, dim, 1.0)
            }
            Metric::Euclidean => {
                let (values, scale) = rescale(vectors);
                (values, dim, scale)
            }
        };
        let half_norms = parallel::shares(n, threads, |share| {
            share.map(|row| &values[row * dim..(row + 1) * dim]).map(|row| dot(row, row) / 2.0).collect::<Vec<_>>()
        });
        let half_norms = half_norms.concat();
        Ok(Self { values, dim, metric, half_norms, scale })
    }

    /// As [`first_equals`], of these rows.
    pub(super) fn first_equals(&self, threads: usize) -> Option<Vec<u32>> {
        first_equals(&self.values, self.dim, threads)
    }

    pub(super) fn len(&self) -> usize {
        self.half_norms.len()
    }

    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    #[inline(always)]
    pub(super) fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dim..(index + 1) * self.dim]
    }

    pub(super) fn rows(&self, range: Range<usize>) -> &[f32] {
        &self.values[range.start * self.dim..range.end * self.dim]
    }

    /// Returns half the squared length of a row.
    pub(super) fn half_norm(&self, index: usize) -> f32 {
        self.half_norms[index]
    }

    /// Returns half the squared length of every row.
    pub(super) fn half_norms(&self) -> &[f32] {
        &self.half_norms
    }

    /// Returns the key of two points by differences: exact for equal rows.
    #[inline(always)]
    pub(super) fn key(&self, a: usize, b: usize) -> f32 {
        half_squared_distance(self.row(a), self.row(b))
    }

    /// Returns the distance of a key under the metric.
    pub(super) fn distance(&self, key: f32) -> f32 {
        match self.metric {
            Metric::Cosine => key,
            Metric::Euclidean => (2.0 * key).sqrt() / self.scale,
        }
    }
}

/// Returns for each row of `dim` numbers the first one that equals it, or nothing if all are different.
pub fn first_equals(values: &[f32], dim: usize, threads: usize) -> Option<Vec<u32>> {
    let row_of = |row: usize| &values[row * dim..(row + 1) * dim];
    let rows = values.len() / dim;
    let hashes = parallel::shares(rows, threads, |share| share.map(|row| hash(row_of(row))).collect::<Vec<u64>>());
    let mut first_of: HashMap<u64, u32> = HashMap::with_capacity(rows);
    let mut firsts = Vec::with_capacity(rows);
    for (row, hash) in hashes.into_iter().flatten().enumerate() {
        let first = *first_of.entry(hash).or_insert(row as u32);
        // A different row of the same hash counts as different from all.
        let is_equal = row_of(first as usize) == row_of(row);
        firsts.push(if is_equal { first } else { row as u32 });
    }
    (first_of.len() < rows).then_some(firsts)
}

/// Returns a number that is equal for equal rows, and seldom for others.
fn hash(row: &[f32]) -> u64 {
    row.iter().fold(0, |hash: u64, value| {
        (hash.rotate_left(5) ^ u64::from(value.to_bits())).wrapping_mul(0x517C_C1B7_2722_0A95)
    })
}

fn squared_length(row: &[f32]) -> f64 {
    row.iter().map(|&value| f64::from(value) * f64::from(value)).sum()
}

/// Returns the rows scaled to unit length, borrowed if they are already.
fn unit_rows(vectors: &[f32], dim: usize, threads: usize) -> (Cow<'_, [f32]>, usize) {
    let n = vectors.len() / dim;
    let found = parallel::shares(n, threads, |share| {
        let mut found = (true, false);
        for row in vectors[share.start * dim..share.end * dim].chunks_exact(dim) {
            let squared = squared_length(row);
            found = (found.0 && (squared - 1.0).abs() < UNIT_TOLERANCE, found.1 || squared == 0.0);
        }
        found
    });
    if found.iter().all(|share| share.0) {
        return (Cow::Borrowed(vectors), dim);
    }
    let wide = dim + usize::from(found.iter().any(|share| share.1));
    let mut values = vec![0.0f32; n * wide];
    parallel::rows(&mut values, wide, threads, |first, piece| {
        for (index, row) in piece.chunks_exact_mut(wide).enumerate() {
            let source = &vectors[(first + index) * dim..(first + index + 1) * dim];
            let length = squared_length(source).sqrt();
            if length > 0.0 {
                row.iter_mut().zip(source).for_each(|(to, from)| *to = (f64::from(*from) / length) as f32);
            } else {
                row[dim] = 1.0;
            }
        }
    });
    (Cow::Owned(values), wide)
}

/// Returns the vectors rescaled if their squares would leave the range of f32, and the factor.
fn rescale(vectors: &[f32]) -> (Cow<'_, [f32]>, f32) {
    let largest = vectors.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    if largest == 0.0 || MAGNITUDES.contains(&largest) {
        return (Cow::Borrowed(vectors), 1.0);
    }
    // Computed in f64, since the inverse of the smallest f32 is not an f32.
    let scale = (1.0 / f64::from(largest)).min(f64::from(f32::MAX)) as f32;
    (Cow::Owned(vectors.iter().map(|value| value * scale).collect()), scale)
}
