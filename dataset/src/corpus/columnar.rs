//! Shared by parquet and arrow: cutting by the row counts of parts, and conversion of record batches to chunks.
//! Decoding runs on blocking threads, since it may take long or, on hostile bytes, panic.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, SchemaRef};
use blake3::Hasher;
use bytes::Bytes;
use spec::RejectReason;
use tokio::runtime::Handle;

use crate::corpus::columns::{Text, text_of};
use crate::corpus::convert::convert;
use crate::corpus::object::Object;
use crate::corpus::{CHUNK_BYTES_MAX, CHUNK_ROWS_MAX, CutLimits, RecordChunk};
use crate::error::{DatasetError, ErrorKind};
use crate::guarded::{guarded, memory_error};

/// Maximum memory of rows that are converted together.
const PIECE_BYTES_MAX: usize = 64 << 20;

/// A format with rows in parts. All methods may block.
pub(crate) trait ColumnarFormat: Sync {
    /// Reads the fields; unreadable ones are marked with the reason.
    ///
    /// # Errors
    /// The object is not of this format, damaged, or cannot be read.
    fn schema(&self, object: &BlockingObject) -> Result<SchemaRef, DatasetError>;

    /// Locates its parts.
    ///
    /// # Errors
    /// As [`ColumnarFormat::schema`].
    fn index(&self, object: &BlockingObject) -> Result<Arc<dyn Index>, DatasetError>;
}

/// The parts of a columnar object.
pub(crate) trait Index: Send + Sync {
    /// Returns the parts.
    fn parts(&self, text_column: &str) -> Vec<Part>;

    /// Opens rows and columns of the object. May block.
    ///
    /// # Errors
    /// The object is damaged, or cannot be read.
    fn open(&self, object: BlockingObject, selection: &Selection) -> Result<Box<dyn Batches>, DatasetError>;
}

/// An object for blocking reads, on a thread that may block.
#[derive(Debug, Clone)]
pub(crate) struct BlockingObject {
    object: Object,
    runtime: Handle,
}

impl BlockingObject {
    /// Reads exactly the bytes of `range`; see [`Object::read`].
    pub(crate) fn read(&self, range: Range<u64>) -> Result<Bytes, DatasetError> {
        self.runtime.block_on(self.object.read(range))
    }

    pub(crate) fn size(&self) -> u64 {
        self.object.size()
    }

    /// Returns the error for valid but unsupported content.
    pub(crate) fn unsupported(&self, problem: impl Into<String>) -> DatasetError {
        DatasetError::bad_input(self.object.name(), problem)
    }

    /// Returns the error for damaged bytes.
    pub(crate) fn corrupt(&self, problem: impl Into<String>) -> DatasetError {
        DatasetError::corrupt(self.object.name(), None, problem)
    }
}

/// Runs `work` on a blocking thread. A decoder's panic becomes an error of the file.
pub(crate) async fn blocking<T: Send + 'static>(
    object: &Object,
    work: impl FnOnce(BlockingObject) -> Result<T, DatasetError> + Send + 'static,
) -> Result<T, DatasetError> {
    let blocking = BlockingObject { object: object.clone(), runtime: Handle::current() };
    let failed = |said: String| {
        if let Some(source) = memory_error(&said) {
            return Err(DatasetError::Io { object: object.name().to_owned(), source: source.into() });
        }
        let problem = format!("its decoder failed, so it is damaged or has something that is not supported ({said})");
        Err(DatasetError::bad_input(object.name(), problem))
    };
    match tokio::task::spawn_blocking(move || guarded(|| work(blocking))).await {
        Ok(Ok(done)) => done,
        Ok(Err(said)) => failed(said),
        Err(error) => failed(error.to_string()),
    }
}

/// A part of a columnar object: a row group or a record batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Number of records.
    pub(crate) rows: u64,
    /// Approximate size.
    pub(crate) bytes: u64,
}

/// Reads the fields of a columnar object; unreadable ones are marked with the reason.
pub(crate) async fn fields(object: &Object, format: &'static dyn ColumnarFormat) -> Result<SchemaRef, DatasetError> {
    blocking(object, move |object| format.schema(&object)).await
}

/// Reads the index of a columnar object.
pub(crate) async fn index(
    object: &Object,
    format: &'static dyn ColumnarFormat,
) -> Result<Arc<dyn Index>, DatasetError> {
    blocking(object, move |object| format.index(&object)).await
}

/// Returns the BLAKE3, in hex, of the rows of a selection, as [`ColumnarReader::blake3`]. `None` if they do not
/// decode, which is reported when they are read.
pub(crate) async fn rows_blake3(
    object: &Object,
    index: Arc<dyn Index>,
    selection: Selection,
) -> Result<Option<String>, DatasetError> {
    let digest: Result<String, DatasetError> = async {
        let mut reader = ColumnarReader::open(object.clone(), index, selection).await?;
        while reader.next_chunk(0).await?.is_some() {}
        Ok(reader.blake3())
    }
    .await;
    match digest {
        Ok(digest) => Ok(Some(digest)),
        Err(error) => match error.kind() {
            ErrorKind::Corrupt | ErrorKind::BadInput | ErrorKind::Unsupported => Ok(None),
            ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::SourceChanged
            | ErrorKind::NoSpace
            | ErrorKind::Throttled
            | ErrorKind::Auth
            | ErrorKind::StorageSwapped
            | ErrorKind::Io => Err(error),
        },
    }
}

