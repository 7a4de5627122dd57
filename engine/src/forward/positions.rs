//! How the attention of each layer depends on positions: by rotations, or by a bias.

use kernels::Reach;

use super::distances::bias_by_distance;
use super::rotation::{LayerAngles, Rotations};
use crate::Batch;
use crate::backend::rotary::RotaryBackend;
use crate::families::DistanceBuckets;

/// Of a model.
pub(crate) enum Positions<B: RotaryBackend> {
    Rotary(Rotations<B>),
    Distances(DistanceTables),
}

/// The biases of a model: a table, `[buckets, heads]`, of the first layer for all, or of each layer.
pub(crate) struct DistanceTables {
    pub(crate) buckets: DistanceBuckets,
    pub(crate) tables: Vec<Vec<f32>>,
    pub(crate) heads: usize,
}

/// Of the layers of a model, for all positions of a batch.
pub(crate) enum BatchPositions<'m, B: RotaryBackend> {
    Rotary(LayerAngles<'m, B>),
    Distances(Vec<B::ScoreBias>),
}

/// Of a layer, for all positions of a batch.
pub(crate) enum LayerPositions<'b, B: RotaryBackend + ?Sized> {
    /// Heads are rotated, and attend to the tokens in reach.
    Rotary { angles: &'b B::Angles, reach: Reach },
    /// All tokens attend to each other, with a bias.
    Distances(&'b B::ScoreBias),
}

impl<B: RotaryBackend> Positions<B> {
    pub(crate) fn of_batch(&self, backend: &B, batch: &Batch) -> Result<BatchPositions<'_, B>, B::Error> {
        match self {
            Positions::Rotary(rotations) => Ok(BatchPositions::Rotary(rotations.angles(backend, batch)?)),
            Positions::Distances(DistanceTables { buckets, tables, heads }) => {
                // Not once for all batches: these models have no maximum length.
                let tokens = batch.longest();
                let bias =
                    |table: &Vec<f32>| backend.score_bias(bias_by_distance(table, *buckets, *heads, tokens), tokens);
                Ok(BatchPositions::Distances(tables.iter().map(bias).collect::<Result<_, _>>()?))
            }
        }
    }
}

impl<B: RotaryBackend> BatchPositions<'_, B> {
    /// Returns those of a layer, whose attention has the reach if it is rotated.
    pub(crate) fn of(&self, layer: usize, reach: Reach) -> LayerPositions<'_, B> {
        match self {
            BatchPositions::Rotary(angles) => LayerPositions::Rotary { angles: angles.of(layer), reach },
            BatchPositions::Distances(biases) => LayerPositions::Distances(&biases[layer.min(biases.len() - 1)]),
        }
    }
}
