//! Type inference of JSON columns from samples of their records.

use std::collections::HashMap;

use arrow_schema::DataType;

use crate::corpus::json::{self, Value};

/// Largest integer up to which all integers are exact in f64.
const EXACT_INTEGER_MAX: u64 = 1 << 53;

/// The type of a key's values so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InferredType {
    /// Only nulls.
    Nothing,
    Integers,
    /// Integers and other numbers, all exact as floats.
    Numbers,
    Booleans,
    /// Strings, nested values, or a mixture.
    Anything,
}

impl InferredType {
    fn join(self, new: InferredType) -> InferredType {
        use InferredType::{Anything, Booleans, Integers, Nothing, Numbers};
        match (self, new) {
            (Nothing, other) | (other, Nothing) => other,
            (Integers, Integers) => Integers,
            (Integers | Numbers, Numbers) | (Numbers, Integers) => Numbers,
            (Booleans, Booleans) => Booleans,
            (Anything, Integers | Numbers | Booleans | Anything)
            | (Integers | Numbers | Booleans, Anything)
            | (Booleans, Integers | Numbers)
            | (Integers | Numbers, Booleans) => Anything,
        }
    }
}

/// Infers columns from a sample of records.
#[derive(Debug, Default)]
pub(crate) struct Inference {
    /// In order of first appearance.
    columns: Vec<(String, InferredType)>,
    positions: HashMap<String, usize>,
    /// Whether a column has an integer that is not exact as a float.
    large: Vec<bool>,
}

impl Inference {
    /// Adds one record. Returns false, ignoring it, if it is malformed.
    pub(crate) fn add(&mut self, record: &[u8]) -> bool {
        let Some(members) = json::members(record) else {
            return false;
        };
        for (key, value) in members {
            let position = self.position(key);
            let new = match json::kind(value) {
                Value::Null => continue,
                Value::Boolean(_) => InferredType::Booleans,
                Value::Number(number) => number_seen(number, &mut self.large[position]),
                Value::String(_) | Value::Nested(_) => InferredType::Anything,
            };
            let old = self.columns[position].1;
            self.columns[position].1 = old.join(new);
        }
        true
    }

    /// Returns the type of a column: `None` if it was always null or absent.
    pub(crate) fn type_of(&self, name: &str) -> Option<DataType> {
        let position = *self.positions.get(name)?;
        match self.columns[position].1 {
            InferredType::Nothing => None,
            InferredType::Integers => Some(DataType::Int64),
            InferredType::Numbers if !self.large[position] => Some(DataType::Float64),
            InferredType::Booleans => Some(DataType::Boolean),
            InferredType::Numbers | InferredType::Anything => Some(DataType::Utf8),
        }
    }

    /// Returns the keys in order of first appearance.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.columns.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Adds the result of another sample.
    pub(crate) fn merge(&mut self, other: &Inference) {
        for (index, (key, seen)) in other.columns.iter().enumerate() {
            let position = self.position(key.clone());
            self.large[position] |= other.large[index];
            let old = self.columns[position].1;
            self.columns[position].1 = old.join(*seen);
        }
    }

    fn position(&mut self, key: String) -> usize {
        *self.positions.entry(key).or_insert_with_key(|key| {
            self.columns.push((key.clone(), InferredType::Nothing));
            self.large.push(false);
            self.columns.len() - 1
        })
    }
}

fn number_seen(number: &str, large: &mut bool) -> InferredType {
    match number.parse::<i64>() {
        Ok(value) => {
            *large |= value.unsigned_abs() > EXACT_INTEGER_MAX;
            InferredType::Integers
        }
        Err(_) if float_of(number).is_some() => InferredType::Numbers,
        Err(_) => InferredType::Anything,
    }
}

/// Parses a number as f64, unless that changes an integer or overflows or underflows.
pub(crate) fn float_of(number: &str) -> Option<f64> {
    if let Some(value) = json::non_finite(number) {
        return Some(value);
    }
    let value: f64 = number.parse().ok()?;
    let is_integer = !number.contains(['.', 'e', 'E']);
    let is_exact = !is_integer || number.parse::<i64>().is_ok_and(|whole| whole.unsigned_abs() <= EXACT_INTEGER_MAX);
    (value.is_finite() && is_exact).then_some(value)
}
