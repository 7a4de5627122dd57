//! Locates the messages of an Arrow IPC object, by the footer of a file or by walking over a stream. Reads only
//! metadata of messages, not their bodies.

use std::ops::Range;
use std::sync::Arc;

use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::{Block, MessageHeader, MetadataVersion, Schema as IpcSchema, root_as_footer, root_as_message};
use arrow_schema::{Schema, SchemaRef};
use bytes::Bytes;

use crate::corpus::columnar::BlockingObject;
use crate::corpus::schema::unique_names;
use crate::error::DatasetError;

const MAGIC: &[u8] = b"ARROW1";
/// Magic of Feather version 1, a different format.
const FEATHER_1_MAGIC: &[u8] = b"FEA1";
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Maximum metadata of a message or footer.
const METADATA_BYTES_MAX: u64 = 64 << 20;

/// First read of a message's metadata, usually all of it.
const METADATA_BYTES_USUAL: u64 = 4 << 10;

pub(crate) struct ArrowIndex {
    /// With unique column names.
    pub(crate) schema: SchemaRef,
    /// Dictionaries and batches, in reading order.
    pub(crate) messages: Arc<[Message]>,
}

#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    /// Range of prefix and metadata.
    pub(crate) metadata: Range<u64>,
    pub(crate) body_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Dictionary { id: i64 },
    Batch { rows: u64 },
}

pub(crate) fn schema(object: &BlockingObject) -> Result<SchemaRef, DatasetError> {
    match layout(object)? {
        Layout::File { footer } => Ok(read_footer(object, footer)?.schema),
        Layout::Stream => Ok(read_schema(object)?.0),
    }
}

pub(crate) fn index(object: &BlockingObject) -> Result<ArrowIndex, DatasetError> {
    match layout(object)? {
        Layout::File { footer } => by_footer(object, footer),
        Layout::Stream => by_walk(object),
    }
}

enum Layout {
    File { footer: Range<u64> },
    Stream,
}

fn layout(object: &BlockingObject) -> Result<Layout, DatasetError> {
    let size = object.size();
    let front = object.read(0..size.min(8))?;
    if front.starts_with(FEATHER_1_MAGIC) {
        let problem = "it is Feather version 1, which is not supported: write it again as version 2, \
                       for example with `pyarrow.feather.write_feather(pyarrow.feather.read_table(old), new)`";
        return Err(object.unsupported(problem));
    }
    if !front.starts_with(MAGIC) {
        return Ok(Layout::Stream);
    }
    let tail = object.read(size.saturating_sub(10)..size)?;
    let length = match tail.strip_suffix(MAGIC) {
        Some([a, b, c, d]) => u64::from(u32::from_le_bytes([*a, *b, *c, *d])),
        _ => return Err(object.corrupt("it does not end as an arrow file does: it is cut off, copy it again")),
    };
    match (size - 10).checked_sub(length) {
        Some(start) if start >= 8 && length <= METADATA_BYTES_MAX => Ok(Layout::File { footer: start..size - 10 }),
        _ => Err(object.corrupt(format!("its footer claims {length} bytes"))),
    }
}

struct Footer {
    schema: SchemaRef,
    dictionaries: Vec<Block>,
    batches: Vec<Block>,
}

fn read_footer(object: &BlockingObject, range: Range<u64>) -> Result<Footer, DatasetError> {
    let bytes = object.read(range)?;
    let bad = |problem: &str| object.corrupt(format!("its footer does not decode: {problem}"));
    let footer = root_as_footer(&bytes).map_err(|error| bad(&error.to_string()))?;
    let schema = schema_of(object, footer.schema().ok_or_else(|| bad("it has no schema"))?)?;
    let dictionaries = footer.dictionaries().map(|blocks| blocks.iter().copied().collect()).unwrap_or_default();
    let batches = footer.recordBatches().map(|blocks| blocks.iter().copied().collect()).unwrap_or_default();
    Ok(Footer { schema, dictionaries, batches })
}

/// Reads the blocks of a footer: a file's dictionaries all precede its batches, wherever they are stored.
fn by_footer(object: &BlockingObject, range: Range<u64>) -> Result<ArrowIndex, DatasetError> {
    let end = range.start;
    let footer = read_footer(object, range)?;
    let mut messages = Vec::with_capacity(footer.dictionaries.len() + footer.batches.len());
    for block in footer.dictionaries.iter().chain(&footer.batches) {
        let metadata = u64::try_from(block.offset()).ok().zip(u64::try_from(block.metaDataLength()).ok());
        let message = metadata.zip(u64::try_from(block.bodyLength()).ok()).and_then(|((start, length), body)| {
            let metadata = start..start.checked_add(length)?;
            (metadata.end.checked_add(body)? <= end && length <= METADATA_BYTES_MAX).then_some((metadata, body))
        });
        let Some((metadata, body_bytes)) = message else {
            return Err(object.corrupt("its footer lists a block beyond its end"));
        };
        let bytes = object.read(metadata.clone())?;
        let prefix = if bytes.starts_with(&CONTINUATION) { 8 } else { 4 };
        let kind = bytes.get(prefix..).map(|bytes| kind_of(object, bytes)).transpose()?;
        let Some((kind, _)) = kind else { return Err(object.corrupt("its footer lists a block without metadata")) };
        messages.push(Message { kind, metadata, body_bytes });
    }
    Ok(ArrowIndex { schema: footer.schema, messages: messages.into() })
}

