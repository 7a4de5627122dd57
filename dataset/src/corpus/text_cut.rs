//! Cuts one text source into slices in one pass. Slices depend only on record ends, not on block boundaries, so
//! cutting can be resumed at the start of any slice.

use std::collections::VecDeque;

use blake3::Hasher;
use bytes::Bytes;

use crate::corpus::CutLimits;
use crate::corpus::dialect::{SEPARATOR_LINE_BYTES, separator_line};
use crate::corpus::piece::{Piece, Recut};
use crate::corpus::stream::TextStream;
use crate::corpus::text_format::{OddQuotes, Splitter, Tail};
use crate::error::DatasetError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    /// First byte in the uncompressed text.
    pub(crate) start: u64,
    /// One past the last byte.
    pub(crate) end: u64,
    /// Number of records.
    pub(crate) rows: u64,
    /// Key of the piece with these bytes, if re-cut.
    pub(crate) recut_key: Option<String>,
    /// BLAKE3 of these bytes, in hex.
    pub(crate) blake3: String,
}

pub(crate) struct TextCut {
    stream: TextStream,
    splitter: Splitter,
    limits: CutLimits,
    block: Bytes,
    /// Bytes of the block already scanned.
    at: usize,
    /// Offset in the text up to which it is scanned.
    position: u64,
    /// Start of the slice.
    start: u64,
    /// End of its last whole record.
    end: u64,
    /// Whole records of the slice, and of the slices before it.
    rows: u64,
    rows_cut: u64,
    is_at_end: bool,
    recut: Option<(Recut, u32)>,
    piece: Option<Piece>,
    odd_quotes: OddRecords,
    digest: SliceDigest,
}

/// The first records with suspicious quotes, one of each kind, with the number of records before it.
#[derive(Debug, Default)]
struct OddRecords {
    on_one_line: Option<(u64, OddQuotes)>,
    over_lines: Option<(u64, OddQuotes)>,
    taken: (bool, bool),
}

impl OddRecords {
    fn add(&mut self, row: u64, odd: OddQuotes) {
        let slot = if odd.line_ends == 0 { &mut self.on_one_line } else { &mut self.over_lines };
        slot.get_or_insert((row, odd));
    }

    fn take(&mut self) -> impl Iterator<Item = (u64, OddQuotes)> {
        let on_one_line = self.on_one_line.filter(|_| !self.taken.0);
        let over_lines = self.over_lines.filter(|_| !self.taken.1);
        self.taken = (self.on_one_line.is_some(), self.over_lines.is_some());
        on_one_line.into_iter().chain(over_lines)
    }
}

impl TextCut {
    /// Begins at the stream's position: the start of a slice, or the front of the text, where a header is skipped.
    /// `recut` has the destination and the index of the source, if it must be re-cut.
    pub(crate) async fn open(
        stream: TextStream,
        has_header: bool,
        splitter: Splitter,
        limits: CutLimits,
        recut: Option<(Recut, u32)>,
    ) -> Result<TextCut, DatasetError> {
        let (start, is_at_front) = (stream.offset(), stream.is_at_front());
        let mut cut = TextCut {
            stream,
            splitter,
            limits,
            block: Bytes::new(),
            at: 0,
            position: start,
            start,
            end: start,
            rows: 0,
            rows_cut: 0,
            is_at_end: false,
            recut,
            piece: None,
            odd_quotes: OddRecords::default(),
            digest: SliceDigest::from(start),
        };
        if is_at_front && has_header {
            cut.skip_header().await?;
        }
        Ok(cut)
    }

    async fn skip_header(&mut self) -> Result<(), DatasetError> {
        self.next_block().await?;
        // Excel's line that names the delimiter comes before the header.
        let (mut first, mut records) = (Vec::with_capacity(SEPARATOR_LINE_BYTES), 1);
        while !self.is_at_end && records > 0 {
            let rest = &self.block[self.at..];
            let found = self.splitter.find_end(rest);
            let record = &rest[..found.unwrap_or(rest.len())];
            first.extend(record.iter().take(SEPARATOR_LINE_BYTES.saturating_sub(first.len())));
            match found {
                Some(length) => {
                    self.at += length;
                    records -= 1;
                    if separator_line(&first).is_some() {
                        (first, records) = (vec![0; SEPARATOR_LINE_BYTES], 1);
                    }
                }
                None => self.next_block().await?,
            }
        }
        self.position = self.stream.offset() - (self.block.len() - self.at) as u64;
        (self.start, self.end) = (self.position, self.position);
        self.digest.skip_to(self.start);
        Ok(())
    }

