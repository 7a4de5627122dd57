//! Counts over rows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::RejectReason;

/// Counts over the rows of a file, of a shard, or of a whole job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    /// Rows, with or without a vector.
    pub rows: u64,
    /// Rejected rows by reason.
    pub rejects: BTreeMap<RejectReason, u64>,
    /// Rows whose text was truncated to the maximum length.
    pub truncated: u64,
    /// Tokens of rows with a vector, special ones included.
    pub tokens: u64,
    /// Rows whose vector was taken from an earlier output. Omitted if 0, so that the bytes of other manifests stay the same.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reused: u64,
}

/// Tells whether a count is left out of JSON.
pub fn is_zero(count: &u64) -> bool {
    *count == 0
}

// Counts may come from an untrusted file or peer, so arithmetic saturates.
impl RowCounts {
    /// Returns the number of rejected rows.
    pub fn rejected(&self) -> u64 {
        self.rejects.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Returns the number of rows with a vector that was computed for them.
    pub fn embedded(&self) -> u64 {
        self.rows.saturating_sub(self.rejected()).saturating_sub(self.reused)
    }

    /// Adds the counts of other rows.
    pub fn add(&mut self, other: &RowCounts) {
        self.rows = self.rows.saturating_add(other.rows);
        self.truncated = self.truncated.saturating_add(other.truncated);
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.reused = self.reused.saturating_add(other.reused);
        for (reason, count) in &other.rejects {
            let sum = self.rejects.entry(*reason).or_default();
            *sum = sum.saturating_add(*count);
        }
    }
}
