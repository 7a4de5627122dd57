//! The jobs that are measured.

use std::path::Path;

use dataset::{Compression, FileInfo, Format, OutputDtype, PlannedSource, Source, VectorWriter, kept_schema_of};
use proto::JobId;
use proto::job::{JobSpec, RowCounts, ShardLimits};
use proto::revision::REVISION;
use proto::work::{Grant, Output, WorkerInfo};

pub(crate) fn worker() -> WorkerInfo {
    WorkerInfo { name: "host/1".into(), devices: vec!["cpu".into()], version: "0.1.0".into(), revision: REVISION }
}

/// A job over one CSV file, with so many rows in a shard.
pub(crate) fn spec(corpus: &str, rows_max: u64) -> JobSpec {
    let source = Source { uri: corpus.to_owned(), format: Format::Csv, compression: Compression::None };
    JobSpec { sources: vec![source], limits: ShardLimits { rows_max, bytes_max: 1_000_000 }, ..testkit::job_spec() }
}

/// An output of so many bytes for what was granted.
pub(crate) fn output(grant: &Grant, bytes: u64) -> Output {
    Output {
        key: grant.output_key.clone(),
        bytes,
        blake3: "d".repeat(64),
        input_blake3: grant.slice.blake3.clone().unwrap_or_else(|| "e".repeat(64)),
        counts: RowCounts { rows: grant.slice.rows, rejects: [].into(), truncated: 0, tokens: 100, reused: 0 },
    }
}

/// A vector file of a job, without rows: the finalizer checks it and reads how its vectors were made.
pub(crate) struct Sample {
    pub(crate) bytes: Vec<u8>,
    pub(crate) blake3: String,
}

/// Writes the sample of a job.
pub(crate) fn sample(job: JobId, spec: &JobSpec, source: &PlannedSource, folder: &Path) -> Sample {
    let info = FileInfo {
        model: spec.model.name.clone(),
        revision: None,
        model_digest: spec.model.digest.clone(),
        pooling: "cls".into(),
        normalized: true,
        max_length: 128,
        dtype: "f32".into(),
        output_dtype: OutputDtype::F32,
        prefix: String::new(),
        prompt: None,
        similarity: None,
        delimiter: None,
        quote: None,
        encoding: None,
        dimensions: 384,
        job_id: job.to_string(),
        spec_digest: spec.digest(),
    };
    let file = folder.join("sample.parquet");
    let summary = VectorWriter::create(&file, &kept_schema_of(source).unwrap(), &info).unwrap().finish().unwrap();
    Sample { bytes: std::fs::read(file).unwrap(), blake3: summary.blake3 }
}
