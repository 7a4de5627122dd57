//! What the models outside of the BERT family are read from and made of, beside [`crate::ops`].

use kernels::Activation;

use crate::LoadError;
use crate::backend::rotary::{Dense, NormWeights, RotaryBackend};
use crate::config::Config;
use crate::families::UpNames;
use crate::forward::bert::Source;

/// Returns names and shapes of the weights that [`LayerReader::feed_forward`] reads for `up`.
pub(crate) fn up_weights(up: UpNames, hidden: usize, inner: usize) -> Vec<(&'static str, Vec<usize>)> {
    match up {
        UpNames::GateFirst(name) | UpNames::GateLast(name) => vec![(name, vec![2 * inner, hidden])],
        UpNames::Apart(names) => names.map(|name| (name, vec![inner, hidden])).into(),
        UpNames::NoGate(name) => vec![(name, vec![inner, hidden])],
    }
}

/// Reads layers by name and uploads them to the backend's device.
pub(crate) struct LayerReader<'a, B> {
    pub(crate) config: &'a Config,
    pub(crate) source: Source<'a>,
    pub(crate) backend: &'a B,
}

impl<B: RotaryBackend> LayerReader<'_, B> {
    /// Adds the path of the model to an error of the device.
    pub(crate) fn placed<T>(&self, result: Result<T, B::Error>) -> Result<T, LoadError> {
        result.map_err(|source| LoadError::Device { path: self.config.path.clone(), source: Box::new(source) })
    }

    /// Reads linear layers of the same shape and input and joins them.
    pub(crate) fn dense(
        &self,
        names: &[String],
        (inputs, outputs): (usize, usize),
        bias: bool,
    ) -> Result<B::Linear, LoadError> {
        let layer = |name: &String| self.dense_weights(name, (inputs, outputs), bias);
        let layers = names.iter().map(layer).collect::<Result<Vec<_>, _>>()?;
        let (matrices, biases): (Vec<_>, Vec<_>) = layers.into_iter().map(|layer| (layer.weight, layer.bias)).unzip();
        self.placed(self.backend.linear(&matrices, &biases))
    }

    /// Reads a linear layer without uploading it. Its bias is zero where there is none.
    pub(crate) fn dense_weights(
        &self,
        name: &str,
        (inputs, outputs): (usize, usize),
        bias: bool,
    ) -> Result<Dense, LoadError> {
        let weight = (self.source)(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = match bias {
            true => (self.source)(&format!("{name}.bias"), &[outputs])?,
            false => vec![0.0; outputs],
        };
        Ok(Dense { weight, bias })
    }

    /// Reads the feed-forward half of a layer; `full` gives the whole name of a tensor, without `.weight` and `.bias`.
    pub(crate) fn feed_forward(
        &self,
        (up, down): (UpNames, &str),
        full: impl Fn(&str) -> String,
        [up_bias, down_bias]: [bool; 2],
        activation: Activation,
    ) -> Result<B::FeedForward, LoadError> {
        let (hidden, inner) = (self.config.hidden_size, self.config.intermediate);
        let has_gate = up.has_gate();
        let up = match up {
            UpNames::GateFirst(name) => self.dense(&[full(name)], (hidden, 2 * inner), up_bias)?,
            UpNames::GateLast(name) => self.dense_with_halves_swapped(&full(name), (hidden, 2 * inner), up_bias)?,
            UpNames::Apart(names) => self.dense(&names.map(&full), (hidden, inner), up_bias)?,
            UpNames::NoGate(name) => self.dense(&[full(name)], (hidden, inner), up_bias)?,
        };
        let down = self.dense(&[full(down)], (inner, hidden), down_bias)?;
        Ok(self.backend.feed_forward_half(up, has_gate, activation, down))
    }

    /// Reads a linear layer, with the second half of its outputs before the first.
    fn dense_with_halves_swapped(
        &self,
        name: &str,
        (inputs, outputs): (usize, usize),
        bias: bool,
    ) -> Result<B::Linear, LoadError> {
        let Dense { mut weight, mut bias } = self.dense_weights(name, (inputs, outputs), bias)?;
        weight.rotate_left(inputs * outputs / 2);
        bias.rotate_left(outputs / 2);
        self.placed(self.backend.linear(&[weight], &[bias]))
    }

    /// Reads a norm by the root mean square. `map` is applied to its weights.
    pub(crate) fn rms_norm(&self, name: &str, width: usize, map: impl Fn(f32) -> f32) -> Result<B::SumNorm, LoadError> {
        let weight = (self.source)(&format!("{name}.weight"), &[width])?.into_iter().map(map).collect();
        self.placed(self.backend.sum_norm(NormWeights::RootMeanSquare { weight }, self.config.layer_norm_eps))
    }

    /// Reads a layer norm of the hidden size.
    pub(crate) fn norm(&self, name: &str, bias: bool) -> Result<B::Norm, LoadError> {
        let (weight, shift) = self.norm_weights(name, bias)?;
        self.placed(self.backend.norm(weight, shift, self.config.layer_norm_eps))
    }

    /// As [`norm`](LayerReader::norm), of a sum.
    pub(crate) fn sum_norm(&self, name: &str, bias: bool) -> Result<B::SumNorm, LoadError> {
        let (weight, shift) = self.norm_weights(name, bias)?;
        self.placed(self.backend.sum_norm(NormWeights::Layer { weight, shift }, self.config.layer_norm_eps))
    }

    fn norm_weights(&self, name: &str, bias: bool) -> Result<(Vec<f32>, Vec<f32>), LoadError> {
        let width = self.config.hidden_size;
        let weight = (self.source)(&format!("{name}.weight"), &[width])?;
        let shift = if bias { (self.source)(&format!("{name}.bias"), &[width])? } else { vec![0.0; width] };
        Ok((weight, shift))
    }
}
