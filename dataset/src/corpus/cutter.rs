//! Cuts a corpus into slices: the loop over its sources, resumable from a cursor.

use std::fmt;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use spec::ReadOptions;

use crate::corpus::columnar::{self, Index, Parts, Selection};
use crate::corpus::dialect::{self, Dialect};
use crate::corpus::formats::{self, Layout};
use crate::corpus::notice::Notice;
use crate::corpus::object::Object;
use crate::corpus::piece::Recut;
use crate::corpus::schema::kept_schema_of;
use crate::corpus::stream::TextStream;
use crate::corpus::text_cut::TextCut;
use crate::corpus::{Cursor, PlannedSource, Slice, SliceRange};
use crate::error::DatasetError;
use crate::storage::Storage;

/// Limits of a slice, which ends at the first one reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutLimits {
    /// Maximum records of a slice.
    pub rows_max: u64,
    /// Maximum bytes of (uncompressed) input of a slice, except for a single larger record. Estimated for parquet and
    /// arrow by the mean row size of the text column or record batch.
    pub bytes_max: u64,
}

/// Streams over a corpus once and yields slices in input order. Deterministic in sources, limits and cursor.
pub struct Cutter {
    sources: Vec<PlannedSource>,
    options: ReadOptions,
    limits: CutLimits,
    recut: Recut,
    cursor: Cursor,
    open: Option<Open>,
    notices: Vec<Notice>,
    digests_rows: bool,
}

enum Open {
    Text {
        cut: Box<TextCut>,
        /// Row number of its first record.
        first_row: u64,
    },
    Columnar {
        object: Object,
        index: Arc<dyn Index>,
        parts: Parts,
        kept: SchemaRef,
    },
}

impl fmt::Debug for Cutter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cutter").field("cursor", &self.cursor).field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Cutter {
    /// Starts at `cursor`. Compressed or non-UTF-8 text is re-cut into `recut` below `recut_prefix`.
    ///
    /// # Errors
    /// `BadInput` for a cursor beyond the corpus, a limit of 0, or contradictory options.
    pub async fn new(
        sources: Vec<PlannedSource>,
        options: ReadOptions,
        limits: CutLimits,
        recut: Storage,
        recut_prefix: String,
        cursor: Cursor,
    ) -> Result<Cutter, DatasetError> {
        if limits.rows_max == 0 || limits.bytes_max == 0 {
            return Err(DatasetError::bad_input("shard limits", "a shard has at least 1 row and 1 byte"));
        }
        if cursor.source_index as usize > sources.len() {
            let problem = format!("source {} of {} does not exist", cursor.source_index, sources.len());
            return Err(DatasetError::bad_input("planning cursor", problem));
        }
        dialect::check(&options)?;
        let recut = Recut { storage: recut, prefix: recut_prefix };
        Ok(Cutter { sources, options, limits, recut, cursor, open: None, notices: Vec::new(), digests_rows: true })
    }

    /// Omits the digests of rows, which need decoding, for callers that read the slices at once.
    pub(crate) fn without_digests_of_rows(self) -> Cutter {
        Cutter { digests_rows: false, ..self }
    }

    /// Returns the next slice, or `None` at the end of the corpus.
    ///
    /// # Errors
    /// `SourceChanged`, or `Corrupt` naming the source and the last good row, or `BadInput`, or a store fails. The
    /// cursor stays at the end of the last slice, where another call retries.
    pub async fn next(&mut self) -> Result<Option<Slice>, DatasetError> {
        while let Some(source) = self.sources.get(self.cursor.source_index as usize) {
            if self.open.is_none() {
                let opened = self.open_source(source).await;
                self.open = Some(opened.map_err(|error| error.after_row(self.cursor.next_row.checked_sub(1)))?);
            }
            let next = self.next_of_source().await;
            self.report_odd_quotes();
            match next {
                Ok(Some(slice)) => {
                    self.cursor.next_row += slice.rows;
                    return Ok(Some(slice));
                }
                Ok(None) => self.open = None,
                Err(error) => {
                    // A retry reads the data after the last slice again.
                    self.open = None;
                    return Err(error);
                }
            }
            self.cursor.source_index += 1;
            self.cursor.position = 0;
        }
        Ok(None)
    }

    /// Returns where the next slice begins.
    pub fn cursor(&self) -> Cursor {
        self.cursor.clone()
    }

    /// Returns the warnings since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    fn report_odd_quotes(&mut self) {
        let Some(source) = self.sources.get(self.cursor.source_index as usize) else { return };
        let Some(Open::Text { cut, first_row }) = &mut self.open else { return };
        for (records, odd) in cut.take_odd_quotes() {
            self.notices.push(Notice::OddQuotes {
                uri: source.source.uri.clone(),
                row: *first_row + records,
                line_ends: odd.line_ends,
                goes_on: odd.goes_on,
            });
        }
    }

    async fn open_source(&self, planned: &PlannedSource) -> Result<Open, DatasetError> {
        let object = Object::open_planned(planned).await?;
        let source = &planned.source;
        match formats::layout(source.format).0 {
            Layout::Columnar(columnar) => {
                let index = columnar::index(&object, columnar).await?;
                let parts = Parts::new(index.parts(&self.options.text_column));
                Ok(Open::Columnar { object, index, parts, kept: Arc::new(kept_schema_of(planned)?) })
            }
            Layout::Text(text) => {
                let encoding = dialect::encoding_of(&self.options);
                let stream = TextStream::open(object, source.compression, encoding, self.cursor.position).await?;
                let recut = stream.is_rewritten().then(|| (self.recut.clone(), self.cursor.source_index));
                let splitter = text.splitter(Dialect::of(source.format, &self.options));
                let cut = TextCut::open(stream, text.is_delimited(), splitter, self.limits, recut).await?;
                Ok(Open::Text { cut: Box::new(cut), first_row: self.cursor.next_row })
            }
        }
    }

    /// Cuts the open source; advances the cursor's position, not its row.
    async fn next_of_source(&mut self) -> Result<Option<Slice>, DatasetError> {
        let Cursor { source_index, next_row: first_row, position } = self.cursor;
        let slice = |range, rows, recut_key, blake3| Slice { source_index, recut_key, range, first_row, rows, blake3 };
        match self.open.as_mut().expect("opened by the caller") {
            Open::Text { cut: text, .. } => {
                let cut = match text.next().await {
                    Ok(Some(cut)) => cut,
                    Ok(None) => return Ok(None),
                    Err(error) => return Err(error.after_row((first_row + text.rows()).checked_sub(1))),
                };
                self.cursor.position = text.start();
                let range = match cut.recut_key {
                    None => SliceRange::Bytes { start: cut.start, end: cut.end },
                    Some(_) => SliceRange::Bytes { start: 0, end: cut.end - cut.start },
                };
                Ok(Some(slice(range, cut.rows, cut.recut_key, Some(cut.blake3))))
            }
            Open::Columnar { object, index, parts, kept } => {
                let Some(end) = parts.slice_end(position, self.limits) else {
                    object.check().await?;
                    return Ok(None);
                };
                let blake3 = if self.digests_rows && !object.is_tagged_by_content() {
                    let text_column = self.options.text_column.clone();
                    let selection = Selection { rows: position..end, text_column, kept: Arc::clone(kept) };
                    columnar::rows_blake3(object, Arc::clone(index), selection).await?
                } else {
                    None
                };
                self.cursor.position = end;
                Ok(Some(slice(SliceRange::Rows { start: position, end }, end - position, None, blake3)))
            }
        }
    }
}

#[cfg(test)]
#[path = "cutter_tests.rs"]
mod tests;
