//! How the attention of each layer of `decoder.rs` depends on positions: by rotations, or by a bias.

use super::distances::bias_by_distance;
use super::rotation::{Angles, LayerAngles, Rotations};
use crate::Batch;
use crate::families::DistanceBuckets;
use crate::ops::DistanceBias;

/// Of a model.
pub(crate) enum Positions {
    Rotary(Rotations),
    Distances(DistanceTables),
}

/// The biases of a model: a table, `[buckets, heads]`, of the first layer for all, or of each layer.
pub(crate) struct DistanceTables {
    pub(crate) buckets: DistanceBuckets,
    pub(crate) tables: Vec<Vec<f32>>,
    pub(crate) heads: usize,
}

/// Of the layers of a model, for all positions of a batch.
pub(crate) enum BatchPositions<'m> {
    Rotary(LayerAngles<'m>),
    Distances(Vec<DistanceBias>),
}

/// Of a layer, for all positions of a batch.
#[derive(Clone, Copy)]
pub(crate) enum LayerPositions<'b> {
    Rotary(&'b Angles),
    Distances(&'b DistanceBias),
}

impl Positions {
    pub(crate) fn of_batch(&self, batch: &Batch) -> BatchPositions<'_> {
        match self {
            Positions::Rotary(rotations) => BatchPositions::Rotary(rotations.angles(batch)),
            Positions::Distances(DistanceTables { buckets, tables, heads }) => {
                // Not once for all batches: these models have no maximum length.
                let tokens = batch.longest();
                let bias = |table: &Vec<f32>| DistanceBias {
                    numbers: bias_by_distance(table, *buckets, *heads, tokens),
                    tokens,
                };
                BatchPositions::Distances(tables.iter().map(bias).collect())
            }
        }
    }
}

impl BatchPositions<'_> {
    pub(crate) fn of(&self, layer: usize) -> LayerPositions<'_> {
        match self {
            BatchPositions::Rotary(angles) => LayerPositions::Rotary(angles.of(layer)),
            BatchPositions::Distances(biases) => LayerPositions::Distances(&biases[layer.min(biases.len() - 1)]),
        }
    }
}
