//! Transitions as steps on the writer's connection. Each runs inside a transaction, so that it is whole or not at all.

use std::collections::BTreeMap;

use proto::work::Progress;
use proto::{JobId, SessionId};
use sqlx::sqlite::SqliteConnection;
use sqlx::{query, query_scalar};
use uuid::Uuid;

use super::attempt_ends;
use super::counts::{Counts, count, one};
use crate::shard::AttemptState;
use crate::store::backend::{Commit, REASON_LOST_RACE, REASON_REPAIRED, REASON_STRAY, ShardPage};
use crate::store::error::StoreError;
use crate::store::rows::{self, Fields, signed};
use crate::store::sql::{jobs, sweep, work};

type Result<T> = std::result::Result<T, StoreError>;
type Connection = SqliteConnection;

pub(super) async fn set_sources(db: &mut Connection, job: JobId, sources: &[(String, String)]) -> Result<bool> {
    let count = signed(sources.len() as u64);
    if query(jobs::CLAIM_SOURCES).bind(job.0).bind(count).execute(&mut *db).await?.rows_affected() == 0 {
        return Ok(false);
    }
    for (position, (uri, planned)) in (0_i64..).zip(sources) {
        query(jobs::INSERT_SOURCE).bind(job.0).bind(position).bind(uri).bind(planned).execute(&mut *db).await?;
    }
    Ok(true)
}

pub(super) async fn insert_shards(db: &mut Connection, page: &ShardPage) -> Result<bool> {
    let (expected, next) = (&page.expected, &page.next);
    let first_index: Option<i64> = query_scalar(jobs::ADVANCE_CURSOR)
        .bind(page.job.0)
        .bind(i64::from(expected.source_index))
        .bind(signed(expected.position))
        .bind(signed(expected.next_row))
        .bind(i64::from(next.source_index))
        .bind(signed(next.position))
        .bind(signed(next.next_row))
        .bind(signed(page.slices.len() as u64))
        .bind(signed(page.slices.iter().map(|slice| slice.rows).sum()))
        .bind(page.done)
        .fetch_optional(&mut *db)
        .await?;
    let Some(first_index) = first_index else { return Ok(false) };
    for (index, slice) in (first_index..).zip(&page.slices) {
        let (unit, start, end) = rows::range_columns(slice.range);
        query(jobs::INSERT_SHARD)
            .bind(page.job.0)
            .bind(index)
            .bind(i64::from(slice.source_index))
            .bind(slice.recut_key.as_deref())
            .bind(unit)
            .bind(start)
            .bind(end)
            .bind(signed(slice.first_row))
            .bind(signed(slice.rows))
            .bind(slice.blake3.as_deref())
            .execute(&mut *db)
            .await?;
    }
    let pending = signed(page.slices.len() as u64);
    count(db, page.job, Counts { pending, ..Counts::default() }).await?;
    Ok(true)
}

pub(super) async fn retry(db: &mut Connection, job: JobId, now_ms: i64) -> Result<bool> {
    if query(jobs::RETRY_JOB).bind(job.0).execute(&mut *db).await?.rows_affected() == 0 {
        return Ok(false);
    }
    let revived = query(jobs::REVIVE_SHARDS).bind(job.0).bind(now_ms).execute(&mut *db).await?.rows_affected();
    let revived = signed(revived);
    count(db, job, Counts { pending: revived, dead: -revived, ..Counts::default() }).await?;
    Ok(true)
}

pub(super) async fn repair(db: &mut Connection, job: JobId, shards: &[u64], now_ms: i64) -> Result<u64> {
    let mut repaired = 0;
    for index in shards {
        let index = signed(*index);
        let Some(row) = query(jobs::REPAIRABLE_SHARD).bind(job.0).bind(index).fetch_optional(&mut *db).await? else {
            continue;
        };
        let epoch = row.int("epoch")?;
        for statement in [jobs::UNCOMMIT_WINNER, jobs::REPAIR_SHARD] {
            let statement = query(statement).bind(job.0).bind(index).bind(epoch).bind(now_ms).bind(REASON_REPAIRED);
            one(statement.execute(&mut *db).await?)?;
        }
        query(jobs::UNCOUNT_COMMIT)
            .bind(job.0)
            .bind(row.int("row_count")?)
            .bind(row.int("out_truncated")?)
            .bind(row.int("out_tokens")?)
            .bind(row.int("out_reused")?)
            .execute(&mut *db)
            .await?;
        let rejects: BTreeMap<String, i64> = row.json("out_rejects")?;
        for (reason, rows) in rejects {
            query(work::COUNT_REJECTS).bind(job.0).bind(reason).bind(-rows).execute(&mut *db).await?;
        }
        repaired += 1;
    }
    if repaired > 0 {
        one(query(jobs::REPAIR_JOB).bind(job.0).execute(&mut *db).await?)?;
    }
    Ok(repaired)
}

