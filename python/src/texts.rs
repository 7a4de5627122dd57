//! Texts as Python has them: lists of `str` and `None`, and columns of Arrow.

use std::borrow::Cow;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryArray, BinaryViewArray, LargeBinaryArray};
use arrow_cast::cast;
use arrow_schema::DataType;
use dataset::corpus::checked_text;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFloat, PyList, PyString};
use spec::RejectReason;

use crate::arrow;
use crate::errors::Class;

/// A text, or why it cannot be embedded.
pub(crate) type Text<'a> = Result<Cow<'a, str>, RejectReason>;

/// Reads a list of `str` and `None`. `first` is the index of its first item, for messages.
pub(crate) fn from_list<'a>(list: &Bound<'_, PyList>, first: usize) -> PyResult<Vec<Text<'a>>> {
    let read = |(index, item)| {
        let bytes = utf8(&item, first + index)?;
        Ok(bytes.and_then(|bytes| checked_text(bytes.as_bytes()).map(|text| Cow::Owned(text.to_owned()))))
    };
    list.iter().enumerate().map(read).collect()
}

/// Returns the first text of a list that cannot be embedded: its index and the reason.
#[pyfunction]
pub(crate) fn first_invalid(texts: &Bound<'_, PyList>) -> PyResult<Option<(usize, &'static str)>> {
    for (index, item) in texts.iter().enumerate() {
        if let Err(reason) = utf8(&item, index)?.and_then(|bytes| checked_text(bytes.as_bytes()).map(|_| ())) {
            return Ok(Some((index, reason.code())));
        }
    }
    Ok(None)
}

/// Returns the bytes of a text, or why it has none: None, NaN and pandas' NA are nulls, a lone surrogate has no UTF-8.
fn utf8<'py>(item: &Bound<'py, PyAny>, index: usize) -> PyResult<Result<Bound<'py, PyBytes>, RejectReason>> {
    if let Ok(text) = item.cast::<PyString>() {
        return Ok(text.encode_utf8().map_err(|_| RejectReason::InvalidUtf8));
    }
    let kind = item.get_type().name()?;
    let is_nan = item.cast::<PyFloat>().is_ok_and(|number| number.value().is_nan());
    match item.is_none() || is_nan || kind == "NAType" {
        true => Ok(Err(RejectReason::NullText)),
        false => Err(Class::Usage.message(format!("text {index} is a {kind}, not a str"))),
    }
}

/// A column of texts in memory that Arrow shares.
#[pyclass(frozen, module = "encaje._encaje")]
pub(crate) struct ArrowTexts {
    chunks: Vec<Chunk>,
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
            chunks.push(Chunk::of(column)?);
        }
        Ok(Self { chunks })
    }

    fn __len__(&self) -> usize {
        self.chunks.iter().map(Chunk::len).sum()
    }

    /// The first text that cannot be embedded: its index and the reason.
    fn first_invalid(&self) -> Option<(usize, &'static str)> {
        let all = self.chunks.iter().flat_map(|chunk| (0..chunk.len()).map(move |row| chunk.text(row)));
        all.enumerate().find_map(|(index, text)| Some((index, text.err()?.code())))
    }
}

impl ArrowTexts {
    /// Returns `count` texts from `start` on.
    pub(crate) fn slice(&self, mut start: usize, mut count: usize) -> Vec<Text<'_>> {
        let mut texts = Vec::with_capacity(count);
        for chunk in &self.chunks {
            let rows = chunk.len().saturating_sub(start).min(count);
            texts.extend((start..start + rows).map(|row| chunk.text(row)));
            start = start.saturating_sub(chunk.len());
            count -= rows;
        }
        texts
    }
}

/// Strings as bytes: their producer may not have checked that they are UTF-8.
enum Chunk {
    Short(BinaryArray),
    Long(LargeBinaryArray),
    View(BinaryViewArray),
}

impl Chunk {
    fn of(column: &ArrayRef) -> PyResult<Self> {
        let bytes = |kind| cast(column, &kind).map_err(|error| Class::Usage.of(&error));
        match column.data_type() {
            DataType::Utf8 | DataType::Null => Ok(Self::Short(bytes(DataType::Binary)?.as_binary().clone())),
            DataType::LargeUtf8 => Ok(Self::Long(bytes(DataType::LargeBinary)?.as_binary().clone())),
            DataType::Utf8View => Ok(Self::View(bytes(DataType::BinaryView)?.as_binary_view().clone())),
            DataType::Dictionary(_, values) if values.is_string() => {
                Ok(Self::Long(bytes(DataType::LargeBinary)?.as_binary().clone()))
            }
            other => Err(Class::Usage.message(format!("a column of {other} is not one of texts"))),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Short(array) => array.len(),
            Self::Long(array) => array.len(),
            Self::View(array) => array.len(),
        }
    }

    fn text(&self, row: usize) -> Text<'_> {
        let bytes = match self {
            Self::Short(array) => array.is_valid(row).then(|| array.value(row)),
            Self::Long(array) => array.is_valid(row).then(|| array.value(row)),
            Self::View(array) => array.is_valid(row).then(|| array.value(row)),
        };
        checked_text(bytes.ok_or(RejectReason::NullText)?).map(Cow::Borrowed)
    }
}