/// The parts of an object with their first rows. Pure.
#[derive(Debug)]
pub(crate) struct Parts(Vec<(u64, Part)>);

impl Parts {
    /// Creates it from parts in object order.
    pub(crate) fn new(parts: impl IntoIterator<Item = Part>) -> Parts {
        let mut next_row = 0;
        let placed = parts.into_iter().filter(|part| part.rows > 0).map(|part| {
            let first_row = next_row;
            next_row += part.rows;
            (first_row, part)
        });
        Parts(placed.collect())
    }

    /// Returns the end of the slice that begins at row `start`, or `None` at the end of the object. Whole parts are
    /// joined within the limits; a larger part is split by rows.
    pub(crate) fn slice_end(&self, start: u64, limits: CutLimits) -> Option<u64> {
        let index = self.0.partition_point(|(first_row, part)| first_row + part.rows <= start);
        let (first_row, part) = *self.0.get(index)?;
        let left = first_row + part.rows - start;
        let row_bytes = part.bytes.div_ceil(part.rows).max(1);
        let rows_max = limits.rows_max.min(limits.bytes_max / row_bytes).max(1);
        if left > rows_max {
            return Some(start + rows_max);
        }
        let (mut rows, mut bytes) = (left, left.saturating_mul(row_bytes));
        for (_, part) in &self.0[index + 1..] {
            let (more_rows, more_bytes) = (rows.saturating_add(part.rows), bytes.saturating_add(part.bytes));
            if more_rows > limits.rows_max || more_bytes > limits.bytes_max {
                break;
            }
            (rows, bytes) = (more_rows, more_bytes);
        }
        Some(start + rows)
    }
}

/// Returns whether a column of this type can be the text.
pub(crate) fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::Null => true,
        DataType::Dictionary(_, value) => is_text(value),
        DataType::RunEndEncoded(_, values) => is_text(values.data_type()),
        _ => false,
    }
}

/// An iterator over the record batches of a slice.
pub(crate) trait Batches: Send {
    /// Returns the next batch, with at least the selected columns, or `None` after the last.
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, DatasetError>;
}

/// The rows and columns of a columnar object to read.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    /// Rows within the object.
    pub(crate) rows: Range<u64>,
    pub(crate) text_column: String,
    /// The kept columns, even if this object lacks some.
    pub(crate) kept: SchemaRef,
}

impl Selection {
    /// Returns the positions of the selected columns in `schema`, ascending.
    pub(crate) fn positions(&self, schema: &SchemaRef) -> Vec<usize> {
        let selected = |field: &Field| *field.name() == self.text_column || self.kept.index_of(field.name()).is_ok();
        schema.fields().iter().enumerate().filter(|(_, field)| selected(field)).map(|(index, _)| index).collect()
    }
}

/// Reads chunks of a columnar slice.
pub(crate) struct ColumnarReader {
    object: Object,
    /// `None` while a blocking thread uses it, and after a panic there.
    decoding: Option<Decoding>,
}

struct Decoding {
    name: String,
    batches: Box<dyn Batches>,
    selection: Selection,
    /// The current batch and how many of its rows have been returned.
    batch: Option<(RecordBatch, usize)>,
    hasher: Hasher,
}

impl ColumnarReader {
    pub(crate) async fn open(
        object: Object,
        index: Arc<dyn Index>,
        selection: Selection,
    ) -> Result<ColumnarReader, DatasetError> {
        let name = object.name().to_owned();
        let open = move |object: BlockingObject| -> Result<Decoding, DatasetError> {
            let batches = index.open(object, &selection)?;
            Ok(Decoding { name, batches, selection, batch: None, hasher: Hasher::new() })
        };
        let decoding = Some(blocking(&object, open).await?);
        Ok(ColumnarReader { object, decoding })
    }

    pub(crate) fn object(&self) -> &Object {
        &self.object
    }

    /// Returns the next chunk, which begins at row `first_row` of the corpus, or `None` after the last.
    pub(crate) async fn next_chunk(&mut self, first_row: u64) -> Result<Option<RecordChunk>, DatasetError> {
        let Some(mut decoding) = self.decoding.take() else {
            return Err(DatasetError::corrupt(
                self.object.name(),
                None,
                "it cannot be read on after its decoder failed",
            ));
        };
        let next = move |_| -> Result<_, DatasetError> {
            let chunk = decoding.next_chunk(first_row);
            Ok((decoding, chunk))
        };
        let (decoding, chunk) = blocking(&self.object, next).await?;
        self.decoding = Some(decoding);
        chunk
    }

    /// Returns the BLAKE3 of all rows so far, in hex.
    pub(crate) fn blake3(&self) -> String {
        self.decoding.as_ref().map_or_else(String::new, |decoding| decoding.hasher.finalize().to_hex().to_string())
    }
}

