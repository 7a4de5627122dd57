//! What a corpus is: sources in an order, records in each, shards cut on record boundaries.
//!
//! The split rule and the read rule of a format live in one file, so that they cannot disagree.

mod expand;
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
mod json;
mod json_array;
mod jsonl;
mod text;
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

pub use cutter::{CutLimits, Cutter};
pub use dialect::encoding_name;
pub use expand::{CorpusPlace, corpus_place, expand};
pub use inspect::{inspect, inspect_with_notices};
pub use notice::Notice;
pub use object::{FallbackSource, SourceObject};
pub use reader::{RecordChunk, RecordReader, read, read_with_fallback, slice_blake3};
pub use records::{Records, records};
pub use schema::kept_schema_of;

/// Records of more bytes are rejected as `text_too_large`; text formats never hold them in memory.
pub const RECORD_BYTES_MAX: u64 = 32 << 20;

/// Most records in a [`RecordChunk`].
pub const CHUNK_ROWS_MAX: usize = 4096;

/// A [`RecordChunk`] ends with the record that makes its texts exceed this many bytes.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// What a source looked like when it was planned; a later read that finds another fails.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Size in bytes.
    pub size: u64,
    /// The store's entity tag; on local disk it names mtime and inode.
    pub etag: Option<String>,
}

/// A source with what planning found out about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedSource {
    /// The source.
    pub source: Source,
    /// Its identity at planning time.
    pub fingerprint: Fingerprint,
    /// Column names of the header in file order, made unique (`csv`, `tsv`; empty for other formats). Those of columns that
    /// are not read are empty.
    pub header: Vec<String>,
    /// Schema of the kept columns over the whole corpus, as a base64 Arrow IPC schema message: the same for every source.
    pub kept_schema: String,
}

/// Where the records of a slice lie in its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SliceRange {
    /// Bytes `start..end` of an uncompressed text object; both lie on record boundaries.
    Bytes {
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
    },
    /// Records `start..end` of a columnar object, counted in that object from 0.
    Rows {
        /// First record.
        start: u64,
        /// One past the last record.
        end: u64,
    },
}

/// A contiguous run of records of one source: what a shard has to read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Slice {
    /// Index of the source in the corpus.
    pub source_index: u32,
    /// Key in job storage of a re-cut piece (uncompressed), or `None` when the source itself is read.
    pub recut_key: Option<String>,
    /// Where the records lie.
    pub range: SliceRange,
    /// Row number of the first record, over the whole corpus.
    pub first_row: u64,
    /// Number of records.
    pub rows: u64,
    /// BLAKE3, in hex, of `range` as planning read it, of the bytes of a text and of the rows of Parquet and Arrow: whoever
    /// reads something else reads another corpus. `None` for rows of an object whose entity tag follows its content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
}

/// How far planning got: cutting resumes here after a crash and yields the same slices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Source being cut.
    pub source_index: u32,
    /// Byte (of the uncompressed text) or row in that source where the next slice begins.
    pub position: u64,
    /// Row number of the next record, over the whole corpus.
    pub next_row: u64,
}
