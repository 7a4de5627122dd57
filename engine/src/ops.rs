//! The operations of a forward pass as candle ops over [`kernels`], on the calling thread. Used by
//! [`crate::backend::Cpu`].

use std::ops::Range;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Storage, Tensor, bail};
use kernels::{Activation, Heads, PackedWeights, Precision, RowsView, ScoreBias, Scoring, Scratch, WeightFormat};

/// A linear layer: `x * weight + bias`.
pub(crate) struct Linear {
    weights: Arc<PackedWeights>,
    panels: Range<usize>,
    bias: Tensor,
}

impl Linear {
    /// Joins layers with the same input so that their outputs are side by side. Weights are `[outputs, inputs]` as in
    /// model files, packed once here.
    pub(crate) fn fused(weights: &[Tensor], biases: &[Tensor], format: WeightFormat) -> Result<Linear> {
        let inputs = weights[0].dim(1)?;
        let weights = weights.iter().map(Tensor::contiguous).collect::<Result<Vec<Tensor>>>()?;
        let bias = Tensor::cat(biases, 0)?;
        let stored: Vec<_> = weights.iter().map(Tensor::storage_and_layout).collect();
        let numbers: Vec<&[f32]> =
            stored.iter().map(|(storage, layout)| numbers(storage, layout)).collect::<Result<_>>()?;
        let weights = PackedWeights::new(&numbers, inputs, format);
        let panels = weights.panels(0..bias.dim(0)?);
        Ok(Linear { weights: Arc::new(weights), panels, bias })
    }

    /// Returns the layer with only some outputs, which must be whole joined layers. Shares the weights.
    pub(crate) fn outputs(&self, start: usize, count: usize) -> Result<Linear> {
        let panels = self.weights.panels(start..start + count);
        Ok(Linear { weights: Arc::clone(&self.weights), panels, bias: self.bias.narrow(0, start, count)? })
    }

    /// Returns `activation(x * weight + bias)` for `[tokens, inputs]`.
    pub(crate) fn forward(&self, x: &Tensor, activation: Option<Activation>) -> Result<Tensor> {
        x.apply_op1_no_bwd(&LinearOp { linear: self, activation })
    }
}

/// Layer norm with its scale and shift.
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

impl LayerNorm {
    /// Takes both as `[hidden]`.
    pub(crate) fn new(weight: Tensor, bias: Tensor, eps: f64) -> LayerNorm {
        LayerNorm { weight, bias, eps: eps as f32 }
    }

    /// Returns `norm(linear(x) + residual)`.
    pub(crate) fn forward(&self, linear: &Linear, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        x.apply_op2_no_bwd(residual, &AddNormOp { norm: self, linear })
    }
}

/// Returns the layer norm of word plus position embeddings, `[tokens, hidden]`.
pub(crate) fn embed(words: &Tensor, positions: &Tensor, norm: &LayerNorm, tokens: &[(u32, u32)]) -> Result<Tensor> {
    words.apply_op2_no_bwd(positions, &EmbedOp { norm, tokens })
}

/// Returns the context of every query, `[queries, hidden]`.
///
/// `queries` and the halves of `keys_values` hold all heads side by side. Text `i` has the rows
/// `offsets[i]..offsets[i + 1]` of each.
pub(crate) fn attention(queries: &Tensor, keys_values: &Tensor, offsets: &[u32], heads: Heads) -> Result<Tensor> {
    queries.apply_op2_no_bwd(keys_values, &AttentionOp { offsets, heads })
}

/// Returns the context of every token, `[tokens, hidden]`: [`attention`] over the projections `qkv(x)`.
pub(crate) fn context(qkv: &Linear, x: &Tensor, offsets: &[u32], scoring: Scoring<'_>) -> Result<Tensor> {
    x.apply_op1_no_bwd(&ContextOp { qkv, offsets, scoring })
}

/// Returns the context of one query per text, `[texts, hidden]`, equal to [`attention`] without projecting keys and
/// values.
pub(crate) fn first_context(
    queries: &Tensor,
    x: &Tensor,
    weights: &LastLayerKeysValues,
    offsets: &[u32],
    scoring: Scoring<'_>,
) -> Result<Tensor> {
    queries.apply_op2_no_bwd(x, &FirstContextOp { weights, offsets, scoring })
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
    pub(crate) keys: Tensor,
    pub(crate) values: Tensor,
    pub(crate) bias: Tensor,
}

