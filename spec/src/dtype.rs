//! Number formats: of the forward pass, and of the vectors that are written.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantArray, VariantNames};

use crate::names::{Named, UnknownName, unknown};

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
    /// 16-bit brain floats.
    Bf16,
    /// 8-bit integers with 32-bit accumulation.
    Int8,
}

impl ComputeDtype {
    /// All of them.
    pub const ALL: &'static [ComputeDtype] = <ComputeDtype as VariantArray>::VARIANTS;
}

impl Named for ComputeDtype {
    const KIND: &'static str = "dtype";
}

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
}

impl OutputDtype {
    /// All of them.
    pub const ALL: &'static [OutputDtype] = <OutputDtype as VariantArray>::VARIANTS;
}

impl Named for OutputDtype {
    const KIND: &'static str = "output dtype";
}
