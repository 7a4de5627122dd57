//! Work: sessions, grants, progress, outputs.

use dataset::{Fingerprint, PlannedSource, Slice, SliceRange};

use super::job::on_bad_row;
use super::{ConvertError, id, required, twin_enum};
use crate::generated as wire;
use crate::ids::{Epoch, ShardId};
use crate::job::OnBadRow;
use crate::work::{
    CommitOutcome, Directive, FailureClass, Grant, Granted, HeartbeatReply, Leased, LightGrant, Output, Progress,
    RowWindow, Session, SourceTask, WorkerInfo,
};

twin_enum!(known_outcome, CommitOutcome, wire::CommitOutcome, "outcome", [Committed, Stale, LostRace, Cancelled]);
twin_enum!(known_directive, Directive, wire::Directive, "directive", [Continue, Stop]);
twin_enum!(
    known_class,
    FailureClass,
    wire::FailureClass,
    "class",
    [Transient, Throttled, Resource, InputChanged, Config, ModelMismatch, BadRow, Auth, WorkerLost, Drained]
);

/// Reads what became of a commit.
///
/// # Errors
/// The value is missing or unknown: whether the commit counted is then not known, and it must be repeated.
pub fn commit_outcome(value: i32) -> Result<CommitOutcome, ConvertError> {
    known_outcome(value)
}

/// Reads a directive; one from a newer coordinator means `Stop`, which costs work but never correctness.
pub fn directive(value: i32) -> Directive {
    known_directive(value).unwrap_or(Directive::Stop)
}

/// Reads a failure class; one from a newer worker means `Transient`, which is counted and tried again.
pub fn failure_class(value: i32) -> FailureClass {
    known_class(value).unwrap_or(FailureClass::Transient)
}

impl From<(ShardId, Epoch)> for wire::LeaseRef {
    fn from((shard, epoch): (ShardId, Epoch)) -> Self {
        Self { job_id: shard.job.to_string(), shard_index: shard.index, epoch: epoch.0 }
    }
}

impl TryFrom<wire::LeaseRef> for (ShardId, Epoch) {
    type Error = ConvertError;

    fn try_from(lease: wire::LeaseRef) -> Result<Self, ConvertError> {
        let shard = ShardId { job: id("lease.job_id", &lease.job_id)?, index: lease.shard_index };
        Ok((shard, Epoch(lease.epoch)))
    }
}

impl From<&WorkerInfo> for wire::OpenSessionRequest {
    fn from(worker: &WorkerInfo) -> Self {
        Self {
            worker_name: worker.name.clone(),
            devices: worker.devices.clone(),
            version: worker.version.clone(),
            revision: worker.revision,
        }
    }
}

impl From<wire::OpenSessionRequest> for WorkerInfo {
    fn from(request: wire::OpenSessionRequest) -> Self {
        Self {
            name: request.worker_name,
            devices: request.devices,
            version: request.version,
            revision: request.revision,
        }
    }
}

impl From<&Session> for wire::OpenSessionResponse {
    fn from(session: &Session) -> Self {
        Self {
            session_id: session.id.to_string(),
            ttl_ms: session.ttl_ms,
            heartbeat_ms: session.heartbeat_ms,
            storage_url: session.storage_url.clone(),
        }
    }
}

impl TryFrom<wire::OpenSessionResponse> for Session {
    type Error = ConvertError;

    fn try_from(session: wire::OpenSessionResponse) -> Result<Self, ConvertError> {
        if session.heartbeat_ms == 0 {
            return Err(ConvertError::new("heartbeat_ms", "is 0"));
        }
        Ok(Self {
            id: id("session_id", &session.session_id)?,
            ttl_ms: session.ttl_ms,
            heartbeat_ms: session.heartbeat_ms,
            storage_url: session.storage_url,
        })
    }
}

impl From<&PlannedSource> for wire::PlannedSource {
    fn from(planned: &PlannedSource) -> Self {
        Self {
            source: Some((&planned.source).into()),
            size_bytes: planned.fingerprint.size,
            etag: planned.fingerprint.etag.clone(),
            header: planned.header.clone(),
            kept_schema: planned.kept_schema.clone(),
        }
    }
}

impl TryFrom<wire::PlannedSource> for PlannedSource {
    type Error = ConvertError;

    fn try_from(planned: wire::PlannedSource) -> Result<Self, ConvertError> {
        Ok(Self {
            source: required("planned.source", planned.source)?.try_into()?,
            fingerprint: Fingerprint { size: planned.size_bytes, etag: planned.etag },
            header: planned.header,
            kept_schema: planned.kept_schema,
        })
    }
}

