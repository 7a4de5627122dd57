//! Cuts a corpus into slices: the loop over sources, resumable from a cursor.

use crate::corpus::{Cursor, PlannedSource, ReadOptions, Slice};
use crate::error::DatasetError;
use crate::storage::Storage;

/// How large slices are cut. A slice ends at whichever limit is met first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutLimits {
    /// Most records in a slice.
    pub rows_max: u64,
    /// Most bytes of (uncompressed) input in a slice, unless one record alone is larger.
    pub bytes_max: u64,
}

/// Streams over a corpus once and yields slices in input order.
#[derive(Debug)]
pub struct Cutter {
    cursor: Cursor,
}

impl Cutter {
    /// Prepares to cut from `cursor` on. Compressed text is re-cut into `recut` below `recut_prefix`.
    ///
    /// # Errors
    /// The cursor lies outside the corpus, or a limit is 0.
    pub async fn new(
        _sources: Vec<PlannedSource>,
        _options: ReadOptions,
        _limits: CutLimits,
        _recut: Storage,
        _recut_prefix: String,
        cursor: Cursor,
    ) -> Result<Cutter, DatasetError> {
        Ok(Cutter { cursor })
    }

    /// Returns the next slice, or `None` at the end of the corpus.
    ///
    /// # Errors
    /// `SourceChanged`, `Corrupt` or `BadInput` naming the source and the last good row, or the store fails.
    pub async fn next(&mut self) -> Result<Option<Slice>, DatasetError> {
        unimplemented!()
    }

    /// Returns where the next slice begins.
    pub fn cursor(&self) -> Cursor {
        self.cursor.clone()
    }
}
