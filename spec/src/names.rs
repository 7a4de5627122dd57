//! The error of reading a value's name.

use strum::VariantNames;

/// A name that no value of the kind has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind} `{given}`: expected {}", list(expected))]
pub struct UnknownName {
    /// What was being read, such as `pooling`.
    pub kind: &'static str,
    /// The name that was given.
    pub given: String,
    /// The names that exist.
    pub expected: &'static [&'static str],
}

/// Returns names as prose: `a`, `b` or `c`.
fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}

/// An enum whose values have names.
pub(crate) trait Named: VariantNames {
    /// What a value is called in an error.
    const KIND: &'static str;
}

/// Gives an enum whose variants are listed `ALL` of them, and says what a value is called in an error.
macro_rules! named {
    ($values:ident, $kind:literal) => {
        impl $values {
            /// All of them, in the order of declaration.
            pub const ALL: &'static [$values] = <$values as strum::VariantArray>::VARIANTS;
        }

        impl $crate::names::Named for $values {
            const KIND: &'static str = $kind;
        }
    };
}
pub(crate) use named;

/// Makes the error of a name that no value of `T` has.
pub(crate) fn unknown<T: Named>(given: &str) -> UnknownName {
    UnknownName { kind: T::KIND, given: given.to_owned(), expected: T::VARIANTS }
}

#[cfg(test)]
mod tests {
    use std::fmt::{Debug, Display};
    use std::str::FromStr;

    use serde::Serialize;

    use crate::{
        Compression, ComputeDtype, ExportFormat, Format, OnBadRow, OutputDtype, Pooling, RejectReason, UnknownName,
    };

    /// Checks that a value has one name, wherever it is written.
    fn check<T>(all: &[T])
    where
        T: Copy + Debug + Display + PartialEq + FromStr<Err = UnknownName> + Serialize,
    {
        for value in all {
            let name = value.to_string();
            assert_eq!(name.parse::<T>().as_ref(), Ok(value));
            assert_eq!(serde_json::to_value(value).unwrap(), serde_json::Value::String(name));
        }
    }

    #[test]
    fn a_value_has_one_name() {
        check(Pooling::ALL);
        check(ComputeDtype::ALL);
        check(OutputDtype::ALL);
        check(Format::ALL);
        check(Compression::ALL);
        check(ExportFormat::ALL);
        check(RejectReason::ALL);
        check(OnBadRow::ALL);
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = "median".parse::<Pooling>().unwrap_err().to_string();
        assert_eq!(error, "unknown pooling `median`: expected `cls`, `mean`, `max` or `last`");
        let error = "f64".parse::<OutputDtype>().unwrap_err().to_string();
        assert_eq!(error, "unknown output dtype `f64`: expected `f32`, `f16`, `int8` or `binary`");
    }
}
