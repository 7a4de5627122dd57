//! The operations a forward pass is made of, as candle ops: tensors in, tensors out.
//!
//! On a CPU each runs one of [`crate::kernels`] on the calling thread. What stands here is the seam for other devices
//! and number types: the model files above know nothing of either.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, InplaceOp2, Layout, Result, Shape, Tensor, bail};

use crate::config::Activation;
use crate::kernels::{self, Heads, Matrix, MatrixMut};

/// A linear layer: `x * weight + bias`, with the weight as `[inputs, outputs]`.
pub(crate) struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// Takes a weight of `[outputs, inputs]`, as files have it. It is turned once, here, so that the multiplication
    /// reads it in its own order on every call.
    pub(crate) fn new(weight: &Tensor, bias: Tensor) -> Result<Linear> {
        Ok(Linear { weight: weight.t()?.contiguous()?, bias })
    }

    /// Joins layers that read the same input into one that gives their outputs side by side.
    pub(crate) fn fused(weights: &[Tensor], biases: &[Tensor]) -> Result<Linear> {
        Linear::new(&Tensor::cat(weights, 0)?, Tensor::cat(biases, 0)?)
    }

    /// Returns the layer that computes only some of the outputs. Shares the weights.
    pub(crate) fn outputs(&self, start: usize, count: usize) -> Result<Linear> {
        Ok(Linear { weight: self.weight.narrow(1, start, count)?, bias: self.bias.narrow(0, start, count)? })
    }

    /// Returns `activation(x * weight + bias)` for `[tokens, inputs]`.
    pub(crate) fn forward(&self, x: &Tensor, activation: Option<Activation>) -> Result<Tensor> {
        x.apply_op3_no_bwd(&self.weight, &self.bias, &LinearOp { activation })
    }

    /// Returns `x * weight`: the bias is left to [`LayerNorm::forward`], which adds it in passing.
    fn product(&self, x: &Tensor) -> Result<Tensor> {
        x.apply_op2_no_bwd(&self.weight, &ProductOp)
    }
}

/// Layer normalisation with its learned scale and shift.
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

    /// Returns the normalisation of `linear(x) + residual`.
    pub(crate) fn forward(&self, linear: &Linear, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let sum = linear.product(x)?;
        sum.inplace_op2(residual, &AddNormOp { norm: self, bias: &linear.bias })?;
        Ok(sum)
    }
}

/// Returns the normalised sum of word and position vectors, `[tokens, hidden]`.
pub(crate) fn embed(words: &Tensor, positions: &Tensor, norm: &LayerNorm, tokens: &[(u32, u32)]) -> Result<Tensor> {
    words.apply_op2_no_bwd(positions, &EmbedOp { norm, tokens })
}

/// Returns the context of every query, `[queries, hidden]`.
///
/// `queries` and the two halves of `keys_values` hold all heads side by side. Text `i` has the keys of rows
/// `offsets[i]..offsets[i + 1]`, and either the queries of the same rows, or one query: row `i`.
pub(crate) fn attention(queries: &Tensor, keys_values: &Tensor, offsets: &[u32], heads: Heads) -> Result<Tensor> {
    queries.apply_op2_no_bwd(keys_values, &AttentionOp { offsets, heads })
}

/// The f32 numbers of a CPU tensor that is a matrix whose rows are not broken up.
struct Rows<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a> Rows<'a> {
    fn of(storage: &'a CpuStorage, layout: &Layout) -> Result<Rows<'a>> {
        let (rows, columns) = layout.shape().dims2()?;
        let [stride, 1] = layout.stride()[..] else { bail!("expected rows of adjacent numbers, got {layout:?}") };
        Ok(Rows { data: &storage.as_slice::<f32>()?[layout.start_offset()..], rows, columns, stride })
    }

    fn matrix(&self) -> Matrix<'a> {
        Matrix::new(self.data, self.rows, self.columns, self.stride)
    }

    /// All numbers, where the rows follow each other without a gap.
    fn adjacent(&self) -> Result<&'a [f32]> {
        if self.stride != self.columns {
            bail!("expected adjacent rows, got {} numbers every {}", self.columns, self.stride);
        }
        Ok(&self.data[..self.rows * self.columns])
    }
}

