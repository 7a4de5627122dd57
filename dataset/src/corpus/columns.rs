//! Builds the kept columns and the texts of a chunk, record by record.

use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_schema::{DataType, SchemaRef};
use spec::RejectReason;

use crate::corpus::{RECORD_BYTES_MAX, RecordChunk};

/// The text of a record, or why there is none.
pub(crate) type Text = Result<String, RejectReason>;

/// Judges the bytes of a text cell: size, UTF-8, emptiness, in this order.
pub(crate) fn text_of(bytes: &[u8]) -> Text {
    if bytes.len() as u64 > RECORD_BYTES_MAX {
        return Err(RejectReason::TextTooLarge);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| RejectReason::InvalidUtf8)?;
    if text.trim().is_empty() {
        return Err(RejectReason::EmptyText);
    }
    Ok(text.to_owned())
}

/// One kept column of a text format under construction.
#[derive(Debug)]
pub(crate) enum ColumnBuilder {
    /// Text, or for JSON any other value as JSON.
    Utf8(StringBuilder),
    /// Whole numbers.
    Int64(Int64Builder),
    /// Numbers.
    Float64(Float64Builder),
    /// Truth values.
    Boolean(BooleanBuilder),
    /// A type that no text format can hold: the column of another source of the corpus, null here.
    Nulls(DataType, usize),
}

impl ColumnBuilder {
    /// Makes a builder for a column of this type.
    pub(crate) fn new(data_type: &DataType) -> ColumnBuilder {
        match data_type {
            DataType::Utf8 => ColumnBuilder::Utf8(StringBuilder::new()),
            DataType::Int64 => ColumnBuilder::Int64(Int64Builder::new()),
            DataType::Float64 => ColumnBuilder::Float64(Float64Builder::new()),
            DataType::Boolean => ColumnBuilder::Boolean(BooleanBuilder::new()),
            other => ColumnBuilder::Nulls(other.clone(), 0),
        }
    }

    /// Appends a null.
    pub(crate) fn append_null(&mut self) {
        match self {
            ColumnBuilder::Utf8(builder) => builder.append_null(),
            ColumnBuilder::Int64(builder) => builder.append_null(),
            ColumnBuilder::Float64(builder) => builder.append_null(),
            ColumnBuilder::Boolean(builder) => builder.append_null(),
            ColumnBuilder::Nulls(_, length) => *length += 1,
        }
    }

    /// Appends the bytes of a CSV field or line. Returns false, having appended a null, where they do not fit the type.
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

/// The rows of a chunk under construction: one text and one value per kept column for each record.
#[derive(Debug)]
pub(crate) struct ChunkBuilder {
    schema: SchemaRef,
    columns: Vec<ColumnBuilder>,
    texts: Vec<Text>,
    bytes: usize,
}

impl ChunkBuilder {
    /// Makes an empty chunk.
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

    /// Ends a record whose kept columns have been appended; `record_bytes` counts towards the size of the chunk.
    pub(crate) fn push_text(&mut self, text: Text, record_bytes: usize) {
        self.texts.push(text);
        self.bytes += record_bytes;
    }

    /// Appends a record of which nothing is kept.
    pub(crate) fn push_rejected(&mut self, reason: RejectReason) {
        for column in &mut self.columns {
            column.append_null();
        }
        self.texts.push(Err(reason));
    }

    /// Returns the number of records.
    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Returns the bytes of all records so far.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Ends the chunk and begins the next.
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
