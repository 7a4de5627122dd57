//! CSV and TSV: splitting a text into records, and records into fields, by the same state machine.
//!
//! RFC 4180 as in Python's `csv` module and csv-core: a quote is special only at the start of a field; two quotes in a
//! quoted field are one; bytes after the closing quote belong to the field; LF, CRLF and CR end a record outside
//! quotes; blank lines are not records. Delimiter and quote come from the [`Dialect`]; without a quote, only
//! delimiters and line ends are special.

use std::borrow::Cow;
use std::collections::HashMap;

use arrow_schema::{DataType, Field, Schema};
use futures::FutureExt;
use futures::future::BoxFuture;
use memchr::{memchr, memchr_iter, memchr3};
use spec::{Keep, ReadOptions, RejectReason};

use crate::corpus::PlannedSource;
use crate::corpus::columns::{ChunkBuilder, text_of};
use crate::corpus::dialect::Dialect;
use crate::corpus::notice::Notice;
use crate::corpus::object::Object;
use crate::corpus::sample::{Front, is_windows_1252};
use crate::corpus::schema::{Columns, unique_names};
use crate::corpus::text_format::{
    ColumnProbe, OddQuotes, Parse, SelectedColumns, Split, Splitter, Tail, TextFormat, UnknownKey,
};
use crate::error::DatasetError;

/// Both formats; the dialect distinguishes them.
pub(crate) struct Csv;

impl TextFormat for Csv {
    fn is_delimited(&self) -> bool {
        true
    }

    fn is_sampled(&self) -> bool {
        false
    }

    fn splitter(&self, dialect: Dialect) -> Splitter {
        Box::new(CsvSplit::new(dialect))
    }

    fn columns<'a>(&'a self, probe: ColumnProbe<'a>) -> BoxFuture<'a, Result<Columns, DatasetError>> {
        async move {
            let front = Front::read(self, &probe).await?;
            let ColumnProbe { object, source, options, .. } = probe;
            let found = header_of(&front, object, Dialect::of(source.format, options))?;
            let names = unique_names(found.clone());
            let renamed = names.iter().zip(&found).filter(|(name, found)| name != found);
            let renamed: Vec<String> = renamed.map(|(name, _)| name.clone()).collect();
            if !renamed.is_empty() && options.keep == Keep::All {
                probe.notices.push(Notice::ColumnsRenamed { uri: source.uri.clone(), names: renamed });
            }
            // A header with other delimiters gets an error with advice, before its rows are checked.
            if names.contains(&options.text_column) {
                front.check_encoding(self, &names, probe)?;
            }
            Ok(Columns::Typed(names.iter().map(|name| Field::new(name, DataType::Utf8, true)).collect()))
        }
        .boxed()
    }

    fn cells<'a>(&self, record: &'a [u8], selected: &SelectedColumns<'_>) -> Vec<Cow<'a, [u8]>> {
        let mut fields = Fields::default();
        fields.split(record, selected.dialect);
        let positions = (0..selected.header.len()).filter(|&index| selected.names.contains(&selected.header[index]));
        positions.filter_map(|index| fields.get(index)).map(|field| Cow::Owned(field.to_vec())).collect()
    }

    fn parser(
        &self,
        source: &PlannedSource,
        options: &ReadOptions,
        kept: &Schema,
    ) -> Result<Box<dyn Parse>, DatasetError> {
        let dialect = Dialect::of(source.source.format, options);
        match Parser::new(dialect, &source.header, &options.text_column, kept) {
            Some(parser) => Ok(Box::new(parser)),
            None => Err(DatasetError::TextColumnMissing {
                uri: source.source.uri.clone(),
                column: options.text_column.clone(),
                found: source.header.clone(),
                hint: String::new(),
            }),
        }
    }
}

/// Line ends in a quoted field that cause a warning: its quotes may be text of a file without quoting.
pub(crate) const LINES_MANY: u64 = 10;