/// Runs `f` on the numbers of parameter vectors.
fn with_vectors<const N: usize, R>(tensors: [&Tensor; N], f: impl FnOnce([&[f32]; N]) -> R) -> Result<R> {
    let guards = tensors.map(Tensor::storage_and_layout);
    let mut slices: [&[f32]; N] = [&[]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&guards) {
        let candle_core::Storage::Cpu(storage) = &**storage else { bail!("parameters of a CPU op are on the CPU") };
        *slice = &storage.as_slice::<f32>()?[layout.start_offset()..][..layout.shape().elem_count()];
    }
    Ok(f(slices))
}

fn product(x: &Rows<'_>, weight: &Rows<'_>) -> Vec<f32> {
    let mut out = vec![0.0; x.rows * weight.columns];
    kernels::matmul(MatrixMut::new(&mut out, x.rows, weight.columns, weight.columns), x.matrix(), weight.matrix(), 1.0);
    out
}

struct ProductOp;

impl CustomOp2 for ProductOp {
    fn name(&self) -> &'static str {
        "product"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (Rows::of(x, lx)?, Rows::of(w, lw)?);
        Ok((CpuStorage::F32(product(&x, &weight)), (x.rows, weight.columns).into()))
    }
}

struct LinearOp {
    activation: Option<Activation>,
}

impl CustomOp3 for LinearOp {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        bias: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (Rows::of(x, lx)?, Rows::of(w, lw)?);
        let bias = &bias.as_slice::<f32>()?[lb.start_offset()..][..weight.columns];
        let mut out = product(&x, &weight);
        kernels::activate(&mut out, bias, self.activation);
        Ok((CpuStorage::F32(out), (x.rows, weight.columns).into()))
    }
}

struct AddNormOp<'a> {
    norm: &'a LayerNorm,
    bias: &'a Tensor,
}

impl InplaceOp2 for AddNormOp<'_> {
    fn name(&self) -> &'static str {
        "add-norm"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, lx: &Layout, residual: &CpuStorage, lr: &Layout) -> Result<()> {
        let CpuStorage::F32(x) = x else { bail!("add-norm works on f32") };
        let Some((start, end)) = lx.contiguous_offsets() else { bail!("add-norm overwrites adjacent rows") };
        let residual = Rows::of(residual, lr)?.adjacent()?;
        with_vectors([self.bias, &self.norm.weight, &self.norm.bias], |[bias, weight, shift]| {
            kernels::add_layer_norm(&mut x[start..end], bias, residual, weight, shift, self.norm.eps);
        })
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
        let (words, positions) = (Rows::of(w, lw)?, Rows::of(p, lp)?);
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
        let (queries, keys_values) = (Rows::of(q, lq)?, Rows::of(kv, lkv)?);
        let width = self.heads.count * self.heads.size;
        let one_query_each = queries.rows != keys_values.rows;
        let (mut out, mut scores) = (vec![0.0; queries.rows * width], Vec::new());
        let mut rest = out.as_mut_slice();
        for (text, span) in self.offsets.windows(2).enumerate() {
            let (start, end) = (span[0] as usize, span[1] as usize);
            let (first_query, count) = if one_query_each { (text, 1) } else { (start, end - start) };
            let context;
            (context, rest) = rest.split_at_mut(count * width);
            let keys = &keys_values.data[start * keys_values.stride..];
            kernels::attend(
                context,
                (&queries.data[first_query * queries.stride..], queries.stride),
                (keys, &keys[width..], keys_values.stride),
                end - start,
                self.heads,
                &mut scores,
            );
        }
        Ok((CpuStorage::F32(out), (queries.rows, width).into()))
    }
}
