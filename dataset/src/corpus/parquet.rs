//! Parquet: parts are row groups; a slice is read page by page, only the selected rows and columns.

use std::io::{self, Read};
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bytes::{Buf, Bytes};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
    RowSelector,
};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};

use crate::corpus::columnar::{Batches, BlockingObject, ColumnarFormat, Index, Part, Selection};
use crate::corpus::schema::{UNREADABLE, unique_names};
use crate::corpus::{CHUNK_BYTES_MAX, CHUNK_ROWS_MAX};
use crate::error::DatasetError;

/// Maximum footer: a hundred thousand row groups of a hundred columns are far smaller.
const FOOTER_BYTES_MAX: u64 = 256 << 20;

/// First read of a page; most pages are skipped after their header.
const READ_BYTES_MIN: u64 = 64 << 10;

/// Maximum of later reads of a page, which grow.
const READ_BYTES_MAX: u64 = 1 << 20;

pub(crate) struct Parquet;

impl ColumnarFormat for Parquet {
    fn schema(&self, object: &BlockingObject) -> Result<SchemaRef, DatasetError> {
        schema(object)
    }

    fn index(&self, object: &BlockingObject) -> Result<Arc<dyn Index>, DatasetError> {
        Ok(Arc::new(metadata(object)?))
    }
}

impl Index for ArrowReaderMetadata {
    /// The row groups, with the uncompressed bytes of the text column.
    fn parts(&self, text_column: &str) -> Vec<Part> {
        let is_text = |name: &str| name == text_column;
        self.metadata().row_groups().iter().map(|group| part_of(group, is_text)).collect()
    }

    fn open(&self, object: BlockingObject, selection: &Selection) -> Result<Box<dyn Batches>, DatasetError> {
        Ok(Box::new(open(self.clone(), object, selection)?))
    }
}

