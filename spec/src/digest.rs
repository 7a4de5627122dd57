//! The digest that identifies a job's specification.

use serde_json::Value;

use crate::JobSpec;

impl JobSpec {
    /// Returns the BLAKE3 of its canonical JSON, in lower-case hex: no white space, members sorted, null members
    /// omitted. The omission keeps digests of stored jobs valid when a later version adds an optional field. `reuse` is left
    /// out: a job is the same with and without.
    pub fn digest(&self) -> String {
        let mut value = serde_json::to_value(self).expect("a spec holds no map with other than text keys");
        if let Value::Object(members) = &mut value {
            members.remove("reuse");
        }
        blake3::hash(canonical(value).to_string().as_bytes()).to_hex().to_string()
    }
}

fn canonical(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<(String, Value)> =
                members.into_iter().filter(|(_, member)| !member.is_null()).collect();
            members.sort_by(|(left, _), (right, _)| left.cmp(right));
            Value::Object(members.into_iter().map(|(name, member)| (name, canonical(member))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(canonical).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_json_is_sorted_and_has_no_nulls() {
        let value = serde_json::json!({"b": [{"z": 1, "a": null}], "a": null, "A": 1.5});
        assert_eq!(canonical(value).to_string(), r#"{"A":1.5,"b":[{"z":1}]}"#);
    }
}
