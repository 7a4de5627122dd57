//! The modules that change the vector of a text: Dense, LayerNorm, Normalize. Their settings, and which weights they
//! need; [`crate::after_pooling`] computes them.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::settings::{self, Rule, Table};
use crate::LoadError;
use crate::config::read_json_object;
use crate::weights::{WeightFiles, Weights};

/// The only input and output of a module that are supported: the vector of the text.
macro_rules! of_the_text {
    ($($key:expr),* $(,)?) => {
        &[
            ("module_input_name", Rule::Only(&[r#""sentence_embedding""#])),
            ("module_output_name", Rule::Only(&[r#""sentence_embedding""#, "null"])),
            $($key),*
        ]
    };
}

const NORMALIZE: Table = of_the_text![];

const DENSE: Table = of_the_text![
    ("in_features", Rule::Read),
    ("out_features", Rule::Read),
    ("bias", Rule::Read),
    ("activation_function", Rule::Read),
    ("use_residual", Rule::Only(&["false"])),
];

const LAYER_NORM: Table = &[("dimension", Rule::Read)];

/// The activations that are supported, by their classes in PyTorch. None has parameters.
const ACTIVATIONS: [(&str, DenseActivation); 6] = [
    ("Identity", DenseActivation::Identity),
    ("Tanh", DenseActivation::Tanh),
    ("ReLU", DenseActivation::Relu),
    ("GELU", DenseActivation::Gelu),
    ("SiLU", DenseActivation::Silu),
    ("Sigmoid", DenseActivation::Sigmoid),
];

/// A module after the one that makes a vector per text.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Normalize,
    Dense(Dense),
    LayerNorm(LayerNorm),
}

/// `activation(weight * x + bias)`.
#[derive(Debug, Clone)]
pub(crate) struct Dense {
    config: PathBuf,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) has_bias: bool,
    pub(crate) activation: DenseActivation,
    pub(crate) weights: WeightFiles,
}

/// Layer norm with its scale and shift.
#[derive(Debug, Clone)]
pub(crate) struct LayerNorm {
    config: PathBuf,
    pub(crate) width: usize,
    pub(crate) weights: WeightFiles,
}

/// The function after a Dense layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DenseActivation {
    Identity,
    Tanh,
    Relu,
    /// By the error function.
    Gelu,
    Silu,
    Sigmoid,
}

impl Dense {
    pub(crate) const WEIGHT: &str = "linear.weight";
    pub(crate) const BIAS: &str = "linear.bias";
}

impl LayerNorm {
    pub(crate) const WEIGHT: &str = "norm.weight";
    pub(crate) const BIAS: &str = "norm.bias";
}

impl Step {
    /// Checks the settings of a Normalize module, which may have no file.
    pub(super) fn normalize(dir: &Path) -> Result<(Step, Vec<PathBuf>), LoadError> {
        let path = dir.join("config.json");
        if !path.is_file() {
            return Ok((Step::Normalize, Vec::new()));
        }
        settings::check(&path, "", NORMALIZE, &read_json_object(&path)?)?;
        Ok((Step::Normalize, vec![path]))
    }

    /// Reads the settings of a Dense module, and checks its weights.
    pub(super) fn dense(dir: &Path) -> Result<(Step, Vec<PathBuf>), LoadError> {
        let (config, map) = read_config(dir, DENSE)?;
        let dense = Dense {
            inputs: count(&config, &map, "in_features")?,
            outputs: count(&config, &map, "out_features")?,
            has_bias: settings::flag(&config, "bias", map.get("bias"), true)?,
            activation: activation(&config, map.get("activation_function"))?,
            weights: WeightFiles::find(dir)?,
            config,
        };
        let weights = Weights::of_module(&dense.weights, Dense::WEIGHT)?;
        weights.check(Dense::WEIGHT, &[dense.outputs, dense.inputs])?;
        if dense.has_bias {
            weights.check(Dense::BIAS, &[dense.outputs])?;
        } else if weights.contains_at_root(Dense::BIAS) {
            let problem = "it is there, though `bias` is false in `config.json`".into();
            return Err(weights.problem(Dense::BIAS, problem));
        }
        let files = files(&dense.config, &dense.weights);
        Ok((Step::Dense(dense), files))
    }

    /// Reads the settings of a LayerNorm module, and checks its weights.
    pub(super) fn layer_norm(dir: &Path) -> Result<(Step, Vec<PathBuf>), LoadError> {
        let (config, map) = read_config(dir, LAYER_NORM)?;
        let width = count(&config, &map, "dimension")?;
        let norm = LayerNorm { config, width, weights: WeightFiles::find(dir)? };
        let weights = Weights::of_module(&norm.weights, LayerNorm::WEIGHT)?;
        weights.check(LayerNorm::WEIGHT, &[width])?;
        weights.check(LayerNorm::BIAS, &[width])?;
        let files = files(&norm.config, &norm.weights);
        Ok((Step::LayerNorm(norm), files))
    }

    /// Returns the components of a vector after this module, given those before it.
    pub(crate) fn output_width(&self, width: usize) -> Result<usize, LoadError> {
        let (config, key, wanted, outputs) = match self {
            Step::Normalize => return Ok(width),
            Step::Dense(dense) => (&dense.config, "in_features", dense.inputs, dense.outputs),
            Step::LayerNorm(norm) => (&norm.config, "dimension", norm.width, norm.width),
        };
        if wanted == width {
            return Ok(outputs);
        }
        let problem = format!(
            "`{key}` is {wanted}, but vectors of {width} components come from the modules before it (`pooling_mode`, `out_features`)"
        );
        Err(LoadError::Invalid { path: config.clone(), problem })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Normalize => f.write_str("Normalize"),
            Step::LayerNorm(norm) => write!(f, "LayerNorm ({})", norm.width),
            Step::Dense(dense) => {
                let named = ACTIVATIONS.iter().find(|(_, activation)| *activation == dense.activation);
                let name = named.map_or("", |(name, _)| name);
                write!(f, "Dense ({} to {}, {name})", dense.inputs, dense.outputs)
            }
        }
    }
}

/// Reads the file that a module with weights must have.
fn read_config(dir: &Path, table: Table) -> Result<(PathBuf, Map<String, Value>), LoadError> {
    let path = dir.join("config.json");
    if !path.is_file() {
        return Err(settings::missing_file(path));
    }
    let map = read_json_object(&path)?;
    settings::check(&path, "", table, &map)?;
    Ok((path, map))
}

fn count(path: &Path, map: &Map<String, Value>, key: &str) -> Result<usize, LoadError> {
    let missing = || LoadError::Invalid { path: path.into(), problem: format!("`{key}` is missing") };
    settings::length(path, key, map.get(key))?.ok_or_else(missing)
}

/// Reads the class of the activation, Tanh by default. Python would run any other code that is named, or ignore it.
fn activation(path: &Path, value: Option<&Value>) -> Result<DenseActivation, LoadError> {
    let Some(value) = value else { return Ok(DenseActivation::Tanh) };
    let Some(class) = value.as_str() else {
        return Err(settings::invalid(path, "activation_function", value, "the name of a class"));
    };
    let name = class.strip_prefix("torch.nn.").map(|class| {
        let class = class.strip_prefix("modules.").unwrap_or(class);
        class.strip_prefix("activation.").or_else(|| class.strip_prefix("linear.")).unwrap_or(class)
    });
    match ACTIVATIONS.iter().find(|(known, _)| Some(*known) == name) {
        Some((_, activation)) => Ok(*activation),
        None => {
            let known = ACTIVATIONS.map(|(name, _)| name).join(", ");
            let why = format!("which is not supported (supported of `torch.nn`: {known})");
            Err(settings::refused(path, "activation_function", value, &why))
        }
    }
}

fn files(config: &Path, weights: &WeightFiles) -> Vec<PathBuf> {
    [config.to_path_buf()].into_iter().chain(weights.all()).collect()
}
