//! PURE: the promises that rows keep by themselves, batch by batch.

use std::path::Path;

use arrow_array::{Array, RecordBatch};
use spec::{RejectReason, RowCounts};

use super::super::batch::{NORM_TOLERANCE, norm};
use super::super::columns::StatusColumns;
use super::super::element::Vectors;
use super::super::holes::RowNumbers;
use super::super::info::FileInfo;
use super::super::manifest_entries::ManifestHole;
use super::report::{Check, VerifyReport};

/// Checks rows in order, over all files of a set.
pub(super) struct RowChecker<'a> {
    info: &'a FileInfo,
    /// All that are listed.
    holes: &'a [ManifestHole],
    /// The rows that come next if no others are missing.
    rows: RowNumbers<'a>,
}

impl<'a> RowChecker<'a> {
    /// Begins at a row, and takes it that the rows of holes are missing.
    pub(super) fn new(info: &'a FileInfo, row: u64, holes: &'a [ManifestHole]) -> RowChecker<'a> {
        RowChecker { info, holes, rows: RowNumbers::from(row, holes) }
    }

    /// Goes on at a row, wherever the last one was.
    pub(super) fn go_on(&mut self, row: u64) {
        self.rows = RowNumbers::from(row, self.holes);
    }

    /// Returns the row that comes next.
    pub(super) fn next_row(&self) -> u64 {
        self.rows.peek()
    }

    /// Checks a batch that holds all columns of ours, and adds its counts to `totals`.
    pub(super) fn check(
        &mut self,
        file: &Path,
        batch: &RecordBatch,
        totals: &mut RowCounts,
        report: &mut VerifyReport,
    ) {
        let status = StatusColumns::of(batch);
        let vectors = Vectors::of(batch, self.info);
        let mut floats = Vec::with_capacity(self.info.dimensions as usize);
        for index in 0..batch.num_rows() {
            let row = self.check_number(file, status.row.value(index), report);
            let mut problem = |check, detail: String| report.problem(check, Some(file), Some(row), detail);
            let error = status.error.is_valid(index).then(|| status.error.value(index));
            if let Some(code) = error
                && code.parse::<RejectReason>().is_err()
            {
                problem(Check::ReasonKnown, format!("`{code}` is not a reason of the closed list"));
            }
            match (vectors.has(index), error) {
                (true, Some(code)) => problem(Check::VectorOrError, format!("a vector and the error `{code}`")),
                (false, None) => problem(Check::VectorOrError, "neither a vector nor an error".to_owned()),
                (true, None) | (false, Some(_)) => {}
            }
            if let Some(detail) = vectors.storage_problem(index) {
                problem(Check::Finite, detail);
            } else if vectors.has(index) {
                floats.clear();
                vectors.append(index, &mut floats);
                let norm = norm(floats.iter().map(|value| f64::from(*value)));
                let tolerance = NORM_TOLERANCE + vectors.rounding(index);
                if !norm.is_finite() {
                    problem(Check::Finite, "its vector is not finite".to_owned());
                } else if self.info.normalized && (norm - 1.0).abs() > tolerance {
                    problem(Check::UnitNorm, format!("its vector has norm {norm}"));
                }
            }
            let (tokens, truncated) = (status.n_tokens.value(index), status.truncated.value(index));
            if let Some(detail) = self.token_problem(tokens, truncated, error.is_some()) {
                problem(Check::TokenCounts, detail);
            }
        }
        status.count(totals);
    }

    /// Returns the row's number as the column tells it, and checks that it is the next.
    fn check_number(&mut self, file: &Path, found: i64, report: &mut VerifyReport) -> u64 {
        let expected = self.rows.next();
        let row = u64::try_from(found).unwrap_or_default();
        if found < 0 || row != expected {
            let detail = format!("found row {found}, expected row {expected}");
            report.problem(Check::RowNumbers, Some(file), Some(expected), detail);
            self.go_on(row.saturating_add(1));
        }
        row
    }

    fn token_problem(&self, tokens: i32, truncated: bool, rejected: bool) -> Option<String> {
        match rejected {
            true if tokens != 0 || truncated => Some(format!("a rejected row with {tokens} tokens")),
            false if tokens < 1 || tokens.unsigned_abs() > self.info.max_length => {
                Some(format!("{tokens} tokens, expected 1 to {}", self.info.max_length))
            }
            true | false => None,
        }
    }
}
