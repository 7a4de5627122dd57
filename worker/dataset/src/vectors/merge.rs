//! Merging the parts of a finished job into one file.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::info::{Totals, VectorDtype};
use crate::DatasetError;

/// How to merge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MergeOptions {
    /// Number format of the merged vectors; that of the parts where absent.
    pub output_dtype: Option<VectorDtype>,
    /// Cut the output into files of so many rows (the last may have fewer) in a folder with a manifest.
    pub partition_rows: Option<u64>,
    /// Replace an output that is there already.
    pub overwrite: bool,
}

/// What a merge made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MergeSummary {
    /// The file, or the folder.
    pub out: PathBuf,
    /// Files written.
    pub files: u64,
    /// Size of all of them, in bytes.
    pub bytes: u64,
    /// Counts.
    pub totals: Totals,
    /// Row groups that were copied without decoding.
    pub copied_row_groups: u64,
    /// Row groups that had to be decoded and encoded again.
    pub recoded_row_groups: u64,
}

/// Merges the parts of a finished job.
pub fn merge(
    _dir: &Path,
    _out: &Path,
    _options: &MergeOptions,
    _progress: &mut dyn FnMut(u64),
) -> Result<MergeSummary, DatasetError> {
    unimplemented!()
}
