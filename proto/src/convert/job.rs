//! Jobs: specs and states.

use std::collections::BTreeMap;

use dataset::{Compression, Format, Keep, Quote, ReadOptions, RejectReason, Source};

use super::{ConvertError, id, required, twin_enum};
use crate::generated as wire;
use crate::job::{
    ComputeDtype, EmbedSpec, JobBrief, JobSpec, JobState, JobStatus, MaxRejects, ModelSpec, OnBadRow, OutputDtype,
    Pooling, ReuseSource, RowCounts, ShardCounts, ShardLimits, ShardResult,
};

twin_enum!(format, Format, wire::Format, "source.format", [Csv, Tsv, Jsonl, Json, Parquet, Arrow, Txt]);
twin_enum!(compression, Compression, wire::Compression, "source.compression", [None, Gzip, Zstd]);
twin_enum!(pooling, Pooling, wire::Pooling, "embed.pooling", [Cls, Mean, Max, Last]);
twin_enum!(compute_dtype, ComputeDtype, wire::ComputeDtype, "embed.dtype", [F32, F16, Bf16, Int8]);
twin_enum!(output_dtype, OutputDtype, wire::OutputDtype, "embed.output_dtype", [F32, F16, Int8, Binary]);
twin_enum!(on_bad_row_value, OnBadRow, wire::OnBadRow, "on_bad_row", [Reject, Fail]);
twin_enum!(
    job_state,
    JobState,
    wire::JobState,
    "state",
    [Planning, Running, Finalizing, Succeeded, Failed, Cancelling, Cancelled]
);

/// For `convert::work`, where a grant carries the same field.
pub(super) fn on_bad_row(value: i32) -> Result<OnBadRow, ConvertError> {
    on_bad_row_value(value)
}

impl From<&Source> for wire::Source {
    fn from(source: &Source) -> Self {
        Self {
            uri: source.uri.clone(),
            format: wire::Format::from(source.format).into(),
            compression: wire::Compression::from(source.compression).into(),
        }
    }
}

impl TryFrom<wire::Source> for Source {
    type Error = ConvertError;

    fn try_from(source: wire::Source) -> Result<Self, ConvertError> {
        if source.uri.is_empty() {
            return Err(ConvertError::new("source.uri", "is empty"));
        }
        Ok(Self { uri: source.uri, format: format(source.format)?, compression: compression(source.compression)? })
    }
}

impl From<&Keep> for wire::Keep {
    fn from(keep: &Keep) -> Self {
        let (kind, columns) = match keep {
            Keep::All => (wire::keep::Kind::All, Vec::new()),
            Keep::None => (wire::keep::Kind::None, Vec::new()),
            Keep::Columns(columns) => (wire::keep::Kind::Columns, columns.clone()),
        };
        Self { kind: kind.into(), columns }
    }
}

impl TryFrom<wire::Keep> for Keep {
    type Error = ConvertError;

    fn try_from(keep: wire::Keep) -> Result<Self, ConvertError> {
        match wire::keep::Kind::try_from(keep.kind) {
            Ok(wire::keep::Kind::All) => Ok(Keep::All),
            Ok(wire::keep::Kind::None) => Ok(Keep::None),
            Ok(wire::keep::Kind::Columns) => Ok(Keep::Columns(keep.columns)),
            Ok(wire::keep::Kind::Unspecified) => Err(ConvertError::new("keep.kind", "is missing")),
            Err(_) => Err(ConvertError::new("keep.kind", format!("has the unknown value {}", keep.kind))),
        }
    }
}

impl From<&ReadOptions> for wire::ReadOptions {
    fn from(read: &ReadOptions) -> Self {
        Self {
            text_column: read.text_column.clone(),
            id_column: read.id_column.clone(),
            keep: Some((&read.keep).into()),
            delimiter: read.delimiter.map(String::from),
            quote: read.quote.map(|quote| match quote {
                Quote::None => String::new(),
                Quote::Char(character) => character.into(),
            }),
            encoding: read.encoding.clone(),
        }
    }
}