/// Returns the header fields of csv and tsv.
///
/// # Errors
/// `BadInput` for a header that is missing, too long, or not UTF-8.
fn header_of(front: &Front, object: &Object, dialect: Dialect) -> Result<Vec<String>, DatasetError> {
    let bad = |problem: &str| DatasetError::bad_input(object.name(), problem);
    let record = match front.records().next() {
        Some(record) => record,
        None if front.is_whole => return Err(bad("it is empty: the first line must name the columns")),
        None => {
            return Err(bad("its first record is larger than 1 MiB: is it CSV with a header, and no quote open? \
                            If quotes are ordinary characters in it, add --quote none"));
        }
    };
    let mut fields = Fields::default();
    fields.split(record, dialect);
    let names = (0..fields.len()).filter_map(|index| fields.get(index));
    let names: Result<Vec<String>, _> = names.map(|name| String::from_utf8(name.to_vec())).collect();
    names.map_err(|_| {
        if is_windows_1252(record) {
            bad("its header is not UTF-8 but good Windows-1252: add --encoding windows-1252")
        } else {
            bad("its header is not UTF-8: say how it is encoded with --encoding")
        }
    })
}

/// The state between two bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a record; line ends here are blank lines.
    RecordStart,
    /// After a delimiter.
    FieldStart,
    Unquoted,
    Quoted,
    /// After a quote in a quoted field: its end, or the first half of a doubled quote.
    QuoteInQuoted,
    /// After a CR that ended the record; a following LF belongs to it.
    AfterCr,
}

/// Finds record ends.
#[derive(Debug, Clone)]
pub(crate) struct CsvSplit {
    dialect: Dialect,
    state: State,
    /// LFs and CRs in the quoted field.
    line_ends: (u64, u64),
    /// Suspicious quotes of this record.
    odd: Option<OddQuotes>,
    odd_before: Option<OddQuotes>,
}

impl Split for CsvSplit {
    fn find_end(&mut self, block: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            let byte = *block.get(at)?;
            let next = match self.state {
                State::RecordStart if byte == b'\n' || byte == b'\r' => Some(State::RecordStart),
                State::RecordStart | State::FieldStart if self.is_quote(byte) => {
                    self.line_ends = (0, 0);
                    Some(State::Quoted)
                }
                State::RecordStart | State::FieldStart => self.unquoted(byte),
                State::Unquoted => {
                    at += memchr3(self.dialect.delimiter, b'\n', b'\r', &block[at..])?;
                    self.unquoted(block[at])
                }
                State::Quoted => {
                    at += self.quoted(&block[at..])?;
                    Some(State::QuoteInQuoted)
                }
                State::QuoteInQuoted if self.is_quote(byte) => Some(State::Quoted),
                State::QuoteInQuoted => {
                    let next = self.unquoted(byte);
                    self.record_odd_quotes(next == Some(State::Unquoted));
                    next
                }
                State::AfterCr => {
                    self.restart();
                    return Some(at + usize::from(byte == b'\n'));
                }
            };
            at += 1;
            match next {
                Some(state) => self.state = state,
                None => {
                    self.restart();
                    return Some(at);
                }
            }
        }
    }

    fn finish(&self) -> Tail {
        match self.state {
            State::RecordStart => Tail::Nothing,
            State::Quoted if self.line_ends != (0, 0) => Tail::Open,
            State::Quoted | State::FieldStart | State::Unquoted | State::QuoteInQuoted | State::AfterCr => Tail::Record,
        }
    }

    fn end_problem(&self) -> Option<&'static str> {
        None
    }

    fn odd_quotes(&self) -> Option<OddQuotes> {
        self.odd_before
    }

    fn odd_quotes_at_end(&mut self) -> Option<OddQuotes> {
        if self.state == State::QuoteInQuoted {
            self.record_odd_quotes(false);
        }
        self.odd
    }
}

impl CsvSplit {
    pub(crate) fn new(dialect: Dialect) -> CsvSplit {
        CsvSplit { dialect, state: State::RecordStart, line_ends: (0, 0), odd: None, odd_before: None }
    }

    fn restart(&mut self) {
        self.state = State::RecordStart;
        self.odd_before = self.odd.take();
        self.line_ends = (0, 0);
    }

    fn is_quote(&self, byte: u8) -> bool {
        self.dialect.quote == Some(byte)
    }

    /// Returns the length of the text up to the next quote, counting line ends; `None` without a quote.
    fn quoted(&mut self, rest: &[u8]) -> Option<usize> {
        let length = self.dialect.quote.and_then(|quote| memchr(quote, rest));
        let inside = &rest[..length.unwrap_or(rest.len())];
        self.line_ends.0 += memchr_iter(b'\n', inside).count() as u64;
        self.line_ends.1 += memchr_iter(b'\r', inside).count() as u64;
        length
    }

