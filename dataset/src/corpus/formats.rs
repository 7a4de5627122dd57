//! The corpus formats: what each of them does, in one table. A format is one file behind one of two traits.

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

/// How the records of a format lie in its objects.
#[derive(Clone, Copy)]
pub(crate) enum Layout {
    /// One after the other in a text, which may be compressed and encoded: cut by bytes.
    Text(&'static dyn TextFormat),
    /// Column by column in parts that a footer or header describes: cut by rows.
    Columnar(&'static dyn ColumnarFormat),
}

/// Returns what a format does, and the extensions that name it, the usual one first.
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

/// Returns the text format, or `None` where it is columnar.
pub(crate) fn text_format(format: Format) -> Option<&'static dyn TextFormat> {
    match layout(format).0 {
        Layout::Text(text) => Some(text),
        Layout::Columnar(_) => None,
    }
}

/// Tells whether the first record of a source names its columns, which delimiters separate.
pub(crate) fn is_delimited(format: Format) -> bool {
    text_format(format).is_some_and(TextFormat::is_delimited)
}

/// Returns the format that an extension (in lower case) names.
pub(crate) fn by_extension(extension: &str) -> Option<Format> {
    Format::ALL.iter().copied().find(|format| layout(*format).1.contains(&extension))
}

/// A format whose records follow each other in a text.
pub(crate) trait TextFormat: Sync {
    /// Whether the first record names the columns, and delimiters separate them.
    fn is_delimited(&self) -> bool {
        false
    }

    /// Whether records name their own columns, which a sample shows.
    fn is_sampled(&self) -> bool {
        false
    }

    /// Returns what finds the ends of records, at the start of one.
    fn splitter(&self, dialect: Dialect) -> Splitter;

    /// Finds out the columns of a source from its front.
    ///
    /// # Errors
    /// `BadInput` where the front is not of this format or in another encoding; the object cannot be read.
    fn columns<'a>(&'a self, probe: ColumnProbe<'a>) -> BoxFuture<'a, Result<Columns, DatasetError>>;

    /// Returns the cells of a record that hold these columns, for judging their encoding; the whole record where cells
    /// cannot be told apart.
    fn cells<'a>(&self, record: &'a [u8], wanted: &SelectedColumns<'_>) -> Vec<Cow<'a, [u8]>>;

    /// Returns what turns records into rows.
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

/// What is known while the columns of a source are found out.
pub(crate) struct ColumnProbe<'a> {
    pub(crate) object: &'a Object,
    pub(crate) source: &'a Source,
    pub(crate) options: &'a ReadOptions,
    /// The types of sampled columns, over all sources.
    pub(crate) inference: &'a mut Inference,
    pub(crate) notices: &'a mut Vec<Notice>,
}

/// Columns whose cells are looked at.
pub(crate) struct SelectedColumns<'a> {
    pub(crate) names: &'a [String],
    /// Columns of the source, where its header names them.
    pub(crate) header: &'a [String],
    pub(crate) dialect: Dialect,
}

/// Finds the ends of records, see [`Split`].
pub(crate) type Splitter = Box<dyn Split>;

/// Finds record ends in consecutive blocks of a text. Holds no bytes: a record of any size costs nothing.
pub(crate) trait Split: Send + Sync {
    /// Returns where in `block` the current record ends, its line end included, and is then at the start of the next;
    /// or `None` where all of `block` belongs to a record (or to nothing) that goes on in the next block. The end can be
    /// 0: a record that ended with the CR at the end of the block before.
    fn find_end(&mut self, block: &[u8]) -> Option<usize>;

    /// Tells what is left where the text ends.
    fn finish(&self) -> Tail;

    /// Says why a source cannot end here, if it cannot.
    fn end_problem(&self) -> Option<&'static str> {
        None
    }

    /// Returns what was odd about the quotes of the record that [`Split::find_end`] ended last.
    fn odd_quotes(&self) -> Option<OddQuotes> {
        None
    }

    /// As [`Split::odd_quotes`], of the record that the end of the text ends.
    fn odd_quotes_at_end(&mut self) -> Option<OddQuotes> {
        None
    }
}

/// What is left when a text ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// No record is begun.
    Nothing,
    /// The last record lacks its line end, which is fine.
    Record,
    /// The last record opened a quote or a bracket that is never closed: it may have swallowed other records.
    Open,
}

/// Turns records into rows.
pub(crate) trait Parse: Send {
    /// Appends one record, as the [`Split`] of the format delimits it.
    ///
    /// # Errors
    /// `UnknownKey`; nothing is appended then.
    fn parse(&mut self, record: &[u8], rows: &mut ChunkBuilder) -> Result<(), UnknownKey>;
}

/// A format whose objects have rows in parts. All of it may block, and runs on a thread that may.
pub(crate) trait ColumnarFormat: Sync {
    /// Reads the fields, from the footer or header; those that cannot be read say why.
    ///
    /// # Errors
    /// The object is not of this format, damaged, or cannot be read.
    fn schema(&self, object: &BlockingObject) -> Result<SchemaRef, DatasetError>;

    /// Reads where its parts lie.
    ///
    /// # Errors
    /// As [`ColumnarFormat::schema`].
    fn index(&self, object: &BlockingObject) -> Result<Arc<dyn Index>, DatasetError>;
}

/// Where the parts of a columnar object lie.
pub(crate) trait Index: Send + Sync {
    /// Lists the parts.
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
