//! From token vectors to one vector per text: pooling, Matryoshka truncation, L2 norm. Pure, on the host, in f32.

use std::fmt;

use crate::Pooling;

/// How a model pools: one way, or several whose vectors are concatenated in this order. Written as `mean`, or joined by
/// a plus sign, as `cls+mean`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPooling {
    /// At least one.
    modes: Vec<PoolingMode>,
}

/// One way of pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoolingMode {
    /// One that a caller may choose too.
    Common(Pooling),
    /// The sum over all tokens, divided by the square root of their number.
    MeanSqrtLen,
    /// The mean over all tokens, each weighted by its position, counted from 1.
    WeightedMean,
}

impl ModelPooling {
    /// Joins at least one way of pooling.
    pub(crate) fn joined(modes: Vec<PoolingMode>) -> ModelPooling {
        assert!(!modes.is_empty(), "a model pools in some way");
        ModelPooling { modes }
    }

    pub(crate) fn modes(&self) -> &[PoolingMode] {
        &self.modes
    }

    /// Returns the pooling if it is a single one that a caller may choose too.
    pub(crate) fn common(&self) -> Option<Pooling> {
        let [mode] = self.modes[..] else { return None };
        match mode {
            PoolingMode::Common(pooling) => Some(pooling),
            PoolingMode::MeanSqrtLen | PoolingMode::WeightedMean => None,
        }
    }
}

impl From<Pooling> for ModelPooling {
    fn from(pooling: Pooling) -> ModelPooling {
        ModelPooling { modes: vec![PoolingMode::Common(pooling)] }
    }
}

impl PartialEq<Pooling> for ModelPooling {
    fn eq(&self, other: &Pooling) -> bool {
        self.common() == Some(*other)
    }
}

impl fmt::Display for ModelPooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, mode) in self.modes.iter().enumerate() {
            let plus = if place == 0 { "" } else { "+" };
            match mode {
                PoolingMode::Common(pooling) => write!(f, "{plus}{pooling}"),
                PoolingMode::MeanSqrtLen => write!(f, "{plus}mean_sqrt_len_tokens"),
                PoolingMode::WeightedMean => write!(f, "{plus}weightedmean"),
            }?;
        }
        Ok(())
    }
}

/// How the tokens of a text are pooled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) pooling: ModelPooling,
    /// Tokens at the start of each text that are excluded.
    pub(crate) excluded: usize,
}

impl<P: Into<ModelPooling>> From<P> for Pool {
    fn from(pooling: P) -> Pool {
        Pool { pooling: pooling.into(), excluded: 0 }
    }
}

/// Pools packed token vectors of `width` components; text `i` has the rows `offsets[i]..offsets[i + 1]`, at least one.
/// Returns `width` components for each way of pooling, side by side.
pub(crate) fn pool(tokens: &[f32], offsets: &[u32], width: usize, pool: &Pool) -> Vec<f32> {
    let modes = pool.pooling.modes();
    let mut out = Vec::with_capacity((offsets.len() - 1) * width * modes.len());
    for span in offsets.windows(2) {
        let rows = &tokens[span[0] as usize * width..span[1] as usize * width];
        for mode in modes {
            pool_text(rows, width, *mode, pool.excluded, &mut out);
        }
    }
    out
}

