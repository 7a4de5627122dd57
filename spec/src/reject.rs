//! Rejected records: the reason codes of the `error` column, and their effect on a job.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr, VariantArray, VariantNames};

use crate::names::{UnknownName, named, unknown};

/// The reason code of a rejected record, as written to the `error` column of the output.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
    VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", parse_err_ty = UnknownName, parse_err_fn = unknown::<RejectReason>)]
pub enum RejectReason {
    /// The text cell is null, or the JSON object has no such key.
    NullText,
    /// The text is empty or only white space.
    EmptyText,
    /// The bytes of the text are not UTF-8.
    InvalidUtf8,
    /// The record is larger than 32 MiB.
    TextTooLarge,
    /// The record does not parse: wrong number of CSV fields, invalid JSON.
    MalformedRecord,
    /// The text cell holds a number, list or object instead of a string.
    NotAString,
    /// A kept column's value does not fit the column's type.
    ColumnType,
    /// The tokenizer failed on the text.
    TokenizerError,
    /// The model produced a NaN or an infinity, or a zero vector that cannot be normalised.
    NonFinite,
    /// The record alone made several workers crash.
    WorkerCrash,
}

impl RejectReason {
    /// Returns the code in the output.
    pub fn code(self) -> &'static str {
        self.into()
    }
}

named!(RejectReason, "reject reason");

/// The effect of a rejected record on the job.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, EnumString, VariantArray, VariantNames,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = UnknownName, parse_err_fn = unknown::<OnBadRow>)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum OnBadRow {
    /// The row gets a reason instead of a vector.
    Reject,
    /// The job fails and names the row.
    Fail,
}

named!(OnBadRow, "bad-row policy");
