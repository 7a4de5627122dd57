//! Statistics for comparing models: silhouettes and bootstrap intervals. Pure.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::rng::Rng;

/// Resamples of a bootstrap, fewer for many rows, whose means hardly vary.
const RESAMPLES: usize = 1_000;
const RESAMPLES_OF_MANY: usize = 200;
const MANY_ROWS: usize = 200_000;
/// Confidence level of the intervals.
const CONFIDENCE: f64 = 0.95;

/// A mean with its bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Estimate {
    /// The mean over all rows.
    pub value: f64,
    /// The lower end of the 95 % interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// Returns a share with its Wilson score interval (Wilson 1927), which holds for few rows and for shares near 0 and 1. `sum` are
/// the hits among `rows`; partial hits make the interval wider than it need be. `None` without rows.
pub fn share(sum: f64, rows: u64) -> Option<Estimate> {
    /// The quantile of the normal distribution for 95 %.
    const Z: f64 = 1.959_963_984_540_054;
    if rows == 0 {
        return None;
    }
    let n = rows as f64;
    let value = sum / n;
    let center = (value + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (value * (1.0 - value) / n + Z * Z / (4.0 * n * n)).max(0.0).sqrt();
    // Exactly, where rounding might miss it.
    let low = if sum <= 0.0 { 0.0 } else { (center - half).max(0.0) };
    let high = if sum >= n { 1.0 } else { (center + half).min(1.0) };
    Some(Estimate { value, low, high })
}

/// Returns the mean over labels of the mean score of their rows, so that a large label counts no more than a small one. `codes`
/// are the labels of the rows.
pub fn mean_over_labels(scores: &[f32], codes: &[u32]) -> f64 {
    let mut labels: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
    for (score, code) in scores.iter().zip(codes) {
        let (sum, rows) = labels.entry(*code).or_default();
        (*sum, *rows) = (*sum + f64::from(*score), *rows + 1.0);
    }
    labels.values().map(|(sum, rows)| sum / rows).sum::<f64>() / labels.len().max(1) as f64
}

/// Estimates the mean of each column of scores, and of its difference to the column `base`. Every resample takes the
/// same rows of all columns, so that the difficulty of rows cancels out of the differences.
pub fn paired_bootstrap(columns: &[&[f32]], base: usize, seed: u64) -> Vec<(Estimate, Estimate)> {
    let rows = columns.first().map_or(0, |column| column.len());
    let resamples = if rows > MANY_ROWS { RESAMPLES_OF_MANY } else { RESAMPLES };
    let mut rng = Rng::from_state(seed);
    let mut means = vec![Vec::with_capacity(resamples); columns.len()];
    let mut taken = vec![0u32; rows];
    for _ in 0..resamples {
        taken.fill(0);
        (0..rows).for_each(|_| taken[rng.below_wide(rows)] += 1);
        for (column, means) in columns.iter().zip(&mut means) {
            let sum: f64 = column.iter().zip(&taken).map(|(score, times)| f64::from(*score) * f64::from(*times)).sum();
            means.push(sum / rows.max(1) as f64);
        }
    }
    let mean = |column: &[f32]| column.iter().map(|score| f64::from(*score)).sum::<f64>() / rows.max(1) as f64;
    columns
        .iter()
        .zip(&means)
        .map(|(column, sampled)| {
            let differences = sampled.iter().zip(&means[base]).map(|(one, other)| one - other).collect();
            let value = mean(column);
            (estimate(value, sampled.clone()), estimate(value - mean(columns[base]), differences))
        })
        .collect()
}

fn estimate(value: f64, mut sampled: Vec<f64>) -> Estimate {
    sampled.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = share * (sampled.len().saturating_sub(1)) as f64;
        sampled.get(place.round() as usize).copied().unwrap_or(value)
    };
    Estimate { value, low: at((1.0 - CONFIDENCE) / 2.0), high: at((1.0 + CONFIDENCE) / 2.0) }
}

/// Returns the silhouette of every row under the cosine distance, from -1 to 1. Exact and linear in the rows: the mean
/// distance to a label is computed from the sum of its unit vectors. As in scikit-learn, a label with one row has 0;
/// so has everything with a single label.
pub fn silhouettes(vectors: &[f32], dim: usize, labels: &[u32], threads: usize) -> Vec<f32> {
    let count = labels.iter().max().map_or(0, |most| *most as usize + 1);
    let mut sums = vec![0.0f64; count * dim];
    let mut sizes = vec![0usize; count];
    for (row, label) in labels.iter().enumerate() {
        let label = *label as usize;
        sizes[label] += 1;
        let unit = unit(&vectors[row * dim..(row + 1) * dim]);
        sums[label * dim..(label + 1) * dim].iter_mut().zip(unit).for_each(|(sum, x)| *sum += x);
    }
    let mut scores = vec![0.0; labels.len()];
    let share = labels.len().div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        for (index, scores) in scores.chunks_mut(share).enumerate() {
            let (sums, sizes) = (&sums, &sizes);
            let rows = index * share..index * share + scores.len();
            scope.spawn(move || score_rows(scores, rows, vectors, dim, labels, (sums, sizes)));
        }
    });
    scores
}