/// Appends one pooling of a text without its first `excluded` tokens. If no other is left the result is that of
/// sentence-transformers with an all-zero mask: empty sums, no maximum, and the first token for CLS.
fn pool_text(rows: &[f32], width: usize, mode: PoolingMode, excluded: usize, out: &mut Vec<f32>) {
    let kept = rows.get(excluded * width..).unwrap_or_default();
    let count = (kept.len() / width) as f32;
    let start = out.len();
    match mode {
        PoolingMode::Common(Pooling::Cls) if kept.is_empty() => out.extend_from_slice(&rows[..width]),
        PoolingMode::Common(Pooling::Max) if kept.is_empty() => out.resize(start + width, f32::NEG_INFINITY),
        PoolingMode::Common(Pooling::Mean | Pooling::Last) | PoolingMode::MeanSqrtLen | PoolingMode::WeightedMean
            if kept.is_empty() =>
        {
            out.resize(start + width, 0.0);
        }
        PoolingMode::Common(Pooling::Cls) => out.extend_from_slice(&kept[..width]),
        PoolingMode::Common(Pooling::Last) => out.extend_from_slice(&kept[kept.len() - width..]),
        PoolingMode::Common(Pooling::Max) => {
            out.extend_from_slice(&kept[..width]);
            for row in kept.chunks_exact(width).skip(1) {
                // Propagates NaN as PyTorch does, so that a broken row stays visible.
                out[start..].iter_mut().zip(row).for_each(|(max, x)| {
                    *max = if *max > *x || max.is_nan() { *max } else { *x };
                });
            }
        }
        PoolingMode::Common(Pooling::Mean) => append_mean(kept, width, |_| 1.0, count, out),
        PoolingMode::MeanSqrtLen => append_mean(kept, width, |_| 1.0, count.sqrt(), out),
        PoolingMode::WeightedMean => {
            // The tokens after a prompt keep the weights of their positions in the whole text.
            let weight = |place: usize| (excluded + place + 1) as f32;
            let total = (0..kept.len() / width).map(weight).sum();
            append_mean(kept, width, weight, total, out);
        }
    }
}

/// Appends the weighted sum of at least one row, divided by `total`.
fn append_mean(rows: &[f32], width: usize, weight: impl Fn(usize) -> f32, total: f32, out: &mut Vec<f32>) {
    let start = out.len();
    out.extend(rows[..width].iter().map(|x| x * weight(0)));
    for (place, row) in rows.chunks_exact(width).enumerate().skip(1) {
        let weight = weight(place);
        out[start..].iter_mut().zip(row).for_each(|(sum, x)| *sum += x * weight);
    }
    out[start..].iter_mut().for_each(|sum| *sum /= total);
}

/// Keeps the first `kept` of each row's `width` components.
pub(crate) fn cut(vectors: Vec<f32>, width: usize, kept: usize) -> Vec<f32> {
    match kept == width {
        true => vectors,
        false => vectors.chunks_exact(width).flat_map(|row| &row[..kept]).copied().collect(),
    }
}

/// Divides each row by its L2 norm, leaving zero rows as they are, like sentence-transformers' Normalize.
pub(crate) fn normalize_or_zero(vectors: &mut [f32], width: usize) {
    for row in vectors.chunks_exact_mut(width) {
        let norm = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt().max(1e-12);
        row.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
    }
}

