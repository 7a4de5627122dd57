//! Arrow IPC, both layouts: parts are record batches. The file layout is the stream layout between a magic number and a
//! footer, so one walk over the messages serves both; it reads their metadata, not their bodies.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::FileDecoder;
use arrow_ipc::{Block, MessageHeader, MetadataVersion, root_as_message};
use arrow_schema::SchemaRef;
use bytes::Bytes;

use crate::corpus::columnar::{Batches, BlockingObject, Part, Selection};
use crate::error::DatasetError;

const MAGIC: &[u8] = b"ARROW1";
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Metadata of one message beyond this is an attack.
const METADATA_BYTES_MAX: u64 = 64 << 20;

/// How much is read at once in the hope that it holds a whole message's metadata.
const METADATA_BYTES_USUAL: u64 = 4 << 10;

/// What a walk over the messages found.
struct Index {
    schema: SchemaRef,
    version: MetadataVersion,
    /// Dictionaries and batches in file order.
    messages: Vec<Message>,
}

#[derive(Debug, Clone)]
struct Message {
    kind: Kind,
    /// Prefix and metadata.
    metadata: Range<u64>,
    body_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Dictionary,
    Batch { rows: u64 },
}

/// Returns the schema.
pub(crate) fn schema(object: &BlockingObject) -> Result<SchemaRef, DatasetError> {
    let messages = messages_range(object)?;
    Ok(read_schema(object, messages)?.0)
}

/// Lists the record batches. Their bytes are those of all columns, as stored.
pub(crate) fn parts(object: &BlockingObject) -> Result<Vec<Part>, DatasetError> {
    let part_of = |message: &Message| match message.kind {
        Kind::Batch { rows } => Some(Part { rows, bytes: message.body_bytes }),
        Kind::Dictionary => None,
    };
    Ok(index(object)?.messages.iter().filter_map(part_of).collect())
}

/// Opens the rows of a slice.
pub(crate) fn open(object: BlockingObject, selection: &Selection) -> Result<ArrowBatches, DatasetError> {
    let index = index(&object)?;
    let positions = selection.positions(&index.schema);
    let decoder = FileDecoder::new(index.schema, index.version).with_projection(positions);
    Ok(ArrowBatches {
        object,
        decoder,
        messages: index.messages.into_iter(),
        first_row: 0,
        rows: selection.rows.clone(),
    })
}

/// The record batches of a slice.
pub(crate) struct ArrowBatches {
    object: BlockingObject,
    decoder: FileDecoder,
    messages: std::vec::IntoIter<Message>,
    /// Row of the next batch, counted in the object.
    first_row: u64,
    /// Rows of the slice.
    rows: Range<u64>,
}

