//! Linear layers and norms over plain rows on the calling thread, for the models outside of the BERT family.

use kernels::{Activation, PackedWeights, Precision, RowsView, Scratch, WeightFormat};

use crate::LoadError;
use crate::config::Config;
use crate::forward::bert::Source;
use crate::packing::text_blocks;

/// `activation(x * weight + bias)` over contiguous rows.
pub(crate) struct Dense {
    weights: PackedWeights,
    inputs: usize,
    bias: Vec<f32>,
}

impl Dense {
    /// Packs matrices with the same input so that their outputs are side by side.
    pub(crate) fn new(matrices: &[Vec<f32>], inputs: usize, bias: Vec<f32>, format: WeightFormat) -> Dense {
        let matrices: Vec<&[f32]> = matrices.iter().map(Vec::as_slice).collect();
        Dense { weights: PackedWeights::new(&matrices, inputs, format), inputs, bias }
    }

    /// Returns the precision that products of the outputs need.
    pub(crate) fn precision(&self) -> Precision {
        self.weights.precision()
    }

    /// Returns the outputs for every row of `x`.
    pub(crate) fn forward(&self, x: &[f32], activation: Option<Activation>) -> Vec<f32> {
        let rows = RowsView { data: x, rows: x.len() / self.inputs, stride: self.inputs };
        let panels = self.weights.panels(0..self.bias.len());
        self.weights.multiply(rows, panels, |rows, _| kernels::activate(rows, &self.bias, activation))
    }

    /// Calls `read` with the outputs for a few texts at a time, which are in the cache, and the texts' offsets.
    pub(crate) fn by_texts(&self, x: &[f32], offsets: &[u32], mut read: impl FnMut(&[u32], &mut [f32])) {
        let Dense { weights, inputs, bias } = self;
        let x = RowsView { data: x, rows: x.len() / inputs, stride: *inputs };
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
}

/// The feed-forward half of a layer with a gate: `down(activation(gate(x)) * up(x))`.
pub(crate) struct GatedFeedForward {
    /// The gate, then what it multiplies.
    pub(crate) up: Dense,
    pub(crate) down: Dense,
    pub(crate) activation: Activation,
}

impl GatedFeedForward {
    /// Returns the outputs for every row of `x`, block by block, so that the wide intermediate rows stay in the cache.
    pub(crate) fn forward(&self, x: &[f32]) -> Vec<f32> {
        let GatedFeedForward { up, down, activation } = self;
        let x = RowsView { data: x, rows: x.len() / up.inputs, stride: up.inputs };
        let (wide, width) = (up.bias.len(), down.bias.len());
        let block_rows = up.weights.block_rows().min(x.rows);
        let mut inner = vec![0.0; block_rows * wide];
        let mut out = vec![0.0; x.rows * width];
        let mut scratch = Scratch::default();
        for (block, out) in out.chunks_mut(block_rows * width).enumerate() {
            let x = x.block(block * block_rows, block_rows);
            let inner = &mut inner[..x.rows * wide];
            up.weights.multiply_block(x, up.weights.panels(0..wide), inner, &mut scratch);
            kernels::gate(inner, &up.bias, *activation);
            let inner = RowsView { data: inner, rows: x.rows, stride: wide };
            down.weights.multiply_block(inner, down.weights.panels(0..width), out, &mut scratch);
            kernels::activate(out, &down.bias, None);
        }
        out
    }
}

pub(crate) struct Norm {
    weight: Vec<f32>,
    shift: Vec<f32>,
    eps: f32,
}

impl Norm {
    pub(crate) fn apply(&self, rows: &mut [f32]) {
        kernels::layer_norm(rows, &self.weight, &self.shift, self.eps);
    }
}

/// A norm by the root mean square.
pub(crate) struct RmsNorm {
    weight: Vec<f32>,
    eps: f32,
}

impl RmsNorm {
    pub(crate) fn apply(&self, rows: &mut [f32]) {
        kernels::rms_norm(rows, &self.weight, self.eps);
    }
}

pub(crate) fn add(rows: &mut [f32], other: &[f32]) {
    rows.iter_mut().zip(other).for_each(|(x, y)| *x += y);
}

/// Reads layers by name.
pub(crate) struct LayerReader<'a> {
    pub(crate) config: &'a Config,
    pub(crate) source: Source<'a>,
    /// Of the linear layers.
    pub(crate) format: WeightFormat,
}

impl LayerReader<'_> {
    /// Reads linear layers of the same shape and input and joins them.
    pub(crate) fn dense(
        &self,
        names: &[String],
        (inputs, outputs): (usize, usize),
        bias: bool,
    ) -> Result<Dense, LoadError> {
        let weight = |name: &String| (self.source)(&format!("{name}.weight"), &[outputs, inputs]);
        let matrices = names.iter().map(weight).collect::<Result<Vec<_>, _>>()?;
        let biases = names.iter().map(|name| self.bias(name, outputs, bias)).collect::<Result<Vec<_>, _>>()?;
        Ok(Dense::new(&matrices, inputs, biases.concat(), self.format))
    }

    /// Reads a linear layer, with the second half of its outputs before the first.
    pub(crate) fn dense_with_halves_swapped(
        &self,
        name: &str,
        (inputs, outputs): (usize, usize),
        bias: bool,
    ) -> Result<Dense, LoadError> {
        let mut weight = (self.source)(&format!("{name}.weight"), &[outputs, inputs])?;
        let mut bias = self.bias(name, outputs, bias)?;
        weight.rotate_left(inputs * outputs / 2);
        bias.rotate_left(outputs / 2);
        Ok(Dense::new(&[weight], inputs, bias, self.format))
    }

    /// Reads the bias of a linear layer, which is zero where there is none.
    fn bias(&self, name: &str, outputs: usize, present: bool) -> Result<Vec<f32>, LoadError> {
        match present {
            true => (self.source)(&format!("{name}.bias"), &[outputs]),
            false => Ok(vec![0.0; outputs]),
        }
    }

    /// Reads a norm by the root mean square. `map` is applied to its weights.
    pub(crate) fn rms_norm(&self, name: &str, width: usize, map: impl Fn(f32) -> f32) -> Result<RmsNorm, LoadError> {
        let weight = (self.source)(&format!("{name}.weight"), &[width])?;
        Ok(RmsNorm { weight: weight.into_iter().map(map).collect(), eps: self.config.layer_norm_eps as f32 })
    }

    /// Reads a layer norm of the hidden size.
    pub(crate) fn norm(&self, name: &str, bias: bool) -> Result<Norm, LoadError> {
        let width = self.config.hidden_size;
        let weight = (self.source)(&format!("{name}.weight"), &[width])?;
        let shift = if bias { (self.source)(&format!("{name}.bias"), &[width])? } else { vec![0.0; width] };
        Ok(Norm { weight, shift, eps: self.config.layer_norm_eps as f32 })
    }
}
