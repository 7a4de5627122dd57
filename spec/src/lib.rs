//! The values of a job's specification, defined once for command lines, files, the wire and the database.

mod counts;
mod digest;
mod dtype;
mod format;
mod job;
mod names;
mod pooling;
mod reject;
mod source;

pub use counts::{RowCounts, is_zero};
pub use dtype::{ComputeDtype, OutputDtype};
pub use format::{Compression, ExportFormat, Format};
pub use job::{EmbedSpec, JobSpec, MaxRejects, ModelSpec, ReuseSource, ShardLimits};
pub use names::UnknownName;
pub use pooling::Pooling;
pub use reject::{OnBadRow, RejectReason};
pub use source::{Keep, Quote, ReadOptions, Source};
