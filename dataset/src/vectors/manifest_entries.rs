//! The entries of a manifest (sources, files, holes), and the chain of rows that they must form.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spec::{RejectReason, ReuseSource, RowCounts};

use super::layout::is_safe_name;

/// One input object as it was when the job read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestSource {
    /// Absolute path or URL.
    pub uri: String,
    /// Size in bytes.
    pub size: u64,
    /// The store's entity tag; on local disk it names mtime and inode.
    pub etag: Option<String>,
    /// Records.
    pub rows: u64,
}

/// An earlier output that the job was given, to take vectors from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestReuse {
    /// Absolute path or URL.
    pub uri: String,
    /// BLAKE3 of its manifest, or the seal of the file, in hex.
    pub blake3: String,
    /// Its column of texts.
    pub text_column: String,
}

impl From<&ReuseSource> for ManifestReuse {
    fn from(source: &ReuseSource) -> ManifestReuse {
        let ReuseSource { uri, blake3, text_column, retired: _ } = source.clone();
        ManifestReuse { uri, blake3, text_column }
    }
}

impl From<ManifestReuse> for ReuseSource {
    fn from(source: ManifestReuse) -> ReuseSource {
        let ManifestReuse { uri, blake3, text_column } = source;
        ReuseSource { uri, blake3, text_column, retired: false }
    }
}

/// One output file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Name relative to the manifest's folder, or key in storage.
    pub name: String,
    /// Row number of the first row, over the whole corpus.
    pub first_row: u64,
    /// Rows with or without a vector.
    pub rows: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3 of the file, in hex.
    pub blake3: String,
    /// Rows without a vector, by reason.
    pub rejects: BTreeMap<RejectReason, u64>,
    /// Rows whose text was cut to the maximum length.
    pub truncated: u64,
    /// Tokens of rows with a vector.
    pub tokens: u64,
    /// Rows whose vector was taken from an earlier output; absent if 0.
    #[serde(default, skip_serializing_if = "spec::is_zero")]
    pub reused: u64,
}

impl ManifestFile {
    /// Returns the counts of the file.
    pub fn totals(&self) -> RowCounts {
        let ManifestFile { rows, ref rejects, truncated, tokens, reused, .. } = *self;
        RowCounts { rows, rejects: rejects.clone(), truncated, tokens, reused }
    }
}

/// Rows that are in no file, because all attempts at their shard failed and the job was allowed to end without them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestHole {
    /// Which of the sources they are in.
    pub source: u32,
    /// Row number of the first of them, over the whole corpus.
    pub first_row: u64,
    /// How many they are.
    pub rows: u64,
    /// What went wrong last.
    pub reason: String,
}

impl ManifestHole {
    /// Returns the number of the row after them.
    pub fn end(&self) -> u64 {
        self.first_row.saturating_add(self.rows)
    }
}

/// Returns the number of rows in holes, of which a damaged manifest may have any number.
pub(super) fn missing_in(holes: &[ManifestHole]) -> u64 {
    holes.iter().fold(0, |rows: u64, hole| rows.saturating_add(hole.rows))
}

/// What one file of a manifest adds to the whole: follows the rows from file to file and sums them up.
#[derive(Debug, Clone, Default)]
pub(super) struct Chain {
    next_row: u64,
    totals: RowCounts,
    /// Rows of holes.
    missing: u64,
}

impl Chain {
    /// Takes the next file and returns what is wrong with it.
    pub(super) fn add(&mut self, file: &ManifestFile) -> Vec<String> {
        let (name, totals, mut problems) = (&file.name, file.totals(), Vec::new());
        if !is_safe_name(name) {
            problems.push(format!("file name `{name}` leaves the folder"));
        }
        if file.first_row != self.next_row {
            problems.push(format!("file `{name}` begins at row {}, expected {}", file.first_row, self.next_row));
        }
        if totals.rejected() > file.rows || file.truncated > file.rows || file.reused > file.rows {
            problems.push(format!("file `{name}` counts more rejected, truncated or reused rows than rows"));
        }
        self.next_row = file.first_row.saturating_add(file.rows);
        self.totals.add(&totals);
        problems
    }

    /// Passes over the rows of a hole and returns what is wrong with it.
    pub(super) fn skip(&mut self, hole: &ManifestHole) -> Vec<String> {
        let ManifestHole { first_row, rows, .. } = *hole;
        let mut problems = Vec::new();
        if first_row != self.next_row || rows == 0 {
            problems.push(format!("a hole of {rows} rows begins at row {first_row}, expected {}", self.next_row));
        }
        self.next_row = first_row.saturating_add(rows);
        self.missing = self.missing.saturating_add(rows);
        problems
    }

    /// Returns what is wrong with the sources of these files.
    pub(super) fn check_sources(&self, sources: &[ManifestSource]) -> Vec<String> {
        let records = sources.iter().fold(0u64, |sum, source| sum.saturating_add(source.rows));
        let (rows, missing) = (self.totals.rows, self.missing);
        match records == rows.saturating_add(missing) {
            true => Vec::new(),
            false => vec![format!("the sources have {records} records, the files {rows} rows, the holes {missing}")],
        }
    }

    /// Returns the number of rows in the holes so far.
    pub(super) fn missing(&self) -> u64 {
        self.missing
    }

    /// Returns the sums over the files so far.
    pub(super) fn totals(&self) -> &RowCounts {
        &self.totals
    }
}
