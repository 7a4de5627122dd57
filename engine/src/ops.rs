//! The operations of a forward pass over [`kernels`], on the calling thread. Used by [`crate::backend::Cpu`].

use std::ops::Range;

use kernels::{Activation, Heads, PackedWeights, Precision, RowsView, ScoreBias, Scoring, Scratch, WeightFormat};

use crate::packing::text_blocks;

/// Rows of activations, one after the other.
pub(crate) struct Matrix {
    pub(crate) numbers: Vec<f32>,
    /// Numbers of a row.
    pub(crate) width: usize,
}

impl Matrix {
    pub(crate) fn rows(&self) -> usize {
        self.numbers.len() / self.width
    }

    fn view(&self) -> RowsView<'_> {
        RowsView { data: &self.numbers, rows: self.rows(), stride: self.width }
    }

    /// Copies some columns.
    pub(crate) fn columns(&self, columns: Range<usize>) -> Matrix {
        let rows = self.numbers.chunks_exact(self.width);
        Matrix { numbers: rows.flat_map(|row| &row[columns.clone()]).copied().collect(), width: columns.len() }
    }

    /// Copies some rows.
    pub(crate) fn select(&self, rows: impl Iterator<Item = usize>) -> Matrix {
        let numbers = rows.flat_map(|row| &self.numbers[row * self.width..][..self.width]).copied().collect();
        Matrix { numbers, width: self.width }
    }
}

/// A linear layer: `x * weight + bias`.
pub(crate) struct Linear {
    weights: PackedWeights,
    bias: Vec<f32>,
}

impl Linear {
    /// Joins layers with the same input so that their outputs are side by side. Weights are `[outputs, inputs]` as in
    /// model files, packed once here.
    pub(crate) fn fused(weights: &[Vec<f32>], biases: &[Vec<f32>], format: WeightFormat) -> Linear {
        let inputs = weights[0].len() / biases[0].len();
        let numbers: Vec<&[f32]> = weights.iter().map(Vec::as_slice).collect();
        Linear { weights: PackedWeights::new(&numbers, inputs, format), bias: biases.concat() }
    }

    /// Returns `activation(x * weight + bias)` for `[tokens, inputs]`, of some outputs: those of whole joined layers.
    pub(crate) fn forward(&self, x: &Matrix, outputs: Range<usize>, activation: Option<Activation>) -> Matrix {
        let (bias, panels) = (&self.bias[outputs.clone()], self.weights.panels(outputs));
        let numbers = self.weights.multiply(x.view(), panels, |rows, _| kernels::activate(rows, bias, activation));
        Matrix { numbers, width: bias.len() }
    }
}

/// Layer norm with its scale and shift.
pub(crate) struct LayerNorm {
    /// `[hidden]`, as `shift` is.
    pub(crate) weight: Vec<f32>,
    pub(crate) shift: Vec<f32>,
    pub(crate) eps: f32,
}

impl LayerNorm {
    /// Returns `norm(linear(x) + residual)`.
    pub(crate) fn forward(&self, linear: &Linear, x: &Matrix, residual: &Matrix) -> Matrix {
        let Linear { weights, bias } = linear;
        let numbers = weights.multiply(x.view(), weights.panels(0..bias.len()), |rows, first| {
            self.add_and_apply(rows, bias, &residual.numbers[first * residual.width..]);
        });
        Matrix { numbers, width: residual.width }
    }

    fn add_and_apply(&self, rows: &mut [f32], bias: &[f32], residual: &[f32]) {
        kernels::add_layer_norm(rows, bias, residual, &self.weight, &self.shift, self.eps);
    }
}

/// Returns the layer norm of word plus position embeddings, `[tokens, hidden]`.
pub(crate) fn embed(words: &[f32], positions: &[f32], norm: &LayerNorm, tokens: &[(u32, u32)]) -> Matrix {
    let LayerNorm { weight, shift, eps } = norm;
    let numbers = kernels::embed_layer_norm(tokens.iter().copied(), words, positions, (weight, shift, *eps));
    Matrix { numbers, width: weight.len() }
}

/// Returns the context of every query, `[queries, hidden]`.
///
/// `queries` and the halves of `keys_values` hold all heads side by side. Text `i` has the rows
/// `offsets[i]..offsets[i + 1]` of each.
pub(crate) fn attention(queries: &Matrix, keys_values: &Matrix, offsets: &[u32], heads: Heads) -> Matrix {
    let width = heads.count * heads.size;
    let mut numbers = vec![0.0; queries.rows() * width];
    let keys = keys_values.view();
    let views = [queries.view(), keys, keys.without_columns(width)];
    attend_all(&mut numbers, views, offsets, (heads.into(), Precision::Single), &mut Vec::new());
    Matrix { numbers, width }
}