    /// Records suspicious quotes of the field that ended, keeping the worst of a record.
    fn record_odd_quotes(&mut self, goes_on: bool) {
        let line_ends = self.line_ends.0.max(self.line_ends.1);
        let is_odd = goes_on || line_ends >= LINES_MANY;
        if is_odd && self.odd.is_none_or(|odd| odd.line_ends < line_ends) {
            self.odd = Some(OddQuotes { line_ends, goes_on });
        }
    }

    /// Returns the state after a byte outside quotes, or `None` at the end of the record.
    fn unquoted(&self, byte: u8) -> Option<State> {
        match byte {
            b'\n' => None,
            b'\r' => Some(State::AfterCr),
            byte if byte == self.dialect.delimiter => Some(State::FieldStart),
            _ => Some(State::Unquoted),
        }
    }
}

/// The unquoted fields of one record.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Whether the last field has an opening quote only.
    open_quote: bool,
}

impl Fields {
    /// Splits a record as delimited by [`CsvSplit`]: with its line end and preceding blank lines.
    pub(crate) fn split(&mut self, record: &[u8], dialect: Dialect) {
        let Dialect { delimiter, quote } = dialect;
        self.bytes.clear();
        self.ends.clear();
        self.open_quote = false;
        let blank = record.iter().take_while(|&&byte| byte == b'\n' || byte == b'\r').count();
        let mut rest = &record[blank..];
        loop {
            if let Some(quote) = quote.filter(|quote| rest.first() == Some(quote)) {
                rest = self.quoted(&rest[1..], quote);
            }
            let length = memchr3(delimiter, b'\n', b'\r', rest).unwrap_or(rest.len());
            self.bytes.extend_from_slice(&rest[..length]);
            self.ends.push(self.bytes.len());
            if rest.get(length) != Some(&delimiter) {
                return;
            }
            rest = &rest[length + 1..];
        }
    }

    /// Appends the content of a quoted field, and returns the rest after the closing quote.
    fn quoted<'a>(&mut self, mut rest: &'a [u8], quote: u8) -> &'a [u8] {
        while let Some(length) = memchr(quote, rest) {
            self.bytes.extend_from_slice(&rest[..length]);
            rest = &rest[length + 1..];
            if rest.first() != Some(&quote) {
                return rest;
            }
            self.bytes.push(quote);
            rest = &rest[1..];
        }
        self.bytes.extend_from_slice(rest);
        self.open_quote = true;
        &[]
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        Some(&self.bytes[start..end])
    }
}

/// Converts records to rows.
#[derive(Debug)]
pub(crate) struct Parser {
    dialect: Dialect,
    width: usize,
    text: usize,
    /// Position of each kept column in the header, if present.
    kept: Vec<Option<usize>>,
    fields: Fields,
}

impl Parser {
    /// Creates a parser, or returns `None` if the header lacks the text column.
    pub(crate) fn new(dialect: Dialect, header: &[String], text_column: &str, kept: &Schema) -> Option<Parser> {
        // The first of several columns with the same name wins, since it is inserted last.
        let positions: HashMap<&str, usize> =
            header.iter().enumerate().rev().map(|(index, name)| (name.as_str(), index)).collect();
        let position = |name: &str| positions.get(name).copied();
        Some(Parser {
            dialect,
            width: header.len(),
            text: position(text_column)?,
            kept: kept.fields().iter().map(|field| position(field.name())).collect(),
            fields: Fields::default(),
        })
    }
}

impl Parse for Parser {
    fn parse(&mut self, record: &[u8], rows: &mut ChunkBuilder) -> Result<(), UnknownKey> {
        self.fields.split(record, self.dialect);
        let mut fits = true;
        for (column, index) in rows.columns().iter_mut().zip(&self.kept) {
            match index.and_then(|index| self.fields.get(index)) {
                Some(bytes) => fits &= column.append_bytes(bytes),
                None => column.append_null(),
            }
        }
        let text = match self.fields.get(self.text) {
            Some(bytes) if self.fields.len() == self.width && !self.fields.open_quote => text_of(bytes),
            _ => Err(RejectReason::MalformedRecord),
        };
        let text = text.and_then(|text| if fits { Ok(text) } else { Err(RejectReason::ColumnType) });
        rows.push_text(text, record.len());
        Ok(())
    }
}

#[cfg(test)]
#[path = "csv_tests.rs"]
mod tests;
