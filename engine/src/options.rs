//! The caller's choices: device, number format, pooling.

use std::fmt;
use std::str::FromStr;

use kernels::WeightFormat;
use spec::{ComputeDtype, Pooling};

use crate::LoadError;

/// The processor that runs the forward pass, written `cpu` or `cuda:0`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DeviceSpec {
    /// The calling thread.
    Cpu,
    /// One NVIDIA GPU, by its ordinal.
    Cuda(usize),
}

/// The options of [`Engine::load`](crate::Engine::load).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Where the forward pass runs.
    pub device: DeviceSpec,
    /// The number format of the computation.
    pub dtype: ComputeDtype,
    /// How token vectors are pooled; `None` is the model's own pooling, see [`ModelSummary`](crate::ModelSummary).
    pub pooling: Option<Pooling>,
    /// Whether each vector is divided by its L2 norm.
    pub normalize: bool,
    /// Keeps only the first components of each vector (Matryoshka), before normalisation.
    pub dimensions: Option<usize>,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            device: DeviceSpec::Cpu,
            dtype: ComputeDtype::F32,
            pooling: None,
            normalize: true,
            dimensions: None,
        }
    }
}

/// A text that is not the name of a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown device `{0}`: expected `cpu`, `cuda` or `cuda:N`")]
pub struct UnknownDevice(String);

impl FromStr for DeviceSpec {
    type Err = UnknownDevice;

    fn from_str(given: &str) -> Result<DeviceSpec, UnknownDevice> {
        let unknown = || UnknownDevice(given.to_owned());
        match given {
            "cpu" => Ok(DeviceSpec::Cpu),
            "cuda" => Ok(DeviceSpec::Cuda(0)),
            _ => {
                let ordinal = given.strip_prefix("cuda:").ok_or_else(unknown)?;
                ordinal.parse().map(DeviceSpec::Cuda).map_err(|_| unknown())
            }
        }
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceSpec::Cpu => f.write_str("cpu"),
            DeviceSpec::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

/// Returns whether this processor has instructions for the format. Without them bf16 and int8 are no faster than f32;
/// f16 is not supported on a CPU.
pub fn is_fast_on_cpu(dtype: ComputeDtype) -> bool {
    weight_format(dtype).is_ok_and(WeightFormat::is_fast)
}

/// Models of a smaller hidden size compute in f32 on a CPU instead of bf16 and int8: rounding errors of short rows
/// cancel out less. No model that is run in bf16 or int8 for its speed is narrower: small ELECTRA has 256.
const REDUCED_HIDDEN_MIN: usize = 256;

/// Returns the format that a CPU computes a model of this hidden size in, given the requested one.
pub(crate) fn dtype_on_cpu(hidden: usize, dtype: ComputeDtype) -> ComputeDtype {
    match dtype {
        ComputeDtype::Bf16 | ComputeDtype::Int8 if hidden < REDUCED_HIDDEN_MIN => ComputeDtype::F32,
        ComputeDtype::F32 | ComputeDtype::F16 | ComputeDtype::Bf16 | ComputeDtype::Int8 => dtype,
    }
}

/// Returns the weight format of a compute type on a CPU. Fails for f16.
pub(crate) fn weight_format(dtype: ComputeDtype) -> Result<WeightFormat, LoadError> {
    match dtype {
        ComputeDtype::F32 => Ok(WeightFormat::F32),
        ComputeDtype::Bf16 => Ok(WeightFormat::Bf16),
        ComputeDtype::Int8 => Ok(WeightFormat::Int8),
        ComputeDtype::F16 => Err(LoadError::Unsupported {
            what: format!("dtype `{dtype}` on device `cpu`; supported there: `f32`, `bf16`, `int8`"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_narrow_models_compute_in_f32_whatever_is_asked_for() {
        for dtype in [ComputeDtype::F32, ComputeDtype::Bf16, ComputeDtype::Int8] {
            assert_eq!(dtype_on_cpu(255, dtype), ComputeDtype::F32);
            assert_eq!(dtype_on_cpu(256, dtype), dtype);
        }
        assert!(weight_format(dtype_on_cpu(32, ComputeDtype::F16)).is_err());
    }

    #[test]
    fn device_names_round_trip() {
        for device in [DeviceSpec::Cpu, DeviceSpec::Cuda(3)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        let error = "cuda:first".parse::<DeviceSpec>().unwrap_err();
        assert_eq!(error.to_string(), "unknown device `cuda:first`: expected `cpu`, `cuda` or `cuda:N`");
    }
}