impl Decoding {
    fn next_chunk(&mut self, first_row: u64) -> Result<Option<RecordChunk>, DatasetError> {
        let (batch, done) = loop {
            match self.batch.take() {
                Some((batch, done)) if done < batch.num_rows() => break (batch, done),
                _ => match self.batches.next_batch()? {
                    Some(batch) => self.batch = Some((batch, 0)),
                    None => return Ok(None),
                },
            }
        };
        // Few rows at a time of a batch that is large in memory, so that expanded values stay far below 2 GiB.
        let row_bytes = (batch.get_array_memory_size() / batch.num_rows()).max(1);
        let rows = (batch.num_rows() - done).min(CHUNK_ROWS_MAX).min((PIECE_BYTES_MAX / row_bytes).max(1));
        let Some(column) = batch.column_by_name(&self.selection.text_column) else {
            let problem = format!("it has no column `{}` any more", self.selection.text_column);
            return Err(DatasetError::corrupt(self.name.as_str(), None, problem));
        };
        let mut texts = self.texts(&column.slice(done, rows))?;
        let kept = self.kept(&batch.slice(done, texts.len()), &mut texts)?;
        self.batch = Some((batch, done + texts.len()));
        self.hash(&texts, &kept)?;
        Ok(Some(RecordChunk { first_row, texts, kept }))
    }

    /// Returns the leading texts of a column, up to the size of a chunk.
    fn texts(&self, column: &ArrayRef) -> Result<Vec<Text>, DatasetError> {
        let column = &self.plain(column)?;
        let (mut texts, mut bytes) = (Vec::with_capacity(column.len()), 0);
        for row in 0..column.len() {
            let cell: Option<&[u8]> = match column.data_type() {
                _ if column.is_null(row) => None,
                DataType::Utf8 => Some(column.as_string::<i32>().value(row).as_bytes()),
                DataType::LargeUtf8 => Some(column.as_string::<i64>().value(row).as_bytes()),
                DataType::Utf8View => Some(column.as_string_view().value(row).as_bytes()),
                DataType::Binary => Some(column.as_binary::<i32>().value(row)),
                DataType::LargeBinary => Some(column.as_binary::<i64>().value(row)),
                DataType::BinaryView => Some(column.as_binary_view().value(row)),
                _ => None,
            };
            bytes += cell.map_or(0, <[u8]>::len);
            texts.push(cell.map_or(Err(RejectReason::NullText), text_of));
            if bytes > CHUNK_BYTES_MAX {
                break;
            }
        }
        Ok(texts)
    }

    /// Decodes a dictionary or run-end encoded column.
    fn plain(&self, column: &ArrayRef) -> Result<ArrayRef, DatasetError> {
        let value = match column.data_type() {
            DataType::Dictionary(_, value) => value.as_ref(),
            DataType::RunEndEncoded(_, values) => values.data_type(),
            _ => return Ok(Arc::clone(column)),
        };
        let values = arrow_cast::cast(column, value).map_err(|error| self.corrupt(&error))?;
        self.plain(&values)
    }

    /// Returns the kept columns in the kept schema. Rows with a value that does not fit its column's type are
    /// rejected.
    fn kept(&self, batch: &RecordBatch, texts: &mut [Text]) -> Result<RecordBatch, DatasetError> {
        let schema = &self.selection.kept;
        let mut columns = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            columns.push(match batch.column_by_name(field.name()) {
                None => new_null_array(field.data_type(), batch.num_rows()),
                Some(column) => {
                    let converted = convert(column, field.data_type()).map_err(|error| self.corrupt(&error))?;
                    for row in converted.lost {
                        if texts[row].is_ok() {
                            texts[row] = Err(RejectReason::ColumnType);
                        }
                    }
                    converted.column
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(|error| self.corrupt(&error))
    }

    /// Hashes texts and kept values, since the bytes of selected rows and columns are not contiguous in the file.
    fn hash(&mut self, texts: &[Text], kept: &RecordBatch) -> Result<(), DatasetError> {
        for text in texts {
            match text {
                Ok(text) => {
                    self.hasher.update(&(text.len() as u64).to_le_bytes());
                    self.hasher.update(text.as_bytes());
                }
                Err(reason) => {
                    self.hasher.update(&u64::MAX.to_le_bytes());
                    self.hasher.update(reason.code().as_bytes());
                }
            }
        }
        if kept.num_columns() > 0 {
            let mut bytes = Vec::new();
            let written = StreamWriter::try_new(&mut bytes, kept.schema_ref())
                .and_then(|mut writer| writer.write(kept).and_then(|()| writer.finish()));
            written.map_err(|error| self.corrupt(&error))?;
            self.hasher.update(&bytes);
        }
        Ok(())
    }

    fn corrupt(&self, error: &arrow_schema::ArrowError) -> DatasetError {
        DatasetError::corrupt(self.name.as_str(), None, error.to_string())
    }
}

#[cfg(test)]
#[path = "columnar_tests.rs"]
mod tests;
