//! Arrow IPC, file and stream layout: parts are record batches, located by `arrow_index`.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::FileDecoder;
use arrow_ipc::{Block, MetadataVersion, root_as_message};
use arrow_schema::SchemaRef;
use bytes::Bytes;

use crate::corpus::arrow_index::{self, ArrowIndex, Kind, Message};
use crate::corpus::columnar::{Batches, BlockingObject, ColumnarFormat, Index, Part, Selection};
use crate::error::DatasetError;

/// Limits of the claimed size of a compressed buffer, in bytes and relative to its own size, since memory is allocated
/// first.
const UNPACKED_BYTES_MAX: u64 = 4 << 30;
const UNPACKED_TIMES_MAX: u64 = 256;

pub(crate) struct Arrow;

impl ColumnarFormat for Arrow {
    fn schema(&self, object: &BlockingObject) -> Result<SchemaRef, DatasetError> {
        arrow_index::schema(object)
    }

    fn index(&self, object: &BlockingObject) -> Result<Arc<dyn Index>, DatasetError> {
        Ok(Arc::new(arrow_index::index(object)?))
    }
}

impl Index for ArrowIndex {
    /// The record batches, with the stored bytes of all columns.
    fn parts(&self, _: &str) -> Vec<Part> {
        let part_of = |message: &Message| match message.kind {
            Kind::Batch { rows } => Some(Part { rows, bytes: message.body_bytes }),
            Kind::Dictionary { .. } => None,
        };
        self.messages.iter().filter_map(part_of).collect()
    }

    fn open(&self, object: BlockingObject, selection: &Selection) -> Result<Box<dyn Batches>, DatasetError> {
        Ok(Box::new(open(self, object, selection)?))
    }
}

/// Opens the rows of a slice.
fn open(index: &ArrowIndex, object: BlockingObject, selection: &Selection) -> Result<ArrowBatches, DatasetError> {
    let positions = selection.positions(&index.schema);
    let selected = index.schema.project(&positions).map_err(|error| object.corrupt(error.to_string()))?;
    // Each message has its own version; the footers of some writers have another.
    let decoder = FileDecoder::new(Arc::clone(&index.schema), MetadataVersion::V1).with_projection(positions);
    Ok(ArrowBatches {
        object,
        decoder,
        selected: Arc::new(selected),
        messages: Arc::clone(&index.messages),
        next_message: 0,
        first_row: 0,
        rows: selection.rows.clone(),
    })
}

/// The record batches of a slice.
struct ArrowBatches {
    object: BlockingObject,
    decoder: FileDecoder,
    /// The columns to read.
    selected: SchemaRef,
    messages: Arc<[Message]>,
    next_message: usize,
    /// Row of the next batch within the object.
    first_row: u64,
    /// Rows of the slice, within the object.
    rows: Range<u64>,
}

impl Batches for ArrowBatches {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, DatasetError> {
        while self.first_row < self.rows.end {
            let Some(message) = self.messages.get(self.next_message).cloned() else {
                return Ok(None);
            };
            self.next_message += 1;
            match message.kind {
                // Reads every dictionary before the slice, since later ones may extend or replace it.
                Kind::Dictionary { id } if self.is_selected(id) => self.read_dictionary(&message)?,
                Kind::Dictionary { .. } => {}
                Kind::Batch { rows } => {
                    let start =
                        self.rows.start.clamp(self.first_row, self.first_row.saturating_add(rows)) - self.first_row;
                    let end = self.rows.end.clamp(self.first_row, self.first_row.saturating_add(rows)) - self.first_row;
                    self.first_row = self.first_row.saturating_add(rows);
                    if start < end {
                        return self.read_batch(&message, start, end).map(Some);
                    }
                }
            }
        }
        Ok(None)
    }
}

impl ArrowBatches {
    /// Returns whether a selected column has this dictionary.
    fn is_selected(&self, dictionary: i64) -> bool {
        #[expect(deprecated, reason = "the decoder itself knows dictionaries by the id in the schema")]
        let fields = self.selected.fields_with_dict_id(dictionary);
        !fields.is_empty()
    }

    fn read_dictionary(&mut self, message: &Message) -> Result<(), DatasetError> {
        let (block, bytes) = self.read(message)?;
        self.decoder.read_dictionary(&block, &bytes).map_err(|error| self.object.corrupt(error.to_string()))
    }

    fn read_batch(&mut self, message: &Message, start: u64, end: u64) -> Result<RecordBatch, DatasetError> {
        let (block, bytes) = self.read(message)?;
        let batch = self.decoder.read_record_batch(&block, &bytes);
        let batch = batch.map_err(|error| self.object.corrupt(error.to_string()))?;
        let (start, rows) = (usize::try_from(start), usize::try_from(end - start));
        match (batch, start, rows) {
            (Some(batch), Ok(start), Ok(rows)) if start.saturating_add(rows) <= batch.num_rows() => {
                Ok(batch.slice(start, rows))
            }
            _ => Err(self.object.corrupt("a record batch has fewer rows than it claims")),
        }
    }

    fn read(&self, message: &Message) -> Result<(Block, Buffer), DatasetError> {
        let end = message.metadata.end.saturating_add(message.body_bytes);
        let bytes = self.object.read(message.metadata.start..end)?;
        let metadata_bytes = i32::try_from(message.metadata.end - message.metadata.start);
        let body_bytes = i64::try_from(message.body_bytes);
        let (Ok(metadata_bytes), Ok(body_bytes)) = (metadata_bytes, body_bytes) else {
            return Err(self.object.corrupt("a message is too large"));
        };
        self.check_sizes(&bytes, metadata_bytes.unsigned_abs() as usize)?;
        // The offset is for seeking readers; here the bytes are in memory.
        Ok((Block::new(0, metadata_bytes, body_bytes), Buffer::from(bytes)))
    }

    /// Checks that the buffers of a message are inside of it, and their claimed uncompressed sizes.
    fn check_sizes(&self, bytes: &Bytes, metadata_bytes: usize) -> Result<(), DatasetError> {
        let prefix = if bytes.starts_with(&[0xff; 4]) { 8 } else { 4 };
        let bad = |problem: &str| self.object.corrupt(format!("a message does not decode: {problem}"));
        let metadata = bytes.get(prefix..metadata_bytes).ok_or_else(|| bad("it is too short"))?;
        let message = root_as_message(metadata).map_err(|error| bad(&error.to_string()))?;
        let batch = match message.header_as_dictionary_batch() {
            Some(dictionary) => dictionary.data(),
            None => message.header_as_record_batch(),
        };
        let Some(batch) = batch else { return Err(bad("it has no batch")) };
        for buffer in batch.buffers().into_iter().flatten() {
            let start = usize::try_from(buffer.offset()).ok().and_then(|offset| offset.checked_add(metadata_bytes));
            let length = usize::try_from(buffer.length()).ok();
            let range = start.zip(length).and_then(|(start, length)| Some(start..start.checked_add(length)?));
            let Some(buffer) = range.and_then(|range| bytes.get(range)) else {
                return Err(bad("a buffer lies beyond its end"));
            };
            let claimed = buffer.first_chunk::<8>().map(|bytes| i64::from_le_bytes(*bytes));
            if batch.compression().is_some()
                && let Some(Ok(claimed)) = claimed.map(u64::try_from)
                && claimed > UNPACKED_BYTES_MAX.max(buffer.len() as u64 * UNPACKED_TIMES_MAX)
            {
                return Err(bad(&format!("a compressed buffer claims {claimed} bytes")));
            }
        }
        Ok(())
    }
}
