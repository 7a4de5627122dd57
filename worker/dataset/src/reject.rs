//! Why a record got a reason instead of a vector: the closed list behind the `error` column.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The reason code of a rejected record, as written to the `error` column of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// The text cell is null, or the JSON object has no such key.
    NullText,
    /// The text is empty or only white space.
    EmptyText,
    /// The bytes of the text are not UTF-8.
    InvalidUtf8,
    /// The record is larger than `RECORD_BYTES_MAX`.
    TextTooLarge,
    /// The record does not parse: wrong number of CSV fields, invalid JSON.
    MalformedRecord,
    /// The text cell holds a number, list or object instead of a string.
    NotAString,
    /// A kept column's value does not fit the column's type.
    ColumnType,
    /// The tokenizer failed on the text.
    TokenizerError,
    /// The model produced a NaN or an infinity, or nothing but zeros where vectors are to be normalised.
    NonFinite,
    /// The record alone made several workers crash.
    WorkerCrash,
}

impl RejectReason {
    /// All reasons, in the order of declaration.
    pub const ALL: [RejectReason; 10] = [
        RejectReason::NullText,
        RejectReason::EmptyText,
        RejectReason::InvalidUtf8,
        RejectReason::TextTooLarge,
        RejectReason::MalformedRecord,
        RejectReason::NotAString,
        RejectReason::ColumnType,
        RejectReason::TokenizerError,
        RejectReason::NonFinite,
        RejectReason::WorkerCrash,
    ];

    /// Returns the code as it stands in the output.
    pub const fn code(self) -> &'static str {
        match self {
            RejectReason::NullText => "null_text",
            RejectReason::EmptyText => "empty_text",
            RejectReason::InvalidUtf8 => "invalid_utf8",
            RejectReason::TextTooLarge => "text_too_large",
            RejectReason::MalformedRecord => "malformed_record",
            RejectReason::NotAString => "not_a_string",
            RejectReason::ColumnType => "column_type",
            RejectReason::TokenizerError => "tokenizer_error",
            RejectReason::NonFinite => "non_finite",
            RejectReason::WorkerCrash => "worker_crash",
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The text is not one of the codes in [`RejectReason::ALL`].
#[derive(Debug, thiserror::Error)]
#[error("unknown reject reason: `{0}`")]
pub struct UnknownReason(String);

impl FromStr for RejectReason {
    type Err = UnknownReason;

    fn from_str(code: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|reason| reason.code() == code).ok_or_else(|| UnknownReason(code.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_parses_back() {
        for reason in RejectReason::ALL {
            assert_eq!(reason.code().parse::<RejectReason>().unwrap(), reason);
        }
    }
}
