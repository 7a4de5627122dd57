//! From token vectors to one vector per text: pooling, Matryoshka truncation, L2 norm. Pure, on the host, in f32.

use crate::Pooling;

/// How the tokens of a text are pooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) pooling: Pooling,
    /// Tokens at the start of each text that are excluded.
    pub(crate) excluded: usize,
}

impl From<Pooling> for Pool {
    fn from(pooling: Pooling) -> Pool {
        Pool { pooling, excluded: 0 }
    }
}

/// Pools packed token vectors of `width` components; text `i` has the rows `offsets[i]..offsets[i + 1]`, at least one.
pub(crate) fn pool(tokens: &[f32], offsets: &[u32], width: usize, pool: Pool) -> Vec<f32> {
    let mut out = Vec::with_capacity((offsets.len() - 1) * width);
    for span in offsets.windows(2) {
        let rows = &tokens[span[0] as usize * width..span[1] as usize * width];
        let (count, rows) = match rows.get(pool.excluded * width..) {
            Some(kept) if !kept.is_empty() => ((span[1] - span[0]) as usize - pool.excluded, kept),
            // As sentence-transformers with an all-zero mask: empty sums, and the first token for CLS.
            Some(_) | None => match pool.pooling {
                Pooling::Cls => (1, rows),
                Pooling::Mean | Pooling::Last => {
                    out.extend(std::iter::repeat_n(0.0, width));
                    continue;
                }
                Pooling::Max => {
                    out.extend(std::iter::repeat_n(f32::NEG_INFINITY, width));
                    continue;
                }
            },
        };
        match pool.pooling {
            Pooling::Cls => out.extend_from_slice(&rows[..width]),
            Pooling::Last => out.extend_from_slice(&rows[rows.len() - width..]),
            Pooling::Mean => {
                let start = out.len();
                out.extend_from_slice(&rows[..width]);
                let mean = &mut out[start..];
                for row in rows.chunks_exact(width).skip(1) {
                    mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
                }
                mean.iter_mut().for_each(|sum| *sum /= count as f32);
            }
            Pooling::Max => {
                let start = out.len();
                out.extend_from_slice(&rows[..width]);
                for row in rows.chunks_exact(width).skip(1) {
                    // Propagates NaN as PyTorch does, so that a broken row stays visible.
                    out[start..].iter_mut().zip(row).for_each(|(max, x)| {
                        *max = if *max > *x || max.is_nan() { *max } else { *x };
                    });
                }
            }
        }
    }
    out
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
        let pooled = |pooling: Pooling| pool(&TOKENS, &OFFSETS, 2, pooling.into());
        assert_eq!(pooled(Pooling::Cls), [1.0, 8.0, -1.0, -2.0]);
        assert_eq!(pooled(Pooling::Last), [5.0, 5.0, -1.0, -2.0]);
        assert_eq!(pooled(Pooling::Mean), [3.0, 5.0, -1.0, -2.0]);
        assert_eq!(pooled(Pooling::Max), [5.0, 8.0, -1.0, -2.0]);
    }

    #[test]
    fn excluded_tokens_change_nothing_and_empty_texts_match_python() {
        let pooled = |pooling, excluded| pool(&TOKENS, &OFFSETS, 2, Pool { pooling, excluded });
        assert_eq!(pooled(Pooling::Cls, 1), [3.0, 2.0, -1.0, -2.0]);
        assert_eq!(pooled(Pooling::Last, 1), [5.0, 5.0, 0.0, 0.0]);
        assert_eq!(pooled(Pooling::Mean, 1), [4.0, 3.5, 0.0, 0.0]);
        assert_eq!(pooled(Pooling::Max, 2)[..2], [5.0, 5.0]);
        assert_eq!(pooled(Pooling::Max, 1)[2..], [f32::NEG_INFINITY, f32::NEG_INFINITY]);
        assert_eq!(pooled(Pooling::Cls, 9), [1.0, 8.0, -1.0, -2.0]);
    }

    #[test]
    fn nan_propagates_to_the_pooled_vector() {
        for nan_at in [0, 2, 4] {
            let mut tokens = TOKENS;
            tokens[nan_at] = f32::NAN;
            assert!(pool(&tokens, &OFFSETS, 2, Pooling::Mean.into())[0].is_nan());
            assert!(pool(&tokens, &OFFSETS, 2, Pooling::Max.into())[0].is_nan());
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
