//! PURE: where things lie, in the folder of a finished job and in job storage. Keys only; no I/O.

use std::path::{Component, Path};

/// Name of the manifest in the folder of a finished job.
pub const MANIFEST_NAME: &str = "manifest.json";

/// Returns the name of the `index`-th output file of a finished job: `part-00000.parquet`.
pub fn part_name(index: u64) -> String {
    format!("part-{index:05}.parquet")
}

/// Returns whether a name in the folder of a finished job is taken for a part: `part-….parquet`.
pub fn is_part_name(name: &str) -> bool {
    name.starts_with("part-") && name.ends_with(".parquet")
}

/// Returns the prefix of all objects of a job in storage: `jobs/{job}`.
pub fn job_prefix(job: &str) -> String {
    format!("jobs/{job}")
}

/// Returns the prefix of a job's re-cut input: `jobs/{job}/recut`.
pub fn recut_prefix(job: &str) -> String {
    format!("jobs/{job}/recut")
}

/// Returns the prefix of a job's shard outputs: `jobs/{job}/shards`.
pub fn shards_prefix(job: &str) -> String {
    format!("jobs/{job}/shards")
}

/// Returns the key of one attempt's output. It names the epoch and the attempt, so that it is written once.
pub fn shard_key(job: &str, index: u64, epoch: u64, attempt: &str) -> String {
    format!("jobs/{job}/shards/{index:08}/e{epoch:06}-{attempt}.parquet")
}

/// Returns the position of the shard that a key of [`shard_key`] is of.
pub fn shard_index(key: &str) -> Option<u64> {
    let mut parts = key.strip_prefix("jobs/")?.split('/').skip(1);
    parts.next().filter(|part| *part == "shards")?;
    parts.next()?.parse().ok()
}

/// Returns the key of a job's manifest of a generation, counted from 1: `jobs/{job}/manifest-1.json`.
pub fn manifest_key(job: &str, generation: u32) -> String {
    format!("jobs/{job}/manifest-{generation}.json")
}

/// Returns whether a file name of a manifest stays inside its folder: relative, with plain components only.
pub fn is_safe_name(name: &str) -> bool {
    let mut components = Path::new(name).components().peekable();
    components.peek().is_some() && components.all(|component| matches!(component, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_spelled_as_documented() {
        assert_eq!(part_name(0), "part-00000.parquet");
        assert_eq!(part_name(123_456), "part-123456.parquet");
        assert_eq!(shard_key("j", 7, 2, "a"), "jobs/j/shards/00000007/e000002-a.parquet");
        assert_eq!(shard_index(&shard_key("j", 123_456_789, 2, "a")), Some(123_456_789));
        assert_eq!(shard_index(&manifest_key("j", 1)), None);
        assert_eq!(manifest_key("j", 1), "jobs/j/manifest-1.json");
        assert!(is_part_name(&part_name(3)) && !is_part_name(MANIFEST_NAME));
        assert!(shard_key("j", 7, 2, "a").starts_with(&shards_prefix("j")));
        assert!(recut_prefix("j").starts_with(&job_prefix("j")));
    }

    #[test]
    fn names_that_leave_the_folder_are_not_safe() {
        for name in ["../x", "/etc/passwd", "a/../../b", "", "./a", ".."] {
            assert!(!is_safe_name(name), "{name}");
        }
        assert!(is_safe_name("part-00000.parquet") && is_safe_name("jobs/j/shards/00000000/e000001-a.parquet"));
    }
}