/// The f32 numbers of a CPU matrix with contiguous rows.
struct RowMatrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a> RowMatrix<'a> {
    fn of(storage: &'a CpuStorage, layout: &Layout) -> Result<RowMatrix<'a>> {
        let (rows, columns) = layout.shape().dims2()?;
        let [stride, 1] = layout.stride()[..] else { bail!("expected rows of adjacent numbers, got {layout:?}") };
        Ok(RowMatrix { data: &storage.as_slice::<f32>()?[layout.start_offset()..], rows, columns, stride })
    }

    fn view(&self) -> RowsView<'a> {
        RowsView { data: self.data, rows: self.rows, stride: self.stride }
    }

    /// All numbers, if there is no gap between rows.
    fn adjacent(&self) -> Result<&'a [f32]> {
        if self.stride != self.columns {
            bail!("expected adjacent rows, got {} numbers every {}", self.columns, self.stride);
        }
        Ok(&self.data[..self.rows * self.columns])
    }
}

/// Calls `f` with the numbers of parameter vectors.
fn with_vectors<const N: usize, R>(tensors: [&Tensor; N], f: impl FnOnce([&[f32]; N]) -> R) -> Result<R> {
    let guards = tensors.map(Tensor::storage_and_layout);
    let mut slices: [&[f32]; N] = [&[]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&guards) {
        *slice = numbers(storage, layout)?;
    }
    Ok(f(slices))
}

fn numbers<'a>(storage: &'a Storage, layout: &Layout) -> Result<&'a [f32]> {
    let Storage::Cpu(storage) = storage else { bail!("parameters of a CPU op are on the CPU") };
    if !layout.is_contiguous() {
        bail!("expected adjacent numbers of parameters, got {layout:?}");
    }
    Ok(&storage.as_slice::<f32>()?[layout.start_offset()..][..layout.shape().elem_count()])
}

struct LinearOp<'a> {
    linear: &'a Linear,
    activation: Option<Activation>,
}

impl CustomOp1 for LinearOp<'_> {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, Linear { weights, panels, bias }) = (RowMatrix::of(x, lx)?, self.linear);
        let out = with_vectors([bias], |[bias]| {
            weights.multiply(x.view(), panels.clone(), |rows, _| kernels::activate(rows, bias, self.activation))
        })?;
        Ok((CpuStorage::F32(out), (x.rows, bias.dim(0)?).into()))
    }
}

struct AddNormOp<'a> {
    norm: &'a LayerNorm,
    linear: &'a Linear,
}

impl CustomOp2 for AddNormOp<'_> {
    fn name(&self) -> &'static str {
        "add-norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, r: &CpuStorage, lr: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, residual, norm) = (RowMatrix::of(x, lx)?, RowMatrix::of(r, lr)?, self.norm);
        let (width, residual) = (residual.columns, residual.adjacent()?);
        let Linear { weights, panels, bias } = self.linear;
        let out = with_vectors([bias, &norm.weight, &norm.bias], |[bias, weight, shift]| {
            weights.multiply(x.view(), panels.clone(), |rows, first| {
                kernels::add_layer_norm(rows, bias, &residual[first * width..], weight, shift, norm.eps);
            })
        })?;
        Ok((CpuStorage::F32(out), (x.rows, width).into()))
    }
}

/// Returns `norm(down(activation(up(x))) + x)`, the feed-forward half of a layer.
pub(crate) fn feed_forward(
    x: &Tensor,
    up: &Linear,
    activation: Activation,
    down: &Linear,
    norm: &LayerNorm,
) -> Result<Tensor> {
    x.apply_op1_no_bwd(&FeedForwardOp { up, activation, down, norm })
}

/// Runs both linear layers block by block, so that the wide intermediate rows stay in the cache.
struct FeedForwardOp<'a> {
    up: &'a Linear,
    activation: Activation,
    down: &'a Linear,
    norm: &'a LayerNorm,
}

impl CustomOp1 for FeedForwardOp<'_> {
    fn name(&self) -> &'static str {
        "feed-forward"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = RowMatrix::of(x, lx)?;
        let FeedForwardOp { up, activation, down, norm } = self;
        let (width, residual) = (x.columns, x.adjacent()?);
        let out =
            with_vectors([&up.bias, &down.bias, &norm.weight, &norm.bias], |[up_bias, down_bias, weight, shift]| {
                let block_rows = up.weights.block_rows();
                let mut inner = vec![0.0; block_rows.min(x.rows) * up_bias.len()];
                let mut out = Vec::with_capacity(residual.len());
                let mut scratch = Scratch::default();
                for first in (0..x.rows).step_by(block_rows) {
                    let rows = x.view().block(first, block_rows);
                    let inner = &mut inner[..rows.rows * up_bias.len()];
                    up.weights.multiply_block(rows, up.panels.clone(), inner, &mut scratch);
                    kernels::activate(inner, up_bias, Some(*activation));
                    let inner = RowsView { data: inner, rows: rows.rows, stride: up_bias.len() };
                    out.resize(out.len() + rows.rows * width, 0.0);
                    let out = &mut out[first * width..];
                    down.weights.multiply_block(inner, down.panels.clone(), out, &mut scratch);
                    kernels::add_layer_norm(out, down_bias, &residual[first * width..], weight, shift, norm.eps);
                }
                out
            })?;
        Ok((CpuStorage::F32(out), (x.rows, width).into()))
    }
}

