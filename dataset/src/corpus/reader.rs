//! Reads the records of a slice in bounded chunks, verified against the plan: fingerprint before and after, and number
//! of records.

use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use spec::{ReadOptions, RejectReason};

use crate::corpus::columnar::{self, ColumnarReader, Selection};
use crate::corpus::columns::ChunkBuilder;
use crate::corpus::dialect::Dialect;
use crate::corpus::feed::{Record, RecordFeed};
use crate::corpus::formats::{self, Layout};
use crate::corpus::object::{FallbackSource, Object};
use crate::corpus::schema::kept_schema_of;
use crate::corpus::stream::TextStream;
use crate::corpus::text_format::{Parse, UnknownKey};
use crate::corpus::{CHUNK_BYTES_MAX, CHUNK_ROWS_MAX, PlannedSource, Slice, SliceRange};
use crate::error::DatasetError;
use crate::storage::Storage;

/// Consecutive records of a slice.
#[derive(Debug, Clone)]
pub struct RecordChunk {
    /// Row number of the first record, over the whole corpus.
    pub first_row: u64,
    /// The texts, or why they were rejected.
    pub texts: Vec<Result<String, RejectReason>>,
    /// The kept columns in the kept schema, one row per record.
    pub kept: RecordBatch,
}

/// Reads one slice; created by [`read`].
pub struct RecordReader {
    format: FormatReader,
    first_row: u64,
    rows: u64,
    rows_read: u64,
}

enum FormatReader {
    Text(Box<TextReader>),
    Columnar(Box<ColumnarReader>),
}

impl fmt::Debug for RecordReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordReader")
            .field("first_row", &self.first_row)
            .field("rows", &self.rows)
            .field("rows_read", &self.rows_read)
            .finish_non_exhaustive()
    }
}

/// Opens the records of a slice. `recut` is the job's storage, with the pieces of re-cut sources.
///
/// # Errors
/// `SourceChanged` if the source differs from the plan, `NotFound` if a piece is missing, or it cannot be read.
pub async fn read(
    source: &PlannedSource,
    slice: &Slice,
    options: &ReadOptions,
    recut: &Storage,
) -> Result<RecordReader, DatasetError> {
    let object = match &slice.recut_key {
        Some(key) => Object::open_piece(recut, key).await?,
        None => Object::open_planned(source).await?,
    };
    read_object(object, source, slice, options).await
}

/// As [`read`], with a fallback for a source that cannot be opened as planned.
///
/// # Errors
/// As [`read`].
pub async fn read_with_fallback(
    source: &PlannedSource,
    slice: &Slice,
    options: &ReadOptions,
    recut: &Storage,
    fallback: &FallbackSource,
) -> Result<RecordReader, DatasetError> {
    match &slice.recut_key {
        Some(_) => read(source, slice, options, recut).await,
        None => read_object(Object::open_with_fallback(source, fallback).await?, source, slice, options).await,
    }
}

/// Returns the BLAKE3, in hex, of a slice's current content, to compare with [`Slice::blake3`].
///
/// # Errors
/// As [`read_with_fallback`].
pub async fn slice_blake3(
    source: &PlannedSource,
    slice: &Slice,
    options: &ReadOptions,
    recut: &Storage,
    fallback: &FallbackSource,
) -> Result<String, DatasetError> {
    let SliceRange::Bytes { start, end } = slice.range else {
        let mut reader = read_with_fallback(source, slice, options, recut, fallback).await?;
        while reader.next_chunk().await?.is_some() {}
        return Ok(reader.input_blake3());
    };
    let object = match &slice.recut_key {
        Some(key) => Object::open_piece(recut, key).await?,
        None => Object::open_with_fallback(source, fallback).await?,
    };
    let mut stream = TextStream::plain(object, start..end);
    let mut hasher = blake3::Hasher::new();
    while let Some(block) = stream.next_block().await? {
        hasher.update(&block);
    }
    Ok(hasher.finalize().to_hex().to_string())
}

