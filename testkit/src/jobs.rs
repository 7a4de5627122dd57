//! Jobs that are not run. A test changes what it is about: `JobSpec { allow_partial: true, ..job_spec() }`.

use spec::{
    Compression, ComputeDtype, EmbedSpec, Format, JobSpec, Keep, MaxRejects, ModelSpec, OnBadRow, OutputDtype, Pooling,
    ReadOptions, ShardLimits, Source,
};

/// Returns a job over a CSV file that is not there, with every setting that is optional left out.
pub fn job_spec() -> JobSpec {
    JobSpec {
        sources: vec![Source { uri: "/corpus.csv".into(), format: Format::Csv, compression: Compression::None }],
        read: ReadOptions::default(),
        model: ModelSpec { name: "owner/model".into(), revision: None, digest: "d".repeat(64) },
        embed: EmbedSpec {
            pooling: None,
            normalize: true,
            max_length: None,
            prefix: String::new(),
            dtype: ComputeDtype::F32,
            output_dtype: OutputDtype::F32,
            dimensions: None,
            batch_tokens: None,
            prompt: None,
            similarity: None,
        },
        limits: ShardLimits { rows_max: 10, bytes_max: 1 << 20 },
        on_bad_row: OnBadRow::Reject,
        max_rejects: MaxRejects::Unlimited,
        allow_partial: false,
        reuse: vec![],
    }
}

/// Returns a job in which every optional setting that the first release knew is given.
pub fn full_job_spec() -> JobSpec {
    JobSpec {
        sources: vec![
            Source { uri: "/data/a.csv".into(), format: Format::Csv, compression: Compression::None },
            Source { uri: "/data/b.jsonl.zst".into(), format: Format::Jsonl, compression: Compression::Zstd },
        ],
        read: ReadOptions {
            text_column: "text".into(),
            id_column: Some("id".into()),
            keep: Keep::Columns(vec!["label".into()]),
            ..ReadOptions::default()
        },
        model: ModelSpec { name: "owner/model".into(), revision: Some("abc".into()), digest: "d".repeat(64) },
        embed: EmbedSpec {
            pooling: Some(Pooling::Mean),
            max_length: Some(128),
            prefix: "query: ".into(),
            output_dtype: OutputDtype::F16,
            dimensions: Some(64),
            batch_tokens: Some(8192),
            ..job_spec().embed
        },
        limits: ShardLimits { rows_max: 1000, bytes_max: 1 << 20 },
        max_rejects: MaxRejects::Percent(1.5),
        ..job_spec()
    }
}