fn by_walk(object: &BlockingObject) -> Result<ArrowIndex, DatasetError> {
    let size = object.size();
    let (schema, mut at) = read_schema(object)?;
    let mut messages = Vec::new();
    while let Some((metadata, bytes)) = read_metadata(object, at..size)? {
        let (kind, body_bytes) = kind_of(object, &bytes)?;
        at = metadata.end.saturating_add(body_bytes);
        if at > size {
            return Err(object.corrupt("it is cut off in a record batch: copy it again"));
        }
        messages.push(Message { kind, metadata, body_bytes });
    }
    check_end(object, at)?;
    Ok(ArrowIndex { schema, messages: messages.into() })
}

/// Refuses concatenated streams, of which readers would only return the first.
fn check_end(object: &BlockingObject, at: u64) -> Result<(), DatasetError> {
    let size = object.size();
    let mark = object.read(at.min(size)..size.min(at.saturating_add(8)))?;
    let rest = at.saturating_add(if mark.starts_with(&CONTINUATION) { 8 } else { 4 });
    let next = object.read(rest.min(size)..size.min(rest.saturating_add(4)))?;
    if next == CONTINUATION[..] {
        let problem = "another arrow stream follows on its end: give each stream a file of its own";
        return Err(object.unsupported(problem));
    }
    Ok(())
}

/// Reads the first message; returns the schema and the position of the next message.
fn read_schema(object: &BlockingObject) -> Result<(SchemaRef, u64), DatasetError> {
    let not_arrow =
        || object.unsupported("it does not begin with an arrow schema: is it in another format (see --format)?");
    let (metadata, bytes) = read_metadata(object, 0..object.size())?.ok_or_else(not_arrow)?;
    let message = root_as_message(&bytes).map_err(|_| not_arrow())?;
    let schema = schema_of(object, message.header_as_schema().ok_or_else(not_arrow)?)?;
    let body_bytes = u64::try_from(message.bodyLength()).unwrap_or(0);
    Ok((schema, metadata.end.saturating_add(body_bytes)))
}

fn schema_of(object: &BlockingObject, schema: IpcSchema<'_>) -> Result<SchemaRef, DatasetError> {
    if !schema.endianness().equals_to_target_endianness() {
        return Err(object.unsupported("it was written on a machine of other endianness: write it again on this one"));
    }
    let schema = try_fb_to_schema(schema).map_err(|error| {
        object.unsupported(format!(
            "its schema has a type that is not supported ({error}): write it again without that column"
        ))
    })?;
    let names = unique_names(schema.fields().iter().map(|field| field.name().clone()).collect());
    let fields = schema.fields().iter().zip(names).map(|(field, name)| field.as_ref().clone().with_name(name));
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

/// Returns the kind of a message, and the size of its body in bytes.
fn kind_of(object: &BlockingObject, metadata: &[u8]) -> Result<(Kind, u64), DatasetError> {
    let message = root_as_message(metadata)
        .map_err(|error| object.corrupt(format!("the metadata of a message does not decode: {error}")))?;
    if message.version() < MetadataVersion::V4 {
        let version = message.version().variant_name().unwrap_or("an unknown version");
        return Err(
            object.unsupported(format!("its metadata is of version {version}, before Arrow 0.8: write it again"))
        );
    }
    let body_bytes = u64::try_from(message.bodyLength()).unwrap_or(u64::MAX);
    let kind = match message.header_type() {
        MessageHeader::DictionaryBatch => {
            message.header_as_dictionary_batch().map(|batch| Kind::Dictionary { id: batch.id() })
        }
        MessageHeader::RecordBatch => {
            let rows = message.header_as_record_batch().and_then(|batch| u64::try_from(batch.length()).ok());
            rows.map(|rows| Kind::Batch { rows })
        }
        other => {
            let name = other.variant_name().unwrap_or("unknown");
            return Err(object.unsupported(format!("it has a message of kind {name} where a record batch belongs")));
        }
    };
    let kind = kind.ok_or_else(|| object.corrupt("a message has no content, or a record batch no length"))?;
    Ok((kind, body_bytes))
}

/// Reads the metadata of the message at the start of `range`, or `None` at the end of the stream.
fn read_metadata(object: &BlockingObject, range: Range<u64>) -> Result<Option<(Range<u64>, Bytes)>, DatasetError> {
    let Range { start, end } = range;
    if start >= end {
        return Ok(None);
    }
    let front = object.read(start..end.min(start + METADATA_BYTES_USUAL))?;
    // Before version 0.15 there was no continuation marker before the length.
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
