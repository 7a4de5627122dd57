//! One JSON array of objects, as written by `DataFrame.to_json(orient="records")`, streamed element by element.
//!
//! A record consists of the bracket or comma before an element and the element; white space and the closing bracket
//! after the last one belong to no record. Elements are parsed like JSON lines.

use std::borrow::Cow;

use arrow_schema::Schema;
use futures::FutureExt;
use futures::future::BoxFuture;
use memchr::memchr2;
use spec::{Keep, ReadOptions};

use crate::corpus::PlannedSource;
use crate::corpus::columns::ChunkBuilder;
use crate::corpus::dialect::Dialect;
use crate::corpus::jsonl::{self, Sample};
use crate::corpus::sample::Front;
use crate::corpus::schema::Columns;
use crate::corpus::text_format::{ColumnProbe, Parse, SelectedColumns, Split, Splitter, Tail, TextFormat, UnknownKey};
use crate::error::DatasetError;

pub(crate) struct JsonArray;

impl TextFormat for JsonArray {
    fn is_delimited(&self) -> bool {
        false
    }

    fn is_sampled(&self) -> bool {
        true
    }

    fn splitter(&self, _: Dialect) -> Splitter {
        Box::new(Elements::default())
    }

    fn columns<'a>(&'a self, probe: ColumnProbe<'a>) -> BoxFuture<'a, Result<Columns, DatasetError>> {
        async move {
            let front = Front::read(self, &probe).await?;
            check_front(&front).map_err(|problem| DatasetError::bad_input(probe.object.name(), problem))?;
            let mut sample = Sample::default();
            front.records().for_each(|record| sample.add(element(record)));
            if sample.objects == 0 && sample.records > 0 {
                return Err(DatasetError::bad_input(
                    probe.object.name(),
                    "its first elements are no objects: columns need names",
                ));
            }
            sample.is_complete = front.is_whole;
            jsonl::add_sample(self, probe, &front, &sample)
        }
        .boxed()
    }

    fn cells<'a>(&self, record: &'a [u8], selected: &SelectedColumns<'_>) -> Vec<Cow<'a, [u8]>> {
        jsonl::cells(element(record), selected)
    }

    fn parser(&self, _: &PlannedSource, options: &ReadOptions, kept: &Schema) -> Result<Box<dyn Parse>, DatasetError> {
        Ok(Box::new(Parser(jsonl::Parser::new(&options.text_column, kept, options.keep == Keep::All))))
    }
}

/// Returns why a text is not an array of objects, judging by its beginning.
fn check_front(front: &Front) -> Result<(), &'static str> {
    const WANTED: &str = "it is no array of objects, as `DataFrame.to_json(orient=\"records\")` writes it";
    match front.text().trim_ascii_start() {
        [] => Err("it is empty: a JSON array of objects is expected"),
        [b'[', ..] => Ok(()),
        [b'{', ..] if jsonl::is_lines(front.text()) => {
            Err("it has one JSON object per line: add --format jsonl, or name it .jsonl")
        }
        [b'{', ..] => {
            Err("it begins with a JSON object, and an array of objects is expected: add --format jsonl if it has one \
                           object per line, make an array of several objects with `jq -s .`, or take the array out of one, for \
                           example with `jq .data`")
        }
        _ => Err(WANTED),
    }
}

/// Returns the element of a record; empty unless it follows one bracket or comma.
fn element(record: &[u8]) -> &[u8] {
    match record.trim_ascii_start() {
        [b'[' | b',', element @ ..] => element,
        _ => &[],
    }
}

#[derive(Debug, Clone, Default)]
struct Elements(State);

/// The state between two bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// After an element, or at the start of the text.
    #[default]
    Behind,
    /// After the bracket or comma before an element.
    Before,
    /// In an object or array at this depth.
    Nested(u64),
    /// In a string at this depth; 0 for an element that is a string.
    String(u64),
    /// After a backslash in a string.
    Escape(u64),
    /// In an element of another kind.
    Scalar,
    /// After the closing bracket.
    Closed,
    /// In text after the closing bracket.
    Beyond,
}

impl Split for Elements {
    fn find_end(&mut self, block: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(&byte) = block.get(at) {
            let is_space = byte.is_ascii_whitespace();
            self.0 = match self.0 {
                State::String(depth) => {
                    at += memchr2(b'"', b'\\', &block[at..])?;
                    match (block[at], depth) {
                        (b'\\', _) => State::Escape(depth),
                        (_, 0) => return Some(self.end(at + 1)),
                        (_, _) => State::Nested(depth),
                    }
                }
                State::Escape(depth) => State::String(depth),
                State::Nested(1) if matches!(byte, b'}' | b']') => return Some(self.end(at + 1)),
                State::Nested(depth) => match byte {
                    b'"' => State::String(depth),
                    b'{' | b'[' => State::Nested(depth + 1),
                    b'}' | b']' => State::Nested(depth - 1),
                    _ => State::Nested(depth),
                },
                State::Scalar if is_space || matches!(byte, b',' | b']') => return Some(self.end(at)),
                State::Scalar => State::Scalar,
                state @ (State::Behind | State::Before | State::Closed) if is_space => state,
                State::Behind | State::Before if byte == b']' => State::Closed,
                State::Behind if byte == b'[' => State::Before,
                State::Behind | State::Before => match byte {
                    b',' => State::Before,
                    b'{' | b'[' => State::Nested(1),
                    b'"' => State::String(0),
                    _ => State::Scalar,
                },
                State::Closed | State::Beyond => State::Beyond,
            };
            at += 1;
        }
        None
    }

    fn finish(&self) -> Tail {
        match self.0 {
            State::Behind | State::Closed => Tail::Nothing,
            State::Scalar => Tail::Record,
            State::Before | State::Nested(_) | State::String(_) | State::Escape(_) | State::Beyond => Tail::Open,
        }
    }

    fn end_problem(&self) -> Option<&'static str> {
        match self.0 {
            State::Closed => None,
            State::Beyond => Some("it has more text behind the closing bracket of its array"),
            State::Behind | State::Before | State::Nested(_) | State::String(_) | State::Escape(_) | State::Scalar => {
                Some("its array does not end: it was cut off, or a quote or bracket is missing")
            }
        }
    }
}

impl Elements {
    /// Enters the state after the element that ends at `at`.
    fn end(&mut self, at: usize) -> usize {
        self.0 = State::Behind;
        at
    }
}

struct Parser(jsonl::Parser);

impl Parse for Parser {
    fn parse(&mut self, record: &[u8], rows: &mut ChunkBuilder) -> Result<(), UnknownKey> {
        self.0.parse(element(record), rows)
    }
}

#[cfg(test)]
#[path = "json_array_tests.rs"]
mod tests;
