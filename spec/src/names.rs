//! Parsing of enum names, with an error that lists the known ones.

use strum::VariantNames;

/// An unknown name of an enum's value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind} `{given}`: expected {}", list(expected))]
pub struct UnknownName {
    /// The kind of value, such as `pooling`.
    pub kind: &'static str,
    /// The name that was given.
    pub given: String,
    /// The names that exist.
    pub expected: &'static [&'static str],
}

/// Formats names as `a`, `b` or `c`.
fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}

pub(crate) trait Named: VariantNames {
    /// The kind of value in errors.
    const KIND: &'static str;
}

/// Defines `ALL` variants of an enum, and its kind in errors.
macro_rules! named {
    ($values:ident, $kind:literal) => {
        impl $values {
            /// All variants in declaration order.
            pub const ALL: &'static [$values] = <$values as strum::VariantArray>::VARIANTS;
        }

        impl $crate::names::Named for $values {
            const KIND: &'static str = $kind;
        }
    };
}
pub(crate) use named;

/// Returns the error for an unknown name of `T`.
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

    /// Checks that a value has the same name in every representation.
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
    fn a_value_has_one_name_in_every_representation() {
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
    fn an_unknown_name_error_lists_the_known_ones() {
        let error = "median".parse::<Pooling>().unwrap_err().to_string();
        assert_eq!(error, "unknown pooling `median`: expected `cls`, `mean`, `max` or `last`");
        let error = "f64".parse::<OutputDtype>().unwrap_err().to_string();
        assert_eq!(error, "unknown output dtype `f64`: expected `f32`, `f16`, `int8` or `binary`");
    }
}
