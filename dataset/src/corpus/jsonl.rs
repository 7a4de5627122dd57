//! JSON lines: record ends, conversion to rows, and type inference of the kept columns.
//!
//! A record is a line that is not blank. `serde_json` validates it; [`crate::corpus::json`] finds the values of its
//! keys, so that numbers and nested values keep their spelling.

use std::borrow::Cow;
use std::collections::HashMap;

use arrow_schema::Schema;
use futures::FutureExt;
use futures::future::BoxFuture;
use memchr::memchr;
use spec::{Keep, ReadOptions, RejectReason};

use crate::corpus::PlannedSource;
use crate::corpus::columns::{ChunkBuilder, ColumnBuilder, Text, text_of};
use crate::corpus::dialect::Dialect;
use crate::corpus::inference::{Inference, float_of};
use crate::corpus::json::{self, Value};
use crate::corpus::object::Object;
use crate::corpus::sample::Front;
use crate::corpus::schema::{Columns, is_overflow};
use crate::corpus::text_format::{ColumnProbe, Parse, SelectedColumns, Split, Splitter, Tail, TextFormat, UnknownKey};
use crate::error::DatasetError;

/// Samples of an uncompressed source beyond its front, to find late keys and types before the work instead of hours
/// into it.
const SAMPLE_POSITIONS: u64 = 15;
const SAMPLE_BYTES: u64 = 128 << 10;

pub(crate) struct Jsonl;

impl TextFormat for Jsonl {
    fn is_delimited(&self) -> bool {
        false
    }

    fn is_sampled(&self) -> bool {
        true
    }

    fn splitter(&self, _: Dialect) -> Splitter {
        Box::new(Lines::default())
    }

    fn columns<'a>(&'a self, probe: ColumnProbe<'a>) -> BoxFuture<'a, Result<Columns, DatasetError>> {
        async move {
            let front = Front::read(self, &probe).await?;
            let sample = sample(&front, probe.object).await?;
            add_sample(self, probe, &front, &sample)
        }
        .boxed()
    }

    fn cells<'a>(&self, record: &'a [u8], selected: &SelectedColumns<'_>) -> Vec<Cow<'a, [u8]>> {
        cells(record, selected)
    }

    fn parser(&self, _: &PlannedSource, options: &ReadOptions, kept: &Schema) -> Result<Box<dyn Parse>, DatasetError> {
        Ok(Box::new(Parser::new(&options.text_column, kept, options.keep == Keep::All)))
    }
}

/// Returns the values of the selected keys as written.
pub(crate) fn cells<'a>(record: &'a [u8], selected: &SelectedColumns<'_>) -> Vec<Cow<'a, [u8]>> {
    let members = json::members(record).unwrap_or_default();
    members.into_iter().filter(|(key, _)| selected.names.contains(key)).map(|(_, value)| Cow::Borrowed(value)).collect()
}

/// Determines columns from a sample.
pub(crate) fn add_sample(
    format: &dyn TextFormat,
    probe: ColumnProbe<'_>,
    front: &Front,
    sample: &Sample,
) -> Result<Columns, DatasetError> {
    probe.inference.merge(&sample.inference);
    front.check_encoding(format, &[], probe)?;
    Ok(match sample.objects {
        0 => Columns::Unknown,
        _ => Columns::Sampled { keys: sample.inference.keys(), is_complete: sample.is_complete },
    })
}

/// Samples the lines of a source, at its front and at positions further on.
async fn sample(front: &Front, object: &Object) -> Result<Sample, DatasetError> {
    let mut sample = Sample::default();
    front.records().for_each(|record| sample.add(record));
    if sample.begins_an_array {
        let problem = "its first line begins a JSON array: add --format json, or name it .json";
        return Err(DatasetError::bad_input(object.name(), problem));
    }
    if sample.objects == 0 && sample.records > 0 {
        let problem = "its first lines are no JSON objects: JSON lines are expected, one object per line";
        return Err(DatasetError::bad_input(object.name(), problem));
    }
    sample.is_complete = front.is_whole;
    if let Some(start) = front.end_in_object() {
        let rest = object.size().saturating_sub(start);
        for place in (0..SAMPLE_POSITIONS).take_while(|_| rest > 0) {
            let start = start + (rest / SAMPLE_POSITIONS) * place;
            let end = object.size().min(start + SAMPLE_BYTES);
            sample.take_lines_within(&object.read(start..end).await?);
        }
    }
    Ok(sample)
}

