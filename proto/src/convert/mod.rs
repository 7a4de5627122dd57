//! Generated messages to domain values and back: both directions of a type side by side.
//!
//! From the wire everything is checked once, here; what passes is a domain value and needs no second look. To the wire
//! nothing can fail.

mod job;
#[cfg(test)]
mod tests;
mod work;

pub use work::{commit_outcome, directive, failure_class};

/// A message that does not say what it must.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}` {problem}")]
pub struct ConvertError {
    /// The field, by its name in the `.proto` file.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl ConvertError {
    fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }
}

/// Returns the message behind an optional field that must be there.
fn required<T>(field: &'static str, value: Option<T>) -> Result<T, ConvertError> {
    value.ok_or_else(|| ConvertError::new(field, "is missing"))
}

/// Parses a field that holds the text form of an identifier.
///
/// # Errors
/// The text is not a UUID.
pub fn id<T: std::str::FromStr>(field: &'static str, text: &str) -> Result<T, ConvertError> {
    text.parse().map_err(|_| ConvertError::new(field, format!("is not a UUID: `{}`", shortened(text))))
}

/// What a peer sent may be long: an error shows its beginning.
fn shortened(text: &str) -> &str {
    text.char_indices().nth(64).map_or(text, |(end, _)| &text[..end])
}

/// Maps an enum of ours to its generated twin and back; variants have the same names. `0` is no value.
macro_rules! twin_enum {
    ($function:ident, $domain:ty, $wire:ty, $field:literal, [$($variant:ident),+ $(,)?]) => {
        impl From<$domain> for $wire {
            fn from(value: $domain) -> Self {
                match value { $(<$domain>::$variant => <$wire>::$variant,)+ }
            }
        }

        fn $function(value: i32) -> Result<$domain, $crate::convert::ConvertError> {
            match <$wire>::try_from(value) {
                $(Ok(<$wire>::$variant) => Ok(<$domain>::$variant),)+
                Ok(<$wire>::Unspecified) => Err($crate::convert::ConvertError::new($field, "is missing")),
                Err(_) => Err($crate::convert::ConvertError::new(
                    $field,
                    format!("has the unknown value {value}: is the peer a newer version?"),
                )),
            }
        }
    };
}
use twin_enum;
