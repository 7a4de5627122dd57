//! What a forward pass asks of a device: the seam between the model files, which are written once, and the processors
//! that run them. [`Cpu`] goes through [`crate::ops`]; the GPU's is in [`crate::cuda`].

use std::ops::Range;

use candle_core::Tensor;
use kernels::{Activation, Heads, WeightFormat};

use crate::Batch;
use crate::ops::{self, LastLayerKeysValues, LayerNorm, Linear};

/// A device with the operations that the BERT family is made of. Matrices lie row by row; a row is a token, or a text.
pub(crate) trait Backend {
    /// What goes wrong on it.
    type Error: std::error::Error + Send + Sync + 'static;
    /// A matrix of activations on the device.
    type Matrix;
    /// A table of vectors to look up.
    type Table;
    /// Linear layers that read the same input, side by side.
    type Linear;
    /// What makes keys and values, in a form for [`first_context`](Backend::first_context).
    type KeysValues;
    /// A layer normalisation with its learned scale and shift.
    type Norm;

    /// Places `[entries, hidden]` on the device.
    fn table(&self, table: Tensor) -> Result<Self::Table, Self::Error>;

    /// Places layers that read the same input as one. Weights are `[outputs, inputs]` each, as files have them.
    fn linear(&self, weights: &[Tensor], biases: &[Tensor]) -> Result<Self::Linear, Self::Error>;

    /// Places what makes keys and values: weights `[hidden, hidden]` each, and the bias of the values, `[hidden]`.
    fn keys_values(&self, keys: Tensor, values: Tensor, bias: Tensor) -> Result<Self::KeysValues, Self::Error>;

    /// Places a normalisation; both are `[hidden]`.
    fn norm(&self, weight: Tensor, bias: Tensor, eps: f64) -> Result<Self::Norm, Self::Error>;

    /// Returns the normalised sum of word and position vectors, by the id and position of each token.
    fn embed(
        &self,
        words: &Self::Table,
        positions: &Self::Table,
        norm: &Self::Norm,
        tokens: &[(u32, u32)],
    ) -> Result<Self::Matrix, Self::Error>;

    /// Returns some of the outputs of a linear layer; a range begins and ends where one of the joined layers does.
    fn project(
        &self,
        linear: &Self::Linear,
        outputs: Range<usize>,
        x: &Self::Matrix,
    ) -> Result<Self::Matrix, Self::Error>;

    /// Returns a view of some columns.
    fn columns(rows: &Self::Matrix, columns: Range<usize>) -> Result<Self::Matrix, Self::Error>;

    /// Returns the rows of each text's first token.
    fn first_tokens(&self, x: &Self::Matrix, batch: &Batch) -> Result<Self::Matrix, Self::Error>;

    /// Returns the context of every query. `queries` and the two halves of `keys_values` hold all heads side by side, a
    /// row for each token.
    fn attention(
        &self,
        queries: &Self::Matrix,
        keys_values: &Self::Matrix,
        batch: &Batch,
        heads: Heads,
    ) -> Result<Self::Matrix, Self::Error>;

    /// Returns the context of every token: `qkv` makes its query, key and value, side by side.
    fn context(
        &self,
        qkv: &Self::Linear,
        x: &Self::Matrix,
        batch: &Batch,
        heads: Heads,
    ) -> Result<Self::Matrix, Self::Error> {
        let hidden = heads.count * heads.size;
        let qkv = self.project(qkv, 0..3 * hidden, x)?;
        let (queries, keys_values) = (Self::columns(&qkv, 0..hidden)?, Self::columns(&qkv, hidden..3 * hidden)?);
        drop(qkv);
        self.attention(&queries, &keys_values, batch, heads)
    }

    /// Returns the context of one query for each text, from the rows that keys and values are made of; by what, is told in
    /// both forms.
    fn first_context(
        &self,
        queries: &Self::Matrix,
        x: &Self::Matrix,
        keys_values: (&Self::Linear, &Self::KeysValues),
        batch: &Batch,
        heads: Heads,
    ) -> Result<Self::Matrix, Self::Error>;

