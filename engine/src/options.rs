//! The choices a caller makes: device, number format, pooling. Parsed once at the edge, passed inward as proof.

use std::fmt;
use std::str::FromStr;

use kernels::WeightFormat;
use spec::{ComputeDtype, Pooling};

use crate::LoadError;

/// Names the processor that runs the forward pass. Written `cpu` or `cuda:0`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DeviceSpec {
    /// The calling thread's own core.
    Cpu,
    /// One NVIDIA GPU, by its ordinal.
    Cuda(usize),
}

/// Says how an [`Engine`](crate::Engine) is to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Where the forward pass runs.
    pub device: DeviceSpec,
    /// What it computes in.
    pub dtype: ComputeDtype,
    /// How token vectors are pooled; `None` takes the model's own way, see [`ModelSummary`](crate::ModelSummary).
    pub pooling: Option<Pooling>,
    /// Whether each vector is divided by its L2 norm.
    pub normalize: bool,
    /// Keeps only the first components of each vector (Matryoshka), before it is normalised.
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

/// A text that names no device.
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

/// Returns whether this processor has instructions for the format. Without them bf16 and int8 give the same vectors, but no
/// faster than f32; f16 is not done on a CPU.
pub fn is_fast_on_cpu(dtype: ComputeDtype) -> bool {
    weight_format(dtype).is_ok_and(WeightFormat::is_fast)
}

/// Returns the format in which a CPU multiplies.
///
/// # Errors
/// f16, which a CPU does not do.
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
    fn a_device_reads_what_it_writes() {
        for device in [DeviceSpec::Cpu, DeviceSpec::Cuda(3)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        let error = "cuda:first".parse::<DeviceSpec>().unwrap_err();
        assert_eq!(error.to_string(), "unknown device `cuda:first`: expected `cpu`, `cuda` or `cuda:N`");
    }
}
