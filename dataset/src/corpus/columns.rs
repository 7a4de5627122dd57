//! Builds the kept columns and the texts of a chunk, record by record.

use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_schema::{DataType, SchemaRef};
use spec::RejectReason;

use crate::corpus::{RECORD_BYTES_MAX, RecordChunk};

/// The text of a record, or why there is none.
pub(crate) type Text = Result<String, RejectReason>;

/// Validates the bytes of a text cell: size, UTF-8, emptiness, in this order.
pub fn checked_text(bytes: &[u8]) -> Result<&str, RejectReason> {
    if bytes.len() as u64 > RECORD_BYTES_MAX {
        return Err(RejectReason::TextTooLarge);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| RejectReason::InvalidUtf8)?;
    if text.trim().is_empty() { Err(RejectReason::EmptyText) } else { Ok(text) }
}

/// As [`checked_text`], owned.
pub(crate) fn text_of(bytes: &[u8]) -> Text {
    checked_text(bytes).map(str::to_owned)
}

/// One kept column of a text format under construction.
#[derive(Debug)]
pub(crate) enum ColumnBuilder {
    /// Strings, or for JSON any other value as JSON.
    Utf8(StringBuilder),
    /// Integers.
    Int64(Int64Builder),
    /// Floats.
    Float64(Float64Builder),
    /// Booleans.
    Boolean(BooleanBuilder),
    /// A type that text formats lack: a column of another source, null here.
    Nulls(DataType, usize),
}

impl ColumnBuilder {
    pub(crate) fn new(data_type: &DataType) -> ColumnBuilder {
        match data_type {
            DataType::Utf8 => ColumnBuilder::Utf8(StringBuilder::new()),
            DataType::Int64 => ColumnBuilder::Int64(Int64Builder::new()),
            DataType::Float64 => ColumnBuilder::Float64(Float64Builder::new()),
            DataType::Boolean => ColumnBuilder::Boolean(BooleanBuilder::new()),
            other => ColumnBuilder::Nulls(other.clone(), 0),
        }
    }

    pub(crate) fn append_null(&mut self) {
        match self {
            ColumnBuilder::Utf8(builder) => builder.append_null(),
            ColumnBuilder::Int64(builder) => builder.append_null(),
            ColumnBuilder::Float64(builder) => builder.append_null(),
            ColumnBuilder::Boolean(builder) => builder.append_null(),
            ColumnBuilder::Nulls(_, length) => *length += 1,
        }
    }

    /// Appends the bytes of a CSV field or line; if they do not fit the type, appends a null and returns false.
    pub(crate) fn append_bytes(&mut self, bytes: &[u8]) -> bool {
        match (self, std::str::from_utf8(bytes)) {
            (ColumnBuilder::Utf8(builder), Ok(text)) => {
                builder.append_value(text);
                true
            }
            (builder, _) => {
                builder.append_null();
                false
            }
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            ColumnBuilder::Utf8(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Int64(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Float64(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Boolean(builder) => Arc::new(builder.finish()),
            ColumnBuilder::Nulls(data_type, length) => new_null_array(data_type, std::mem::take(length)),
        }
    }
}

/// Builds a chunk: one text and one value per kept column for each record.
#[derive(Debug)]
pub(crate) struct ChunkBuilder {
    schema: SchemaRef,
    columns: Vec<ColumnBuilder>,
    texts: Vec<Text>,
    bytes: usize,
}

impl ChunkBuilder {
    pub(crate) fn new(schema: SchemaRef) -> ChunkBuilder {
        let columns = schema.fields().iter().map(|field| ColumnBuilder::new(field.data_type())).collect();
        ChunkBuilder { schema, columns, texts: Vec::new(), bytes: 0 }
    }

    /// Returns the kept columns; each must get exactly one value before [`ChunkBuilder::push_text`].
    pub(crate) fn columns(&mut self) -> &mut [ColumnBuilder] {
        &mut self.columns
    }

    /// Returns the kept columns with their names.
    pub(crate) fn columns_by_name(&mut self) -> impl Iterator<Item = (&str, &mut ColumnBuilder)> {
        self.schema.fields().iter().map(|field| field.name().as_str()).zip(&mut self.columns)
    }

    /// Ends a record after its kept columns; `record_bytes` counts towards the size of the chunk.
    pub(crate) fn push_text(&mut self, text: Text, record_bytes: usize) {
        self.texts.push(text);
        self.bytes += record_bytes;
    }

    /// Appends a record without any kept values.
    pub(crate) fn push_rejected(&mut self, reason: RejectReason) {
        for column in &mut self.columns {
            column.append_null();
        }
        self.texts.push(Err(reason));
    }

    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the chunk and starts the next.
    pub(crate) fn finish(&mut self, first_row: u64) -> RecordChunk {
        let texts = std::mem::take(&mut self.texts);
        self.bytes = 0;
        let columns = self.columns.iter_mut().map(ColumnBuilder::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(texts.len()));
        let kept = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .expect("each record appends one value of the column's type to each column");
        RecordChunk { first_row, texts, kept }
    }
}
