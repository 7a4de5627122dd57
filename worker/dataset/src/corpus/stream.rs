//! The uncompressed bytes of a text source, in blocks of bounded size, from any offset.

use std::ops::Range;

use bytes::Bytes;

use crate::corpus::Compression;
use crate::corpus::decompress::Decompressor;
use crate::corpus::object::Object;
use crate::error::DatasetError;

/// Most bytes that are asked of the store at once, and most bytes in a block.
pub(crate) const BLOCK_BYTES: usize = 1 << 20;

/// Reads an object front to back.
pub(crate) struct TextStream {
    object: Object,
    /// Bytes of the object not yet asked for.
    rest: Range<u64>,
    decompressor: Option<Decompressor>,
    /// Compressed bytes not yet used.
    input: Bytes,
    /// Offset in the uncompressed text of the next block.
    offset: u64,
    /// Damage that was found behind bytes which are handed out first, so that the caller can count their rows.
    damage: Option<String>,
}

impl TextStream {
    /// Opens the uncompressed bytes `range` of an object that is not compressed.
    pub(crate) fn plain(object: Object, range: Range<u64>) -> TextStream {
        let offset = range.start;
        TextStream { object, rest: range, decompressor: None, input: Bytes::new(), offset, damage: None }
    }

    /// Opens the text of a source from byte `start` of its uncompressed text. Compressed sources are read from the
    /// front and the bytes before `start` are dropped: neither gzip nor zstd can seek.
    ///
    /// # Errors
    /// `Corrupt` where the text ends before `start`.
    pub(crate) async fn open(object: Object, compression: Compression, start: u64) -> Result<TextStream, DatasetError> {
        let decompressor =
            Decompressor::new(compression).map_err(|problem| DatasetError::corrupt(object.name(), None, problem))?;
        let size = object.size();
        if decompressor.is_none() {
            let beyond = || DatasetError::corrupt(object.name(), None, format!("it ends before byte {start}"));
            return if start <= size { Ok(Self::plain(object, start..size)) } else { Err(beyond()) };
        }
        let mut stream = TextStream { rest: 0..size, decompressor, ..Self::plain(object, 0..0) };
        while stream.offset < start {
            let wanted = usize::try_from(start - stream.offset).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
            if stream.block_of(wanted).await?.is_none() {
                let problem = format!("it ends before byte {start} of its text");
                return Err(DatasetError::corrupt(stream.object.name(), None, problem));
            }
        }
        Ok(stream)
    }

    /// Returns the object that is read.
    pub(crate) fn object(&self) -> &Object {
        &self.object
    }

    /// Returns the offset in the uncompressed text of the next block.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the next block, which is not empty, or `None` at the end.
    ///
    /// # Errors
    /// `SourceChanged`, `Corrupt` where the compressed data is damaged or cut off, or the store fails.
    pub(crate) async fn next_block(&mut self) -> Result<Option<Bytes>, DatasetError> {
        self.block_of(BLOCK_BYTES).await
    }

    async fn block_of(&mut self, bytes_max: usize) -> Result<Option<Bytes>, DatasetError> {
        let block = if self.decompressor.is_some() {
            self.decompressed_block(bytes_max).await?
        } else {
            self.read_some().await?
        };
        self.offset += block.len() as u64;
        Ok(if block.is_empty() { None } else { Some(block) })
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
                Ok(_) if !self.input.is_empty() => self.damage = Some("the decompressor is stuck".to_owned()),
                Ok(_) if self.rest.is_empty() => match decompressor.finish() {
                    Ok(()) => break,
                    Err(problem) => self.damage = Some(problem),
                },
                Ok(_) => self.input = self.read_some().await?,
                Err(problem) => self.damage = Some(problem),
            }
        }
        match &self.damage {
            Some(problem) if filled == 0 => Err(DatasetError::corrupt(self.object.name(), None, problem.as_str())),
            _ => {
                block.truncate(filled);
                Ok(Bytes::from(block))
            }
        }
    }
}
