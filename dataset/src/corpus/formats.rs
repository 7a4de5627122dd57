//! The table of corpus formats. A format is one file that implements one of two traits.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use futures::future::BoxFuture;
use spec::{Format, ReadOptions, Source};

use crate::corpus::columnar::{Batches, BlockingObject, Part, Selection};
use crate::corpus::columns::ChunkBuilder;
use crate::corpus::csv::OddQuotes;
use crate::corpus::dialect::Dialect;
use crate::corpus::jsonl::{Inference, UnknownKey};
use crate::corpus::notice::Notice;
use crate::corpus::object::Object;
use crate::corpus::schema::Columns;
use crate::corpus::{PlannedSource, arrow, csv, json_array, jsonl, parquet, txt};
use crate::error::DatasetError;

/// The layout of a format's records.
#[derive(Clone, Copy)]
pub(crate) enum Layout {
    /// A sequence in a text that may be compressed and encoded: cut by bytes.
    Text(&'static dyn TextFormat),
    /// Columns in parts described by a footer or header: cut by rows.
    Columnar(&'static dyn ColumnarFormat),
}

/// Returns a format's implementation, and its extensions, the usual one first.
pub(crate) fn layout(format: Format) -> (Layout, &'static [&'static str]) {
    match format {
        Format::Csv => (Layout::Text(&csv::Csv), &["csv"]),
        Format::Tsv => (Layout::Text(&csv::Csv), &["tsv", "tab"]),
        Format::Jsonl => (Layout::Text(&jsonl::Jsonl), &["jsonl", "ndjson"]),
        Format::Json => (Layout::Text(&json_array::JsonArray), &["json"]),
        Format::Parquet => (Layout::Columnar(&parquet::Parquet), &["parquet", "pq"]),
        Format::Arrow => (Layout::Columnar(&arrow::Arrow), &["arrow", "arrows", "feather", "ipc"]),
        Format::Txt => (Layout::Text(&txt::Txt), &["txt", "text"]),
    }
}

/// Returns the text format, or `None` for a columnar one.
pub(crate) fn text_format(format: Format) -> Option<&'static dyn TextFormat> {
    match layout(format).0 {
        Layout::Text(text) => Some(text),
        Layout::Columnar(_) => None,
    }
}

/// Returns whether the first record names the columns, separated by delimiters.
pub(crate) fn is_delimited(format: Format) -> bool {
    text_format(format).is_some_and(TextFormat::is_delimited)
}

/// Returns the format of a lower-case extension.
pub(crate) fn by_extension(extension: &str) -> Option<Format> {
    Format::ALL.iter().copied().find(|format| layout(*format).1.contains(&extension))
}

/// A format with a sequence of records in a text.
pub(crate) trait TextFormat: Sync {
    /// Returns whether the first record names the columns, separated by delimiters.
    fn is_delimited(&self) -> bool {
        false
    }

    /// Returns whether records name their columns, so that these are found by sampling.
    fn is_sampled(&self) -> bool {
        false
    }

    /// Returns the splitter, positioned at the start of a record.
    fn splitter(&self, dialect: Dialect) -> Splitter;

    /// Determines the columns of a source from its front.
    ///
    /// # Errors
    /// `BadInput` for a front in another format or encoding; the object cannot be read.
    fn columns<'a>(&'a self, probe: ColumnProbe<'a>) -> BoxFuture<'a, Result<Columns, DatasetError>>;

    /// Returns the cells of a record in the selected columns, for checking their encoding; the whole record if cells
    /// are not separable.
    fn cells<'a>(&self, record: &'a [u8], wanted: &SelectedColumns<'_>) -> Vec<Cow<'a, [u8]>>;

    /// Returns the parser of records.
    ///
    /// # Errors
    /// The source lacks the text column.
    fn parser(
        &self,
        source: &PlannedSource,
        options: &ReadOptions,
        kept: &Schema,
    ) -> Result<Box<dyn Parse>, DatasetError>;
}

/// The context for determining the columns of a source.
pub(crate) struct ColumnProbe<'a> {
    pub(crate) object: &'a Object,
    pub(crate) source: &'a Source,
    pub(crate) options: &'a ReadOptions,
    /// Inferred types of sampled columns, over all sources.
    pub(crate) inference: &'a mut Inference,
    pub(crate) notices: &'a mut Vec<Notice>,
}

/// The columns whose cells are checked.
pub(crate) struct SelectedColumns<'a> {
    pub(crate) names: &'a [String],
    /// Columns in the header, if there is one.
    pub(crate) header: &'a [String],
    pub(crate) dialect: Dialect,
}

pub(crate) type Splitter = Box<dyn Split>;

/// Finds record ends in consecutive blocks of a text, in constant memory.
pub(crate) trait Split: Send + Sync {
    /// Returns the end of the current record in `block`, line end included, or `None` if the block ends first. The end
    /// is 0 for a record that ended with the CR at the end of the previous block. The next call must begin there.
    fn find_end(&mut self, block: &[u8]) -> Option<usize>;

    /// Returns what remains at the end of the text.
    fn finish(&self) -> Tail;

    /// Returns why the text cannot end here, if it cannot.
    fn end_problem(&self) -> Option<&'static str> {
        None
    }

    /// Returns suspicious quotes of the last record that [`Split::find_end`] ended.
    fn odd_quotes(&self) -> Option<OddQuotes> {
        None
    }

    /// As [`Split::odd_quotes`], for the record ended by the end of the text.
    fn odd_quotes_at_end(&mut self) -> Option<OddQuotes> {
        None
    }
}

/// What remains at the end of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// No record has begun.
    Nothing,
    /// A last record without a line end.
    Record,
    /// A last record with an unclosed quote or bracket, which may have swallowed other records.
    Open,
}

/// Converts records to rows.
pub(crate) trait Parse: Send {
    /// Appends one record as delimited by the format's [`Split`].
    ///
    /// # Errors
    /// `UnknownKey`, without appending.
    fn parse(&mut self, record: &[u8], rows: &mut ChunkBuilder) -> Result<(), UnknownKey>;
}

/// A format with rows in parts. All methods may block.
pub(crate) trait ColumnarFormat: Sync {
    /// Reads the fields; unreadable ones are marked with the reason.
    ///
    /// # Errors
    /// The object is not of this format, damaged, or cannot be read.
    fn schema(&self, object: &BlockingObject) -> Result<SchemaRef, DatasetError>;

    /// Locates its parts.
    ///
    /// # Errors
    /// As [`ColumnarFormat::schema`].
    fn index(&self, object: &BlockingObject) -> Result<Arc<dyn Index>, DatasetError>;
}

/// The parts of a columnar object.
pub(crate) trait Index: Send + Sync {
    /// Returns the parts.
    fn parts(&self, text_column: &str) -> Vec<Part>;

    /// Opens rows and columns of the object. May block.
    ///
    /// # Errors
    /// The object is damaged, or cannot be read.
    fn open(&self, object: BlockingObject, selection: &Selection) -> Result<Box<dyn Batches>, DatasetError>;
}

#[cfg(test)]
#[path = "formats_tests.rs"]
mod tests;
