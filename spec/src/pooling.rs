//! Pooling of token vectors.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantArray, VariantNames};

use crate::names::{UnknownName, named, unknown};

/// How the token vectors of a text are combined.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, EnumString, VariantArray, VariantNames,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = UnknownName, parse_err_fn = unknown::<Pooling>)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Pooling {
    /// The vector of the first token.
    Cls,
    /// The mean over all tokens, special ones included.
    Mean,
    /// The maximum over all tokens, per dimension.
    Max,
    /// The vector of the last token.
    Last,
}

named!(Pooling, "pooling");