impl Batches for ArrowBatches {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, DatasetError> {
        while self.first_row < self.rows.end {
            let Some(message) = self.messages.next() else {
                return Ok(None);
            };
            match message.kind {
                // Every dictionary before the slice is read: a stream may extend or replace it.
                Kind::Dictionary => self.read_dictionary(&message)?,
                Kind::Batch { rows } => {
                    let start = self.rows.start.clamp(self.first_row, self.first_row + rows) - self.first_row;
                    let end = self.rows.end.clamp(self.first_row, self.first_row + rows) - self.first_row;
                    self.first_row += rows;
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
            (Some(batch), Ok(start), Ok(rows)) if start + rows <= batch.num_rows() => Ok(batch.slice(start, rows)),
            _ => Err(self.object.corrupt("a record batch has fewer rows than it claims")),
        }
    }

    fn read(&self, message: &Message) -> Result<(Block, Buffer), DatasetError> {
        let bytes = self.object.read(message.metadata.start..message.metadata.end + message.body_bytes)?;
        let metadata_bytes = i32::try_from(message.metadata.end - message.metadata.start);
        let body_bytes = i64::try_from(message.body_bytes);
        let (Ok(metadata_bytes), Ok(body_bytes)) = (metadata_bytes, body_bytes) else {
            return Err(self.object.corrupt("a message is too large"));
        };
        // The offset is for readers that seek; this one has the bytes in hand.
        Ok((Block::new(0, metadata_bytes, body_bytes), Buffer::from(bytes)))
    }
}

/// Returns where the messages lie, by layout.
fn messages_range(object: &BlockingObject) -> Result<Range<u64>, DatasetError> {
    let size = object.size();
    let front = object.read(0..size.min(8))?;
    if !front.starts_with(MAGIC) {
        return Ok(0..size);
    }
    let tail = object.read(size.saturating_sub(10)..size)?;
    let length = match tail.strip_suffix(MAGIC) {
        Some([a, b, c, d]) => u64::from(u32::from_le_bytes([*a, *b, *c, *d])),
        _ => return Err(object.corrupt("it does not end as an arrow file does: it is cut off, copy it again")),
    };
    // Writers pad the magic number to 8 bytes, or to the 64 of their buffers.
    let front = object.read(0..size.min(64))?;
    let padding = front.chunks_exact(8).skip(1).take_while(|word| *word == [0; 8]).count() as u64;
    let start = 8 + 8 * padding;
    match size.checked_sub(10 + length) {
        Some(end) if end >= start => Ok(start..end),
        _ => Err(object.corrupt(format!("its footer claims {length} bytes"))),
    }
}

fn index(object: &BlockingObject) -> Result<Index, DatasetError> {
    let range = messages_range(object)?;
    let (schema, version, mut at) = read_schema(object, range.clone())?;
    let mut messages = Vec::new();
    while let Some((metadata, bytes)) = read_metadata(object, at..range.end)? {
        let message = root_as_message(&bytes).map_err(|error| object.corrupt(format!("bad message: {error}")))?;
        let body_bytes = u64::try_from(message.bodyLength()).unwrap_or(u64::MAX);
        at = metadata.end.saturating_add(body_bytes);
        if at > range.end {
            return Err(object.corrupt("it is cut off in a record batch: copy it again"));
        }
        let kind = match message.header_type() {
            MessageHeader::DictionaryBatch => Kind::Dictionary,
            MessageHeader::RecordBatch => {
                let rows = message.header_as_record_batch().map_or(-1, |batch| batch.length());
                let rows = u64::try_from(rows).map_err(|_| object.corrupt("a record batch has no length"))?;
                Kind::Batch { rows }
            }
            other => return Err(object.corrupt(format!("unexpected message: {other:?}"))),
        };
        messages.push(Message { kind, metadata, body_bytes });
    }
    Ok(Index { schema, version, messages })
}

/// Reads the first message; returns the schema, its version, and where the next message begins.
fn read_schema(object: &BlockingObject, range: Range<u64>) -> Result<(SchemaRef, MetadataVersion, u64), DatasetError> {
    let not_arrow =
        || object.corrupt("it does not begin with an arrow schema: is it in another format (see --format)?");
    let (metadata, bytes) = read_metadata(object, range)?.ok_or_else(not_arrow)?;
    let message = root_as_message(&bytes).map_err(|_| not_arrow())?;
    let schema = message.header_as_schema().ok_or_else(not_arrow)?;
    let schema = try_fb_to_schema(schema).map_err(|error| object.corrupt(error.to_string()))?;
    let body_bytes = u64::try_from(message.bodyLength()).unwrap_or(0);
    Ok((Arc::new(schema), message.version(), metadata.end.saturating_add(body_bytes)))
}

/// Reads the metadata of the message at the front of `range`, or `None` at the end of the stream.
fn read_metadata(object: &BlockingObject, range: Range<u64>) -> Result<Option<(Range<u64>, Bytes)>, DatasetError> {
    let Range { start, end } = range;
    if start >= end {
        return Ok(None);
    }
    let front = object.read(start..end.min(start + METADATA_BYTES_USUAL))?;
    // Before version 0.15 the length came first, without a continuation marker.
    let prefix = if front.starts_with(&CONTINUATION) { 8 } else { 4 };
    let Some(Ok(length)) = front.get(prefix - 4..prefix).map(<[u8; 4]>::try_from) else {
        return Err(object.corrupt("it is cut off between record batches: copy it again"));
    };
    let length = u64::from(u32::from_le_bytes(length));
    if length == 0 {
        return Ok(None);
    }
    let metadata = start..start + prefix as u64 + length;
    if length > METADATA_BYTES_MAX || metadata.end > end {
        return Err(object.corrupt("it is cut off in the metadata of a message, or no arrow data: copy it again"));
    }
    let whole = if metadata.end - start <= front.len() as u64 { front } else { object.read(metadata.clone())? };
    let last = usize::try_from(metadata.end - start).expect("bounded by METADATA_BYTES_MAX");
    Ok(Some((metadata, whole.slice(prefix..last))))
}
