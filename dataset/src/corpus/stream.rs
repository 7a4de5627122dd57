//! The text of a source as UTF-8, decompressed and decoded, in bounded blocks from any offset.

use std::ops::Range;

use bytes::Bytes;
use encoding_rs::Encoding;
use spec::Compression;

use crate::corpus::decompress::{Decompressor, Unreadable};
use crate::corpus::object::Object;
use crate::corpus::text::{FRONT_BYTES, sniff};
use crate::corpus::transcode::Transcoder;
use crate::error::DatasetError;

/// Maximum bytes of a request to the store, and of a block.
pub(crate) const BLOCK_BYTES: usize = 1 << 20;

pub(crate) struct TextStream {
    object: Object,
    /// Bytes of the object not requested yet.
    rest: Range<u64>,
    decompressor: Option<Decompressor>,
    /// Compressed bytes not consumed yet.
    input: Bytes,
    /// Uncompressed bytes read ahead.
    ahead: Bytes,
    transcoder: Option<Transcoder>,
    /// Decoded bytes not returned yet.
    decoded: Bytes,
    /// Offset in the text of the next block.
    offset: u64,
    is_at_front: bool,
    /// Damage found after bytes that are returned first, so that the caller can count their rows.
    damage: Option<Unreadable>,
}

impl TextStream {
    /// Opens the bytes `range` of an uncompressed UTF-8 object.
    pub(crate) fn plain(object: Object, range: Range<u64>) -> TextStream {
        TextStream {
            object,
            offset: range.start,
            rest: range,
            decompressor: None,
            input: Bytes::new(),
            ahead: Bytes::new(),
            transcoder: None,
            decoded: Bytes::new(),
            is_at_front: false,
            damage: None,
        }
    }

    /// Opens the text of a source at byte `start` of its UTF-8 form (0 is after the byte order mark). Without a mark
    /// the text is in `encoding`, by default UTF-8. Compressed or encoded text is read from the front up to `start`,
    /// since it cannot be entered in the middle.
    ///
    /// # Errors
    /// `BadInput` if the first bytes are not text; `Corrupt` if the text ends before `start`.
    pub(crate) async fn open(
        object: Object,
        compression: Compression,
        encoding: Option<&'static Encoding>,
        start: u64,
    ) -> Result<TextStream, DatasetError> {
        let decompressor =
            Decompressor::new(compression).map_err(|problem| DatasetError::bad_input(object.name(), problem))?;
        let size = object.size();
        let mut stream = TextStream { rest: 0..size, decompressor, ..Self::plain(object, 0..0) };
        let front = if stream.decompressor.is_none() && start > 0 {
            stream.object.read(0..size.min(FRONT_BYTES)).await?
        } else {
            stream.ahead = stream.raw_block(BLOCK_BYTES).await?;
            stream.ahead.clone()
        };
        let found = sniff(&front, encoding);
        let found = found.map_err(|problem| DatasetError::bad_input(stream.object.name(), problem))?;
        stream.transcoder = found.encoding.map(Transcoder::new);
        if start == 0 {
            stream.is_at_front = true;
            stream.ahead = stream.ahead.slice(found.mark..);
            stream.offset = if stream.transcoder.is_some() { 0 } else { found.mark as u64 };
        } else if stream.is_rewritten() {
            stream.skip_to(start, found.mark).await?;
        } else if start <= size {
            (stream.rest, stream.offset) = (start..size, start);
        } else {
            return Err(stream.ends_before(start));
        }
        Ok(stream)
    }

    async fn skip_to(&mut self, start: u64, mark: usize) -> Result<(), DatasetError> {
        if self.ahead.is_empty() {
            self.ahead = self.raw_block(BLOCK_BYTES).await?;
        }
        self.ahead = self.ahead.slice(mark..);
        self.offset = if self.transcoder.is_some() { 0 } else { mark as u64 };
        while self.offset < start {
            let bytes = usize::try_from(start - self.offset).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
            if self.block_of(bytes).await?.is_none() {
                return Err(self.ends_before(start));
            }
        }
        Ok(())
    }

    fn ends_before(&self, start: u64) -> DatasetError {
        DatasetError::corrupt(self.object.name(), None, format!("it ends before byte {start} of its text"))
    }