/// Divides each row by its L2 norm. A zero row becomes NaN.
pub(crate) fn normalize(vectors: &mut [f32], width: usize) {
    for row in vectors.chunks_exact_mut(width) {
        // Squares are summed in f64: f32 loses digits over many and overflows on large ones.
        let norm = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
        row.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: [f32; 8] = [1.0, 8.0, 3.0, 2.0, 5.0, 5.0, -1.0, -2.0];
    const OFFSETS: [u32; 3] = [0, 3, 4];

    #[test]
    fn pooling_uses_only_the_tokens_of_its_text() {
        let pooled = |pooling: Pooling| pool(&TOKENS, &OFFSETS, 2, &pooling.into());
        assert_eq!(pooled(Pooling::Cls), [1.0, 8.0, -1.0, -2.0]);
        assert_eq!(pooled(Pooling::Last), [5.0, 5.0, -1.0, -2.0]);
        assert_eq!(pooled(Pooling::Mean), [3.0, 5.0, -1.0, -2.0]);
        assert_eq!(pooled(Pooling::Max), [5.0, 8.0, -1.0, -2.0]);
    }

    #[test]
    fn excluded_tokens_change_nothing_and_empty_texts_match_python() {
        let pooled =
            |pooling: Pooling, excluded| pool(&TOKENS, &OFFSETS, 2, &Pool { pooling: pooling.into(), excluded });
        assert_eq!(pooled(Pooling::Cls, 1), [3.0, 2.0, -1.0, -2.0]);
        assert_eq!(pooled(Pooling::Last, 1), [5.0, 5.0, 0.0, 0.0]);
        assert_eq!(pooled(Pooling::Mean, 1), [4.0, 3.5, 0.0, 0.0]);
        assert_eq!(pooled(Pooling::Max, 2)[..2], [5.0, 5.0]);
        assert_eq!(pooled(Pooling::Max, 1)[2..], [f32::NEG_INFINITY, f32::NEG_INFINITY]);
        assert_eq!(pooled(Pooling::Cls, 9), [1.0, 8.0, -1.0, -2.0]);
    }

    #[test]
    fn sums_over_the_root_of_the_length_and_weighted_means_match_python() {
        let pooled =
            |mode, excluded| pool(&TOKENS, &OFFSETS, 2, &Pool { pooling: ModelPooling::joined(vec![mode]), excluded });
        let root = 3.0_f32.sqrt();
        assert_eq!(pooled(PoolingMode::MeanSqrtLen, 0), [9.0 / root, 15.0 / root, -1.0, -2.0]);
        assert_eq!(pooled(PoolingMode::WeightedMean, 0), [22.0 / 6.0, 27.0 / 6.0, -1.0, -2.0]);
        assert_eq!(pooled(PoolingMode::WeightedMean, 1), [21.0 / 5.0, 19.0 / 5.0, 0.0, 0.0]);
        assert_eq!(pooled(PoolingMode::MeanSqrtLen, 9), [0.0; 4]);
    }

    #[test]
    fn joined_poolings_are_side_by_side_in_their_order() {
        let pooling = ModelPooling::joined(vec![PoolingMode::Common(Pooling::Max), PoolingMode::Common(Pooling::Cls)]);
        assert_eq!(pooling.to_string(), "max+cls");
        assert_eq!(pool(&TOKENS, &OFFSETS, 2, &pooling.into()), [5.0, 8.0, 1.0, 8.0, -1.0, -2.0, -1.0, -2.0]);
        let weighted = ModelPooling::joined(vec![PoolingMode::MeanSqrtLen, PoolingMode::WeightedMean]);
        assert_eq!(weighted.to_string(), "mean_sqrt_len_tokens+weightedmean");
    }

    #[test]
    fn nan_propagates_to_the_pooled_vector() {
        for nan_at in [0, 2, 4] {
            let mut tokens = TOKENS;
            tokens[nan_at] = f32::NAN;
            assert!(pool(&tokens, &OFFSETS, 2, &Pooling::Mean.into())[0].is_nan());
            assert!(pool(&tokens, &OFFSETS, 2, &Pooling::Max.into())[0].is_nan());
        }
    }

    #[test]
    fn norms_become_one_and_zero_vectors_nan() {
        let mut vectors = [3.0, 4.0, 3e-30, 4e-30, 2.4e38, 3.2e38, 0.0, 0.0, f32::INFINITY, 1.0];
        normalize(&mut vectors, 2);
        assert_eq!(vectors[..6], [0.6, 0.8, 0.6, 0.8, 0.6, 0.8]);
        assert!(vectors[6].is_nan() && vectors[7].is_nan() && vectors[8].is_nan(), "{vectors:?}");
    }

    #[test]
    fn the_models_own_norm_keeps_zero_vectors() {
        let mut vectors = [3.0, 4.0, 0.0, 0.0];
        normalize_or_zero(&mut vectors, 2);
        assert_eq!(vectors, [0.6, 0.8, 0.0, 0.0]);
    }

    #[test]
    fn matryoshka_keeps_the_first_components() {
        assert_eq!(cut(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3, 2), [1.0, 2.0, 4.0, 5.0]);
    }
}
