//! Number formats of the forward pass and of the output.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantArray, VariantNames};

use crate::names::{UnknownName, named, unknown};

/// Number format of the forward pass.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, EnumString, VariantArray, VariantNames,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = UnknownName, parse_err_fn = unknown::<ComputeDtype>)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum ComputeDtype {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// bfloat16.
    Bf16,
    /// 8-bit integers with 32-bit accumulation.
    Int8,
}

named!(ComputeDtype, "dtype");

/// Number format of the `embedding` column.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, EnumString, VariantArray, VariantNames,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = UnknownName, parse_err_fn = unknown::<OutputDtype>)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum OutputDtype {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 8-bit integers with one 32-bit scale per vector: a quarter of the size.
    Int8,
    /// The sign of each dimension as one bit, eight per byte: a thirty-second of the size.
    #[cfg_attr(feature = "clap", value(alias = "ubinary"))]
    Binary,
}

named!(OutputDtype, "output dtype");

impl OutputDtype {
    /// Returns whether elements are floats, which have NaN for missing numbers.
    pub const fn is_float(self) -> bool {
        match self {
            OutputDtype::F32 | OutputDtype::F16 => true,
            OutputDtype::Int8 | OutputDtype::Binary => false,
        }
    }
}
