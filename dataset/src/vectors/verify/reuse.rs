//! The output beside the earlier outputs that it took vectors from: as many rows as it counts have the bits that they have there.

use std::path::Path;

use arrow_array::{Array, RecordBatch};
use spec::{RejectReason, ReuseSource, RowCounts};

use super::super::column_names::ERROR;
use super::super::error::VectorsError;
use super::super::manifest::Manifest;
use super::super::read::{VectorReader, VectorSet};
use super::super::reuse::{EarlierOutput, ReuseIndex, check_texts, strings};
use super::report::{Check, VerifyReport};
use crate::DatasetError;

/// Files are compared in whole, and so many that about this many rows are.
const SAMPLE_ROWS: u64 = 100_000;

/// The earlier outputs to compare an output with.
#[derive(Debug)]
pub struct VerifyReuse {
    index: ReuseIndex,
    /// The column of the texts in the output itself.
    text_column: String,
    /// Of the files with reused rows, every so many-th is compared.
    every: u64,
    /// Such files so far.
    files: u64,
    /// Rows of the file at hand that are as in an earlier output.
    equal: u64,
}

impl VerifyReuse {
    /// Opens the earlier outputs that an output lists: those that were moved in the `given` places, the others where they
    /// were. `text_column` is that of outputs whose footers do not name it.
    ///
    /// # Errors
    /// The output lists none or did not keep its texts; a given place is of none of them; or one is gone, damaged or another.
    pub fn open(set: &VectorSet, given: &[String], text_column: &str) -> Result<VerifyReuse, DatasetError> {
        let target = set.target();
        let mut listed = set.reuse()?;
        if listed.is_empty() {
            return Err(
                VectorsError::unusable(target, "it lists no earlier outputs: it was made without --reuse, or by a merge with --partition-rows, which does not keep the list").into()
            );
        }
        for place in given {
            let moved = EarlierOutput::open(place, text_column)?.source().clone();
            let of = listed.iter_mut().find(|source| source.blake3 == moved.blake3);
            let other = || {
                let detail = format!("it is none of the earlier outputs that `{}` lists", target.display());
                VectorsError::unusable(Path::new(place), detail)
            };
            of.ok_or_else(other)?.uri = moved.uri;
        }
        let named = set.first()?.and_then(|first| first.text_column().map(str::to_owned));
        let text_column = named.unwrap_or_else(|| text_column.to_owned());
        check_texts(target, set.kept_schema(), &text_column)?;
        let files = set.manifest.as_ref().map_or(&[][..], |manifest: &Manifest| manifest.files.as_slice());
        let rows: u64 = files.iter().filter(|file| file.reused > 0).map(|file| file.rows).sum();
        let every = rows.div_ceil(SAMPLE_ROWS).max(1);
        let sources: Vec<ReuseSource> = listed.into_iter().map(ReuseSource::from).collect();
        let index = ReuseIndex::build(&sources, set.info())?;
        Ok(VerifyReuse { index, text_column, every, files: 0, equal: 0 })
    }

    /// Compares the rows of a batch, if its file is one of the sample.
    pub(super) fn compare(
        &mut self,
        file: &VectorReader,
        batch: &RecordBatch,
        expected: &RowCounts,
    ) -> Result<(), DatasetError> {
        if !self.is_sampled(expected) {
            return Ok(());
        }
        let texts = strings(file.path(), batch.column_by_name(&self.text_column))?;
        let errors = batch.column_by_name(ERROR).expect("the reader checked the columns");
        let text = |row: usize| match errors.is_null(row) && texts.is_valid(row) {
            true => Ok(texts.value(row).to_owned()),
            false => Err(RejectReason::NullText),
        };
        let texts: Vec<Result<String, RejectReason>> = (0..batch.num_rows()).map(text).collect();
        if let Some(reused) = self.index.look_up(&[&texts])?.remove(0) {
            self.equal += (0..batch.num_rows()).filter(|row| reused.equals(*row, batch)).count() as u64;
        }
        Ok(())
    }

    fn is_sampled(&self, expected: &RowCounts) -> bool {
        expected.reused > 0 && self.files.is_multiple_of(self.every)
    }

    /// Ends a file: of texts that earlier outputs have, some may have been computed all the same, but no fewer rows than are
    /// counted were taken from there.
    pub(super) fn end_file(&mut self, path: &Path, expected: &RowCounts, report: &mut VerifyReport) {
        let equal = std::mem::take(&mut self.equal);
        if self.is_sampled(expected) {
            if equal < expected.reused {
                let detail = format!(
                    "{} rows are counted as reused, and {equal} have the vector, the tokens and the truncation that an earlier \
                     output has for their text",
                    expected.reused
                );
                report.problem(Check::ReusedRows, Some(path), None, detail);
            }
            *report.reused_compared.get_or_insert(0) += expected.reused;
        }
        self.files += u64::from(expected.reused > 0);
    }
}
