//! The modules after pooling, on the host in f32: Dense, LayerNorm, Normalize. They see one row per text.

use kernels::{Activation, WeightFormat};

use crate::LoadError;
use crate::ops::{self, Linear};
use crate::pooling::normalize_or_zero;
use crate::sentence::{Dense, DenseActivation, LayerNorm, Step};
use crate::weights::Weights;

/// The epsilon of PyTorch's LayerNorm, which no setting changes.
const LAYER_NORM_EPS: f32 = 1e-5;

/// The modules of a model in their order, with their weights.
pub(crate) struct AfterPooling {
    modules: Vec<Module>,
    /// Components of a vector after the last one.
    width: usize,
}

enum Module {
    Normalize { width: usize },
    Dense { linear: Linear, activation: DenseActivation },
    LayerNorm(ops::LayerNorm),
}

impl AfterPooling {
    /// Reads the weights of modules that take vectors of `width` components.
    pub(crate) fn load(steps: &[Step], mut width: usize) -> Result<AfterPooling, LoadError> {
        let mut modules = Vec::new();
        for step in steps {
            let outputs = step.output_width(width)?;
            modules.push(match step {
                Step::Normalize => Module::Normalize { width },
                Step::Dense(dense) => load_dense(dense)?,
                Step::LayerNorm(norm) => load_norm(norm)?,
            });
            width = outputs;
        }
        Ok(AfterPooling { modules, width })
    }

    /// Returns the components of a vector after the last module.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Returns the vectors after all modules, but for norms at the end where another one follows.
    pub(crate) fn apply(&self, vectors: Vec<f32>, norm_follows: bool) -> Vec<f32> {
        self.applied(norm_follows).iter().fold(vectors, |vectors, module| module.apply(vectors))
    }

    /// Norms before another norm are redundant, except for rounding.
    fn applied(&self, norm_follows: bool) -> &[Module] {
        let is_norm = |module: &&Module| matches!(module, Module::Normalize { .. });
        let redundant = if norm_follows { self.modules.iter().rev().take_while(is_norm).count() } else { 0 };
        &self.modules[..self.modules.len() - redundant]
    }
}

impl Module {
    fn apply(&self, mut vectors: Vec<f32>) -> Vec<f32> {
        match self {
            Module::Normalize { width } => normalize_or_zero(&mut vectors, *width),
            Module::LayerNorm(norm) => norm.apply(&mut vectors),
            Module::Dense { linear, activation } => return activated(linear, &vectors, *activation),
        }
        vectors
    }
}

fn activated(linear: &Linear, x: &[f32], activation: DenseActivation) -> Vec<f32> {
    let map = |f: fn(f32) -> f32| linear.forward(x, None).into_iter().map(f).collect();
    match activation {
        DenseActivation::Identity => linear.forward(x, None),
        DenseActivation::Relu => linear.forward(x, Some(Activation::Relu)),
        DenseActivation::Gelu => linear.forward(x, Some(Activation::GeluErf)),
        DenseActivation::Silu => linear.forward(x, Some(Activation::Silu)),
        DenseActivation::Tanh => map(f32::tanh),
        DenseActivation::Sigmoid => map(|x| 1.0 / (1.0 + (-x).exp())),
    }
}

fn load_dense(dense: &Dense) -> Result<Module, LoadError> {
    let weights = Weights::of_module(&dense.weights, Dense::WEIGHT)?;
    let matrix = weights.read(Dense::WEIGHT, &[dense.outputs, dense.inputs])?;
    let bias = match dense.has_bias {
        true => weights.read(Dense::BIAS, &[dense.outputs])?,
        false => vec![0.0; dense.outputs],
    };
    let linear = Linear::fused(&[matrix], &[bias], WeightFormat::F32);
    Ok(Module::Dense { linear, activation: dense.activation })
}

fn load_norm(norm: &LayerNorm) -> Result<Module, LoadError> {
    let weights = Weights::of_module(&norm.weights, LayerNorm::WEIGHT)?;
    let vector = |name: &str| weights.read(name, &[norm.width]);
    let (weight, shift) = (vector(LayerNorm::WEIGHT)?, vector(LayerNorm::BIAS)?);
    Ok(Module::LayerNorm(ops::LayerNorm { weight, shift, eps: LAYER_NORM_EPS }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_layers_apply_bias_and_activation() {
        let dense = |activation| {
            let weights = vec![1.0, 0.0, -2.0, 0.5, 0.0, 1.0];
            let linear = Linear::fused(&[weights], &[vec![0.5, 0.0, -1.0]], WeightFormat::F32);
            let module = Module::Dense { linear, activation };
            module.apply(vec![1.0, 2.0, 0.0, -4.0])
        };
        let linear = [1.5, -1.0, 1.0, 0.5, -2.0, -5.0];
        let near = |found: Vec<f32>, f: fn(f32) -> f32| {
            assert_eq!(found.len(), linear.len());
            assert!(found.iter().zip(linear).all(|(found, x)| (found - f(x)).abs() < 1e-6), "{found:?}");
        };
        near(dense(DenseActivation::Identity), |x| x);
        near(dense(DenseActivation::Tanh), f32::tanh);
        near(dense(DenseActivation::Relu), |x| x.max(0.0));
        near(dense(DenseActivation::Silu), |x| x / (1.0 + (-x).exp()));
        near(dense(DenseActivation::Sigmoid), |x| 1.0 / (1.0 + (-x).exp()));
        assert!((dense(DenseActivation::Gelu)[0] - 1.399_789_2).abs() < 1e-6);
    }

    #[test]
    fn only_norms_at_the_end_are_left_out() {
        let norm = || Module::Normalize { width: 2 };
        let unchanged = || ops::LayerNorm { weight: vec![1.0; 2], shift: vec![0.0; 2], eps: 0.0 };
        let module = || Module::LayerNorm(unchanged());
        let after = AfterPooling { modules: vec![norm(), module(), norm(), norm()], width: 2 };
        assert_eq!([true, false].map(|norm_follows| after.applied(norm_follows).len()), [2, 4]);
    }
}