impl TryFrom<wire::ReadOptions> for ReadOptions {
    type Error = ConvertError;

    fn try_from(read: wire::ReadOptions) -> Result<Self, ConvertError> {
        Ok(Self {
            text_column: read.text_column,
            id_column: read.id_column,
            keep: required("read.keep", read.keep)?.try_into()?,
            delimiter: read.delimiter.map(|text| character("read.delimiter", &text)).transpose()?,
            quote: read.quote.map(|text| quote(&text)).transpose()?,
            encoding: read.encoding,
        })
    }
}

fn quote(text: &str) -> Result<Quote, ConvertError> {
    if text.is_empty() { Ok(Quote::None) } else { character("read.quote", text).map(Quote::Char) }
}

fn character(field: &'static str, text: &str) -> Result<char, ConvertError> {
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(character), None) => Ok(character),
        (Some(_) | None, _) => Err(ConvertError::new(field, "is not one character")),
    }
}

impl From<&ModelSpec> for wire::ModelSpec {
    fn from(model: &ModelSpec) -> Self {
        Self { name: model.name.clone(), revision: model.revision.clone(), digest: model.digest.clone() }
    }
}

impl From<wire::ModelSpec> for ModelSpec {
    fn from(model: wire::ModelSpec) -> Self {
        Self { name: model.name, revision: model.revision, digest: model.digest }
    }
}

impl From<&EmbedSpec> for wire::EmbedSpec {
    fn from(embed: &EmbedSpec) -> Self {
        Self {
            pooling: embed.pooling.map(|pooling| wire::Pooling::from(pooling).into()),
            normalize: embed.normalize,
            max_length: embed.max_length,
            prefix: embed.prefix.clone(),
            dtype: wire::ComputeDtype::from(embed.dtype).into(),
            output_dtype: wire::OutputDtype::from(embed.output_dtype).into(),
            dimensions: embed.dimensions,
            batch_tokens: embed.batch_tokens,
            prompt: embed.prompt.clone(),
            similarity: embed.similarity.clone(),
        }
    }
}

impl TryFrom<wire::EmbedSpec> for EmbedSpec {
    type Error = ConvertError;

    fn try_from(embed: wire::EmbedSpec) -> Result<Self, ConvertError> {
        Ok(Self {
            pooling: embed.pooling.map(pooling).transpose()?,
            normalize: embed.normalize,
            max_length: embed.max_length,
            prefix: embed.prefix,
            dtype: compute_dtype(embed.dtype)?,
            output_dtype: output_dtype(embed.output_dtype)?,
            dimensions: embed.dimensions,
            batch_tokens: embed.batch_tokens,
            prompt: embed.prompt,
            similarity: embed.similarity,
        })
    }
}

impl From<ShardLimits> for wire::ShardLimits {
    fn from(limits: ShardLimits) -> Self {
        Self { rows_max: limits.rows_max, bytes_max: limits.bytes_max }
    }
}

impl TryFrom<wire::ShardLimits> for ShardLimits {
    type Error = ConvertError;

    fn try_from(limits: wire::ShardLimits) -> Result<Self, ConvertError> {
        if limits.rows_max == 0 {
            return Err(ConvertError::new("limits.rows_max", "is 0: a shard holds at least one record"));
        }
        if limits.bytes_max == 0 {
            return Err(ConvertError::new("limits.bytes_max", "is 0: a shard holds at least one byte"));
        }
        Ok(Self { rows_max: limits.rows_max, bytes_max: limits.bytes_max })
    }
}

impl From<MaxRejects> for wire::MaxRejects {
    fn from(max: MaxRejects) -> Self {
        let limit = match max {
            MaxRejects::Unlimited => wire::max_rejects::Limit::Unlimited(true),
            MaxRejects::Rows(rows) => wire::max_rejects::Limit::Rows(rows),
            MaxRejects::Percent(percent) => wire::max_rejects::Limit::Percent(percent),
        };
        Self { limit: Some(limit) }
    }
}

