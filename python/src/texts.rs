//! Texts as Python has them: lists of `str` and `None`, and columns of Arrow.

use std::borrow::Cow;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_cast::cast;
use arrow_schema::DataType;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};
use spec::RejectReason;

use crate::arrow;
use crate::errors::Class;

/// A text, or why it cannot be embedded.
pub(crate) type Text<'a> = Result<Cow<'a, str>, RejectReason>;

/// Tells whether a text is one that `encaje run` would embed.
fn checked(text: Cow<'_, str>) -> Text<'_> {
    if text.trim().is_empty() { Err(RejectReason::EmptyText) } else { Ok(text) }
}

/// Reads a list of `str` and `None`. `first` is the index of its first item, for messages.
pub(crate) fn from_list<'a>(list: &Bound<'_, PyList>, first: usize) -> PyResult<Vec<Text<'a>>> {
    let read = |(index, item): (usize, Bound<'_, PyAny>)| {
        if item.is_none() {
            return Ok(Err(RejectReason::NullText));
        }
        let Ok(text) = item.cast::<PyString>() else {
            let index = first + index;
            let kind = item.get_type().name()?;
            return Err(Class::Usage.message(format!("text {index} is a {kind}, not a str")));
        };
        // A lone surrogate has no UTF-8.
        Ok(match text.encode_utf8() {
            Ok(bytes) => checked(Cow::Owned(String::from_utf8_lossy(bytes.as_bytes()).into_owned())),
            Err(_) => Err(RejectReason::InvalidUtf8),
        })
    };
    list.iter().enumerate().map(read).collect()
}

/// A column of texts in memory that Arrow shares.
#[pyclass(frozen, module = "encaje._encaje")]
pub(crate) struct ArrowTexts {
    chunks: Vec<ArrayRef>,
}

#[pymethods]
impl ArrowTexts {
    /// Takes the only column of a table, without a copy unless it is a dictionary.
    #[new]
    fn new(table: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut chunks = Vec::new();
        for batch in arrow::import(table)? {
            let batch = batch.map_err(|error| Class::Usage.of(&error))?;
            let [column] = batch.columns() else {
                return Err(Class::Usage.message(format!("a column of texts, not {} columns", batch.num_columns())));
            };
            chunks.push(strings(column)?);
        }
        Ok(Self { chunks })
    }

    fn __len__(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.len()).sum()
    }

    /// The first text that cannot be embedded: its index and the reason.
    fn first_invalid(&self) -> Option<(usize, &'static str)> {
        let all = self.chunks.iter().flat_map(|chunk| (0..chunk.len()).map(move |row| read(chunk, row)));
        all.enumerate().find_map(|(index, text)| Some((index, text.err()?.code())))
    }
}

impl ArrowTexts {
    /// Returns `count` texts from `start` on.
    pub(crate) fn slice(&self, mut start: usize, mut count: usize) -> Vec<Text<'_>> {
        let mut texts = Vec::with_capacity(count);
        for chunk in &self.chunks {
            let rows = chunk.len().saturating_sub(start).min(count);
            texts.extend((start..start + rows).map(|row| read(chunk, row)));
            start = start.saturating_sub(chunk.len());
            count -= rows;
        }
        texts
    }
}

fn strings(column: &ArrayRef) -> PyResult<ArrayRef> {
    match column.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(column.clone()),
        DataType::Null => cast(column, &DataType::Utf8).map_err(|error| Class::Usage.of(&error)),
        DataType::Dictionary(_, values) if values.is_string() => {
            cast(column, &DataType::LargeUtf8).map_err(|error| Class::Usage.of(&error))
        }
        other => Err(Class::Usage.message(format!("a column of {other} is not one of texts"))),
    }
}

fn read(chunk: &ArrayRef, row: usize) -> Text<'_> {
    if chunk.is_null(row) {
        return Err(RejectReason::NullText);
    }
    checked(Cow::Borrowed(match chunk.data_type() {
        DataType::Utf8 => chunk.as_string::<i32>().value(row),
        DataType::Utf8View => chunk.as_string_view().value(row),
        _ => chunk.as_string::<i64>().value(row),
    }))
}