impl From<&Slice> for wire::Slice {
    fn from(slice: &Slice) -> Self {
        let (unit, start, end) = match slice.range {
            SliceRange::Bytes { start, end } => (wire::SliceUnit::Bytes, start, end),
            SliceRange::Rows { start, end } => (wire::SliceUnit::Rows, start, end),
        };
        Self {
            source_index: slice.source_index,
            recut_key: slice.recut_key.clone(),
            unit: unit.into(),
            start,
            end,
            first_row: slice.first_row,
            rows: slice.rows,
            blake3: slice.blake3.clone(),
        }
    }
}

impl TryFrom<wire::Slice> for Slice {
    type Error = ConvertError;

    fn try_from(slice: wire::Slice) -> Result<Self, ConvertError> {
        let wire::Slice { start, end, .. } = slice;
        if start > end {
            return Err(ConvertError::new("slice.start", format!("is {start}, after its end, {end}")));
        }
        let range = match wire::SliceUnit::try_from(slice.unit) {
            Ok(wire::SliceUnit::Bytes) => SliceRange::Bytes { start, end },
            Ok(wire::SliceUnit::Rows) => SliceRange::Rows { start, end },
            Ok(wire::SliceUnit::Unspecified) => return Err(ConvertError::new("slice.unit", "is missing")),
            Err(_) => return Err(ConvertError::new("slice.unit", format!("has the unknown value {}", slice.unit))),
        };
        Ok(Self {
            source_index: slice.source_index,
            recut_key: slice.recut_key,
            range,
            first_row: slice.first_row,
            rows: slice.rows,
            blake3: slice.blake3,
        })
    }
}