/// Returns whether the first line is a JSON object, followed by more lines.
pub(crate) fn is_lines(text: &[u8]) -> bool {
    let mut lines = text.trim_ascii_start().splitn(2, |&byte| byte == b'\n');
    lines.next().is_some_and(|line| json::members(line).is_some()) && lines.next().is_some_and(|rest| !is_blank(rest))
}

/// A sample of JSON records.
#[derive(Default)]
pub(crate) struct Sample {
    pub(crate) inference: Inference,
    /// Number of records that are JSON objects.
    pub(crate) objects: u64,
    /// Whether the sample is the whole source.
    pub(crate) is_complete: bool,
    /// Number of records.
    pub(crate) records: u64,
    /// Whether the first line opens an array, whose elements are not lines even if some parse.
    begins_an_array: bool,
}

impl Sample {
    /// Adds the lines that are entirely within an arbitrary range of bytes.
    fn take_lines_within(&mut self, bytes: &[u8]) {
        let mut lines = bytes.split(|&byte| byte == b'\n');
        lines.next();
        lines.next_back();
        lines.for_each(|line| self.add(line));
    }

    pub(crate) fn add(&mut self, record: &[u8]) {
        if self.records == 0
            && let [b'[', element @ ..] = record.trim_ascii_start()
        {
            self.begins_an_array = !json::is_json(record) || element.trim_ascii_start().starts_with(b"{");
        }
        self.records += 1;
        self.objects += u64::from(self.inference.add(record));
    }
}

/// Finds record ends.
#[derive(Debug, Clone, Default)]
struct Lines {
    /// Whether the line has a non-blank character.
    begun: bool,
}

impl Split for Lines {
    fn find_end(&mut self, block: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(length) = memchr(b'\n', &block[at..]) {
            self.begun |= !is_blank(&block[at..at + length]);
            at += length + 1;
            if self.begun {
                self.begun = false;
                return Some(at);
            }
        }
        self.begun |= !is_blank(&block[at..]);
        None
    }

    fn finish(&self) -> Tail {
        if self.begun { Tail::Record } else { Tail::Nothing }
    }

    fn end_problem(&self) -> Option<&'static str> {
        None
    }
}

fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

/// Converts records to rows.
#[derive(Debug)]
pub(crate) struct Parser {
    text_column: String,
    /// Position of each kept column except the overflow column.
    kept: HashMap<String, usize>,
    /// Position of the column for members without a column of their own.
    overflow: Option<usize>,
    /// Whether unknown keys are errors: if all columns are kept without an overflow column.
    is_complete: bool,
}

impl Parser {
    /// Creates a parser. With `is_complete`, a key that is neither kept nor the text is an [`UnknownKey`], unless the
    /// schema has an overflow column.
    pub(crate) fn new(text_column: &str, schema: &Schema, is_complete: bool) -> Parser {
        let overflow = schema.fields().iter().position(|field| is_overflow(field));
        let fields = schema.fields().iter().enumerate().filter(|(index, _)| overflow != Some(*index));
        let kept = fields.map(|(index, field)| (field.name().clone(), index)).collect();
        let is_complete = is_complete && overflow.is_none();
        Parser { text_column: text_column.to_owned(), kept, overflow, is_complete }
    }
}

impl Parse for Parser {
    fn parse(&mut self, record: &[u8], rows: &mut ChunkBuilder) -> Result<(), UnknownKey> {
        let Some(members) = json::members(record) else {
            rows.push_rejected(RejectReason::MalformedRecord);
            return Ok(());
        };
        let columns = self.kept.len() + usize::from(self.overflow.is_some());
        let (mut text, mut values, mut extra) = (None, vec![None; columns], Members::default());
        for (key, value) in members {
            let position = self.kept.get(&key);
            if let Some(&position) = position {
                values[position] = Some(value);
            }
            if key == self.text_column {
                text = Some(value);
            } else if position.is_none() && self.overflow.is_some() {
                extra.put(key, value);
            } else if position.is_none() && self.is_complete {
                return Err(UnknownKey(key));
            }
        }
        let mut fits = true;
        for (index, (name, column)) in rows.columns_by_name().enumerate() {
            if Some(index) == self.overflow || append(column, values[index]) {
                continue;
            }
            match values[index] {
                Some(value) if self.overflow.is_some() => extra.put(name.to_owned(), value),
                // NaN as a text means the same as null.
                Some(value) if is_nan(value) => {}
                Some(_) | None => fits = false,
            }
        }
        if let Some(index) = self.overflow {
            fits &= extra.append_to(&mut rows.columns()[index]);
        }
        let text = text.map_or(Err(RejectReason::NullText), text_of_value);
        let text = text.and_then(|text| if fits { Ok(text) } else { Err(RejectReason::ColumnType) });
        rows.push_text(text, record.len());
        Ok(())
    }
}

