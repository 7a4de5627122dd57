//! The operations of a forward pass over [`kernels`], on the calling thread.

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
    inputs: usize,
    bias: Vec<f32>,
}

impl Linear {
    /// Joins layers with the same input so that their outputs are side by side. Weights are `[outputs, inputs]` as in
    /// model files, packed once here.
    pub(crate) fn fused(weights: &[Vec<f32>], biases: &[Vec<f32>], format: WeightFormat) -> Linear {
        let inputs = weights[0].len() / biases[0].len();
        let numbers: Vec<&[f32]> = weights.iter().map(Vec::as_slice).collect();
        Linear { weights: PackedWeights::new(&numbers, inputs, format), inputs, bias: biases.concat() }
    }

    /// Returns the precision that products of the outputs need.
    pub(crate) fn precision(&self) -> Precision {
        self.weights.precision()
    }

    /// Returns `activation(x * weight + bias)` for every row of `x`.
    pub(crate) fn forward(&self, x: &[f32], activation: Option<Activation>) -> Vec<f32> {
        self.outputs(x, 0..self.bias.len(), activation)
    }

    /// As [`forward`](Linear::forward), for some outputs: those of whole joined layers.
    pub(crate) fn outputs(&self, x: &[f32], outputs: Range<usize>, activation: Option<Activation>) -> Vec<f32> {
        let (bias, panels) = (&self.bias[outputs.clone()], self.weights.panels(outputs));
        self.weights.multiply(self.rows_of(x), panels, |rows, _| kernels::activate(rows, bias, activation))
    }

    /// Calls `read` with the outputs for a few texts at a time, which are in the cache, and the texts' offsets.
    pub(crate) fn by_texts(&self, x: &[f32], offsets: &[u32], mut read: impl FnMut(&[u32], &mut [f32])) {
        let Linear { weights, bias, .. } = self;
        let x = self.rows_of(x);
        let (mut out, mut scratch) = (Vec::new(), Scratch::default());
        // Two blocks of rows, or one longer text.
        for texts in text_blocks(offsets, weights.block_rows().saturating_mul(2)) {
            let (start, tokens) = (texts[0] as usize, (texts[texts.len() - 1] - texts[0]) as usize);
            let panels = weights.panels(0..bias.len());
            weights.multiply_into(x.block(start, tokens), panels, &mut out, &mut scratch, |rows, _| {
                kernels::activate(rows, bias, None);
            });
            read(texts, &mut out[..tokens * bias.len()]);
        }
    }

    fn rows_of<'a>(&self, x: &'a [f32]) -> RowsView<'a> {
        RowsView { data: x, rows: x.len() / self.inputs, stride: self.inputs }
    }
}

/// Layer norm with its scale and shift.
pub(crate) struct LayerNorm {
    /// As wide as a row, as `shift` is.
    pub(crate) weight: Vec<f32>,
    pub(crate) shift: Vec<f32>,
    pub(crate) eps: f32,
}

impl LayerNorm {
    /// Normalises every row.
    pub(crate) fn apply(&self, rows: &mut [f32]) {
        kernels::layer_norm(rows, &self.weight, &self.shift, self.eps);
    }

    /// Returns `norm(linear(x) + residual)`.
    pub(crate) fn forward(&self, linear: &Linear, x: &Matrix, residual: &Matrix) -> Matrix {
        let Linear { weights, bias, .. } = linear;
        let numbers = weights.multiply(x.view(), weights.panels(0..bias.len()), |rows, first| {
            self.add_and_apply(rows, bias, &residual.numbers[first * residual.width..]);
        });
        Matrix { numbers, width: residual.width }
    }

    fn add_and_apply(&self, rows: &mut [f32], bias: &[f32], residual: &[f32]) {
        kernels::add_layer_norm(rows, bias, residual, &self.weight, &self.shift, self.eps);
    }
}

/// A norm by the root mean square.
pub(crate) struct RmsNorm {
    /// As wide as a row, or as a head.
    pub(crate) weight: Vec<f32>,
    pub(crate) eps: f32,
}

impl RmsNorm {
    pub(crate) fn apply(&self, rows: &mut [f32]) {
        kernels::rms_norm(rows, &self.weight, self.eps);
    }
}

pub(crate) fn add(rows: &mut [f32], other: &[f32]) {
    rows.iter_mut().zip(other).for_each(|(x, y)| *x += y);
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
    let width = scoring.heads.count * scoring.heads.size;
    let mut out = Vec::with_capacity(x.rows() * width);
    let mut scores = Vec::new();
    qkv.by_texts(&x.numbers, offsets, |texts, projected| {
        let stride = qkv.bias.len();
        let view = RowsView { data: projected, rows: projected.len() / stride, stride };
        let done = out.len();
        out.resize(done + view.rows * width, 0.0);
        let views = [view, view.without_columns(width), view.without_columns(2 * width)];
        attend_all(&mut out[done..], views, texts, (scoring, qkv.precision()), &mut scores);
    });
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
        Scoring { heads, bias: bias.map(|bias| bias.from(0)) }
    }

    /// Returns the bias for queries of which the first is that of token `first`.
    pub(crate) fn from(&self, first: usize) -> ScoreBias<'_> {
        let DistanceBias { numbers, tokens } = self;
        ScoreBias { numbers, first: tokens - 1 - first, head_stride: 2 * tokens - 1, query_stride: -1 }
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

/// The feed-forward half of a layer: `down(activation(up(x)))`, or `down(activation(gate(x)) * up(x))`.
pub(crate) struct FeedForward {
    /// The gate, if there is one, then what it multiplies.
    pub(crate) up: Linear,
    pub(crate) has_gate: bool,
    pub(crate) down: Linear,
    pub(crate) activation: Activation,
}

impl FeedForward {
    /// Returns the outputs for every row of `x`.
    pub(crate) fn forward(&self, x: &[f32]) -> Vec<f32> {
        self.by_blocks(x, |out, _| kernels::activate(out, &self.down.bias, None))
    }

    /// Returns `norm(feed_forward(x) + x)`.
    pub(crate) fn forward_norm(&self, x: &[f32], norm: &LayerNorm) -> Vec<f32> {
        let width = self.down.bias.len();
        self.by_blocks(x, |out, first| norm.add_and_apply(out, &self.down.bias, &x[first * width..]))
    }

    /// Computes block by block, so that the wide intermediate rows stay in the cache. `epilogue` takes the products of
    /// `down` without its bias, and the first row of the block.
    fn by_blocks(&self, x: &[f32], mut epilogue: impl FnMut(&mut [f32], usize)) -> Vec<f32> {
        let FeedForward { up, has_gate, down, activation } = self;
        let x = up.rows_of(x);
        let (wide, width) = (up.bias.len(), down.bias.len());
        let block_rows = up.weights.block_rows().min(x.rows);
        let mut inner = vec![0.0; block_rows * wide];
        let mut out = vec![0.0; x.rows * width];
        let mut scratch = Scratch::default();
        for (block, out) in out.chunks_mut(block_rows * width).enumerate() {
            let x = x.block(block * block_rows, block_rows);
            let inner = &mut inner[..x.rows * wide];
            up.weights.multiply_block(x, up.weights.panels(0..wide), inner, &mut scratch);
            match has_gate {
                true => kernels::gate(inner, &up.bias, *activation),
                false => kernels::activate(inner, &up.bias, Some(*activation)),
            }
            let inner = RowsView { data: inner, rows: x.rows, stride: wide };
            down.weights.multiply_block(inner, down.weights.panels(0..width), out, &mut scratch);
            epilogue(out, block * block_rows);
        }
        out
    }
}