/// Returns the Arrow schema. Unreadable columns are marked with the reason.
fn schema(object: &BlockingObject) -> Result<SchemaRef, DatasetError> {
    let metadata = metadata(object)?;
    let schema = with_unique_names(metadata.schema());
    let mut fields: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    for group in metadata.metadata().row_groups() {
        for (leaf, column) in group.columns().iter().enumerate() {
            let root = metadata.parquet_schema().get_column_root_idx(leaf);
            if let (Some(why), Some(field)) = (unreadable(column), fields.get_mut(root)) {
                field.metadata_mut().insert(UNREADABLE.to_owned(), why.to_owned());
            }
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}

fn unreadable(column: &ColumnChunkMetaData) -> Option<&'static str> {
    if column.crypto_metadata().is_some() {
        return Some("is encrypted, which is not supported: decrypt it first, or leave it out with --keep");
    }
    (column.compression() == Compression::LZO)
        .then_some("is compressed with LZO, which is not supported: write it again with another codec, or leave it out with --keep")
}

/// Renames columns with a repeated or empty name.
fn with_unique_names(schema: &SchemaRef) -> SchemaRef {
    let names = unique_names(schema.fields().iter().map(|field| field.name().clone()).collect());
    let fields = schema.fields().iter().zip(names).map(|(field, name)| field.as_ref().clone().with_name(name));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Sums a row group over the columns whose root is selected.
fn part_of(group: &RowGroupMetaData, is_selected: impl Fn(&str) -> bool) -> Part {
    let selected = group
        .columns()
        .iter()
        .filter(|column| column.column_path().parts().first().is_some_and(|root| is_selected(root)));
    let bytes = selected
        .map(|column| {
            // With a dictionary the stored size is small, so the size of the values is used if known.
            let values = column.unencoded_byte_array_data_bytes().unwrap_or(0);
            u64::try_from(values.max(column.uncompressed_size())).unwrap_or(0)
        })
        .sum();
    Part { rows: u64::try_from(group.num_rows()).unwrap_or(0), bytes }
}

fn open(
    metadata: ArrowReaderMetadata,
    object: BlockingObject,
    selection: &Selection,
) -> Result<ParquetBatches, DatasetError> {
    let own = with_unique_names(metadata.schema());
    let positions = selection.positions(&own);
    let read = Arc::new(own.project(&positions).map_err(|error| object.corrupt(error.to_string()))?);
    let is_selected = |name: &str| name == selection.text_column || selection.kept.index_of(name).is_ok();
    let (mut groups, mut selectors) = (Vec::new(), Vec::new());
    let (mut first_row, mut row_bytes) = (0, 1);
    for (index, group) in metadata.metadata().row_groups().iter().enumerate() {
        let part = part_of(group, is_selected);
        let start = selection.rows.start.clamp(first_row, first_row + part.rows) - first_row;
        let end = selection.rows.end.clamp(first_row, first_row + part.rows) - first_row;
        first_row += part.rows;
        if start == end {
            continue;
        }
        groups.push(index);
        let length = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
        selectors.push(RowSelector::skip(length(start)));
        selectors.push(RowSelector::select(length(end - start)));
        selectors.push(RowSelector::skip(length(part.rows - end)));
        row_bytes = row_bytes.max(part.bytes / part.rows);
    }
    // Few rows per batch if they are wide, so that a batch is about as large as a chunk.
    let batch_rows = (CHUNK_BYTES_MAX as u64 / row_bytes).clamp(1, CHUNK_ROWS_MAX as u64);
    let mask = ProjectionMask::roots(metadata.parquet_schema(), positions);
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(Chunks(object.clone()), metadata)
        .with_row_groups(groups)
        .with_row_selection(RowSelection::from(selectors))
        .with_projection(mask)
        .with_batch_size(usize::try_from(batch_rows).expect("clamped to the size of a chunk"))
        .build()
        .map_err(|error| failed(&object, error))?;
    Ok(ParquetBatches { object, reader, schema: read })
}

struct ParquetBatches {
    object: BlockingObject,
    reader: ParquetRecordBatchReader,
    /// The columns to read, with unique names.
    schema: SchemaRef,
}

impl Batches for ParquetBatches {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, DatasetError> {
        let Some(batch) = self.reader.next() else { return Ok(None) };
        let batch = batch.map_err(|error| failed(&self.object, error.into()))?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let named = RecordBatch::try_new_with_options(Arc::clone(&self.schema), batch.columns().to_vec(), &options);
        named.map(Some).map_err(|error| self.object.corrupt(error.to_string()))
    }
}

/// Reads the footer, after checking its length.
fn metadata(object: &BlockingObject) -> Result<ArrowReaderMetadata, DatasetError> {
    let size = object.size();
    if size < 12 {
        return Err(object.corrupt(format!("it has {size} bytes, too few for a parquet file")));
    }
    let tail = object.read(size - 8..size)?;
    let (mut length, magic) = (&tail[..4], &tail[4..]);
    match magic {
        b"PAR1" => {}
        b"PARE" => return Err(object.unsupported("it is encrypted, which is not supported: decrypt it first")),
        _ => {
            let problem = "it does not end as a parquet file does: it is cut off or in another format (see --format)";
            return Err(object.corrupt(problem));
        }
    }
    let length = u64::from(length.get_u32_le());
    if length > FOOTER_BYTES_MAX || length + 8 > size {
        return Err(object.corrupt(format!("its footer claims {length} bytes")));
    }
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
    let failed = |error| failed(object, error);
    let found = ArrowReaderMetadata::load(&Chunks(object.clone()), options.clone()).map_err(failed)?;
    match without_narrow_dictionaries(found.schema()) {
        None => Ok(found),
        Some(schema) => {
            let metadata = Arc::clone(found.metadata());
            ArrowReaderMetadata::try_new(metadata, options.with_schema(Arc::new(schema))).map_err(failed)
        }
    }
}

/// Returns the schema with dictionaries that the decoder supports: of strings, with keys for all row groups together.
/// Others are decoded. `None` without changes.
fn without_narrow_dictionaries(schema: &Schema) -> Option<Schema> {
    let fields: Vec<Arc<Field>> = schema.fields().iter().map(|field| without_dictionaries(field, true)).collect();
    (fields.iter().ne(schema.fields())).then(|| Schema::new(fields).with_metadata(schema.metadata().clone()))
}

fn without_dictionaries(field: &Arc<Field>, is_root: bool) -> Arc<Field> {
    let inner = |field: &Arc<Field>| without_dictionaries(field, false);
    let kind = match field.data_type() {
        DataType::Dictionary(_, value) if is_root && matches!(**value, DataType::Utf8 | DataType::LargeUtf8) => {
            DataType::Dictionary(Box::new(DataType::Int32), value.clone())
        }
        DataType::Dictionary(_, value) => value.as_ref().clone(),
        DataType::List(item) => DataType::List(inner(item)),
        DataType::LargeList(item) => DataType::LargeList(inner(item)),
        DataType::ListView(item) => DataType::ListView(inner(item)),
        DataType::LargeListView(item) => DataType::LargeListView(inner(item)),
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(inner(item), *length),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect()),
        DataType::Map(entries, sorted) => DataType::Map(inner(entries), *sorted),
        _ => return Arc::clone(field),
    };
    Arc::new(field.as_ref().clone().with_data_type(kind))
}

/// Extracts our own error from the decoder's; anything else is damage.
fn failed(object: &BlockingObject, error: ParquetError) -> DatasetError {
    match error {
        ParquetError::External(source) => match source.downcast::<DatasetError>() {
            Ok(own) => *own,
            Err(source) => match source.downcast::<io::Error>() {
                Ok(io) => own_error(*io).unwrap_or_else(|io| object.corrupt(io.to_string())),
                Err(source) => object.corrupt(source.to_string()),
            },
        },
        ParquetError::NYI(what) => object.unsupported(format!("it has something that is not supported: {what}")),
        // The decoder's error for unsupported types, such as 128-bit integers.
        ParquetError::ArrowError(what) if what.contains("not supported") => object
            .unsupported(format!("it has a type that is not supported ({what}): write it again without that column")),
        error => object.corrupt(error.to_string()),
    }
}

fn own_error(error: io::Error) -> Result<DatasetError, io::Error> {
    error.downcast::<DatasetError>()
}

/// The object for the parquet crate.
struct Chunks(BlockingObject);

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.0.size()
    }
}

impl ChunkReader for Chunks {
    type T = ChunkRead;

    fn get_read(&self, start: u64) -> Result<ChunkRead, ParquetError> {
        Ok(ChunkRead { object: self.0.clone(), at: start, step: READ_BYTES_MIN, buffer: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let end = start.saturating_add(length as u64);
        self.0.read(start..end).map_err(|error| ParquetError::External(Box::new(error)))
    }
}

/// Reads forward from an offset in growing steps.
struct ChunkRead {
    object: BlockingObject,
    at: u64,
    step: u64,
    buffer: Bytes,
}

impl Read for ChunkRead {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if self.buffer.is_empty() {
            let end = self.at.saturating_add(self.step).min(self.object.size());
            if self.at < end {
                self.buffer = self.object.read(self.at..end).map_err(io::Error::other)?;
                self.at = end;
                self.step = (self.step * 2).min(READ_BYTES_MAX);
            }
        }
        let length = target.len().min(self.buffer.len());
        self.buffer.split_to(length).copy_to_slice(&mut target[..length]);
        Ok(length)
    }
}
