//! Linear layers and norms over plain rows on the calling thread, for the models outside of the BERT family.

use kernels::{Activation, PackedWeights, RowsView, WeightFormat};

use crate::LoadError;
use crate::config::Config;
use crate::forward::bert::Source;

/// `activation(x * weight + bias)` over contiguous rows.
pub(crate) struct Dense {
    weights: PackedWeights,
    inputs: usize,
    bias: Vec<f32>,
}

impl Dense {
    /// Packs matrices with the same input so that their outputs are side by side.
    pub(crate) fn new(matrices: &[Vec<f32>], inputs: usize, bias: Vec<f32>) -> Dense {
        let matrices: Vec<&[f32]> = matrices.iter().map(Vec::as_slice).collect();
        Dense { weights: PackedWeights::new(&matrices, inputs, WeightFormat::F32), inputs, bias }
    }

    /// Returns the outputs for every row of `x`.
    pub(crate) fn forward(&self, x: &[f32], activation: Option<Activation>) -> Vec<f32> {
        let rows = RowsView { data: x, rows: x.len() / self.inputs, stride: self.inputs };
        let panels = self.weights.panels(0..self.bias.len());
        self.weights.multiply(rows, panels, |rows, _| kernels::activate(rows, &self.bias, activation))
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

pub(crate) fn add(rows: &mut [f32], other: &[f32]) {
    rows.iter_mut().zip(other).for_each(|(x, y)| *x += y);
}

/// Reads layers by name.
pub(crate) struct LayerReader<'a> {
    pub(crate) config: &'a Config,
    pub(crate) source: Source<'a>,
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
        let bias = match bias {
            true => names
                .iter()
                .map(|name| (self.source)(&format!("{name}.bias"), &[outputs]))
                .collect::<Result<Vec<_>, _>>()?
                .concat(),
            false => vec![0.0; names.len() * outputs],
        };
        Ok(Dense::new(&matrices, inputs, bias))
    }

    /// Reads a layer norm of the hidden size.
    pub(crate) fn norm(&self, name: &str, bias: bool) -> Result<Norm, LoadError> {
        let width = self.config.hidden_size;
        let weight = (self.source)(&format!("{name}.weight"), &[width])?;
        let shift = if bias { (self.source)(&format!("{name}.bias"), &[width])? } else { vec![0.0; width] };
        Ok(Norm { weight, shift, eps: self.config.layer_norm_eps as f32 })
    }
}