async fn read_object(
    object: Object,
    source: &PlannedSource,
    slice: &Slice,
    options: &ReadOptions,
) -> Result<RecordReader, DatasetError> {
    let kept = Arc::new(kept_schema_of(source)?);
    let format = match (formats::layout(source.source.format).0, slice.range) {
        (Layout::Columnar(columnar), SliceRange::Rows { start, end }) => {
            let selection = Selection { rows: start..end, text_column: options.text_column.clone(), kept };
            let index = columnar::index(&object, columnar).await?;
            FormatReader::Columnar(Box::new(ColumnarReader::open(object, index, selection).await?))
        }
        (Layout::Text(text), SliceRange::Bytes { start, end }) => {
            let parser = text.parser(source, options, &kept)?;
            let splitter = text.splitter(Dialect::of(source.source.format, options));
            let feed = RecordFeed::new(TextStream::plain(object, start..end), splitter);
            FormatReader::Text(Box::new(TextReader { feed, parser, rows: ChunkBuilder::new(kept) }))
        }
        (Layout::Columnar(_), range @ SliceRange::Bytes { .. })
        | (Layout::Text(_), range @ SliceRange::Rows { .. }) => {
            let problem = format!("slice {range:?} cannot be of a {} source", source.source.format);
            return Err(DatasetError::bad_input(source.source.uri.as_str(), problem));
        }
    };
    Ok(RecordReader { format, first_row: slice.first_row, rows: slice.rows, rows_read: 0 })
}

impl RecordReader {
    /// Returns the next chunk, or `None` after the last, when the source has been verified again.
    ///
    /// # Errors
    /// `SourceChanged`; `Corrupt` naming the source and the last good row, also if the number of records differs from
    /// the plan; `BadInput` for a JSON key that was not in the sample; or the store fails.
    pub async fn next_chunk(&mut self) -> Result<Option<RecordChunk>, DatasetError> {
        let first_row = self.first_row + self.rows_read;
        let next = match &mut self.format {
            FormatReader::Text(text) => text.next_chunk(first_row).await,
            FormatReader::Columnar(columnar) => columnar.next_chunk(first_row).await,
        };
        let chunk = next.map_err(|error| error.after_row(first_row.checked_sub(1)))?;
        self.rows_read += chunk.as_ref().map_or(0, |chunk| chunk.texts.len() as u64);
        let is_complete = self.rows_read == self.rows;
        if self.rows_read > self.rows || (chunk.is_none() && !is_complete) {
            let problem = format!("a slice of {} rows has {} or more", self.rows, self.rows_read);
            let row = (self.first_row + self.rows_read).checked_sub(1);
            return Err(DatasetError::corrupt(self.object().name(), row, problem));
        }
        if chunk.is_none() {
            self.object().check().await?;
        }
        Ok(chunk)
    }

    /// Returns the BLAKE3, in hex, of what was read; complete once `next_chunk` has returned `None`. Equal for every
    /// read of the same slice of the same bytes.
    pub fn input_blake3(&self) -> String {
        match &self.format {
            FormatReader::Text(text) => text.feed.blake3(),
            FormatReader::Columnar(columnar) => columnar.blake3(),
        }
    }

    fn object(&self) -> &Object {
        match &self.format {
            FormatReader::Text(text) => text.feed.stream().object(),
            FormatReader::Columnar(columnar) => columnar.object(),
        }
    }
}

struct TextReader {
    feed: RecordFeed,
    parser: Box<dyn Parse>,
    rows: ChunkBuilder,
}

impl TextReader {
    async fn next_chunk(&mut self, first_row: u64) -> Result<Option<RecordChunk>, DatasetError> {
        while self.rows.len() < CHUNK_ROWS_MAX && self.rows.bytes() <= CHUNK_BYTES_MAX {
            let record = match self.feed.next().await? {
                None => break,
                Some(Record::TooLarge) => {
                    self.rows.push_rejected(RejectReason::TextTooLarge);
                    continue;
                }
                Some(Record::Whole(record)) => record,
            };
            if let Err(UnknownKey(key)) = self.parser.parse(record, &mut self.rows) {
                let row = first_row + self.rows.len() as u64;
                return Err(unknown_key(self.feed.stream().object().name(), row, &key));
            }
        }
        Ok(if self.rows.len() == 0 { None } else { Some(self.rows.finish(first_row)) })
    }
}

fn unknown_key(object: &str, row: u64, key: &str) -> DatasetError {
    let key = key.escape_debug();
    let problem = format!(
        "row {row} has a key `{key}` that no record of the sample has, so the output has no column for it: \
         name the columns to pass through with --keep (or `--keep none`), or put a record with that key first"
    );
    DatasetError::bad_input(object, problem)
}
