//! The output beside the corpus: as many rows, the same kept values, the same faults of texts.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use spec::{ReadOptions, RejectReason, Source};

use super::super::columns::StatusColumns;
use super::super::manifest_entries::ManifestHole;
use super::super::read::VectorReader;
use super::report::{Check, VerifyReport};
use crate::DatasetError;
use crate::corpus::{RecordChunk, Records, kept_schema_of, records};

/// The corpus to compare an output with.
#[derive(Debug, Clone)]
pub struct VerifyCorpus {
    /// Its sources, in the order of the job.
    pub sources: Vec<Source>,
    /// How the job read them.
    pub options: ReadOptions,
}

/// The records of a corpus, streamed in order.
pub(super) struct CorpusRows {
    records: Records,
    /// The chunk at hand, and how many of its rows are compared.
    chunk: Option<(RecordChunk, usize)>,
    next_row: u64,
    /// Rows that the output does not have, from the next one on.
    holes: VecDeque<ManifestHole>,
    /// The schemas have been compared: once is enough.
    compared_columns: bool,
}

impl CorpusRows {
    pub(super) async fn open(corpus: &VerifyCorpus) -> Result<CorpusRows, DatasetError> {
        let records = records(&corpus.sources, &corpus.options).await?;
        Ok(CorpusRows { records, chunk: None, next_row: 0, holes: VecDeque::new(), compared_columns: false })
    }

    /// Makes sure that a chunk with rows left is at hand; false at the end of the corpus.
    async fn fill(&mut self) -> Result<bool, DatasetError> {
        if self.chunk.as_ref().is_none_or(|(chunk, used)| *used >= chunk.texts.len()) {
            self.chunk = self.records.next_chunk().await?.map(|chunk| (chunk, 0));
        }
        Ok(self.chunk.is_some())
    }

    /// Compares the rows of a batch with the next records of the corpus.
    pub(super) async fn compare(
        &mut self,
        file: &VectorReader,
        batch: &RecordBatch,
        report: &mut VerifyReport,
    ) -> Result<(), DatasetError> {
        if !self.compared_columns {
            self.compared_columns = true;
            self.compare_columns(file, report)?;
        }
        let mut start = 0;
        while start < batch.num_rows() {
            let run = self.pass_holes().await?;
            if !self.fill().await? {
                return Ok(());
            }
            let (chunk, used) = self.chunk.as_mut().expect("filled");
            let count = (chunk.texts.len() - *used).min(batch.num_rows() - start).min(run);
            let rows = batch.slice(start, count);
            let texts = &chunk.texts[*used..*used + count];
            compare_rows(file.path(), &rows, texts, &chunk.kept.slice(*used, count), report);
            *used += count;
            start += count;
            self.next_row += count as u64;
        }
        Ok(())
    }

    fn compare_columns(&self, file: &VectorReader, report: &mut VerifyReport) -> Result<(), DatasetError> {
        let Some(source) = self.records.planned().first() else { return Ok(()) };
        let expected = kept_schema_of(source)?;
        let found = file.kept_schema().fields().iter();
        let found: Vec<_> = found.map(|field| (field.name().as_str(), field.data_type())).collect();
        let expected: Vec<_> = expected.fields().iter().map(|field| (field.name(), field.data_type())).collect();
        if !expected.iter().map(|(name, kind)| (name.as_str(), *kind)).eq(found.iter().copied()) {
            let detail = format!("the corpus has the kept columns {expected:?}, the output {found:?}");
            report.problem(Check::CorpusColumns, Some(file.path()), None, detail);
        }
        Ok(())
    }

    /// Takes it that the output does not have these rows.
    pub(super) fn expect_holes(&mut self, holes: &[ManifestHole]) {
        self.holes = holes.iter().cloned().collect();
    }

    /// Skips the records of the holes that come next. Returns how many others there are before the hole after these.
    async fn pass_holes(&mut self) -> Result<usize, DatasetError> {
        while let Some(hole) = self.holes.pop_front_if(|hole| hole.first_row <= self.next_row) {
            self.skip_records(hole.end().saturating_sub(self.next_row)).await?;
        }
        let run = self.holes.front().map_or(u64::MAX, |hole| hole.first_row - self.next_row);
        Ok(usize::try_from(run).unwrap_or(usize::MAX))
    }

    /// Skips records whose rows could not be read.
    pub(super) async fn skip(&mut self, rows: u64) -> Result<(), DatasetError> {
        let mut left = rows;
        while left > 0 {
            let count = left.min(self.pass_holes().await? as u64);
            self.skip_records(count).await?;
            left -= count;
        }
        Ok(())
    }

    async fn skip_records(&mut self, records: u64) -> Result<(), DatasetError> {
        let mut left = records;
        while left > 0 && self.fill().await? {
            let (chunk, used) = self.chunk.as_mut().expect("filled");
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.texts.len() - *used);
            *used += count;
            left -= count as u64;
            self.next_row += count as u64;
        }
        Ok(())
    }

    /// Reads to the end of the corpus and returns how many records it has.
    pub(super) async fn count_all(&mut self) -> Result<u64, DatasetError> {
        self.skip_records(u64::MAX).await?;
        Ok(self.next_row)
    }
}

