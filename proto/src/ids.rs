//! Identifiers, each its own type, so that none can be passed where another is meant.

use std::fmt;
use std::str::FromStr;

use common::rng;
use dataset::PlannedSource;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use spec::JobSpec;

/// A text that is no identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no {what} id, which has 32 hexadecimal digits and reads like 01a22e3c-110c-71d7-bc7f-73cd0bb45d8b")]
pub struct NotAnId {
    what: &'static str,
}

macro_rules! uuid_id {
    ($name:ident, $what:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Makes a new, time-ordered identifier (UUID version 7).
            pub fn generate() -> Self {
                Self(rng::uuid_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self).map_err(|_| NotAnId { what: $what })
            }
        }
    };
}

uuid_id!(JobId, "job", "Names a job; made by the client, so that submitting twice is submitting once.");
impl JobId {
    /// Returns the id of the job that does this to sources as they are now: the same for equal arguments, so that
    /// submitting it again is harmless, and another one once a source has changed.
    pub fn of(spec: &JobSpec, sources: &[PlannedSource]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(spec.digest().as_bytes());
        for source in sources {
            let found = &source.fingerprint;
            hasher.update(format!("\n{} {}", found.size, found.etag.as_deref().unwrap_or_default()).as_bytes());
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        // UUID version 8: the bits have a meaning of our own.
        bytes[6] = (bytes[6] & 0x0f) | 0x80;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(Uuid::from_bytes(bytes))
    }
}

uuid_id!(SessionId, "session", "Names one registration of one worker process.");
uuid_id!(RequestId, "request", "Names one lease request, so that a repeated request returns the same grants.");

/// Names a shard: the job and the index in input order, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ShardId {
    /// The job.
    pub job: JobId,
    /// Position in input order.
    pub index: u64,
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.job, self.index)
    }
}

/// The fencing number of a lease; for one shard it only ever grows. The first lease has epoch 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u32);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use dataset::Fingerprint;
    use testkit::full_job_spec as spec;

    use super::*;

    #[test]
    fn equal_jobs_have_one_id_until_a_source_changes() {
        let fingerprint = |etag: &str| Fingerprint { size: 7, etag: Some(etag.to_owned()) };
        let planned = |etag| {
            let source = spec().sources[0].clone();
            vec![PlannedSource { source, fingerprint: fingerprint(etag), header: vec![], kept_schema: String::new() }]
        };
        assert_eq!(JobId::of(&spec(), &planned("a")), JobId::of(&spec(), &planned("a")));
        assert_ne!(JobId::of(&spec(), &planned("a")), JobId::of(&spec(), &planned("b")));
        assert_eq!(JobId::of(&spec(), &[]).0.get_version_num(), 8);
    }
}
