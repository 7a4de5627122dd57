//! Reads a text stream record by record, holding one record of at most `RECORD_BYTES_MAX`.

use blake3::Hasher;
use bytes::Bytes;

use crate::corpus::RECORD_BYTES_MAX;
use crate::corpus::stream::TextStream;
use crate::corpus::text_format::{Splitter, Tail};
use crate::error::DatasetError;

/// One record of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// Its bytes, with its line end and preceding blank lines.
    Whole(&'a [u8]),
    /// Larger than `RECORD_BYTES_MAX`; its bytes were discarded.
    TooLarge,
}

/// Reads records, beginning at the start of one.
pub(crate) struct RecordFeed {
    stream: TextStream,
    splitter: Splitter,
    block: Bytes,
    /// Start of the next record, or of the rest of the current one, in `block`.
    at: usize,
    /// The part of a record from earlier blocks.
    front: Vec<u8>,
    /// Size of that part, even if it was discarded.
    front_bytes: u64,
    /// Whether the last record returned was in `front`.
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
                // Blank lines at the end belong to no record.
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

    pub(crate) fn stream(&self) -> &TextStream {
        &self.stream
    }

    /// Returns the BLAKE3 of all bytes read from the stream so far, in hex.
    pub(crate) fn blake3(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }

    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        self.front.capacity() + self.block.len()
    }

    /// Appends the block's bytes from `start` to `at` to the front, unless the record is too large.
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
