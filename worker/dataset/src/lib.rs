//! Files at rest: corpora in, vector files out. Knows formats and storage; knows nothing of jobs, leases or models.

pub mod corpus;
pub mod error;
pub mod reject;

pub use corpus::{
    Compression, Cursor, Fingerprint, Format, Keep, PlannedSource, ReadOptions, Slice, SliceRange, Source,
};
pub use error::DatasetError;
pub use reject::RejectReason;
