//! From rows to domain values, once for both databases, and the small conversions on the way in.

use std::collections::BTreeMap;

use dataset::{Cursor, ManifestHole, PlannedSource, RejectReason, Slice, SliceRange};
use proto::job::{JobBrief, JobState, RowCounts, ShardCounts};
use proto::work::{Granted, LightGrant, Output, RowWindow, SourceTask};
use proto::{Epoch, JobId, SessionId, ShardId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{ColumnIndex, Decode, Row, Type};
use uuid::Uuid;

use super::error::StoreError;
use super::types::{Exhausted, Garbage, Planning, Tally, Task, Tripped, Winner};
use crate::shard::{LeaseRef, Refusal, is_active, output_key};

type Result<T> = std::result::Result<T, StoreError>;

/// A row of either database, read by column name.
pub(super) trait Fields {
    fn int(&self, column: &'static str) -> Result<i64>;
    fn opt_int(&self, column: &'static str) -> Result<Option<i64>>;
    fn text(&self, column: &'static str) -> Result<String>;
    fn opt_text(&self, column: &'static str) -> Result<Option<String>>;
    fn id(&self, column: &'static str) -> Result<Uuid>;
    fn opt_id(&self, column: &'static str) -> Result<Option<Uuid>>;
    fn flag(&self, column: &'static str) -> Result<bool>;

    /// Reads a column that holds no negative number.
    fn count(&self, column: &'static str) -> Result<u64> {
        let value = self.int(column)?;
        u64::try_from(value).map_err(|_| corrupt(column, format!("{value} is negative")))
    }

    fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T>
    where
        Self: Sized,
    {
        serde_json::from_str(&self.text(column)?).map_err(|error| corrupt(column, error.to_string()))
    }
}

fn get<'r, R, T>(row: &'r R, column: &'static str) -> Result<T>
where
    R: Row,
    &'static str: ColumnIndex<R>,
    T: Decode<'r, R::Database> + Type<R::Database>,
{
    row.try_get(column).map_err(|error| corrupt(column, error.to_string()))
}

macro_rules! fields_of {
    ($row:ty) => {
        impl Fields for $row {
            fn int(&self, column: &'static str) -> Result<i64> {
                get(self, column)
            }
            fn opt_int(&self, column: &'static str) -> Result<Option<i64>> {
                get(self, column)
            }
            fn text(&self, column: &'static str) -> Result<String> {
                get(self, column)
            }
            fn opt_text(&self, column: &'static str) -> Result<Option<String>> {
                get(self, column)
            }
            fn id(&self, column: &'static str) -> Result<Uuid> {
                get(self, column)
            }
            fn opt_id(&self, column: &'static str) -> Result<Option<Uuid>> {
                get(self, column)
            }
            fn flag(&self, column: &'static str) -> Result<bool> {
                get(self, column)
            }
        }
    };
}
fields_of!(SqliteRow);
fields_of!(PgRow);

fn corrupt(column: &'static str, problem: String) -> StoreError {
    StoreError::Corrupt { column, problem }
}

/// Returns a value as the JSON that is stored.
pub(super) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("stored values hold no map with other than text keys")
}

/// Returns a count as the databases hold it.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn job_state(row: &impl Fields) -> Result<JobState> {
    let name = row.text("state")?;
    name.parse().map_err(|_| corrupt("state", format!("`{name}` is no job state")))
}

/// Reads the status of a job, except for its age and its rejects, which come from elsewhere.
pub(super) fn brief(row: &impl Fields, now_ms: i64, rejects: &Rejects) -> Result<JobBrief> {
    let id = JobId(row.id("job_id")?);
    Ok(JobBrief {
        id,
        model: row.opt_text("model_name")?.unwrap_or_default(),
        sources: row.count("source_total")?,
        state: job_state(row)?,
        paused: row.flag("paused")?,
        reason: row.opt_text("reason")?,
        shards: ShardCounts {
            pending: row.count("pending")?,
            running: row.count("running")?,
            committed: row.count("committed")?,
            dead: row.count("dead")?,
            cancelled: row.count("cancelled")?,
            split: row.count("split")?,
        },
        rows_planned: row.count("rows_planned")?,
        counts: RowCounts {
            rows: row.count("row_count")?,
            rejects: rejects.get(&id).cloned().unwrap_or_default(),
            truncated: row.count("truncated")?,
            tokens: row.count("tokens")?,
            reused: row.count("reused")?,
        },
        rows_in_flight: row.count("rows_in_flight")?,
        tokens_in_flight: row.count("tokens_in_flight")?,
        workers: row.count("workers")?,
        manifest_key: row.opt_text("manifest_key")?,
        age_ms: u64::try_from(now_ms - row.int("submitted_ms")?).unwrap_or(0),
        pause_reason: row.opt_text("pause_reason")?,
        owner: row.opt_text("owner")?,
        starved_ms: starved_ms(row, now_ms)?,
        copies: row.count("copies")?,
        workers_quarantined: row.count("workers_quarantined")?,
        workers_outdated: row.count("workers_outdated")?,
        generation: row.count("generation")?,
    })
}

/// For how long an active job has had no worker that takes shards; 0 where it has one, or waits for nothing.
fn starved_ms(row: &impl Fields, now_ms: i64) -> Result<u64> {
    let waiting = row.count("pending")? + row.count("running")? > 0;
    let served = row.count("workers")? > row.count("workers_quarantined")? + row.count("workers_outdated")?;
    if !waiting || served || row.flag("paused")? || !is_active(job_state(row)?) {
        return Ok(0);
    }
    let since_ms = row.int("submitted_ms")?.max(row.opt_int("last_session_ms")?.unwrap_or(0));
    Ok(u64::try_from(now_ms - since_ms).unwrap_or(0))
}

/// Rejected rows by job and reason.
pub(super) type Rejects = BTreeMap<JobId, BTreeMap<RejectReason, u64>>;

pub(super) fn rejects<R: Fields>(rows: &[R]) -> Result<Rejects> {
    let mut rejects = Rejects::new();
    for row in rows {
        let code = row.text("reason")?;
        let reason = code.parse().map_err(|_| corrupt("reason", format!("`{code}` is no reject reason")))?;
        rejects.entry(JobId(row.id("job_id")?)).or_default().insert(reason, row.count("row_count")?);
    }
    Ok(rejects)
}

/// Reads a job to plan; returns it with whether its sources are known, and without them.
pub(super) fn planning(row: &impl Fields) -> Result<(Planning, bool)> {
    let source_index = row.count("cursor_source")?;
    let cursor = Cursor {
        source_index: u32::try_from(source_index)
            .map_err(|_| corrupt("cursor_source", format!("{source_index} is out of range")))?,
        position: row.count("cursor_position")?,
        next_row: row.count("cursor_row")?,
    };
    let planning = Planning { job: JobId(row.id("job_id")?), spec: row.json("spec")?, sources: None, cursor };
    Ok((planning, row.opt_int("source_count")?.is_some()))
}

pub(super) fn planned_source(row: &impl Fields) -> Result<PlannedSource> {
    row.json("planned")
}

/// Returns unit, start and end of a range as stored.
pub(super) fn range_columns(range: SliceRange) -> (&'static str, i64, i64) {
    match range {
        SliceRange::Bytes { start, end } => ("bytes", signed(start), signed(end)),
        SliceRange::Rows { start, end } => ("rows", signed(start), signed(end)),
    }
}

fn slice(row: &impl Fields) -> Result<Slice> {
    let (start, end) = (row.count("range_start")?, row.count("range_end")?);
    let range = match row.text("range_unit")?.as_str() {
        "bytes" => SliceRange::Bytes { start, end },
        "rows" => SliceRange::Rows { start, end },
        other => return Err(corrupt("range_unit", format!("`{other}` is no unit"))),
    };
    Ok(Slice {
        source_index: source_index(row)?,
        recut_key: row.opt_text("recut_key")?,
        range,
        first_row: row.count("first_row")?,
        rows: row.count("row_count")?,
        blake3: None,
    })
}

fn source_index(row: &impl Fields) -> Result<u32> {
    let index = row.count("source_index")?;
    u32::try_from(index).map_err(|_| corrupt("source_index", format!("{index} is out of range")))
}

pub(super) fn hole(row: &impl Fields) -> Result<ManifestHole> {
    Ok(ManifestHole {
        source: source_index(row)?,
        first_row: row.count("first_row")?,
        rows: row.count("row_count")?,
        reason: row.opt_text("last_error")?.unwrap_or_default(),
    })
}

fn shard_id(row: &impl Fields) -> Result<ShardId> {
    Ok(ShardId { job: JobId(row.id("job_id")?), index: row.count("shard_index")? })
}

pub(super) fn epoch(row: &impl Fields) -> Result<Epoch> {
    let epoch = row.int("epoch")?;
    u32::try_from(epoch).map(Epoch).map_err(|_| corrupt("epoch", format!("{epoch} is out of range")))
}

/// Reads whose lease a row of the sweep means; the session is not in it.
pub(super) fn lease_ref(row: &impl Fields) -> Result<LeaseRef> {
    let ShardId { job, index } = shard_id(row)?;
    Ok(LeaseRef { session: SessionId(Uuid::nil()), job, index, epoch: epoch(row)? })
}

/// Reads what all shards of a source have in common, unless the job needs a later revision: what this program does not know
/// would be lost on the way.
pub(super) fn source_task_of(row: &impl Fields, job: JobId, revision: u32) -> Result<SourceTask> {
    if row.int("revision")? > i64::from(revision) {
        return Err(StoreError::JobNewer { job });
    }
    source_task(row)
}

pub(super) fn source_task(row: &impl Fields) -> Result<SourceTask> {
    let Task { read, model, embed, on_bad_row, reuse } = row.json("task")?;
    Ok(SourceTask { read, source: planned_source(row)?, model, embed, on_bad_row, reuse })
}

pub(super) fn grant(row: &impl Fields) -> Result<Granted> {
    let (shard, epoch) = (shard_id(row)?, epoch(row)?);
    let mut slice = Slice { blake3: row.opt_text("in_blake3")?, ..slice(row)? };
    let mut window = None;
    if let (Some(first_row), Some(rows)) = (row.opt_int("slice_first_row")?, row.opt_int("slice_row_count")?) {
        window = Some(RowWindow { first_row: slice.first_row, rows: slice.rows });
        (slice.first_row, slice.rows) = (first_row.unsigned_abs(), rows.unsigned_abs());
    }
    let light = LightGrant {
        shard,
        epoch,
        spec_digest: row.text("spec_digest")?,
        slice,
        output_key: output_key(shard, epoch, row.id("attempt_id")?),
        window,
        is_poison: row.flag("convicted")?,
    };
    match row.opt_text("planned")? {
        Some(_) => Ok(light.with(&source_task(row)?).into()),
        None => Ok(Granted::Light(light)),
    }
}

/// Reads sums over all jobs; jobs by state come from elsewhere.
pub(super) fn tally<R: Fields>(sums: &R, states: &[R]) -> Result<Tally> {
    let jobs = states.iter().map(|row| Ok((job_state(row)?, row.count("jobs")?))).collect::<Result<_>>()?;
    Ok(Tally {
        jobs,
        rows: sums.count("row_count")?,
        rejected: sums.count("rejected")?,
        tokens: sums.count("tokens")?,
        workers: sums.count("workers")?,
        workers_quarantined: sums.count("workers_quarantined")?,
    })
}

pub(super) fn winner(row: &impl Fields) -> Result<Winner> {
    let slice = slice(row)?;
    let output = Output {
        key: row.text("out_key")?,
        bytes: row.count("out_bytes")?,
        blake3: row.text("out_blake3")?,
        input_blake3: row.text("in_blake3")?,
        counts: RowCounts {
            rows: slice.rows,
            rejects: row.json("out_rejects")?,
            truncated: row.count("out_truncated")?,
            tokens: row.count("out_tokens")?,
            reused: row.count("out_reused")?,
        },
    };
    Ok(Winner { index: row.count("shard_index")?, slice, output })
}

pub(super) fn refusal(row: &impl Fields, lease: LeaseRef) -> Result<Refusal> {
    let winner = match row.opt_int("winner_epoch")? {
        None => None,
        Some(epoch) => {
            let epoch =
                u32::try_from(epoch).map_err(|_| corrupt("winner_epoch", format!("{epoch} is out of range")))?;
            Some((Epoch(epoch), row.text("out_key")?, row.text("out_blake3")?))
        }
    };
    let shard = ShardId { job: lease.job, index: lease.index };
    Ok(Refusal {
        job: Some(job_state(row)?),
        rows: row.count("row_count")?,
        winner,
        live_key: row.opt_id("attempt_id")?.map(|attempt| output_key(shard, lease.epoch, attempt)),
        input: row.opt_text("in_blake3")?,
    })
}

pub(super) fn exhausted(row: &impl Fields) -> Result<Exhausted> {
    Ok(Exhausted {
        job: JobId(row.id("job_id")?),
        dead: row.count("dead")?,
        first_index: row.count("shard_index")?,
        first_error: row.opt_text("last_error")?,
    })
}

pub(super) fn tripped(row: &impl Fields) -> Result<Tripped> {
    Ok(Tripped { job: JobId(row.id("job_id")?), class: row.text("class")?, attempts: row.count("attempts")? })
}

pub(super) fn garbage(row: &impl Fields) -> Result<Garbage> {
    let (shard, epoch) = (shard_id(row)?, epoch(row)?);
    let key = output_key(shard, epoch, row.id("attempt_id")?);
    Ok(Garbage { job: shard.job, index: shard.index, epoch: epoch.0, key })
}
