//! The file that a shard's rows make: the real writer, over vectors that follow from the row numbers. The same rows are
//! the same bytes, so a file is made once per program run, and every other one must equal it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::Schema;
use bytes::Bytes;
use dataset::{FileInfo, FileSummary, OutputDtype, RejectReason, RowStatus, VectorChunk, VectorWriter};
use proto::JobId;

use crate::corpus::DIMENSIONS;

/// A file and what its writer says of it.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) bytes: Bytes,
    pub(crate) summary: FileSummary,
}

/// Rows that a file is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Rows {
    pub(crate) first: u64,
    pub(crate) count: u64,
    /// They are rejected for killing workers.
    pub(crate) is_poison: bool,
    /// They were read with another text than their own.
    pub(crate) misread: bool,
}

/// Job, digest of its spec, and rows.
type Name = (JobId, String, Rows);

static MADE: LazyLock<Mutex<HashMap<Name, Made>>> = LazyLock::new(Mutex::default);

/// One row in this many is rejected.
const REJECTED: u64 = 7;

/// Returns the file of rows.
pub(crate) fn file_of(job: JobId, spec_digest: &str, rows: Rows) -> Made {
    let name = (job, spec_digest.to_owned(), rows);
    if let Some(made) = MADE.lock().unwrap().get(&name) {
        return made.clone();
    }
    let made = write(job, spec_digest, rows);
    MADE.lock().unwrap().insert(name, made.clone());
    made
}

/// Returns how the vectors of a job are made.
pub(crate) fn info_of(job: JobId, spec_digest: &str) -> FileInfo {
    FileInfo {
        model: "sim/model".into(),
        revision: None,
        model_digest: "ab".repeat(32),
        pooling: "cls".into(),
        normalized: true,
        max_length: 512,
        dtype: "f32".into(),
        output_dtype: OutputDtype::F32,
        prefix: String::new(),
        prompt: None,
        similarity: None,
        delimiter: None,
        quote: None,
        encoding: None,
        dimensions: u32::try_from(DIMENSIONS).unwrap(),
        job_id: job.to_string(),
        spec_digest: spec_digest.to_owned(),
    }
}

fn write(job: JobId, spec_digest: &str, rows: Rows) -> Made {
    let Rows { first, count, is_poison, misread } = rows;
    let info = info_of(job, spec_digest);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.parquet");
    let kept = Schema::empty();
    let mut writer = VectorWriter::create(&path, &kept, &info).unwrap();
    let (mut vectors, mut status) = (Vec::new(), Vec::new());
    for row in first..first + count {
        let angle = row as f32 + if misread { 0.5 } else { 0.0 };
        vectors.extend([angle.cos(), angle.sin()]);
        let bad = (row % REJECTED == 3).then_some(RejectReason::EmptyText);
        let error = if is_poison { Some(RejectReason::WorkerCrash) } else { bad };
        status.push(RowStatus { n_tokens: if error.is_some() { 0 } else { 5 }, truncated: false, error });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(status.len()));
    let kept = RecordBatch::try_new_with_options(Arc::new(kept), Vec::new(), &options).unwrap();
    writer.write(VectorChunk { first_row: first, kept, vectors, status, reused: None }).unwrap();
    let summary = writer.finish().unwrap();
    let bytes = Bytes::from(std::fs::read(&path).unwrap());
    Made { bytes, summary }
}