impl TryFrom<wire::MaxRejects> for MaxRejects {
    type Error = ConvertError;

    fn try_from(max: wire::MaxRejects) -> Result<Self, ConvertError> {
        match required("max_rejects.limit", max.limit)? {
            wire::max_rejects::Limit::Unlimited(_) => Ok(MaxRejects::Unlimited),
            wire::max_rejects::Limit::Rows(rows) => Ok(MaxRejects::Rows(rows)),
            wire::max_rejects::Limit::Percent(percent) if (0.0..=100.0).contains(&percent) => {
                Ok(MaxRejects::Percent(percent))
            }
            wire::max_rejects::Limit::Percent(percent) => {
                Err(ConvertError::new("max_rejects.percent", format!("is not between 0 and 100: {percent}")))
            }
        }
    }
}

impl From<&JobSpec> for wire::JobSpec {
    fn from(spec: &JobSpec) -> Self {
        Self {
            sources: spec.sources.iter().map(Into::into).collect(),
            read: Some((&spec.read).into()),
            model: Some((&spec.model).into()),
            embed: Some((&spec.embed).into()),
            limits: Some(spec.limits.into()),
            on_bad_row: wire::OnBadRow::from(spec.on_bad_row).into(),
            max_rejects: Some(spec.max_rejects.into()),
            allow_partial: spec.allow_partial,
            reuse: spec.reuse.iter().map(Into::into).collect(),
        }
    }
}

impl From<&ReuseSource> for wire::ReuseSource {
    fn from(source: &ReuseSource) -> Self {
        let ReuseSource { uri, blake3, text_column, retired } = source.clone();
        Self { uri, blake3, text_column, retired }
    }
}

impl From<wire::ReuseSource> for ReuseSource {
    fn from(source: wire::ReuseSource) -> Self {
        let wire::ReuseSource { uri, blake3, text_column, retired } = source;
        Self { uri, blake3, text_column, retired }
    }
}

impl TryFrom<wire::JobSpec> for JobSpec {
    type Error = ConvertError;

    fn try_from(spec: wire::JobSpec) -> Result<Self, ConvertError> {
        Ok(Self {
            sources: spec.sources.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            read: required("spec.read", spec.read)?.try_into()?,
            model: required("spec.model", spec.model)?.into(),
            embed: required("spec.embed", spec.embed)?.try_into()?,
            limits: required("spec.limits", spec.limits)?.try_into()?,
            on_bad_row: on_bad_row(spec.on_bad_row)?,
            max_rejects: required("spec.max_rejects", spec.max_rejects)?.try_into()?,
            allow_partial: spec.allow_partial,
            reuse: spec.reuse.into_iter().map(Into::into).collect(),
        })
    }
}

impl From<&RowCounts> for wire::RowCounts {
    fn from(counts: &RowCounts) -> Self {
        Self {
            rows: counts.rows,
            rejects: counts.rejects.iter().map(|(reason, rows)| (reason.code().to_owned(), *rows)).collect(),
            truncated: counts.truncated,
            tokens: counts.tokens,
            reused: counts.reused,
        }
    }
}

impl TryFrom<wire::RowCounts> for RowCounts {
    type Error = ConvertError;

    fn try_from(mut counts: wire::RowCounts) -> Result<Self, ConvertError> {
        let mut rejects = BTreeMap::new();
        for (code, rows) in std::mem::take(&mut counts.rejects) {
            let reason: RejectReason =
                code.parse().map_err(|unknown| ConvertError::new("counts.rejects", format!("has an {unknown}")))?;
            rejects.insert(reason, rows);
        }
        let wire::RowCounts { rows, rejects: _, truncated, tokens, reused } = counts;
        Ok(Self { rows, rejects, truncated, tokens, reused })
    }
}

impl From<ShardCounts> for wire::ShardCounts {
    fn from(shards: ShardCounts) -> Self {
        let ShardCounts { pending, running, committed, dead, cancelled, split } = shards;
        Self { pending, running, committed, dead, cancelled, split }
    }
}