/// Members of a record without a column.
#[derive(Debug, Default)]
struct Members<'a> {
    members: Vec<(String, &'a [u8])>,
    positions: HashMap<String, usize>,
}

impl<'a> Members<'a> {
    /// Adds a member, replacing one with the same key.
    fn put(&mut self, key: String, value: &'a [u8]) {
        match self.positions.get(&key) {
            Some(&position) => self.members[position].1 = value,
            None => {
                self.positions.insert(key.clone(), self.members.len());
                self.members.push((key, value));
            }
        }
    }

    /// Appends the members as a JSON object with the original spelling of values, null without members; if that is not
    /// UTF-8, appends a null and returns false.
    fn append_to(&self, column: &mut ColumnBuilder) -> bool {
        if self.members.is_empty() {
            column.append_null();
            return true;
        }
        let mut json = b"{".to_vec();
        for (key, value) in &self.members {
            if json.len() > 1 {
                json.push(b',');
            }
            json.extend_from_slice(serde_json::Value::from(key.as_str()).to_string().as_bytes());
            json.push(b':');
            json.extend_from_slice(value);
        }
        json.push(b'}');
        column.append_bytes(&json)
    }
}

fn is_nan(value: &[u8]) -> bool {
    matches!(json::kind(value), Value::Number(number) if json::non_finite(number).is_some_and(f64::is_nan))
}

fn text_of_value(value: &[u8]) -> Text {
    match json::kind(value) {
        Value::String(spelling) => {
            std::str::from_utf8(spelling).map_err(|_| RejectReason::InvalidUtf8)?;
            // A string that fails here has a lone surrogate, which UTF-8 cannot represent.
            let text = json::string(spelling).ok_or(RejectReason::MalformedRecord)?;
            text_of(text.as_bytes())
        }
        Value::Null => Err(RejectReason::NullText),
        Value::Boolean(_) | Value::Number(_) | Value::Nested(_) => Err(RejectReason::NotAString),
    }
}

/// Appends a value; if it does not fit the column's type, appends a null and returns false.
fn append(column: &mut ColumnBuilder, value: Option<&[u8]>) -> bool {
    let value = match value.map(json::kind) {
        None | Some(Value::Null) => {
            column.append_null();
            return true;
        }
        Some(value) => value,
    };
    let is_appended = match (&mut *column, value) {
        (ColumnBuilder::Utf8(builder), value) => {
            let text = spelled(value);
            text.as_deref().map(|text| builder.append_value(text)).is_some()
        }
        (ColumnBuilder::Int64(builder), Value::Number(number)) => {
            number.parse().map(|value| builder.append_value(value)).is_ok()
        }
        (ColumnBuilder::Float64(builder), Value::Number(number)) => {
            float_of(number).map(|value| builder.append_value(value)).is_some()
        }
        (ColumnBuilder::Boolean(builder), Value::Boolean(value)) => {
            builder.append_value(value);
            true
        }
        (ColumnBuilder::Int64(_) | ColumnBuilder::Float64(_) | ColumnBuilder::Boolean(_), _)
        | (ColumnBuilder::Nulls(..), _) => false,
    };
    if !is_appended {
        column.append_null();
    }
    is_appended
}

/// Returns a value as text: a string decoded, anything else as JSON; `None` if not representable in UTF-8.
fn spelled(value: Value<'_>) -> Option<Cow<'_, str>> {
    match value {
        Value::Null => None,
        Value::Boolean(value) => Some(if value { "true" } else { "false" }.into()),
        Value::Number(number) => Some(number.into()),
        Value::String(spelling) => json::string(spelling),
        Value::Nested(json) => std::str::from_utf8(json).ok().map(Cow::Borrowed),
    }
}

#[cfg(test)]
#[path = "jsonl_tests.rs"]
mod tests;