pub(super) async fn heartbeat(
    db: &mut Connection,
    session: SessionId,
    progress: &[Progress],
    now_ms: i64,
    ttl_ms: i64,
) -> Result<Option<Vec<bool>>> {
    let extended = query(work::EXTEND_SESSION).bind(session.0).bind(now_ms).bind(ttl_ms).execute(&mut *db).await?;
    if extended.rows_affected() == 0 {
        return Ok(None);
    }
    let mut standing = Vec::with_capacity(progress.len());
    let mut moved = false;
    for report in progress {
        let (job, index, epoch) = (report.shard.job.0, signed(report.shard.index), i64::from(report.epoch.0));
        let done: Option<i64> = query_scalar(work::LEASE_PROGRESS)
            .bind(session.0)
            .bind(job)
            .bind(index)
            .bind(epoch)
            .fetch_optional(&mut *db)
            .await?;
        standing.push(done.is_some());
        let Some(done) = done else { continue };
        moved |= signed(report.rows_done) > done;
        query(work::RECORD_PROGRESS)
            .bind(job)
            .bind(index)
            .bind(epoch)
            .bind(signed(report.rows_done))
            .bind(signed(report.tokens_done))
            .execute(&mut *db)
            .await?;
    }
    if moved {
        query(work::NOTE_PROGRESS).bind(session.0).bind(now_ms).execute(&mut *db).await?;
    }
    for row in query(work::OLD_LEASES).bind(session.0).bind(now_ms - ttl_ms).fetch_all(&mut *db).await? {
        let lease = rows::lease_ref(&row)?;
        let named = |report: &Progress| (report.shard.job, report.shard.index, report.epoch);
        if !progress.iter().any(|report| named(report) == (lease.job, lease.index, lease.epoch)) {
            attempt_ends::give_back(db, lease, AttemptState::Released, "pending", REASON_STRAY, now_ms).await?;
        }
    }
    Ok(Some(standing))
}

pub(super) async fn commit(db: &mut Connection, commit: &Commit, now_ms: i64) -> Result<bool> {
    let Commit { lease, attempt, output } = commit;
    let granted_ms: Option<i64> = query_scalar(work::LIVE_LEASE)
        .bind(lease.session.0)
        .bind(lease.job.0)
        .bind(signed(lease.index))
        .bind(i64::from(lease.epoch.0))
        .bind(*attempt)
        .fetch_optional(&mut *db)
        .await?;
    let Some(granted_ms) = granted_ms else { return Ok(false) };
    let committed = query(work::COMMIT_SHARD)
        .bind(lease.job.0)
        .bind(signed(lease.index))
        .bind(i64::from(lease.epoch.0))
        .bind(&output.key)
        .bind(signed(output.bytes))
        .bind(&output.blake3)
        .bind(&output.input_blake3)
        .bind(rows::to_json(&output.counts.rejects))
        .bind(signed(output.counts.rows))
        .bind(signed(output.counts.truncated))
        .bind(signed(output.counts.tokens))
        .bind(signed(output.counts.reused))
        .execute(&mut *db)
        .await?;
    if committed.rows_affected() == 0 {
        return Ok(false);
    }
    attempt_ends::end(db, *lease, AttemptState::Committed, now_ms, None, None).await?;
    query(work::LOSE_RACE)
        .bind(lease.job.0)
        .bind(signed(lease.index))
        .bind(now_ms)
        .bind(REASON_LOST_RACE)
        .execute(&mut *db)
        .await?;
    query(work::COUNT_COMMIT)
        .bind(lease.job.0)
        .bind(signed(output.counts.rows))
        .bind(signed(output.counts.truncated))
        .bind(signed(output.counts.tokens))
        .bind(now_ms - granted_ms)
        .bind(signed(output.counts.reused))
        .execute(&mut *db)
        .await?;
    for (reason, rows) in &output.counts.rejects {
        query(work::COUNT_REJECTS).bind(lease.job.0).bind(reason.code()).bind(signed(*rows)).execute(&mut *db).await?;
    }
    Ok(true)
}

pub(super) async fn cancel_pending(db: &mut Connection, limit: u32) -> Result<u64> {
    let cancelled: Vec<Uuid> = query_scalar(sweep::CANCEL_PENDING).bind(i64::from(limit)).fetch_all(&mut *db).await?;
    for group in cancelled.chunk_by(|left, right| left == right) {
        let shards = signed(group.len() as u64);
        let change = Counts { pending: -shards, cancelled: shards, ..Counts::default() };
        count(db, JobId(group[0]), change).await?;
    }
    Ok(cancelled.len() as u64)
}
