//! The choices a caller makes: device, number type, pooling. Parsed once at the edge, passed inward as proof.

use std::fmt;
use std::str::FromStr;

use kernels::WeightFormat;

use crate::LoadError;

/// Names the processor that runs the forward pass. Written `cpu` or `cuda:0`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DeviceSpec {
    /// The calling thread's own core.
    Cpu,
    /// One NVIDIA GPU, by its ordinal.
    Cuda(usize),
}

/// Says how the token vectors of a text become its one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// The vector of the first token.
    Cls,
    /// The mean over all tokens, special ones included.
    Mean,
    /// The maximum of each component over all tokens.
    Max,
    /// The vector of the last token.
    Last,
}

/// Names the number type that the forward pass computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE single precision: the reference.
    F32,
    /// IEEE half precision.
    F16,
    /// Brain floating point.
    Bf16,
    /// Eight-bit integer weights and activations.
    Int8,
}

/// Says how an [`Engine`](crate::Engine) is to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Where the forward pass runs.
    pub device: DeviceSpec,
    /// What it computes in.
    pub dtype: Dtype,
    /// How token vectors are pooled; `None` takes the model's own way, see [`ModelSummary`](crate::ModelSummary).
    pub pooling: Option<Pooling>,
    /// Whether each vector is divided by its L2 norm.
    pub normalize: bool,
    /// Keeps only the first components of each vector (Matryoshka), before it is normalised.
    pub dimensions: Option<usize>,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions { device: DeviceSpec::Cpu, dtype: Dtype::F32, pooling: None, normalize: true, dimensions: None }
    }
}

/// A word that names no option of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind} `{given}`: expected {expected}")]
pub struct UnknownOption {
    /// What was being read, such as `pooling`.
    pub kind: &'static str,
    /// What was given.
    pub given: String,
    /// The words that would have been understood.
    pub expected: &'static str,
}

impl FromStr for DeviceSpec {
    type Err = UnknownOption;

    fn from_str(given: &str) -> Result<DeviceSpec, UnknownOption> {
        let unknown =
            || UnknownOption { kind: "device", given: given.into(), expected: "`cpu`, `cuda` or `cuda:N`" };
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

impl FromStr for Pooling {
    type Err = UnknownOption;

    fn from_str(given: &str) -> Result<Pooling, UnknownOption> {
        match given {
            "cls" => Ok(Pooling::Cls),
            "mean" => Ok(Pooling::Mean),
            "max" => Ok(Pooling::Max),
            "last" => Ok(Pooling::Last),
            _ => {
                Err(UnknownOption { kind: "pooling", given: given.into(), expected: "`cls`, `mean`, `max` or `last`" })
            }
        }
    }
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pooling::Cls => "cls",
            Pooling::Mean => "mean",
            Pooling::Max => "max",
            Pooling::Last => "last",
        })
    }
}

impl Dtype {
    /// Returns whether this processor has instructions for the format. Without them bf16 and int8 give the same vectors,
    /// but no faster than f32; f16 is not done on a CPU.
    pub fn is_fast_on_cpu(self) -> bool {
        self.on_cpu().is_ok_and(WeightFormat::is_fast)
    }

    /// Returns the format in which a CPU multiplies.
    ///
    /// # Errors
    /// f16, which a CPU does not do.
    pub(crate) fn on_cpu(self) -> Result<WeightFormat, LoadError> {
        match self {
            Dtype::F32 => Ok(WeightFormat::F32),
            Dtype::Bf16 => Ok(WeightFormat::Bf16),
            Dtype::Int8 => Ok(WeightFormat::Int8),
            Dtype::F16 => Err(LoadError::Unsupported {
                what: format!("dtype `{self}` on device `cpu`; supported there: `f32`, `bf16`, `int8`"),
            }),
        }
    }
}

impl FromStr for Dtype {
    type Err = UnknownOption;

    fn from_str(given: &str) -> Result<Dtype, UnknownOption> {
        match given {
            "f32" => Ok(Dtype::F32),
            "f16" => Ok(Dtype::F16),
            "bf16" => Ok(Dtype::Bf16),
            "int8" => Ok(Dtype::Int8),
            _ => Err(UnknownOption { kind: "dtype", given: given.into(), expected: "`f32`, `f16`, `bf16` or `int8`" }),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
            Dtype::Int8 => "int8",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_reads_what_it_writes() {
        for device in [DeviceSpec::Cpu, DeviceSpec::Cuda(3)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        for pooling in [Pooling::Cls, Pooling::Mean, Pooling::Max, Pooling::Last] {
            assert_eq!(pooling.to_string().parse(), Ok(pooling));
        }
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::Int8] {
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
        }
    }

    #[test]
    fn an_unknown_word_is_answered_with_the_known_ones() {
        let error = "cuda:first".parse::<DeviceSpec>().unwrap_err();
        assert_eq!(error.to_string(), "unknown device `cuda:first`: expected `cpu`, `cuda` or `cuda:N`");
        assert!("median".parse::<Pooling>().unwrap_err().to_string().contains("`cls`, `mean`, `max` or `last`"));
    }
}
