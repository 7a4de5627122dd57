//! Files at rest: corpora in, vector files out. Knows formats and storage; knows nothing of jobs, leases or models.

pub mod corpus;
mod environment;
pub mod error;
mod guarded;
pub mod storage;
mod store_failure;
pub mod vectors;

pub use corpus::{
    CHUNK_BYTES_MAX, CHUNK_ROWS_MAX, CorpusPlace, Cursor, CutLimits, Cutter, Expanded, FallbackSource, Fingerprint,
    HubPin, Notice, PlannedSource, RECORD_BYTES_MAX, RecordChunk, RecordReader, Records, Slice, SliceRange,
    SourceObject, column_names, corpus_place, encoding_name, expand, expand_pinned, inspect, inspect_with_notices,
    kept_schema_of, read, read_with_fallback, records, slice_blake3,
};
pub use environment::set_environment;
pub use error::{DatasetError, ErrorKind};
pub use spec::{
    Compression, ExportFormat, Format, Keep, OutputDtype, Quote, ReadOptions, RejectReason, RowCounts, Source,
};
pub use storage::{HubError, NewObject, ObjectInfo, STORAGE_ID_KEY, Storage, StorageId, probe_folder};
pub use vectors::{
    EarlierOutput, ExportSummary, FileInfo, FileSummary, Manifest, ManifestFile, ManifestHole, ManifestReuse,
    ManifestSeal, ManifestSource, ManifestWriter, MergeOptions, MergeSummary, ReuseIndex, ReusedRows, RowStatus,
    VectorChunk, VectorReader, VectorSet, VectorWriter, VerifyCorpus, VerifyReport, VerifyReuse, export, merge, verify,
};
