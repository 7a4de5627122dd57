//! The digest that says whether two jobs are the same job.

use dataset::PlannedSource;
use serde_json::Value;
use uuid::Uuid;

use crate::ids::JobId;
use crate::job::JobSpec;

/// Returns the BLAKE3 of a spec's canonical JSON, in lower-case hex.
///
/// Canonical: no white space, members sorted by name, absent members left out. Leaving `null` out keeps the digests of
/// jobs that are already stored when a later version adds an optional field.
pub fn spec_digest(spec: &JobSpec) -> String {
    let value = serde_json::to_value(spec).expect("a spec holds no map with other than text keys");
    blake3::hash(canonical(value).to_string().as_bytes()).to_hex().to_string()
}

/// Returns the id of the job that does this to sources as they are now: the same for the same wish, so that submitting it
/// again is harmless, and another one once a source has changed.
pub fn job_id_of(spec: &JobSpec, sources: &[PlannedSource]) -> JobId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(spec_digest(spec).as_bytes());
    for source in sources {
        let found = &source.fingerprint;
        hasher.update(format!("\n{} {}", found.size, found.etag.as_deref().unwrap_or_default()).as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    // Marked as what it is: a UUID whose bits have a meaning of our own (version 8).
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    JobId(Uuid::from_bytes(bytes))
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
    use crate::job::MaxRejects;
    use crate::job::tests::spec;

    /// Stored jobs are recognised by this value: it must not change.
    #[test]
    fn the_digest_of_a_known_spec_stays_what_it_is() {
        assert_eq!(spec_digest(&spec()), "a6e61aacdc1cd2772bfe9726ef8138a9e5255699e35e677072c1a941b044d366");
    }

    #[test]
    fn another_spec_has_another_digest() {
        let mut other = spec();
        other.max_rejects = MaxRejects::Rows(1);
        assert_ne!(spec_digest(&other), spec_digest(&spec()));
        assert_ne!(spec_digest(&JobSpec { allow_partial: true, ..spec() }), spec_digest(&spec()));
        let mut prompted = spec();
        prompted.embed.prompt = Some("query".into());
        assert_ne!(spec_digest(&prompted), spec_digest(&spec()));
        assert_eq!(spec_digest(&spec()), spec_digest(&spec().clone()));
    }

    #[test]
    fn the_same_wish_has_the_same_id_until_a_source_changes() {
        let fingerprint = |etag: &str| dataset::Fingerprint { size: 7, etag: Some(etag.to_owned()) };
        let planned = |etag| {
            let source = spec().sources[0].clone();
            vec![PlannedSource { source, fingerprint: fingerprint(etag), header: vec![], kept_schema: String::new() }]
        };
        assert_eq!(job_id_of(&spec(), &planned("a")), job_id_of(&spec(), &planned("a")));
        assert_ne!(job_id_of(&spec(), &planned("a")), job_id_of(&spec(), &planned("b")));
        assert_eq!(job_id_of(&spec(), &[]).0.get_version_num(), 8);
    }

    #[test]
    fn canonical_json_is_sorted_and_has_no_nulls() {
        let value = serde_json::json!({"b": [{"z": 1, "a": null}], "a": null, "A": 1.5});
        assert_eq!(canonical(value).to_string(), r#"{"A":1.5,"b":[{"z":1}]}"#);
    }
}
