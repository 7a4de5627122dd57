//! The operations of a forward pass that a device provides: model files are written once against [`Backend`]. [`Cpu`]
//! runs them by [`crate::ops`], GPUs by [`crate::cuda`].

pub(crate) mod rotary;

use std::convert::Infallible;
use std::ops::Range;

use kernels::{Activation, Heads, WeightFormat};

use crate::Batch;
use crate::forward::kept_tokens::KeptTokens;
use crate::ops::{self, DistanceBias, LastLayerKeysValues, LayerNorm, Linear, Matrix};

/// A device with the operations of the BERT family. Matrices are row-major; a row is a token, or a text.
pub(crate) trait Backend {
    /// Error of its operations.
    type Error: std::error::Error + Send + Sync + 'static;
    /// A matrix of activations.
    type Matrix;
    /// An embedding table.
    type Table;
    /// Linear layers with the same input, side by side.
    type Linear;
    /// The weights of keys and values in the form that [`first_context`](Backend::first_context) takes.
    type KeysValues;
    /// A layer norm with its scale and shift.
    type Norm;
    /// A bias of attention by the distance between tokens.
    type ScoreBias;

    /// Uploads `[entries, width]`.
    fn table(&self, numbers: Vec<f32>, width: usize) -> Result<Self::Table, Self::Error>;

    /// Uploads linear layers with the same input as one. Weights are `[outputs, inputs]` each, as in model files.
    fn linear(&self, weights: &[Vec<f32>], biases: &[Vec<f32>]) -> Result<Self::Linear, Self::Error>;

    /// Uploads the weights of keys and values, `[hidden, hidden]` each, and the bias of the values, `[hidden]`.
    fn keys_values(&self, keys: Vec<f32>, values: Vec<f32>, bias: Vec<f32>) -> Result<Self::KeysValues, Self::Error>;

    /// Uploads a layer norm; scale and shift are `[hidden]`.
    fn norm(&self, weight: Vec<f32>, shift: Vec<f32>, eps: f64) -> Result<Self::Norm, Self::Error>;

    /// Uploads the bias for each head and distance from a query to a key, from `1 - tokens` to `tokens - 1`.
    fn score_bias(&self, numbers: Vec<f32>, tokens: usize) -> Result<Self::ScoreBias, Self::Error>;

    /// Returns the layer norm of the sum of word and position embeddings, by the id and position of each token.
    fn embed(
        &self,
        words: &Self::Table,
        positions: &Self::Table,
        norm: &Self::Norm,
        tokens: &[(u32, u32)],
    ) -> Result<Self::Matrix, Self::Error>;

    /// Returns some outputs of a linear layer; a range must begin and end at the bounds of joined layers.
    fn project(
        &self,
        linear: &Self::Linear,
        outputs: Range<usize>,
        x: &Self::Matrix,
    ) -> Result<Self::Matrix, Self::Error>;

    /// Returns a view of some columns.
    fn columns(rows: &Self::Matrix, columns: Range<usize>) -> Result<Self::Matrix, Self::Error>;

    /// Returns the rows of the first or last token of each text.
    fn select(&self, x: &Self::Matrix, batch: &Batch, kept: KeptTokens) -> Result<Self::Matrix, Self::Error>;

    /// Returns the context of every query. `queries` and the halves of `keys_values` hold all heads side by side, a
    /// row per token.
    fn attention(
        &self,
        queries: &Self::Matrix,
        keys_values: &Self::Matrix,
        batch: &Batch,
        heads: Heads,
    ) -> Result<Self::Matrix, Self::Error>;

    /// Returns the context of every token; `qkv` projects to its query, key and value, side by side.
    fn context(
        &self,
        qkv: &Self::Linear,
        x: &Self::Matrix,
        batch: &Batch,
        scoring: (Heads, Option<&Self::ScoreBias>),
    ) -> Result<Self::Matrix, Self::Error>;

    /// Returns the context of one query per text, from the rows that keys and values would be projected from;
    /// `keys_values` has the projection in both forms.
    fn first_context(
        &self,
        queries: &Self::Matrix,
        x: &Self::Matrix,
        keys_values: (&Self::Linear, &Self::KeysValues),
        batch: &Batch,
        scoring: (Heads, Option<&Self::ScoreBias>),
    ) -> Result<Self::Matrix, Self::Error>;