fn score_rows(
    scores: &mut [f32],
    rows: Range<usize>,
    vectors: &[f32],
    dim: usize,
    labels: &[u32],
    (sums, sizes): (&[f64], &[usize]),
) {
    for (score, row) in scores.iter_mut().zip(rows) {
        let unit: Vec<f64> = unit(&vectors[row * dim..(row + 1) * dim]).collect();
        let own = labels[row] as usize;
        if sizes[own] < 2 {
            continue;
        }
        let similarity = |label: usize| -> f64 {
            sums[label * dim..(label + 1) * dim].iter().zip(&unit).map(|(sum, x)| sum * x).sum()
        };
        // A row's own distance is 0, and is excluded from the mean.
        let itself: f64 = unit.iter().map(|x| x * x).sum();
        let within = 1.0 - (similarity(own) - itself) / (sizes[own] - 1) as f64;
        let others = (0..sizes.len()).filter(|label| *label != own && sizes[*label] > 0);
        let nearest = others.map(|label| 1.0 - similarity(label) / sizes[label] as f64).fold(f64::INFINITY, f64::min);
        let most = within.max(nearest);
        if nearest.is_finite() && most > 0.0 {
            *score = ((nearest - within) / most) as f32;
        }
    }
}

/// Scales a vector to unit length; zero vectors are unchanged.
fn unit(vector: &[f32]) -> impl Iterator<Item = f64> {
    let norm = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
    vector.iter().map(move |x| f64::from(*x) * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_of_a_share_matches_statsmodels() {
        // statsmodels.stats.proportion.proportion_confint(count, nobs, method="wilson")
        for (sum, rows, low, high) in [
            (5.0, 5, 0.565_517_535_216_825_5, 1.0),
            (0.0, 20, 0.0, 0.161_125_158_052_819_77),
            (30.0, 100, 0.218_948_852_949_327_6, 0.395_848_546_333_466_6),
        ] {
            let found = share(sum, rows).unwrap();
            assert!((found.low - low).abs() < 1e-9 && (found.high - high).abs() < 1e-9, "{found:?}");
        }
        assert_eq!(share(0.0, 0), None);
    }

    #[test]
    fn a_mean_over_labels_weighs_each_label_once() {
        assert_eq!(mean_over_labels(&[1.0, 1.0, 1.0, 0.0], &[0, 0, 0, 7]), 0.5);
        assert_eq!(mean_over_labels(&[], &[]), 0.0);
    }

    #[test]
    fn a_bootstrap_interval_matches_the_normal_one() {
        let hits: Vec<f32> = (0..4_000).map(|row| f32::from(u8::from(row % 4 != 0))).collect();
        let (estimate, itself) = paired_bootstrap(&[&hits], 0, 42)[0];
        assert_eq!(estimate.value, 0.75);
        let half = 1.96 * (0.75f64 * 0.25 / 4_000.0).sqrt();
        assert!(
            (estimate.low - (0.75 - half)).abs() < 0.002 && (estimate.high - (0.75 + half)).abs() < 0.002,
            "{estimate:?}"
        );
        assert_eq!(itself, Estimate { value: 0.0, low: 0.0, high: 0.0 });
        assert_eq!(paired_bootstrap(&[&hits], 0, 42)[0].0, estimate, "the same seed, the same interval");
    }

    #[test]
    fn shared_difficulty_cancels_out_of_the_difference() {
        let one: Vec<f32> = (0..1_000).map(|row| f32::from(u8::from(row % 2 == 0))).collect();
        let other: Vec<f32> = (0..1_000).map(|row| f32::from(u8::from(row % 2 == 0 && row % 100 != 0))).collect();
        let found = paired_bootstrap(&[&one, &other], 0, 1);
        let (alone, difference) = found[1];
        assert!((difference.value + 0.01).abs() < 1e-9 && difference.high < 0.0, "{difference:?}");
        assert!(difference.high - difference.low < (alone.high - alone.low) / 2.0);
    }

    #[test]
    fn silhouettes_match_scikit_learn() {
        // sklearn.metrics.silhouette_samples(x, y, metric="cosine")
        let vectors = [1.0, 0.1, 0.9, 0.3, 0.2, 1.0, 0.0, 2.0, 1.0, 1.0, -1.0, 0.5];
        let expected = [0.959_823_3, 0.943_027_7, 0.845_296_2, 0.717_510_65, -0.280_415_3, 0.0];
        let found = silhouettes(&vectors, 2, &[0, 0, 1, 1, 1, 2], 2);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found:?} {expected}");
        }
    }

    #[test]
    fn a_single_label_has_silhouette_zero() {
        assert_eq!(silhouettes(&[1.0, 0.0, 0.0, 1.0], 2, &[0, 0], 1), [0.0, 0.0]);
    }
}
