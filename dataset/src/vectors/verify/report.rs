//! What verify checks and what it found: for people by `Display`, for programs by serde.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use spec::RowCounts;

use super::super::manifest_entries::ManifestHole;

/// Problems that a report holds in full; more are only counted.
pub const PROBLEMS_MAX: usize = 100;

/// Holes that a report names; of more, only the rows are counted.
pub const HOLES_MAX: usize = 100;

/// One promise of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The manifest parses, its row ranges follow on each other from 0, and its sums are right.
    Manifest,
    /// Every listed file exists with the listed size.
    FileSize,
    /// Every file has the BLAKE3 that the manifest lists, or that its own footer holds.
    FileChecksum,
    /// No part file is in the folder that the manifest does not list.
    StrayFiles,
    /// Every footer parses, is of this format and of this job and model, and has the schema of the output.
    Footer,
    /// Every row group decodes.
    Decoding,
    /// Rows are numbered 0 to N-1, once each, in order, over all files, but for those of the holes.
    RowNumbers,
    /// Rows, rejects by reason, truncations and tokens are as the footers and the manifest count them.
    Counts,
    /// A row has an error exactly when it has no vector.
    VectorOrError,
    /// Every error is a reason of the closed list.
    ReasonKnown,
    /// Every component is finite, and every vector stored as its output type says.
    Finite,
    /// Every vector has L2 norm 1 within 0.001 and the rounding of its output type, where vectors are normalised.
    UnitNorm,
    /// Rows with a vector have 1 to `max_length` tokens, rejected rows none.
    TokenCounts,
    /// The corpus has as many records as the output has rows and holes.
    CorpusRows,
    /// The kept columns are those of the corpus, value by value.
    CorpusColumns,
    /// As many rows as are counted as reused have the vector that an earlier output has for their text.
    ReusedRows,
    /// A row is rejected for its text exactly when the text of the corpus has that fault.
    CorpusReasons,
}

impl Check {
    /// Returns the name used in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Check::Manifest => "manifest",
            Check::FileSize => "file_size",
            Check::FileChecksum => "file_checksum",
            Check::StrayFiles => "stray_files",
            Check::Footer => "footer",
            Check::Decoding => "decoding",
            Check::RowNumbers => "row_numbers",
            Check::Counts => "counts",
            Check::VectorOrError => "vector_or_error",
            Check::ReasonKnown => "reason_known",
            Check::Finite => "finite",
            Check::UnitNorm => "unit_norm",
            Check::TokenCounts => "token_counts",
            Check::CorpusRows => "corpus_rows",
            Check::CorpusColumns => "corpus_columns",
            Check::ReusedRows => "reused_rows",
            Check::CorpusReasons => "corpus_reasons",
        }
    }
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CheckResult {
    /// Which.
    pub check: Check,
    /// Whether it found nothing wrong.
    pub passed: bool,
    /// How many problems it found.
    pub problems: u64,
}

/// One broken promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Which.
    pub check: Check,
    /// The file, where one is to blame.
    pub file: Option<PathBuf>,
    /// The row over the whole corpus, where one is to blame.
    pub row: Option<u64>,
    /// What is wrong.
    pub detail: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.check.name())?;
        if let Some(file) = &self.file {
            write!(f, "`{}`: ", file.display())?;
        }
        if let Some(row) = self.row {
            write!(f, "row {row}: ")?;
        }
        f.write_str(&self.detail)
    }
}

/// What verify found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// The folder or file.
    pub target: PathBuf,
    /// Whether every check passed.
    pub passed: bool,
    /// Files that were looked at.
    pub files: u64,
    /// Counts over the rows that were read.
    pub totals: RowCounts,
    /// Rows that are counted as reused in the files that were compared with the earlier outputs; absent where none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reused_compared: Option<u64>,
    /// Rows that are in no file, as the manifest says: no damage, the job was allowed to end without them.
    pub missing: u64,
    /// Where they are: the first [`HOLES_MAX`] holes.
    pub holes: Vec<ManifestHole>,
    /// Every check that was made, in a fixed order.
    pub checks: Vec<CheckResult>,
    /// The first [`PROBLEMS_MAX`] problems.
    pub problems: Vec<Problem>,
}

impl VerifyReport {
    pub(super) fn new(target: &Path, checks: &[Check]) -> VerifyReport {
        let checks = checks.iter().map(|check| CheckResult { check: *check, passed: true, problems: 0 }).collect();
        let totals = RowCounts::default();
        let (target, holes, problems) = (target.to_owned(), Vec::new(), Vec::new());
        let (reused_compared, missing) = (None, 0);
        VerifyReport { target, passed: true, files: 0, totals, reused_compared, missing, holes, checks, problems }
    }

    /// Returns whether every check passed.
    pub fn passed(&self) -> bool {
        self.passed
    }

    /// Returns how a check went; `None` where it was not made.
    pub fn check(&self, check: Check) -> Option<CheckResult> {
        self.checks.iter().find(|result| result.check == check).copied()
    }

    pub(super) fn problem(&mut self, check: Check, file: Option<&Path>, row: Option<u64>, detail: impl Into<String>) {
        let result = self.checks.iter_mut().find(|result| result.check == check);
        let result = result.expect("a problem belongs to a check that is made");
        result.problems += 1;
        result.passed = false;
        self.passed = false;
        if self.problems.len() < PROBLEMS_MAX {
            let file = file.map(Path::to_owned);
            self.problems.push(Problem { check, file, row, detail: detail.into() });
        }
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let totals = &self.totals;
        writeln!(
            f,
            "{}: {} files, {} rows ({} rejected, {} truncated), {} tokens",
            self.target.display(),
            self.files,
            totals.rows,
            totals.rejected(),
            totals.truncated,
            totals.tokens
        )?;
        for check in &self.checks {
            match check.problems {
                0 => writeln!(f, "  ok      {}", check.check.name())?,
                count => writeln!(f, "  FAILED  {} ({count})", check.check.name())?,
            }
        }
        for ManifestHole { first_row, rows, reason, .. } in &self.holes {
            writeln!(f, "missing: {rows} rows from {first_row} on: {reason}")?;
        }
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        let all: u64 = self.checks.iter().map(|check| check.problems).sum();
        let hidden = all.saturating_sub(self.problems.len() as u64);
        if hidden > 0 {
            writeln!(f, "and {hidden} more problems")?;
        }
        write!(f, "{}", if self.passed { "verified" } else { "NOT verified" })
    }
}