    /// Returns the normalisation of `linear(x) + residual`.
    fn add_norm(
        &self,
        linear: &Self::Linear,
        norm: &Self::Norm,
        x: &Self::Matrix,
        residual: &Self::Matrix,
    ) -> Result<Self::Matrix, Self::Error>;

    /// Returns the normalisation of `down(activation(up(x))) + x`.
    fn feed_forward(
        &self,
        x: &Self::Matrix,
        up: &Self::Linear,
        activation: Activation,
        down: &Self::Linear,
        norm: &Self::Norm,
    ) -> Result<Self::Matrix, Self::Error>;
}

/// The calling thread's own core, with the linear layers in one number format.
pub(crate) struct Cpu {
    /// What the linear layers multiply in.
    pub(crate) format: WeightFormat,
}

impl Backend for Cpu {
    type Error = candle_core::Error;
    type Matrix = Tensor;
    type Table = Tensor;
    type Linear = Linear;
    type KeysValues = LastLayerKeysValues;
    type Norm = LayerNorm;

    fn table(&self, table: Tensor) -> candle_core::Result<Tensor> {
        Ok(table)
    }

    fn linear(&self, weights: &[Tensor], biases: &[Tensor]) -> candle_core::Result<Linear> {
        Linear::fused(weights, biases, self.format)
    }

    fn keys_values(&self, keys: Tensor, values: Tensor, bias: Tensor) -> candle_core::Result<LastLayerKeysValues> {
        Ok(LastLayerKeysValues { keys, values, bias })
    }

    fn norm(&self, weight: Tensor, bias: Tensor, eps: f64) -> candle_core::Result<LayerNorm> {
        Ok(LayerNorm::new(weight, bias, eps))
    }

    fn embed(
        &self,
        words: &Tensor,
        positions: &Tensor,
        norm: &LayerNorm,
        tokens: &[(u32, u32)],
    ) -> candle_core::Result<Tensor> {
        ops::embed(words, positions, norm, tokens)
    }

    fn project(&self, linear: &Linear, outputs: Range<usize>, x: &Tensor) -> candle_core::Result<Tensor> {
        linear.outputs(outputs.start, outputs.len())?.forward(x, None)
    }

    fn columns(rows: &Tensor, columns: Range<usize>) -> candle_core::Result<Tensor> {
        rows.narrow(1, columns.start, columns.len())
    }

    fn first_tokens(&self, x: &Tensor, batch: &Batch) -> candle_core::Result<Tensor> {
        x.index_select(&Tensor::new(&batch.offsets[..batch.rows()], x.device())?, 0)
    }

    fn attention(
        &self,
        queries: &Tensor,
        keys_values: &Tensor,
        batch: &Batch,
        heads: Heads,
    ) -> candle_core::Result<Tensor> {
        ops::attention(queries, keys_values, &batch.offsets, heads)
    }

    fn context(&self, qkv: &Linear, x: &Tensor, batch: &Batch, heads: Heads) -> candle_core::Result<Tensor> {
        ops::context(qkv, x, &batch.offsets, heads)
    }

    fn first_context(
        &self,
        queries: &Tensor,
        x: &Tensor,
        (_, keys_values): (&Linear, &LastLayerKeysValues),
        batch: &Batch,
        heads: Heads,
    ) -> candle_core::Result<Tensor> {
        ops::first_context(queries, x, keys_values, &batch.offsets, heads)
    }

    fn add_norm(
        &self,
        linear: &Linear,
        norm: &LayerNorm,
        x: &Tensor,
        residual: &Tensor,
    ) -> candle_core::Result<Tensor> {
        norm.forward(linear, x, residual)
    }

    fn feed_forward(
        &self,
        x: &Tensor,
        up: &Linear,
        activation: Activation,
        down: &Linear,
        norm: &LayerNorm,
    ) -> candle_core::Result<Tensor> {
        ops::feed_forward(x, up, activation, down, norm)
    }
}
