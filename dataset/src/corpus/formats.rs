//! The table of corpus formats. A format is one file that implements one of two traits.

use spec::{Format, ReadOptions, Source};

use crate::corpus::columnar::ColumnarFormat;
use crate::corpus::dialect::{self, Dialect};
use crate::corpus::text_format::TextFormat;
use crate::corpus::{arrow, csv, json_array, jsonl, parquet, txt};
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

/// Checks that the dialect options are valid and that each applies to some source.
///
/// # Errors
/// `BadInput` naming the option.
pub(crate) fn check_dialect(sources: &[Source], options: &ReadOptions) -> Result<(), DatasetError> {
    dialect::check(options)?;
    let bad = |option: &str, problem: &str| Err(DatasetError::bad_input(option, problem));
    let delimited = sources.iter().filter(|source| is_delimited(source.format));
    for source in delimited.clone() {
        let dialect = Dialect::of(source.format, options);
        if dialect.quote == Some(dialect.delimiter) {
            return bad("--quote", "must not be the delimiter too");
        }
    }
    if delimited.count() == 0 {
        let problem = "applies to csv and tsv alone, and the corpus has no such source: leave it out";
        if options.delimiter.is_some() {
            return bad("--delimiter", problem);
        }
        if options.quote.is_some() {
            return bad("--quote", problem);
        }
    }
    if options.encoding.is_some() && sources.iter().all(|source| text_format(source.format).is_none()) {
        return bad("--encoding", "applies to text formats alone, and the corpus has no such source: leave it out");
    }
    Ok(())
}

#[cfg(test)]
#[path = "formats_tests.rs"]
mod tests;
