//! Checks every promise of the output.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::info::Totals;
use crate::{DatasetError, ReadOptions, Source};

/// The corpus to compare with.
#[derive(Debug, Clone)]
pub struct VerifyCorpus {
    /// Its sources, in the order of the job.
    pub sources: Vec<Source>,
    /// How the job read them.
    pub options: ReadOptions,
}

/// One promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The manifest parses and holds in itself.
    Manifest,
}

/// How a check went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckResult {
    /// Which.
    pub check: Check,
    /// How many problems were found; 0 means that it passed.
    pub problems: u64,
}

/// One broken promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Which.
    pub check: Check,
    /// The file, where one is to blame.
    pub file: Option<PathBuf>,
    /// The row, where one is to blame.
    pub row: Option<u64>,
    /// What is wrong.
    pub detail: String,
}

/// What verify found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// The folder or file.
    pub target: PathBuf,
    /// Counts over the rows that were read.
    pub totals: Totals,
    /// Every check that was made.
    pub checks: Vec<CheckResult>,
    /// The first problems.
    pub problems: Vec<Problem>,
}

impl VerifyReport {
    /// Returns whether every check passed.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.problems == 0)
    }
}

/// Checks every promise of the output.
pub async fn verify(
    _target: &Path,
    _corpus: Option<&VerifyCorpus>,
    _progress: &mut (dyn FnMut(u64) + Send),
) -> Result<VerifyReport, DatasetError> {
    unimplemented!()
}
