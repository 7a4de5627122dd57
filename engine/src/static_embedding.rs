//! StaticEmbedding of sentence-transformers: a vector per token, of which that of a text is the mean. Also in the tensors
//! of model2vec, as sentence-transformers reads them.

use crate::weights::{WeightFiles, Weights};
use crate::{Batch, LoadError};

const OWN: &str = "embedding.weight";
/// model2vec's names: the vectors, and of every token the row and a factor, both optional.
const VECTORS: &str = "embeddings";
const MAPPING: &str = "mapping";
const FACTORS: &str = "weights";

/// The sizes of a table of token vectors, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StaticEmbedding {
    /// Tokens that have a vector.
    pub(crate) vocab_size: usize,
    pub(crate) dimensions: usize,
}

/// The vector of every token.
pub(crate) struct StaticTable {
    /// `[vocab_size, dimensions]`, row-major.
    vectors: Vec<f32>,
    dimensions: usize,
}

impl StaticEmbedding {
    /// Finds the tensors in the weights, and checks their shapes.
    pub(crate) fn open(files: &WeightFiles) -> Result<StaticEmbedding, LoadError> {
        let (weights, name) = open(files)?;
        let &[rows, dimensions] = weights.shape(name)?.as_slice() else {
            return Err(weights.problem(name, "it is not a table of vectors".into()));
        };
        if rows == 0 || dimensions == 0 {
            return Err(weights.problem(name, "the table is empty".into()));
        }
        let vocab_size = match weights.contains_at_root(MAPPING) && name == VECTORS {
            true => weights.integers(MAPPING)?.len(),
            false => rows,
        };
        if name == VECTORS && weights.contains_at_root(FACTORS) {
            weights.check(FACTORS, &[vocab_size])?;
        }
        Ok(StaticEmbedding { vocab_size, dimensions })
    }

    /// Reads the table.
    pub(crate) fn load(&self, files: &WeightFiles) -> Result<StaticTable, LoadError> {
        let StaticEmbedding { vocab_size, dimensions } = *self;
        let (weights, name) = open(files)?;
        let stored = weights.read(name, &weights.shape(name)?)?;
        let table = |vectors| StaticTable { vectors, dimensions };
        if name == OWN {
            return Ok(table(stored));
        }
        let mut vectors = match weights.contains_at_root(MAPPING) {
            true => gather(&weights, &stored, dimensions)?,
            false => stored,
        };
        if weights.contains_at_root(FACTORS) {
            let factors = weights.read(FACTORS, &[vocab_size])?;
            for (row, factor) in vectors.chunks_exact_mut(dimensions).zip(factors) {
                row.iter_mut().for_each(|x| *x *= factor);
            }
        }
        Ok(table(vectors))
    }
}

/// Opens the weights, and returns which of the two names of the vectors they have.
fn open(files: &WeightFiles) -> Result<(Weights, &'static str), LoadError> {
    match Weights::of_module(files, OWN) {
        Ok(weights) => Ok((weights, OWN)),
        Err(LoadError::Weight { path, tensor, problem }) => match Weights::of_module(files, VECTORS) {
            Ok(weights) => Ok((weights, VECTORS)),
            Err(_) => {
                let problem = format!("{problem}; a StaticEmbedding module needs it, or `{VECTORS}` of model2vec");
                Err(LoadError::Weight { path, tensor, problem })
            }
        },
        Err(error) => Err(error),
    }
}

/// Returns the row of every token, by the mapping.
fn gather(weights: &Weights, stored: &[f32], dimensions: usize) -> Result<Vec<f32>, LoadError> {
    let mapping = weights.integers(MAPPING)?;
    let mut vectors = Vec::with_capacity(mapping.len() * dimensions);
    let rows = stored.len() / dimensions;
    for (token, row) in mapping.into_iter().enumerate() {
        // PyTorch counts a negative row from the end.
        let at = usize::try_from(row).ok().or_else(|| rows.checked_sub(usize::try_from(row.unsigned_abs()).ok()?));
        let Some(at) = at.filter(|at| *at < rows) else {
            return Err(weights.problem(MAPPING, format!("token {token} has row {row}, but there are {rows} rows")));
        };
        vectors.extend_from_slice(&stored[at * dimensions..][..dimensions]);
    }
    Ok(vectors)
}

impl StaticTable {
    /// Returns the mean of each row's token vectors; zeros for a row without tokens, like PyTorch's `EmbeddingBag`.
    ///
    /// # Panics
    /// When an id is outside of the table.
    pub(crate) fn means(&self, batch: &Batch) -> Vec<f32> {
        let width = self.dimensions;
        let mut out = vec![0.0; batch.rows() * width];
        for (row, mean) in out.chunks_exact_mut(width).enumerate() {
            let ids = batch.row(row);
            for &id in ids {
                let vector = &self.vectors[id as usize * width..][..width];
                mean.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
            }
            if !ids.is_empty() {
                mean.iter_mut().for_each(|sum| *sum /= ids.len() as f32);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_the_mean_of_its_tokens_and_zero_without_any() {
        let table = StaticTable { vectors: vec![1.0, 2.0, 3.0, 6.0, -1.0, 0.0], dimensions: 2 };
        let batch: Batch = [vec![0, 1], vec![], vec![2, 2, 2], vec![1]].iter().collect();
        assert_eq!(table.means(&batch), [2.0, 4.0, 0.0, 0.0, -1.0, 0.0, 3.0, 6.0]);
    }
}
