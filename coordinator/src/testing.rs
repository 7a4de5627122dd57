//! Values that tests of several modules need.

use dataset::{Compression, Format, ReadOptions, Source};
use proto::job::{ComputeDtype, EmbedSpec, JobSpec, MaxRejects, ModelSpec, OnBadRow, OutputDtype, ShardLimits};

/// A job over one CSV file that is not there.
pub(crate) fn spec() -> JobSpec {
    JobSpec {
        sources: vec![Source { uri: "/corpus.csv".into(), format: Format::Csv, compression: Compression::None }],
        read: ReadOptions::default(),
        model: ModelSpec { name: "owner/model".into(), revision: Some("abc".into()), digest: "d".repeat(64) },
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
    }
}
