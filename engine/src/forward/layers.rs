//! What the models outside of the BERT family are read from and made of, beside [`crate::ops`].

use kernels::{Activation, WeightFormat};

use crate::LoadError;
use crate::config::Config;
use crate::families::UpNames;
use crate::forward::bert::Source;
use crate::ops::{FeedForward, LayerNorm, Linear};

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

/// Returns names and shapes of the weights that [`LayerReader::feed_forward`] reads for `up`.
pub(crate) fn up_weights(up: UpNames, hidden: usize, inner: usize) -> Vec<(&'static str, Vec<usize>)> {
    match up {
        UpNames::GateFirst(name) | UpNames::GateLast(name) => vec![(name, vec![2 * inner, hidden])],
        UpNames::Apart(names) => names.map(|name| (name, vec![inner, hidden])).into(),
        UpNames::NoGate(name) => vec![(name, vec![inner, hidden])],
    }
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
    ) -> Result<Linear, LoadError> {
        let weight = |name: &String| (self.source)(&format!("{name}.weight"), &[outputs, inputs]);
        let matrices = names.iter().map(weight).collect::<Result<Vec<_>, _>>()?;
        let biases = names.iter().map(|name| self.bias(name, outputs, bias)).collect::<Result<Vec<_>, _>>()?;
        Ok(Linear::fused(&matrices, &biases, self.format))
    }

    /// Reads the feed-forward half of a layer; `full` gives the whole name of a tensor, without `.weight` and `.bias`.
    pub(crate) fn feed_forward(
        &self,
        (up, down): (UpNames, &str),
        full: impl Fn(&str) -> String,
        [up_bias, down_bias]: [bool; 2],
        activation: Activation,
    ) -> Result<FeedForward, LoadError> {
        let (hidden, inner) = (self.config.hidden_size, self.config.intermediate);
        Ok(FeedForward {
            up: match up {
                UpNames::GateFirst(name) => self.dense(&[full(name)], (hidden, 2 * inner), up_bias)?,
                UpNames::GateLast(name) => self.dense_with_halves_swapped(&full(name), (hidden, 2 * inner), up_bias)?,
                UpNames::Apart(names) => self.dense(&names.map(&full), (hidden, inner), up_bias)?,
                UpNames::NoGate(name) => self.dense(&[full(name)], (hidden, inner), up_bias)?,
            },
            has_gate: up.has_gate(),
            down: self.dense(&[full(down)], (inner, hidden), down_bias)?,
            activation,
        })
    }

    /// Reads a linear layer, with the second half of its outputs before the first.
    fn dense_with_halves_swapped(
        &self,
        name: &str,
        (inputs, outputs): (usize, usize),
        bias: bool,
    ) -> Result<Linear, LoadError> {
        let mut weight = (self.source)(&format!("{name}.weight"), &[outputs, inputs])?;
        let mut bias = self.bias(name, outputs, bias)?;
        weight.rotate_left(inputs * outputs / 2);
        bias.rotate_left(outputs / 2);
        Ok(Linear::fused(&[weight], &[bias], self.format))
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
    pub(crate) fn norm(&self, name: &str, bias: bool) -> Result<LayerNorm, LoadError> {
        let width = self.config.hidden_size;
        let weight = (self.source)(&format!("{name}.weight"), &[width])?;
        let shift = if bias { (self.source)(&format!("{name}.bias"), &[width])? } else { vec![0.0; width] };
        Ok(LayerNorm { weight, shift, eps: self.config.layer_norm_eps as f32 })
    }
}