    /// Returns `norm(linear(x) + residual)`.
    fn add_norm(
        &self,
        linear: &Self::Linear,
        norm: &Self::Norm,
        x: &Self::Matrix,
        residual: &Self::Matrix,
    ) -> Result<Self::Matrix, Self::Error>;

    /// Returns `norm(down(activation(up(x))) + x)`.
    fn feed_forward(
        &self,
        x: &Self::Matrix,
        up: &Self::Linear,
        activation: Activation,
        down: &Self::Linear,
        norm: &Self::Norm,
    ) -> Result<Self::Matrix, Self::Error>;
}

/// The calling thread, with linear layers in one number format.
pub(crate) struct Cpu {
    /// Number format of the linear layers.
    pub(crate) format: WeightFormat,
}

impl Backend for Cpu {
    type Error = Infallible;
    type Matrix = Matrix;
    type Table = Vec<f32>;
    type Linear = Linear;
    type KeysValues = LastLayerKeysValues;
    type Norm = LayerNorm;
    type ScoreBias = DistanceBias;

    fn table(&self, numbers: Vec<f32>, _: usize) -> Result<Vec<f32>, Infallible> {
        Ok(numbers)
    }

    fn linear(&self, weights: &[Vec<f32>], biases: &[Vec<f32>]) -> Result<Linear, Infallible> {
        Ok(Linear::fused(weights, biases, self.format))
    }

    fn keys_values(&self, keys: Vec<f32>, values: Vec<f32>, bias: Vec<f32>) -> Result<LastLayerKeysValues, Infallible> {
        Ok(LastLayerKeysValues { keys, values, bias })
    }

    fn norm(&self, weight: Vec<f32>, shift: Vec<f32>, eps: f64) -> Result<LayerNorm, Infallible> {
        Ok(LayerNorm { weight, shift, eps: eps as f32 })
    }

    fn score_bias(&self, numbers: Vec<f32>, tokens: usize) -> Result<DistanceBias, Infallible> {
        Ok(DistanceBias { numbers, tokens })
    }

    fn embed(
        &self,
        words: &Vec<f32>,
        positions: &Vec<f32>,
        norm: &LayerNorm,
        tokens: &[(u32, u32)],
    ) -> Result<Matrix, Infallible> {
        Ok(ops::embed(words, positions, norm, tokens))
    }

    fn project(&self, linear: &Linear, outputs: Range<usize>, x: &Matrix) -> Result<Matrix, Infallible> {
        Ok(Matrix { width: outputs.len(), numbers: linear.outputs(&x.numbers, outputs, None) })
    }

    fn columns(rows: &Matrix, columns: Range<usize>) -> Result<Matrix, Infallible> {
        Ok(rows.columns(columns))
    }

    fn select(&self, x: &Matrix, batch: &Batch, kept: KeptTokens) -> Result<Matrix, Infallible> {
        Ok(x.select(kept.rows(batch)))
    }

    fn attention(
        &self,
        queries: &Matrix,
        keys_values: &Matrix,
        batch: &Batch,
        heads: Heads,
    ) -> Result<Matrix, Infallible> {
        Ok(ops::attention(queries, keys_values, &batch.offsets, heads))
    }

    fn context(
        &self,
        qkv: &Linear,
        x: &Matrix,
        batch: &Batch,
        (heads, bias): (Heads, Option<&DistanceBias>),
    ) -> Result<Matrix, Infallible> {
        Ok(ops::context(qkv, x, &batch.offsets, DistanceBias::scoring(bias, heads)))
    }

    fn first_context(
        &self,
        queries: &Matrix,
        x: &Matrix,
        (_, keys_values): (&Linear, &LastLayerKeysValues),
        batch: &Batch,
        (heads, bias): (Heads, Option<&DistanceBias>),
    ) -> Result<Matrix, Infallible> {
        Ok(ops::first_context(queries, x, keys_values, &batch.offsets, DistanceBias::scoring(bias, heads)))
    }

    fn add_norm(&self, linear: &Linear, norm: &LayerNorm, x: &Matrix, residual: &Matrix) -> Result<Matrix, Infallible> {
        Ok(norm.forward(linear, x, residual))
    }

    fn feed_forward(
        &self,
        x: &Matrix,
        up: &Linear,
        activation: Activation,
        down: &Linear,
        norm: &LayerNorm,
    ) -> Result<Matrix, Infallible> {
        Ok(ops::feed_forward(x, up, activation, down, norm))
    }
}
