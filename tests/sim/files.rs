//! The file that a shard's rows make: the real writer, over vectors that follow from the row numbers. The same rows are
//! the same bytes, so a file is made once per program run, and every other one must equal it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::Schema;
use bytes::Bytes;
use dataset::{FileInfo, FileSummary, RejectReason, RowStatus, VectorChunk, VectorDtype, VectorWriter};
use proto::JobId;

use crate::corpus::DIMENSIONS;

/// A file and what its writer says of it.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) bytes: Bytes,
    pub(crate) summary: FileSummary,
    /// Digest of the rows as they were read.
    pub(crate) input_blake3: String,
}

/// Job, digest of its spec, first row and rows, and whether they are rejected for killing workers.
type Name = (JobId, String, (u64, u64), bool);

static MADE: LazyLock<Mutex<HashMap<Name, Made>>> = LazyLock::new(Mutex::default);

/// One row in this many is rejected.
const REJECTED: u64 = 7;

/// Returns the file of rows, given as the first and how many.
pub(crate) fn file_of(job: JobId, spec_digest: &str, rows: (u64, u64), convicted: bool) -> Made {
    let name = (job, spec_digest.to_owned(), rows, convicted);
    if let Some(made) = MADE.lock().unwrap().get(&name) {
        return made.clone();
    }
    let made = write(job, spec_digest, rows, convicted);
    MADE.lock().unwrap().insert(name, made.clone());
    made
}

fn write(job: JobId, spec_digest: &str, (first_row, rows): (u64, u64), convicted: bool) -> Made {
    let info = FileInfo {
        model: "sim/model".into(),
        revision: None,
        model_digest: "ab".repeat(32),
        pooling: "cls".into(),
        normalized: true,
        max_length: 512,
        dtype: "f32".into(),
        output_dtype: VectorDtype::F32,
        prefix: String::new(),
        prompt: None,
        similarity: None,
        dimensions: u32::try_from(DIMENSIONS).unwrap(),
        job_id: job.to_string(),
        spec_digest: spec_digest.to_owned(),
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.parquet");
    let kept = Schema::empty();
    let mut writer = VectorWriter::create(&path, &kept, &info).unwrap();
    let (mut vectors, mut status) = (Vec::new(), Vec::new());
    for row in first_row..first_row + rows {
        let angle = row as f32;
        vectors.extend([angle.cos(), angle.sin()]);
        let bad = (row % REJECTED == 3).then_some(RejectReason::EmptyText);
        let error = if convicted { Some(RejectReason::WorkerCrash) } else { bad };
        status.push(RowStatus { n_tokens: if error.is_some() { 0 } else { 5 }, truncated: false, error });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(status.len()));
    let kept = RecordBatch::try_new_with_options(Arc::new(kept), Vec::new(), &options).unwrap();
    writer.write(VectorChunk { first_row, kept, vectors, status }).unwrap();
    let summary = writer.finish().unwrap();
    let bytes = Bytes::from(std::fs::read(&path).unwrap());
    let input_blake3 = blake3::hash(format!("{first_row}+{rows}").as_bytes()).to_hex().to_string();
    Made { bytes, summary, input_blake3 }
}
