//! Cuts one text source into slices while streaming over it once. Which records a slice gets depends on where the records
//! end, not on how the bytes arrive; so cutting resumed at any slice's start goes on as before.

use bytes::Bytes;

use crate::corpus::piece::{Piece, Recut};
use crate::corpus::stream::TextStream;
use crate::corpus::text::{Splitter, Tail, byte_order_mark};
use crate::corpus::{CutLimits, Format};
use crate::error::DatasetError;

/// A slice of a text source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    /// First byte in the uncompressed text.
    pub(crate) start: u64,
    /// One past the last byte.
    pub(crate) end: u64,
    /// Records.
    pub(crate) rows: u64,
    /// Key of the piece that holds these bytes, where the source is compressed.
    pub(crate) recut_key: Option<String>,
}

/// A text source being cut.
pub(crate) struct TextCut {
    stream: TextStream,
    splitter: Splitter,
    limits: CutLimits,
    block: Bytes,
    /// Bytes of the block that have been looked at.
    at: usize,
    /// Offset in the text up to which bytes have been looked at.
    position: u64,
    /// Where the slice begins.
    start: u64,
    /// Where its last whole record ends.
    end: u64,
    /// Its whole records.
    rows: u64,
    is_at_end: bool,
    recut: Option<(Recut, u32)>,
    piece: Option<Piece>,
}

impl TextCut {
    /// Begins at byte `start` of the text, where a slice began before, or at its front for 0: behind byte order mark and
    /// header then. `recut` says where pieces go and which source this is, where the source is compressed.
    pub(crate) async fn open(
        stream: TextStream,
        format: Format,
        limits: CutLimits,
        recut: Option<(Recut, u32)>,
    ) -> Result<TextCut, DatasetError> {
        let start = stream.offset();
        let mut cut = TextCut {
            stream,
            splitter: Splitter::new(format).expect("only called for text formats"),
            limits,
            block: Bytes::new(),
            at: 0,
            position: start,
            start,
            end: start,
            rows: 0,
            is_at_end: false,
            recut,
            piece: None,
        };
        if start == 0 {
            cut.skip_front(format).await?;
        }
        Ok(cut)
    }

    async fn skip_front(&mut self, format: Format) -> Result<(), DatasetError> {
        self.next_block().await?;
        let mark = byte_order_mark(&self.block);
        let mark = mark.map_err(|problem| DatasetError::bad_input(self.stream.object().name(), problem))?;
        self.at = usize::try_from(mark).expect("a byte order mark has 3 bytes");
        if matches!(format, Format::Csv | Format::Tsv) {
            while !self.is_at_end {
                if let Some(length) = self.splitter.find_end(&self.block[self.at..]) {
                    self.at += length;
                    break;
                }
                self.next_block().await?;
            }
        }
        self.position = self.stream.offset() - (self.block.len() - self.at) as u64;
        (self.start, self.end) = (self.position, self.position);
        Ok(())
    }

    /// Returns the next slice, or `None` at the end of the source, which is then compared with its fingerprint.
    ///
    /// # Errors
    /// As [`TextStream::next_block`]; `Corrupt` for a quote that is never closed; storage fails to take a piece.
    pub(crate) async fn next(&mut self) -> Result<Option<Cut>, DatasetError> {
        loop {
            if self.rows == self.limits.rows_max || (self.is_at_end && self.rows > 0) {
                return self.cut().await.map(Some);
            }
            if self.is_at_end {
                return Ok(None);
            }
            if let Some(length) = self.splitter.find_end(&self.block[self.at..]) {
                self.look_at(length).await?;
                if let Some(cut) = self.end_record().await? {
                    return Ok(Some(cut));
                }
                continue;
            }
            self.look_at(self.block.len() - self.at).await?;
            if self.is_full() {
                return self.cut().await.map(Some);
            }
            self.next_block().await?;
            if self.is_at_end
                && let Some(cut) = self.end_text().await?
            {
                return Ok(Some(cut));
            }
        }
    }

    /// Returns where the next slice begins.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Returns the number of whole records since the last slice.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Tells whether the bytes looked at go beyond the limit, and there is a whole record to cut after.
    fn is_full(&self) -> bool {
        self.rows > 0 && self.position - self.start > self.limits.bytes_max
    }

    /// Ends a record at the position: it joins the slice, or begins the next one where it does not fit.
    async fn end_record(&mut self) -> Result<Option<Cut>, DatasetError> {
        let cut = if self.is_full() { Some(self.cut().await?) } else { None };
        self.rows += 1;
        self.end = self.position;
        Ok(cut)
    }

    async fn end_text(&mut self) -> Result<Option<Cut>, DatasetError> {
        self.stream.object().check().await?;
        match self.splitter.finish() {
            Tail::Nothing => Ok(None),
            Tail::Record => self.end_record().await,
            Tail::OpenQuote => {
                let problem = format!(
                    "the record that begins at byte {} opens a quote and never closes it, so that all {} bytes up to the \
                     end would be one record: close or double the quote, or complete the file",
                    self.end,
                    self.position - self.end
                );
                Err(DatasetError::corrupt(self.stream.object().name(), None, problem))
            }
        }
    }

    async fn next_block(&mut self) -> Result<(), DatasetError> {
        let block = self.stream.next_block().await?;
        self.is_at_end = block.is_none();
        self.block = block.unwrap_or_default();
        self.at = 0;
        Ok(())
    }

    /// Moves on over bytes of the block, and into the piece.
    async fn look_at(&mut self, length: usize) -> Result<(), DatasetError> {
        let bytes = self.block.slice(self.at..self.at + length);
        self.at += length;
        self.position += length as u64;
        let Some((recut, source_index)) = &self.recut else {
            return Ok(());
        };
        let piece = self.piece.get_or_insert_with(|| recut.begin(*source_index, self.start, &[]));
        // The first record of a slice belongs to it however long it gets.
        let certain = if self.rows == 0 { u64::MAX } else { self.end - self.start };
        piece.append(&bytes, certain).await
    }

    /// Cuts after the last whole record; what lies between it and the position begins the next slice.
    async fn cut(&mut self) -> Result<Cut, DatasetError> {
        let mut recut_key = None;
        if let Some((recut, source_index)) = &self.recut {
            let piece = self.piece.take().expect("a record was looked at");
            let (key, rest) = piece.finish(self.end - self.start).await?;
            self.piece = Some(recut.begin(*source_index, self.end, &rest));
            recut_key = Some(key);
        }
        let cut = Cut { start: self.start, end: self.end, rows: self.rows, recut_key };
        self.start = self.end;
        self.rows = 0;
        Ok(cut)
    }
}
