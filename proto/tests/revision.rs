//! Every field that a worker is granted is decided upon: whether a worker that does not know it may have the job. A field that
//! is missing here was added without that decision.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Fields of what a job is described by, all of them weighed in `proto::revision::needs`.
const OF_SPECS: [(&str, &[&str]); 10] = [
    (
        "JobSpec",
        &["sources", "read", "model", "embed", "limits", "on_bad_row", "max_rejects", "allow_partial", "reuse"],
    ),
    ("ReuseSource", &["uri", "blake3", "text_column", "retired"]),
    ("Source", &["uri", "format", "compression"]),
    ("ReadOptions", &["text_column", "id_column", "keep", "delimiter", "quote", "encoding"]),
    ("Keep", &["kind", "columns"]),
    ("ModelSpec", &["name", "revision", "digest"]),
    (
        "EmbedSpec",
        &[
            "pooling",
            "normalize",
            "max_length",
            "prefix",
            "dtype",
            "output_dtype",
            "dimensions",
            "batch_tokens",
            "prompt",
            "similarity",
        ],
    ),
    ("ShardLimits", &["rows_max", "bytes_max"]),
    ("MaxRejects", &["unlimited", "rows", "percent"]),
    ("PlannedSource", &["source", "size_bytes", "etag", "header", "kept_schema"]),
];

/// Fields of grants. A worker that does not know `blake3` compares nothing, and reads the same rows; one that does not ask for
/// source tasks is sent none.
const OF_GRANTS: [(&str, &[&str]); 4] = [
    (
        "Grant",
        &[
            "lease",
            "read",
            "source",
            "slice",
            "model",
            "embed",
            "on_bad_row",
            "output_key",
            "spec_digest",
            "window",
            "convicted",
            "source_task_omitted",
            "reuse",
        ],
    ),
    ("LeaseRef", &["job_id", "shard_index", "epoch"]),
    ("RowWindow", &["first_row", "rows"]),
    ("Slice", &["source_index", "recut_key", "unit", "start", "end", "first_row", "rows", "blake3"]),
];

#[test]
fn no_field_is_granted_without_a_decision_on_older_workers() {
    let includes = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let files = ["jobs", "work"].map(|name| includes.join(format!("encaje/v1/{name}.proto")));
    let set = protox::compile(files, [&includes]).expect("the proto files compile");
    let messages: BTreeMap<String, Vec<(String, String)>> = set
        .file
        .iter()
        .flat_map(|file| &file.message_type)
        .map(|message| {
            let fields = message.field.iter().map(|field| {
                let of_type = field.type_name().rsplit('.').next().unwrap_or_default();
                (field.name().to_owned(), of_type.to_owned())
            });
            (message.name().to_owned(), fields.collect())
        })
        .collect();
    let mut reached = BTreeMap::new();
    let mut waiting = vec!["JobSpec".to_owned(), "Grant".to_owned()];
    while let Some(name) = waiting.pop() {
        let Some(fields) = messages.get(&name).filter(|_| !reached.contains_key(&name)) else { continue };
        waiting.extend(fields.iter().map(|(_, of_type)| of_type.clone()));
        reached.insert(name, fields.iter().map(|(field, _)| field.as_str()).collect::<BTreeSet<_>>());
    }
    let decided: BTreeMap<String, BTreeSet<&str>> = OF_SPECS
        .iter()
        .chain(&OF_GRANTS)
        .map(|(name, fields)| ((*name).to_owned(), fields.iter().copied().collect()))
        .collect();
    assert_eq!(reached, decided, "decide in proto/src/revision.rs which revision a new field needs, then name it here");
}