impl From<wire::ShardCounts> for ShardCounts {
    fn from(shards: wire::ShardCounts) -> Self {
        let wire::ShardCounts { pending, running, committed, dead, cancelled, split } = shards;
        Self { pending, running, committed, dead, cancelled, split }
    }
}

impl From<&JobBrief> for wire::JobStatus {
    fn from(brief: &JobBrief) -> Self {
        Self {
            job_id: brief.id.to_string(),
            spec: None,
            state: wire::JobState::from(brief.state).into(),
            paused: brief.paused,
            reason: brief.reason.clone(),
            shards: Some(brief.shards.into()),
            rows_planned: brief.rows_planned,
            counts: Some((&brief.counts).into()),
            rows_in_flight: brief.rows_in_flight,
            tokens_in_flight: brief.tokens_in_flight,
            workers: brief.workers,
            manifest_key: brief.manifest_key.clone(),
            age_ms: brief.age_ms,
            pause_reason: brief.pause_reason.clone(),
            starved_ms: brief.starved_ms,
            copies: brief.copies,
            workers_quarantined: brief.workers_quarantined,
            generation: brief.generation,
            owner: brief.owner.clone(),
            model_name: brief.model.clone(),
            source_count: brief.sources,
            workers_outdated: brief.workers_outdated,
        }
    }
}

impl TryFrom<wire::JobStatus> for JobBrief {
    type Error = ConvertError;

    /// An older coordinator sends the spec instead of what a list shows of it.
    fn try_from(status: wire::JobStatus) -> Result<Self, ConvertError> {
        let (model, sources) = match status.spec {
            Some(spec) => (spec.model.unwrap_or_default().name, spec.sources.len() as u64),
            None => (status.model_name, status.source_count),
        };
        Ok(Self {
            id: id("job_id", &status.job_id)?,
            model,
            sources,
            state: job_state(status.state)?,
            paused: status.paused,
            reason: status.reason,
            shards: status.shards.unwrap_or_default().into(),
            rows_planned: status.rows_planned,
            counts: status.counts.unwrap_or_default().try_into()?,
            rows_in_flight: status.rows_in_flight,
            tokens_in_flight: status.tokens_in_flight,
            workers: status.workers,
            manifest_key: status.manifest_key,
            age_ms: status.age_ms,
            pause_reason: status.pause_reason,
            starved_ms: status.starved_ms,
            copies: status.copies,
            workers_quarantined: status.workers_quarantined,
            workers_outdated: status.workers_outdated,
            generation: status.generation,
            owner: status.owner,
        })
    }
}

impl From<&JobStatus> for wire::JobStatus {
    fn from(status: &JobStatus) -> Self {
        let brief = wire::JobStatus::from(&status.brief);
        Self { spec: Some((&status.spec).into()), model_name: String::new(), source_count: 0, ..brief }
    }
}

impl TryFrom<wire::JobStatus> for JobStatus {
    type Error = ConvertError;

    fn try_from(mut status: wire::JobStatus) -> Result<Self, ConvertError> {
        let spec: JobSpec = required("spec", status.spec.take())?.try_into()?;
        (status.model_name, status.source_count) = (spec.model.name.clone(), spec.sources.len() as u64);
        Ok(Self { spec, brief: status.try_into()? })
    }
}

impl From<&ShardResult> for wire::ShardResult {
    fn from(result: &ShardResult) -> Self {
        Self {
            index: result.index,
            first_row: result.first_row,
            key: result.key.clone(),
            size_bytes: result.bytes,
            blake3: result.blake3.clone(),
            counts: Some((&result.counts).into()),
        }
    }
}

impl TryFrom<wire::ShardResult> for ShardResult {
    type Error = ConvertError;

    fn try_from(result: wire::ShardResult) -> Result<Self, ConvertError> {
        Ok(Self {
            index: result.index,
            first_row: result.first_row,
            key: result.key,
            bytes: result.size_bytes,
            blake3: result.blake3,
            counts: required("counts", result.counts)?.try_into()?,
        })
    }
}