/// Compares rows with their records: kept values and faults of the text.
fn compare_rows(
    file: &Path,
    rows: &RecordBatch,
    texts: &[Result<String, RejectReason>],
    kept: &RecordBatch,
    report: &mut VerifyReport,
) {
    let status = StatusColumns::of(rows);
    for (field, expected) in kept.schema().fields().iter().zip(kept.columns()) {
        let Some(found) = rows.column_by_name(field.name()) else { continue };
        if found.as_ref() == expected.as_ref() {
            continue;
        }
        // A dictionary may have a null among its values, which is the same null.
        let (found, expected) = (plain(found), plain(expected));
        let differing =
            (0..rows.num_rows()).filter(|&index| found.slice(index, 1).as_ref() != expected.slice(index, 1).as_ref());
        for index in differing {
            let row = status.row.value(index).unsigned_abs();
            let detail = format!("column `{}` is not that of the corpus", field.name());
            report.problem(Check::CorpusColumns, Some(file), Some(row), detail);
        }
    }
    for (index, text) in texts.iter().enumerate() {
        let error = status.error.is_valid(index).then(|| status.error.value(index));
        if let Some(detail) = reason_problem(text, error) {
            report.problem(Check::CorpusReasons, Some(file), Some(status.row.value(index).unsigned_abs()), detail);
        }
    }
}

/// Returns an array without its dictionary, if it has one.
fn plain(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Dictionary(_, values) => arrow_cast::cast(array, values).unwrap_or_else(|_| Arc::clone(array)),
        _ => Arc::clone(array),
    }
}

fn reason_problem(text: &Result<String, RejectReason>, error: Option<&str>) -> Option<String> {
    match (text, error) {
        (Err(reason), Some(code)) if reason.code() == code => None,
        (Err(reason), Some(code)) => Some(format!("rejected as `{code}`, but its text is `{reason}`")),
        (Err(reason), None) => Some(format!("has a vector, but its text is `{reason}`")),
        (Ok(_), None) => None,
        (Ok(text), Some(code)) => match code.parse() {
            Ok(RejectReason::TokenizerError | RejectReason::NonFinite | RejectReason::WorkerCrash) => None,
            Ok(RejectReason::EmptyText) if text.trim().is_empty() => None,
            Ok(_) | Err(_) => Some(format!("rejected as `{code}`, but the corpus has a good text")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::batch::encode_chunk;
    use super::super::super::info::tests::info;
    use super::super::super::schema::output_schema;
    use super::super::super::testing::{chunk, kept_schema};
    use super::*;

    fn problems(
        change: impl FnOnce(&mut Vec<Result<String, RejectReason>>, &mut RecordBatch),
    ) -> Vec<(Check, Option<u64>)> {
        let rows = chunk(&info(4), 20, 12);
        let mut kept = rows.kept.clone();
        let text = |error: Option<RejectReason>| error.map_or(Ok("a".to_owned()), Err);
        let mut texts = rows.status.iter().map(|row| text(row.error)).collect();
        change(&mut texts, &mut kept);
        let schema = output_schema(&kept_schema(), &info(4)).unwrap();
        let batch = encode_chunk(&schema, &info(4), rows).unwrap();
        let mut report = VerifyReport::new(Path::new("d"), &[Check::CorpusColumns, Check::CorpusReasons]);
        compare_rows(Path::new("f"), &batch, &texts, &kept, &mut report);
        report.problems.iter().map(|problem| (problem.check, problem.row)).collect()
    }

    #[test]
    fn equal_rows_have_no_problem() {
        assert!(problems(|_, _| ()).is_empty());
    }

    #[test]
    fn a_row_that_was_lost_in_the_middle_shows_in_every_later_row() {
        let found = problems(|_, kept| *kept = chunk(&info(4), 21, 12).kept);
        assert!(found.contains(&(Check::CorpusColumns, Some(20))) && found.len() >= 12, "{found:?}");
    }

    #[test]
    fn a_null_among_the_values_of_a_dictionary_is_a_null() {
        let values = arrow_array::StringArray::from(vec![Some("a"), None]);
        let keys = arrow_array::Int8Array::from(vec![Some(0), Some(1), None]);
        let in_values: ArrayRef = Arc::new(arrow_array::DictionaryArray::new(keys, Arc::new(values)));
        let in_keys: arrow_array::DictionaryArray<arrow_array::types::Int8Type> =
            [Some("a"), None, None].into_iter().collect();
        assert_ne!(in_values.as_ref(), &in_keys as &dyn Array);
        let in_keys: ArrayRef = Arc::new(in_keys);
        assert_eq!(plain(&in_values).as_ref(), plain(&in_keys).as_ref());
    }

    #[test]
    fn reasons_must_agree_both_ways() {
        assert_eq!(problems(|texts, _| texts[0] = Err(RejectReason::NullText)), [(Check::CorpusReasons, Some(20))]);
        // Row 24 is rejected for its text.
        assert_eq!(problems(|texts, _| texts[4] = Ok("good".into())), [(Check::CorpusReasons, Some(24))]);
        assert_eq!(problems(|texts, _| texts[4] = Err(RejectReason::TextTooLarge)), [(Check::CorpusReasons, Some(24))]);
    }

    #[test]
    fn a_model_may_fail_on_a_good_text() {
        let text = Ok("good".to_owned());
        assert!(reason_problem(&text, Some("non_finite")).is_none());
        assert!(reason_problem(&text, Some("null_text")).is_some());
        assert!(reason_problem(&Ok("  ".into()), Some("empty_text")).is_none());
    }
}

#[cfg(test)]
#[path = "corpus_tests.rs"]
mod whole_corpora;
