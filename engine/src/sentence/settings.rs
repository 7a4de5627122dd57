//! Tables of settings: every key that a file may have, and how it is handled. A new setting is one line. Unknown keys
//! are refused, since they would not be applied.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::LoadError;

/// Characters of a value in an error message.
const SHOWN_MAX: usize = 60;

/// How a key is handled.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// Read, and validated, by the owner of the table.
    Read,
    /// Changes no vector.
    NoEffect,
    /// Only these values (as JSON) are supported, because they change nothing.
    Only(&'static [&'static str]),
    /// An object with its own table.
    Object(Table),
}

/// The keys of an object.
pub(super) type Table = &'static [(&'static str, Rule)];

/// Refuses unknown keys and unsupported values of `map`, which is below `parent` in the file.
pub(super) fn check(path: &Path, parent: &str, table: Table, map: &Map<String, Value>) -> Result<(), LoadError> {
    for (key, value) in map {
        let name = if parent.is_empty() { key.clone() } else { format!("{parent}.{key}") };
        match table.iter().find(|(known, _)| known == key).map(|(_, rule)| *rule) {
            None => return Err(refused(path, &name, value, "a setting that is not known here")),
            Some(Rule::Read | Rule::NoEffect) => {}
            Some(Rule::Only(values)) if values.contains(&value.to_string().as_str()) => {}
            Some(Rule::Only(values)) => {
                let supported = if values.is_empty() { "none".into() } else { values.join(" or ") };
                return Err(refused(path, &name, value, &format!("which is not supported (supported: {supported})")));
            }
            Some(Rule::Object(table)) => match value {
                Value::Object(inner) => check(path, &name, table, inner)?,
                other => return Err(invalid(path, &name, other, "an object")),
            },
        }
    }
    Ok(())
}

/// Returns the error for a setting that cannot be applied.
pub(super) fn refused(path: &Path, key: &str, value: &Value, why: &str) -> LoadError {
    let what = format!(
        "`{}` sets `{key}` to `{}`, {why}: remove it if the model does not need it, or embed with sentence-transformers",
        path.display(),
        shown(value)
    );
    LoadError::Unsupported { what }
}

/// Returns the error for a value of the wrong kind.
pub(super) fn invalid(path: &Path, key: &str, value: &Value, expected: &str) -> LoadError {
    LoadError::Invalid { path: path.into(), problem: format!("`{key}` is `{}` and not {expected}", shown(value)) }
}

/// Returns the error for the settings of a module that are not there.
pub(super) fn missing_file(path: PathBuf) -> LoadError {
    let problem = "it is missing, though `modules.json` names it: copy the model's files again".into();
    LoadError::Invalid { path, problem }
}

/// Reads an integer above 0; an absent key gives `None`.
pub(super) fn length(path: &Path, key: &str, value: Option<&Value>) -> Result<Option<usize>, LoadError> {
    let Some(value) = value else { return Ok(None) };
    let whole = value.as_number().is_some_and(|number| !number.to_string().contains(['.', '-']));
    // Tokenizers write numbers beyond 64 bits for "no limit".
    let number = value.as_u64().map(|number| usize::try_from(number).unwrap_or(usize::MAX));
    let number = number.or_else(|| value.as_f64().filter(|large| whole && *large > 1e18).map(|_| usize::MAX));
    match number.filter(|number| *number > 0) {
        Some(number) => Ok(Some(number)),
        None => Err(invalid(path, key, value, "a whole number above 0")),
    }
}

/// Reads a bool; an absent key gives `default`.
pub(super) fn flag(path: &Path, key: &str, value: Option<&Value>, default: bool) -> Result<bool, LoadError> {
    match value {
        None => Ok(default),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => Err(invalid(path, key, other, "true or false")),
    }
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    match text.chars().count() > SHOWN_MAX {
        true => text.chars().take(SHOWN_MAX - 1).chain(['…']).collect(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = &[
        ("read", Rule::Read),
        ("free", Rule::NoEffect),
        ("task", Rule::Only(&[r#""embed""#, "null"])),
        ("inner", Rule::Object(&[("size", Rule::Only(&[]))])),
    ];

    fn checked(json: &str) -> Result<(), String> {
        check(Path::new("f.json"), "", TABLE, &serde_json::from_str(json).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn unsupported_values_are_refused_with_file_and_key() {
        assert_eq!(checked(r#"{"read": 1, "free": [2], "task": "embed", "inner": {}}"#), Ok(()));
        assert_eq!(checked(r#"{"task": null}"#), Ok(()));
        let error = checked(r#"{"task": "rank"}"#).unwrap_err();
        assert!(error.contains("`f.json` sets `task` to `rank`") && error.contains("\"embed\" or null"), "{error}");
        let error = checked(r#"{"inner": {"size": 2}}"#).unwrap_err();
        assert!(error.contains("`inner.size` to `2`"), "{error}");
        assert!(checked(r#"{"inner": 1}"#).unwrap_err().contains("`inner` is `1` and not an object"));
    }

    #[test]
    fn a_key_in_no_table_is_refused() {
        assert!(checked(r#"{"new": 1}"#).unwrap_err().contains("`new` to `1`, a setting that is not known here"));
    }

    #[test]
    fn lengths_are_integers_and_huge_ones_mean_no_limit() {
        let read = |json: &str| {
            length(Path::new("f"), "n", Some(&serde_json::from_str(json).unwrap())).map_err(|error| error.to_string())
        };
        assert_eq!(read("256"), Ok(Some(256)));
        assert_eq!(read("1000000000000000019884624838656"), Ok(Some(usize::MAX)));
        for wrong in ["0", "-1", "12.5", "128.0", "1e3", "\"12\"", "true", "null"] {
            assert!(read(wrong).unwrap_err().contains("whole number above 0"), "{wrong}");
        }
    }
}