    /// Returns the next slice, or `None` at the end of the source, after verifying its fingerprint.
    ///
    /// # Errors
    /// As [`TextStream::next_block`]; `UnclosedQuote`; a piece cannot be stored.
    pub(crate) async fn next(&mut self) -> Result<Option<Cut>, DatasetError> {
        loop {
            if self.rows == self.limits.rows_max || (self.is_at_end && self.rows > 0) {
                return self.cut().await.map(Some);
            }
            if self.is_at_end {
                return Ok(None);
            }
            if let Some(length) = self.splitter.find_end(&self.block[self.at..]) {
                self.advance(length).await?;
                let odd = self.splitter.odd_quotes();
                if let Some(cut) = self.end_record(odd).await? {
                    return Ok(Some(cut));
                }
                continue;
            }
            self.advance(self.block.len() - self.at).await?;
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

    /// Returns new records with suspicious quotes, with the number of records before each.
    pub(crate) fn take_odd_quotes(&mut self) -> impl Iterator<Item = (u64, OddQuotes)> {
        self.odd_quotes.take()
    }

    /// Returns the start of the next slice.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Returns the number of whole records since the last slice.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether the scanned bytes exceed the limit, and there is a whole record to cut after.
    fn is_full(&self) -> bool {
        self.rows > 0 && self.position - self.start > self.limits.bytes_max
    }

    /// Ends a record at the position: it joins the slice, or begins the next one.
    async fn end_record(&mut self, odd: Option<OddQuotes>) -> Result<Option<Cut>, DatasetError> {
        let cut = if self.is_full() { Some(self.cut().await?) } else { None };
        if let Some(odd) = odd {
            self.odd_quotes.add(self.rows_cut + self.rows, odd);
        }
        self.rows += 1;
        self.end = self.position;
        Ok(cut)
    }

    async fn end_text(&mut self) -> Result<Option<Cut>, DatasetError> {
        self.stream.object().check().await?;
        if let Some(problem) = self.splitter.end_problem() {
            return Err(DatasetError::bad_input(self.stream.object().name(), problem));
        }
        match self.splitter.finish() {
            Tail::Nothing => Ok(None),
            Tail::Record => {
                let odd = self.splitter.odd_quotes_at_end();
                self.end_record(odd).await
            }
            Tail::Open => Err(DatasetError::UnclosedQuote {
                uri: self.stream.object().name().to_owned(),
                row: None,
                bytes: self.position - self.end,
            }),
        }
    }

    async fn next_block(&mut self) -> Result<(), DatasetError> {
        let block = self.stream.next_block().await?;
        self.digest.hash_before(self.end);
        self.digest.push(block.clone().unwrap_or_default());
        self.is_at_end = block.is_none();
        self.block = block.unwrap_or_default();
        self.at = 0;
        Ok(())
    }

    /// Advances over bytes of the block, appending them to the piece.
    async fn advance(&mut self, length: usize) -> Result<(), DatasetError> {
        let bytes = self.block.slice(self.at..self.at + length);
        self.at += length;
        self.position += length as u64;
        let Some((recut, source_index)) = &self.recut else {
            return Ok(());
        };
        let piece = self.piece.get_or_insert_with(|| recut.begin(*source_index, self.start, &[]));
        // The first record of a slice belongs to it regardless of its size.
        let committed = if self.rows == 0 { u64::MAX } else { self.end - self.start };
        piece.append(&bytes, committed).await
    }

    /// Cuts after the last whole record; the bytes after it begin the next slice.
    async fn cut(&mut self) -> Result<Cut, DatasetError> {
        let mut recut_key = None;
        if let Some((recut, source_index)) = &self.recut {
            let piece = self.piece.take().expect("a record was looked at");
            let (key, rest) = piece.finish(self.end - self.start).await?;
            self.piece = Some(recut.begin(*source_index, self.end, &rest));
            recut_key = Some(key);
        }
        let blake3 = self.digest.finish(self.end);
        let cut = Cut { start: self.start, end: self.end, rows: self.rows, recut_key, blake3 };
        self.start = self.end;
        self.rows_cut += self.rows;
        self.rows = 0;
        Ok(cut)
    }
}

/// The digest of the slice being cut, up to its last whole record, since later bytes may belong to the next slice.
struct SliceDigest {
    hasher: Hasher,
    /// Offset in the text of the first byte that is not hashed.
    at: u64,
    /// The bytes from there on.
    pending: VecDeque<Bytes>,
}

impl SliceDigest {
    fn from(start: u64) -> Self {
        Self { hasher: Hasher::new(), at: start, pending: VecDeque::new() }
    }

    fn push(&mut self, block: Bytes) {
        if !block.is_empty() {
            self.pending.push_back(block);
        }
    }

    /// Hashes the bytes before offset `end`.
    fn hash_before(&mut self, end: u64) {
        while let Some(bytes) = self.take_before(end) {
            self.hasher.update(&bytes);
        }
    }

    /// Discards the bytes before offset `start`.
    fn skip_to(&mut self, start: u64) {
        while self.take_before(start).is_some() {}
    }

    /// Returns the digest of the bytes before offset `end`, in hex, and begins the next slice there.
    fn finish(&mut self, end: u64) -> String {
        self.hash_before(end);
        std::mem::take(&mut self.hasher).finalize().to_hex().to_string()
    }

    fn take_before(&mut self, end: u64) -> Option<Bytes> {
        let front = self.pending.front_mut().filter(|_| self.at < end)?;
        let length = usize::try_from(end - self.at).unwrap_or(usize::MAX).min(front.len());
        let bytes = front.split_to(length);
        if front.is_empty() {
            self.pending.pop_front();
        }
        self.at += length as u64;
        Some(bytes)
    }
}