struct EmbedOp<'a> {
    norm: &'a LayerNorm,
    tokens: &'a [(u32, u32)],
}

impl CustomOp2 for EmbedOp<'_> {
    fn name(&self) -> &'static str {
        "embed"
    }

    fn cpu_fwd(&self, w: &CpuStorage, lw: &Layout, p: &CpuStorage, lp: &Layout) -> Result<(CpuStorage, Shape)> {
        let (words, positions) = (RowMatrix::of(w, lw)?, RowMatrix::of(p, lp)?);
        let (word_rows, position_rows) = (words.adjacent()?, positions.adjacent()?);
        let out = with_vectors([&self.norm.weight, &self.norm.bias], |[weight, shift]| {
            kernels::embed_layer_norm(
                self.tokens.iter().copied(),
                word_rows,
                position_rows,
                (weight, shift, self.norm.eps),
            )
        })?;
        Ok((CpuStorage::F32(out), (self.tokens.len(), words.columns).into()))
    }
}

struct AttentionOp<'a> {
    offsets: &'a [u32],
    heads: Heads,
}

impl CustomOp2 for AttentionOp<'_> {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, q: &CpuStorage, lq: &Layout, kv: &CpuStorage, lkv: &Layout) -> Result<(CpuStorage, Shape)> {
        let (queries, keys_values) = (RowMatrix::of(q, lq)?, RowMatrix::of(kv, lkv)?);
        let width = self.heads.count * self.heads.size;
        let mut out = vec![0.0; queries.rows * width];
        let keys = keys_values.view();
        attend_all(
            &mut out,
            [queries.view(), keys, keys.without_columns(width)],
            self.offsets,
            (self.heads.into(), Precision::Single),
            &mut Vec::new(),
        );
        Ok((CpuStorage::F32(out), (queries.rows, width).into()))
    }
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

/// Projects and attends a few texts at a time, so that queries, keys and values stay in the cache.
struct ContextOp<'a> {
    qkv: &'a Linear,
    offsets: &'a [u32],
    scoring: Scoring<'a>,
}

impl CustomOp1 for ContextOp<'_> {
    fn name(&self) -> &'static str {
        "context"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, ContextOp { qkv: Linear { weights, panels, bias }, offsets, scoring }) = (RowMatrix::of(x, lx)?, self);
        let width = scoring.heads.count * scoring.heads.size;
        let mut out = Vec::with_capacity(x.rows * width);
        let (block_rows, precision) = (weights.block_rows(), weights.precision());
        with_vectors([bias], |[bias]| {
            let (mut qkv, mut scratch, mut scores) = (Vec::new(), Scratch::default(), Vec::new());
            let mut rest: &[u32] = offsets;
            while let [first, _, ..] = *rest {
                // Two blocks of rows, or one longer text.
                let fitting = rest.partition_point(|end| ((end - first) as usize) <= block_rows.saturating_mul(2));
                let texts = &rest[..fitting.max(2)];
                rest = &rest[texts.len() - 1..];
                let (start, tokens) = (first as usize, (texts[texts.len() - 1] - first) as usize);
                let x = x.view().block(start, tokens);
                weights.multiply_into(x, panels.clone(), &mut qkv, &mut scratch, |rows, _| {
                    kernels::activate(rows, bias, None);
                });
                let view = RowsView { data: &qkv[..tokens * bias.len()], rows: tokens, stride: bias.len() };
                out.resize((start + tokens) * width, 0.0);
                let out = &mut out[start * width..];
                let views = [view, view.without_columns(width), view.without_columns(2 * width)];
                attend_all(out, views, texts, (*scoring, precision), &mut scores);
            }
        })?;
        Ok((CpuStorage::F32(out), (x.rows, width).into()))
    }
}

struct FirstContextOp<'a> {
    weights: &'a LastLayerKeysValues,
    offsets: &'a [u32],
    scoring: Scoring<'a>,
}

impl CustomOp2 for FirstContextOp<'_> {
    fn name(&self) -> &'static str {
        "first-context"
    }

    fn cpu_fwd(&self, q: &CpuStorage, lq: &Layout, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        let (queries, x, LastLayerKeysValues { keys, values, bias }) =
            (RowMatrix::of(q, lq)?, RowMatrix::of(x, lx)?, self.weights);
        let out = with_vectors([keys, values, bias], |[keys, values, bias]| {
            let weights = kernels::KeysValues { keys, values, bias };
            kernels::attend_first_token(queries.view(), x.view(), self.offsets, weights, self.scoring)
        })?;
        Ok((CpuStorage::F32(out), (queries.rows, queries.columns).into()))
    }
}
