#![doc = include_str!("FORMAT.md")]

mod atomic;
mod batch;
pub mod column_names;
mod columns;
mod element;
mod error;
mod export;
mod holes;
mod info;
pub mod layout;
mod manifest;
mod manifest_entries;
mod manifest_seal;
mod manifest_writer;
mod merge;
mod parquet_file;
pub mod place;
mod read;
mod remote;
mod reuse;
mod reused_rows;
mod schema;
mod seal;
mod table;
#[cfg(test)]
mod testing;
mod verify;
mod write;

use arrow_array::RecordBatch;

pub use atomic::{AtomicFile, write_atomically, write_new};
pub use element::Vectors;
pub use error::VectorsError;
pub use export::{ExportSummary, export};
pub use info::{FORMAT, FORMAT_KEY, FileInfo, FileTotals, Resolved};
pub use manifest::Manifest;
pub use manifest_entries::{ManifestFile, ManifestHole, ManifestReuse, ManifestSource};
pub use manifest_writer::{ManifestSeal, ManifestWriter};
pub use merge::{MergeOptions, MergeSummary, merge};
pub use read::{BATCH_ROWS, Batches, Outline, Projection, VectorReader, VectorSet};
pub use remote::{read_info, read_manifest};
pub use reuse::{EarlierOutput, REUSE_ROWS_MAX, ReuseIndex};
pub use reused_rows::ReusedRows;
pub use seal::{Written, hash_file};
use spec::RejectReason;
pub use table::ParquetTable;
pub use verify::{
    Check, CheckResult, HOLES_MAX, PROBLEMS_MAX, Problem, VerifyCorpus, VerifyReport, VerifyReuse, verify,
};
pub use write::{FileSummary, VectorWriter};

/// What became of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowStatus {
    /// Tokens fed to the model, special ones included. Ignored and written as 0 for a rejected row.
    pub n_tokens: i32,
    /// The text had more tokens than the maximum length. Written as false for a rejected row.
    pub truncated: bool,
    /// Why the row has no vector, if it has none.
    pub error: Option<RejectReason>,
}

/// A contiguous run of output rows.
#[derive(Debug, Clone)]
pub struct VectorChunk {
    /// Row number of the first row, over the whole corpus.
    pub first_row: u64,
    /// The kept columns; one row per status, possibly no column.
    pub kept: RecordBatch,
    /// Rows times dimensions, row-major; those of rejected and reused rows are ignored.
    pub vectors: Vec<f32>,
    /// One per row.
    pub status: Vec<RowStatus>,
    /// Rows whose vectors come from an earlier output, and not from `vectors`.
    pub reused: Option<ReusedRows>,
}
