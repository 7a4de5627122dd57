//! CSV and TSV: where records end, and how a record becomes fields. The two rules walk the same states.
//!
//! RFC 4180 as Python's `csv` module and csv-core read it: a quote counts only at the start of a field; two quotes in a
//! quoted field are one; bytes after the closing quote belong to the field; LF, CRLF and a lone CR end a record outside
//! quotes; blank lines are not records.

use arrow_schema::Schema;
use memchr::{memchr, memchr2, memchr3};

use crate::corpus::Format;
use crate::corpus::columns::{Rows, text_of};
use crate::corpus::text::Tail;
use crate::reject::RejectReason;

/// Between two bytes of a CSV text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing of the record is there yet; line ends here are blank lines.
    RecordStart,
    /// After a delimiter.
    FieldStart,
    Unquoted,
    Quoted,
    /// After a quote in a quoted field: its end, or the first half of a doubled quote.
    QuoteInQuoted,
    /// After a CR that ends the record; an LF belongs to it.
    AfterCr,
}

/// Finds record ends; see [`crate::corpus::text::Splitter`].
#[derive(Debug, Clone)]
pub(crate) struct Splitter {
    delimiter: u8,
    state: State,
    /// A quoted field of this record contains a line end.
    spans_lines: bool,
}

impl Splitter {
    /// Makes a splitter at the start of a record.
    pub(crate) fn new(delimiter: u8) -> Splitter {
        Splitter { delimiter, state: State::RecordStart, spans_lines: false }
    }

    /// See [`crate::corpus::text::Splitter::find_end`].
    pub(crate) fn find_end(&mut self, block: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            let byte = *block.get(at)?;
            let next = match self.state {
                State::RecordStart if byte == b'\n' || byte == b'\r' => Some(State::RecordStart),
                State::RecordStart | State::FieldStart if byte == b'"' => Some(State::Quoted),
                State::RecordStart | State::FieldStart => self.unquoted(byte),
                State::Unquoted => {
                    at += memchr3(self.delimiter, b'\n', b'\r', &block[at..])?;
                    self.unquoted(block[at])
                }
                State::Quoted => {
                    let quote = memchr(b'"', &block[at..]);
                    let inside = &block[at..quote.map_or(block.len(), |length| at + length)];
                    self.spans_lines |= memchr2(b'\n', b'\r', inside).is_some();
                    at += quote?;
                    Some(State::QuoteInQuoted)
                }
                State::QuoteInQuoted if byte == b'"' => Some(State::Quoted),
                State::QuoteInQuoted => self.unquoted(byte),
                State::AfterCr => {
                    *self = Splitter::new(self.delimiter);
                    return Some(at + usize::from(byte == b'\n'));
                }
            };
            at += 1;
            match next {
                Some(state) => self.state = state,
                None => {
                    *self = Splitter::new(self.delimiter);
                    return Some(at);
                }
            }
        }
    }

    /// Returns the state after a byte outside quotes, or `None` where it ends the record.
    fn unquoted(&self, byte: u8) -> Option<State> {
        match byte {
            b'\n' => None,
            b'\r' => Some(State::AfterCr),
            byte if byte == self.delimiter => Some(State::FieldStart),
            _ => Some(State::Unquoted),
        }
    }

    /// Tells what is left where the text ends.
    pub(crate) fn finish(&self) -> Tail {
        match self.state {
            State::RecordStart => Tail::Nothing,
            State::Quoted if self.spans_lines => Tail::OpenQuote,
            State::Quoted | State::FieldStart | State::Unquoted | State::QuoteInQuoted | State::AfterCr => Tail::Record,
        }
    }
}

/// The fields of one record, unquoted.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// The last field opened a quote and never closed it.
    open_quote: bool,
}

impl Fields {
    /// Splits a record as [`Splitter`] delimits it: with its line end, and with the blank lines before it.
    pub(crate) fn split(&mut self, record: &[u8], delimiter: u8) {
        self.bytes.clear();
        self.ends.clear();
        self.open_quote = false;
        let blank = record.iter().take_while(|&&byte| byte == b'\n' || byte == b'\r').count();
        let mut rest = &record[blank..];
        loop {
            if rest.first() == Some(&b'"') {
                rest = self.quoted(&rest[1..]);
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

    /// Takes the inside of a quoted field and returns what follows the closing quote.
    fn quoted<'a>(&mut self, mut rest: &'a [u8]) -> &'a [u8] {
        while let Some(length) = memchr(b'"', rest) {
            self.bytes.extend_from_slice(&rest[..length]);
            rest = &rest[length + 1..];
            if rest.first() != Some(&b'"') {
                return rest;
            }
            self.bytes.push(b'"');
            rest = &rest[1..];
        }
        self.bytes.extend_from_slice(rest);
        self.open_quote = true;
        &[]
    }

    /// Returns the number of fields.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns a field, where there is one of that index.
    pub(crate) fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        Some(&self.bytes[start..end])
    }
}

/// Returns the delimiter of a CSV-like format.
pub(crate) fn delimiter_of(format: Format) -> u8 {
    if format == Format::Tsv { b'\t' } else { b',' }
}

/// Turns records into rows.
#[derive(Debug)]
pub(crate) struct Parser {
    delimiter: u8,
    width: usize,
    text: usize,
    /// Index in the header of each kept column; `None` where this source has no such column.
    kept: Vec<Option<usize>>,
    fields: Fields,
}

impl Parser {
    /// Makes a parser for records under `header`, or `None` where the header lacks the text column.
    pub(crate) fn new(format: Format, header: &[String], text_column: &str, kept: &Schema) -> Option<Parser> {
        let position = |name: &str| header.iter().position(|column| column == name);
        Some(Parser {
            delimiter: delimiter_of(format),
            width: header.len(),
            text: position(text_column)?,
            kept: kept.fields().iter().map(|field| position(field.name())).collect(),
            fields: Fields::default(),
        })
    }

    /// Appends one record to `rows`.
    pub(crate) fn parse(&mut self, record: &[u8], rows: &mut Rows) {
        self.fields.split(record, self.delimiter);
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
    }
}

#[cfg(test)]
#[path = "csv_tests.rs"]
mod tests;
