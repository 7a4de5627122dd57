//! The interface of text formats: [`TextFormat`], with what splits a text into records and parses them.

use std::borrow::Cow;

use arrow_schema::Schema;
use futures::future::BoxFuture;
use spec::{ReadOptions, Source};

use crate::corpus::PlannedSource;
use crate::corpus::columns::ChunkBuilder;
use crate::corpus::dialect::Dialect;
use crate::corpus::inference::Inference;
use crate::corpus::notice::Notice;
use crate::corpus::object::Object;
use crate::corpus::schema::Columns;
use crate::error::DatasetError;

/// A format with a sequence of records in a text.
pub(crate) trait TextFormat: Sync {
    /// Returns whether the first record names the columns, separated by delimiters.
    fn is_delimited(&self) -> bool;

    /// Returns whether records name their columns, so that these are found by sampling.
    fn is_sampled(&self) -> bool;

    /// Returns the splitter, positioned at the start of a record.
    fn splitter(&self, dialect: Dialect) -> Splitter;

    /// Determines the columns of a source from its front.
    ///
    /// # Errors
    /// `BadInput` for a front in another format or encoding; the object cannot be read.
    fn columns<'a>(&'a self, probe: ColumnProbe<'a>) -> BoxFuture<'a, Result<Columns, DatasetError>>;

    /// Returns the cells of a record in the selected columns, for checking their encoding; the whole record if cells
    /// are not separable.
    fn cells<'a>(&self, record: &'a [u8], selected: &SelectedColumns<'_>) -> Vec<Cow<'a, [u8]>>;

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

    /// Returns why the text cannot end here, such as within a bracket; `None` where it may end after any record.
    fn end_problem(&self) -> Option<&'static str>;

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

/// A suspicious quoted field: one that violates RFC 4180, or is very long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OddQuotes {
    /// Line ends between its quotes.
    pub(crate) line_ends: u64,
    /// Whether other characters follow its closing quote.
    pub(crate) goes_on: bool,
}

/// A record has a key without an output column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnknownKey(pub(crate) String);