    pub(crate) fn object(&self) -> &Object {
        &self.object
    }

    /// Returns the offset in the text of the next block.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the next block is the first one.
    pub(crate) fn is_at_front(&self) -> bool {
        self.is_at_front
    }

    /// Whether the text was decompressed or decoded, so that its offsets are not those of the object.
    pub(crate) fn is_rewritten(&self) -> bool {
        self.decompressor.is_some() || self.transcoder.is_some()
    }

    /// Whether the text is in another encoding than UTF-8.
    pub(crate) fn is_decoded(&self) -> bool {
        self.transcoder.is_some()
    }

    /// Whether the undecoded bytes read ahead are valid UTF-8 beyond ASCII.
    pub(crate) fn is_good_utf8(&self) -> bool {
        let text = std::str::from_utf8(&self.ahead);
        // A character may be truncated at the end.
        !self.ahead.is_ascii() && text.map_or_else(|error| error.error_len().is_none(), |_| true)
    }

    /// Returns the next nonempty block, or `None` at the end.
    ///
    /// # Errors
    /// `SourceChanged`, `Corrupt` if the compressed data is damaged or truncated, or the store fails.
    pub(crate) async fn next_block(&mut self) -> Result<Option<Bytes>, DatasetError> {
        self.block_of(BLOCK_BYTES).await
    }

    async fn block_of(&mut self, bytes_max: usize) -> Result<Option<Bytes>, DatasetError> {
        self.is_at_front = false;
        let block = match self.transcoder {
            Some(_) => self.decoded_block(bytes_max).await?,
            None => self.raw_block(bytes_max).await?,
        };
        self.offset += block.len() as u64;
        Ok(if block.is_empty() { None } else { Some(block) })
    }

    /// Returns decoded bytes; empty at the end.
    async fn decoded_block(&mut self, bytes_max: usize) -> Result<Bytes, DatasetError> {
        while self.decoded.is_empty() {
            let raw = self.raw_block(BLOCK_BYTES).await?;
            let transcoder = self.transcoder.as_mut().expect("only called for text in another encoding");
            if transcoder.is_finished() {
                return Ok(Bytes::new());
            }
            self.decoded = transcoder.decode(&raw, raw.is_empty()).into();
        }
        Ok(self.decoded.split_to(bytes_max.min(self.decoded.len())))
    }

    /// Returns uncompressed bytes before decoding; empty at the end.
    async fn raw_block(&mut self, bytes_max: usize) -> Result<Bytes, DatasetError> {
        if !self.ahead.is_empty() {
            return Ok(self.ahead.split_to(bytes_max.min(self.ahead.len())));
        }
        if self.decompressor.is_some() { self.decompressed_block(bytes_max).await } else { self.read_some().await }
    }

    async fn read_some(&mut self) -> Result<Bytes, DatasetError> {
        let end = self.rest.end.min(self.rest.start + BLOCK_BYTES as u64);
        let bytes = self.object.read(self.rest.start..end).await?;
        self.rest.start = end;
        Ok(bytes)
    }

    async fn decompressed_block(&mut self, bytes_max: usize) -> Result<Bytes, DatasetError> {
        let mut block = vec![0; bytes_max];
        let mut filled = 0;
        while filled < bytes_max && self.damage.is_none() {
            let decompressor = self.decompressor.as_mut().expect("only called for compressed sources");
            match decompressor.decompress(&self.input, &mut block[filled..]) {
                Ok(step) if step.consumed > 0 || step.written > 0 => {
                    filled += step.written;
                    self.input = self.input.slice(step.consumed..);
                }
                Ok(_) if !self.input.is_empty() => {
                    self.damage = Some(Unreadable::Damaged("the decompressor is stuck".to_owned()));
                }
                Ok(_) if self.rest.is_empty() => match decompressor.finish() {
                    Ok(()) => break,
                    Err(problem) => self.damage = Some(problem),
                },
                Ok(_) => self.input = self.read_some().await?,
                Err(problem) => self.damage = Some(problem),
            }
        }
        match &self.damage {
            Some(problem) if filled == 0 => Err(problem.of(self.object.name())),
            _ => {
                block.truncate(filled);
                Ok(Bytes::from(block))
            }
        }
    }
}
