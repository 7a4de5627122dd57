//! The corpus: sources in an order, records in each, slices cut on record boundaries. Cutting and reading of a format
//! are in one file, so that they stay consistent.

mod expand;
mod hub;
mod hub_files;
mod inspect;
mod schema;
mod types;

mod cutter;
mod piece;
mod text_cut;

mod columns;
mod feed;
mod notice;
mod reader;
mod records;
mod sample;

mod csv;
mod dialect;
mod formats;
mod inference;
mod json;
mod json_array;
mod jsonl;
mod text;
mod text_format;
mod txt;

mod arrow;
mod arrow_index;
mod columnar;
mod convert;
mod parquet;

mod decompress;
mod object;
mod stream;
mod transcode;

use serde::{Deserialize, Serialize};
use spec::Source;

pub use columns::checked_text;
pub use cutter::{CutLimits, Cutter};
pub use dialect::encoding_name;
pub use expand::{CorpusPlace, Expanded, corpus_place, expand, expand_pinned};
pub use hub::HubPin;
#[cfg(test)]
pub(crate) use hub::expand_hub;
pub use inspect::{column_names, inspect, inspect_with_notices};
pub use notice::Notice;
pub(crate) use object::Object;
pub use object::{FallbackSource, SourceObject};
pub use reader::{RecordChunk, RecordReader, read, read_with_fallback, slice_blake3};
pub use records::{Records, records};
pub use schema::kept_schema_of;

/// Larger records are rejected as `text_too_large`; text formats never hold them in memory.
pub const RECORD_BYTES_MAX: u64 = 32 << 20;

/// Maximum records of a [`RecordChunk`].
pub const CHUNK_ROWS_MAX: usize = 4096;

/// A [`RecordChunk`] ends with the record whose texts exceed this total size.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// The version of a source when it was planned; reading another version fails.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Size in bytes.
    pub size: u64,
    /// The store's entity tag; on local disk derived from mtime and inode.
    pub etag: Option<String>,
}

/// A source with the results of planning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedSource {
    /// The source.
    pub source: Source,
    /// Its version at planning time.
    pub fingerprint: Fingerprint,
    /// Unique column names of the header in file order (`csv`, `tsv`; empty for other formats). Those of unread
    /// columns are empty.
    pub header: Vec<String>,
    /// Schema of the kept columns over the whole corpus, as a base64 Arrow IPC schema message, the same for every
    /// source.
    pub kept_schema: String,
}

/// The records of a slice within its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SliceRange {
    /// Bytes `start..end` of an uncompressed text object, on record boundaries.
    Bytes {
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
    },
    /// Records `start..end` of a columnar object, counted from 0.
    Rows {
        /// First record.
        start: u64,
        /// One past the last record.
        end: u64,
    },
}

/// A contiguous run of records of one source: the input of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Slice {
    /// Index of the source in the corpus.
    pub source_index: u32,
    /// Key in job storage of a re-cut piece (uncompressed), or `None` for the source itself.
    pub recut_key: Option<String>,
    /// The records within the object.
    pub range: SliceRange,
    /// Row number of the first record, over the whole corpus.
    pub first_row: u64,
    /// Number of records.
    pub rows: u64,
    /// BLAKE3, in hex, of `range` at planning time, of the bytes of a text and of the rows of Parquet and Arrow, to
    /// detect changes. `None` for rows of an object whose entity tag depends on its content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
}

/// The progress of cutting, from which it resumes with the same slices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Current source.
    pub source_index: u32,
    /// Byte (of the uncompressed text) or row in that source at which the next slice begins.
    pub position: u64,
    /// Row number of the next record, over the whole corpus.
    pub next_row: u64,
}