impl From<&SourceTask> for wire::SourceTask {
    fn from(task: &SourceTask) -> Self {
        Self {
            read: Some((&task.read).into()),
            source: Some((&task.source).into()),
            model: Some((&task.model).into()),
            embed: Some((&task.embed).into()),
            on_bad_row: wire::OnBadRow::from(task.on_bad_row).into(),
            reuse: task.reuse.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::SourceTask> for SourceTask {
    type Error = ConvertError;

    fn try_from(task: wire::SourceTask) -> Result<Self, ConvertError> {
        let on_bad_row: OnBadRow = on_bad_row(task.on_bad_row)?;
        Ok(Self {
            read: required("read", task.read)?.try_into()?,
            source: required("source", task.source)?.try_into()?,
            model: required("model", task.model)?.into(),
            embed: required("embed", task.embed)?.try_into()?,
            on_bad_row,
            reuse: task.reuse.into_iter().map(Into::into).collect(),
        })
    }
}

impl From<&LightGrant> for wire::Grant {
    fn from(grant: &LightGrant) -> Self {
        Self {
            lease: Some((grant.shard, grant.epoch).into()),
            slice: Some((&grant.slice).into()),
            output_key: grant.output_key.clone(),
            spec_digest: grant.spec_digest.clone(),
            window: grant.window.map(|RowWindow { first_row, rows }| wire::RowWindow { first_row, rows }),
            convicted: grant.is_poison,
            source_task_omitted: true,
            ..Self::default()
        }
    }
}

impl From<&Grant> for wire::Grant {
    fn from(grant: &Grant) -> Self {
        Self {
            lease: Some((grant.shard, grant.epoch).into()),
            read: Some((&grant.read).into()),
            source: Some((&grant.source).into()),
            slice: Some((&grant.slice).into()),
            model: Some((&grant.model).into()),
            embed: Some((&grant.embed).into()),
            on_bad_row: wire::OnBadRow::from(grant.on_bad_row).into(),
            output_key: grant.output_key.clone(),
            spec_digest: grant.spec_digest.clone(),
            window: grant.window.map(|RowWindow { first_row, rows }| wire::RowWindow { first_row, rows }),
            convicted: grant.is_poison,
            source_task_omitted: false,
            reuse: grant.reuse.iter().map(Into::into).collect(),
        }
    }
}

impl From<&Granted> for wire::Grant {
    fn from(granted: &Granted) -> Self {
        match granted {
            Granted::Whole(grant) => (&**grant).into(),
            Granted::Light(grant) => grant.into(),
            Granted::Unreadable { shard, epoch, .. } => {
                Self { lease: Some((*shard, *epoch).into()), ..Self::default() }
            }
        }
    }
}

/// What all grants have.
fn light_grant(grant: wire::Grant) -> Result<LightGrant, ConvertError> {
    let (shard, epoch) = required("grant.lease", grant.lease)?.try_into()?;
    Ok(LightGrant {
        shard,
        epoch,
        spec_digest: grant.spec_digest,
        slice: required("grant.slice", grant.slice)?.try_into()?,
        output_key: grant.output_key,
        window: grant.window.map(|wire::RowWindow { first_row, rows }| RowWindow { first_row, rows }),
        is_poison: grant.convicted,
    })
}

impl TryFrom<wire::Grant> for Granted {
    type Error = ConvertError;

    fn try_from(mut grant: wire::Grant) -> Result<Self, ConvertError> {
        if grant.source_task_omitted {
            return light_grant(grant).map(Granted::Light);
        }
        let task = SourceTask {
            read: required("grant.read", grant.read.take())?.try_into()?,
            source: required("grant.source", grant.source.take())?.try_into()?,
            model: required("grant.model", grant.model.take())?.into(),
            embed: required("grant.embed", grant.embed.take())?.try_into()?,
            on_bad_row: on_bad_row(grant.on_bad_row)?,
            reuse: std::mem::take(&mut grant.reuse).into_iter().map(Into::into).collect(),
        };
        Ok(light_grant(grant)?.with(&task).into())
    }
}

impl From<&Leased> for wire::LeaseResponse {
    fn from(leased: &Leased) -> Self {
        Self { grants: leased.grants.iter().map(Into::into).collect(), retry_after_ms: leased.retry_after_ms }
    }
}

impl From<wire::LeaseResponse> for Leased {
    /// A grant that cannot be read costs its own shard, not the others of the answer. One that does not even name its
    /// lease is left out: a heartbeat that does not report the lease gives it back.
    fn from(leased: wire::LeaseResponse) -> Self {
        let read = |grant: wire::Grant| {
            let (shard, epoch) = grant.lease.clone()?.try_into().ok()?;
            let unreadable = |error: ConvertError| Granted::Unreadable { shard, epoch, problem: error.to_string() };
            Some(Granted::try_from(grant).unwrap_or_else(unreadable))
        };
        Self { grants: leased.grants.into_iter().filter_map(read).collect(), retry_after_ms: leased.retry_after_ms }
    }
}

impl From<&Progress> for wire::Progress {
    fn from(progress: &Progress) -> Self {
        Self {
            lease: Some((progress.shard, progress.epoch).into()),
            rows_done: progress.rows_done,
            tokens_done: progress.tokens_done,
        }
    }
}

impl TryFrom<wire::Progress> for Progress {
    type Error = ConvertError;

    fn try_from(progress: wire::Progress) -> Result<Self, ConvertError> {
        let (shard, epoch) = required("progress.lease", progress.lease)?.try_into()?;
        Ok(Self { shard, epoch, rows_done: progress.rows_done, tokens_done: progress.tokens_done })
    }
}

impl From<&HeartbeatReply> for wire::HeartbeatResponse {
    fn from(beat: &HeartbeatReply) -> Self {
        Self {
            directives: beat.directives.iter().map(|&each| wire::Directive::from(each).into()).collect(),
            session_lost: beat.session_lost,
        }
    }
}

impl From<wire::HeartbeatResponse> for HeartbeatReply {
    fn from(beat: wire::HeartbeatResponse) -> Self {
        Self { directives: beat.directives.into_iter().map(directive).collect(), session_lost: beat.session_lost }
    }
}

impl From<&Output> for wire::Output {
    fn from(output: &Output) -> Self {
        Self {
            key: output.key.clone(),
            size_bytes: output.bytes,
            blake3: output.blake3.clone(),
            input_blake3: output.input_blake3.clone(),
            counts: Some((&output.counts).into()),
        }
    }
}

impl TryFrom<wire::Output> for Output {
    type Error = ConvertError;

    fn try_from(output: wire::Output) -> Result<Self, ConvertError> {
        Ok(Self {
            key: output.key,
            bytes: output.size_bytes,
            blake3: digest_hex("output.blake3", output.blake3)?,
            input_blake3: digest_hex("output.input_blake3", output.input_blake3)?,
            counts: required("output.counts", output.counts)?.try_into()?,
        })
    }
}

/// A BLAKE3 as everybody writes it: 64 lower-case hex digits. One spelling, so that equality of text is equality.
fn digest_hex(field: &'static str, text: String) -> Result<String, ConvertError> {
    let spelled = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if spelled { Ok(text) } else { Err(ConvertError::new(field, "is not 64 lower-case hex digits")) }
}
