//! The fields of one `config.json`, with errors that name file, field and value.

use std::path::Path;

use kernels::Activation;
use serde_json::{Map, Value};

use crate::LoadError;

/// The names of activations in configs.
const ACTIVATIONS: [(&str, Activation); 10] = [
    ("gelu", Activation::GeluErf),
    ("gelu_python", Activation::GeluErf),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu_accurate", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_python_tanh", Activation::GeluTanh),
    ("relu", Activation::Relu),
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
];

fn activation(name: &str) -> Option<Activation> {
    ACTIVATIONS.iter().find(|(known, _)| *known == name).map(|(_, activation)| *activation)
}

/// Returns the names of the activations for a message.
fn activation_names() -> String {
    ACTIVATIONS.map(|(name, _)| name).join(", ")
}

pub(crate) struct Fields<'a> {
    pub(crate) path: &'a Path,
    pub(crate) map: Map<String, Value>,
}

impl Fields<'_> {
    pub(crate) fn invalid(&self, problem: String) -> LoadError {
        LoadError::Invalid { path: self.path.into(), problem }
    }

    pub(crate) fn unsupported(&self, what: &str) -> LoadError {
        LoadError::Unsupported { what: format!("`{}`: {what}", self.path.display()) }
    }

    /// Returns a field that is present and not `null`.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// Returns the first of the synonyms `names` that is present, with its value. Contradictions are an error.
    fn find<'n>(&self, names: &[&'n str]) -> Result<Option<(&'n str, &Value)>, LoadError> {
        let mut there = names.iter().filter_map(|name| self.get(name).map(|value| (*name, value)));
        let Some((name, value)) = there.next() else { return Ok(None) };
        match there.find(|(_, other)| other.as_f64() != value.as_f64()) {
            None => Ok(Some((name, value))),
            Some((other, another)) => Err(self.invalid(format!(
                "`{name}` is {value} and `{other}` is {another}, but they mean the same: remove the wrong one"
            ))),
        }
    }

    pub(crate) fn integer(&self, names: &[&str], default: usize) -> Result<usize, LoadError> {
        let Some((name, value)) = self.find(names)? else { return Ok(default) };
        // Some tools write counts as 768.0.
        let whole =
            value.as_u64().or_else(|| value.as_f64().filter(|v| v.fract() == 0.0 && *v >= 0.0).map(|v| v as u64));
        match whole {
            Some(count) if count <= u64::from(u32::MAX) => Ok(count as usize),
            _ => Err(self.invalid(format!("`{name}`: expected a whole number, found {value}"))),
        }
    }

    pub(crate) fn count(&self, names: &[&str], default: usize) -> Result<usize, LoadError> {
        match self.integer(names, default)? {
            0 => Err(self.invalid(format!("`{}`: expected at least 1, found 0", names[0]))),
            count => Ok(count),
        }
    }

    /// Returns an integer of at least 1; anything below, such as -1, means none.
    pub(crate) fn count_or_none(&self, name: &str) -> Result<Option<usize>, LoadError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) if value.as_i64().is_some_and(|value| value < 1) => Ok(None),
            Some(_) => self.integer(&[name], 0).map(Some),
        }
    }

    pub(crate) fn token_id(&self, name: &str, default: u32) -> Result<u32, LoadError> {
        Ok(u32::try_from(self.integer(&[name], default as usize)?).expect("integers are at most u32::MAX"))
    }

    pub(crate) fn epsilon(&self, names: &[&str], default: f64) -> Result<f64, LoadError> {
        let Some((name, value)) = self.find(names)? else { return Ok(default) };
        match value.as_f64() {
            Some(epsilon) if (0.0..1.0).contains(&epsilon) => Ok(epsilon),
            _ => Err(self.invalid(format!("`{name}`: expected a small number such as 1e-12, found {value}"))),
        }
    }

    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, LoadError> {
        match self.get(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.invalid(format!("`{name}`: expected true or false, found {other}"))),
        }
    }

    pub(crate) fn activation(&self, name: &str, default: Activation) -> Result<Activation, LoadError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        self.named_activation(name, value, value.as_str().unwrap_or_default())
    }

    /// Returns the activation `activation` that the `value` of a field names.
    pub(crate) fn named_activation(&self, name: &str, value: &Value, named: &str) -> Result<Activation, LoadError> {
        activation(named)
            .ok_or_else(|| self.unsupported(&format!("`{name}` is {value}; known are {}", activation_names())))
    }
}
