//! Reads the records of a slice in chunks of bounded size.

use arrow_array::RecordBatch;

use crate::corpus::{PlannedSource, ReadOptions, Slice};
use crate::error::DatasetError;
use crate::reject::RejectReason;
use crate::storage::Storage;

/// Some consecutive records of a slice.
#[derive(Debug, Clone)]
pub struct RecordChunk {
    /// Row number of the first record, over the whole corpus.
    pub first_row: u64,
    /// The texts, or why there is none.
    pub texts: Vec<Result<String, RejectReason>>,
    /// The kept columns, exactly of the kept schema, one row per record.
    pub kept: RecordBatch,
}

/// Reads one slice; made by [`read`].
#[derive(Debug)]
pub struct RecordReader {}

/// Opens the records of a slice. `recut` is the job's storage, which holds the re-cut pieces of compressed sources.
///
/// # Errors
/// `SourceChanged` where the source is not what was planned, or it cannot be read.
pub async fn read(
    _source: &PlannedSource,
    _slice: &Slice,
    _options: &ReadOptions,
    _recut: &Storage,
) -> Result<RecordReader, DatasetError> {
    unimplemented!()
}

impl RecordReader {
    /// Returns the next chunk, or `None` after the last.
    ///
    /// # Errors
    /// `SourceChanged`, `Corrupt` naming source and row, or the store fails.
    pub async fn next_chunk(&mut self) -> Result<Option<RecordChunk>, DatasetError> {
        unimplemented!()
    }

    /// Returns the BLAKE3, in hex, of what was read; complete once `next_chunk` has returned `None`. Equal for every
    /// read of the same slice of the same bytes.
    pub fn input_blake3(&self) -> String {
        unimplemented!()
    }
}
