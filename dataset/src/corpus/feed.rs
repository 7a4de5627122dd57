//! Record after record out of a text stream, with memory for one record of at most `RECORD_BYTES_MAX`.

use blake3::Hasher;
use bytes::Bytes;

use crate::corpus::RECORD_BYTES_MAX;
use crate::corpus::formats::{Splitter, Tail};
use crate::corpus::stream::TextStream;
use crate::error::DatasetError;

/// One record of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// Its bytes, with its line end and the blank lines before it.
    Whole(&'a [u8]),
    /// It has more than `RECORD_BYTES_MAX` bytes, which were not kept.
    TooLarge,
}

/// Reads records; stands at the start of a record.
pub(crate) struct RecordFeed {
    stream: TextStream,
    splitter: Splitter,
    block: Bytes,
    /// Where the next record, or the rest of the current one, begins in `block`.
    at: usize,
    /// The front of a record that began in an earlier block.
    front: Vec<u8>,
    /// Bytes of the current record in earlier blocks, kept or not.
    front_bytes: u64,
    /// The record returned last was in `front`.
    front_returned: bool,
    hasher: Hasher,
}

impl RecordFeed {
    /// Begins at the stream's position.
    pub(crate) fn new(stream: TextStream, splitter: Splitter) -> RecordFeed {
        RecordFeed {
            stream,
            splitter,
            block: Bytes::new(),
            at: 0,
            front: Vec::new(),
            front_bytes: 0,
            front_returned: false,
            hasher: Hasher::new(),
        }
    }

    /// Returns the next record, or `None` at the end.
    ///
    /// # Errors
    /// As [`TextStream::next_block`].
    pub(crate) async fn next(&mut self) -> Result<Option<Record<'_>>, DatasetError> {
        if std::mem::take(&mut self.front_returned) {
            self.front.clear();
            self.front_bytes = 0;
        }
        loop {
            let start = self.at;
            if let Some(length) = self.splitter.find_end(&self.block[start..]) {
                self.at += length;
                if self.front_bytes == 0 {
                    return Ok(Some(Record::Whole(&self.block[start..self.at])));
                }
                self.keep(start);
                return Ok(Some(self.front_record()));
            }
            self.at = self.block.len();
            match self.splitter.finish() {
                // Blank lines between records, however many, belong to none.
                Tail::Nothing => {}
                Tail::Record | Tail::Open => self.keep(start),
            }
            let Some(block) = self.stream.next_block().await? else {
                let is_record = self.front_bytes > 0 && self.splitter.finish() != Tail::Nothing;
                self.block = Bytes::new();
                self.at = 0;
                return Ok(if is_record { Some(self.front_record()) } else { None });
            };
            self.hasher.update(&block);
            self.block = block;
            self.at = 0;
        }
    }

    /// Returns the object that is read.
    pub(crate) fn stream(&self) -> &TextStream {
        &self.stream
    }

    /// Returns the BLAKE3 of all bytes read from the stream so far, in hex.
    pub(crate) fn blake3(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }

    /// Returns how many bytes are held.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        self.front.capacity() + self.block.len()
    }

    /// Adds the block's bytes from `start` up to `at` to the front, unless the record is too large already.
    fn keep(&mut self, start: usize) {
        let piece = &self.block[start..self.at];
        self.front_bytes += piece.len() as u64;
        if self.front_bytes > RECORD_BYTES_MAX {
            self.front = Vec::new();
        } else {
            self.front.extend_from_slice(piece);
        }
    }

    fn front_record(&mut self) -> Record<'_> {
        self.front_returned = true;
        if self.front_bytes > RECORD_BYTES_MAX { Record::TooLarge } else { Record::Whole(&self.front) }
    }
}