/// Returns the context of every token, `[tokens, hidden]`: [`attention`] over the projections `qkv(x)`. Projects and
/// attends a few texts at a time, so that queries, keys and values stay in the cache.
pub(crate) fn context(qkv: &Linear, x: &Matrix, offsets: &[u32], scoring: Scoring<'_>) -> Matrix {
    let Linear { weights, bias } = qkv;
    let width = scoring.heads.count * scoring.heads.size;
    let mut out = Vec::with_capacity(x.rows() * width);
    let (block_rows, precision, panels) = (weights.block_rows(), weights.precision(), weights.panels(0..bias.len()));
    let (mut projected, mut scratch, mut scores) = (Vec::new(), Scratch::default(), Vec::new());
    // Two blocks of rows, or one longer text.
    for texts in text_blocks(offsets, block_rows.saturating_mul(2)) {
        let (start, tokens) = (texts[0] as usize, (texts[texts.len() - 1] - texts[0]) as usize);
        let x = x.view().block(start, tokens);
        weights.multiply_into(x, panels.clone(), &mut projected, &mut scratch, |rows, _| {
            kernels::activate(rows, bias, None);
        });
        let view = RowsView { data: &projected[..tokens * bias.len()], rows: tokens, stride: bias.len() };
        out.resize((start + tokens) * width, 0.0);
        let out = &mut out[start * width..];
        let views = [view, view.without_columns(width), view.without_columns(2 * width)];
        attend_all(out, views, texts, (scoring, precision), &mut scores);
    }
    Matrix { numbers: out, width }
}

/// Computes attention text by text. `queries`, `keys` and `values` begin with the first text.
fn attend_all(
    mut out: &mut [f32],
    [queries, keys, values]: [RowsView<'_>; 3],
    offsets: &[u32],
    (scoring, precision): (Scoring<'_>, Precision),
    scratch: &mut Vec<f32>,
) {
    for span in offsets.windows(2) {
        let (start, tokens) = ((span[0] - offsets[0]) as usize, (span[1] - span[0]) as usize);
        let context;
        (context, out) = out.split_at_mut(tokens * scoring.heads.count * scoring.heads.size);
        let [queries, keys, values] = [queries, keys, values].map(|rows| rows.block(start, tokens));
        kernels::attend(context, queries, keys, values, (scoring, precision), scratch);
    }
}

/// Returns the context of one query per text, `[texts, hidden]`, equal to [`attention`] without projecting keys and
/// values.
pub(crate) fn first_context(
    queries: &Matrix,
    x: &Matrix,
    weights: &LastLayerKeysValues,
    offsets: &[u32],
    scoring: Scoring<'_>,
) -> Matrix {
    let LastLayerKeysValues { keys, values, bias } = weights;
    let weights = kernels::KeysValues { keys, values, bias };
    let numbers = kernels::attend_first_token(queries.view(), x.view(), offsets, weights, scoring);
    Matrix { numbers, width: queries.width }
}

/// A bias for each head and distance from a query to a key, from `1 - tokens` to `tokens - 1`.
pub(crate) struct DistanceBias {
    pub(crate) numbers: Vec<f32>,
    pub(crate) tokens: usize,
}

impl DistanceBias {
    pub(crate) fn scoring(bias: Option<&DistanceBias>, heads: Heads) -> Scoring<'_> {
        let bias = bias.map(|DistanceBias { numbers, tokens }| ScoreBias {
            numbers,
            first: tokens - 1,
            head_stride: 2 * tokens - 1,
            query_stride: -1,
        });
        Scoring { heads, bias }
    }
}

/// The weights of keys and values, `[hidden, hidden]` each, and the bias of the values.
pub(crate) struct LastLayerKeysValues {
    pub(crate) keys: Vec<f32>,
    pub(crate) values: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

/// Returns `norm(down(activation(up(x))) + x)`, the feed-forward half of a layer. Runs both linear layers block by block,
/// so that the wide intermediate rows stay in the cache.
pub(crate) fn feed_forward(x: &Matrix, up: &Linear, activation: Activation, down: &Linear, norm: &LayerNorm) -> Matrix {
    let (wide, width) = (up.bias.len(), x.width);
    let block_rows = up.weights.block_rows();
    let mut inner = vec![0.0; block_rows.min(x.rows()) * wide];
    let mut out = Vec::with_capacity(x.numbers.len());
    let mut scratch = Scratch::default();
    for first in (0..x.rows()).step_by(block_rows) {
        let rows = x.view().block(first, block_rows);
        let inner = &mut inner[..rows.rows * wide];
        up.weights.multiply_block(rows, up.weights.panels(0..wide), inner, &mut scratch);
        kernels::activate(inner, &up.bias, Some(activation));
        let inner = RowsView { data: inner, rows: rows.rows, stride: wide };
        out.resize(out.len() + rows.rows * width, 0.0);
        let out = &mut out[first * width..];
        down.weights.multiply_block(inner, down.weights.panels(0..width), out, &mut scratch);
        norm.add_and_apply(out, &down.bias, &x.numbers[first * width..]);
    }
    Matrix { numbers: out, width }
}
