//! Transitions as steps on the writer's connection. Each runs inside a transaction, so that it is whole or not at all.

use std::collections::BTreeMap;

use proto::work::{Grant, Progress};
use proto::{Epoch, JobId, RequestId, SessionId};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{query, query_scalar};
use uuid::Uuid;

use crate::policy::{Policy, Verdict};
use crate::shard::{AttemptState, LeaseRef};
use crate::store::backend::{Commit, Failure, REASON_REPAIRED, REASON_SESSION_LOST, REASON_STALLED, ShardPage};
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
        for statement in [jobs::REVOKE_WINNER, jobs::REPAIR_SHARD] {
            let statement = query(statement).bind(job.0).bind(index).bind(epoch).bind(now_ms).bind(REASON_REPAIRED);
            one(statement.execute(&mut *db).await?);
        }
        query(jobs::UNCOUNT_COMMIT)
            .bind(job.0)
            .bind(row.int("row_count")?)
            .bind(row.int("out_truncated")?)
            .bind(row.int("out_tokens")?)
            .execute(&mut *db)
            .await?;
        let rejects: BTreeMap<String, i64> = row.json("out_rejects")?;
        for (reason, rows) in rejects {
            query(work::COUNT_REJECTS).bind(job.0).bind(reason).bind(-rows).execute(&mut *db).await?;
        }
        repaired += 1;
    }
    if repaired > 0 {
        one(query(jobs::REPAIR_JOB).bind(job.0).execute(&mut *db).await?);
    }
    Ok(repaired)
}

pub(super) async fn lease(
    db: &mut Connection,
    session: SessionId,
    request: RequestId,
    max: u32,
    now_ms: i64,
) -> Result<Option<Vec<Grant>>> {
    let standing = query(work::SESSION_STANDING).bind(session.0).fetch_optional(&mut *db).await?;
    let Some(standing) = standing.filter(|row| row.text("state").is_ok_and(|state| state == "live")) else {
        return Ok(None);
    };
    let repeated = standing.opt_id("last_request")? == Some(request.0);
    if !repeated && standing.int("expires_ms")? > now_ms {
        let held: i64 = query_scalar(work::COUNT_LIVE_LEASES).bind(session.0).fetch_one(&mut *db).await?;
        let room = i64::from(max).min(standing.int("leases_max")? - held);
        take_shards(db, session, request, room, now_ms).await?;
    }
    let granted = query(work::GRANTED).bind(session.0).bind(request.0).fetch_all(&mut *db).await?;
    granted.iter().map(rows::grant).collect::<Result<_>>().map(Some)
}

async fn take_shards(
    db: &mut Connection,
    session: SessionId,
    request: RequestId,
    room: i64,
    now_ms: i64,
) -> Result<()> {
    if room <= 0 {
        return Ok(());
    }
    let picked = query(work::PICK_SHARDS).bind(now_ms).bind(room).fetch_all(&mut *db).await?;
    for row in &picked {
        let before = rows::lease_ref(row)?;
        let (index, epoch) = (signed(before.index), i64::from(before.epoch.0));
        one(query(work::LEASE_SHARD).bind(before.job.0).bind(index).bind(epoch).execute(&mut *db).await?);
        query(work::INSERT_ATTEMPT)
            .bind(before.job.0)
            .bind(index)
            .bind(epoch + 1)
            .bind(uuid::Builder::from_random_bytes(rand::random()).into_uuid())
            .bind(session.0)
            .bind(request.0)
            .bind(now_ms)
            .execute(&mut *db)
            .await?;
        count(db, before.job, Counts { pending: -1, running: 1, ..Counts::default() }).await?;
    }
    if !picked.is_empty() {
        query(work::NOTE_REQUEST).bind(session.0).bind(request.0).bind(now_ms).execute(&mut *db).await?;
    }
    Ok(())
}

pub(super) async fn beat(
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
        .execute(&mut *db)
        .await?;
    if committed.rows_affected() == 0 {
        return Ok(false);
    }
    end(db, *lease, AttemptState::Committed, now_ms, None, Some(lease.session)).await?;
    query(work::COUNT_COMMIT)
        .bind(lease.job.0)
        .bind(signed(output.counts.rows))
        .bind(signed(output.counts.truncated))
        .bind(signed(output.counts.tokens))
        .bind(now_ms - granted_ms)
        .execute(&mut *db)
        .await?;
    for (reason, rows) in &output.counts.rejects {
        query(work::COUNT_REJECTS).bind(lease.job.0).bind(reason.code()).bind(signed(*rows)).execute(&mut *db).await?;
    }
    Ok(true)
}

pub(super) async fn fail(db: &mut Connection, failure: &Failure, policy: &Policy, now_ms: i64) -> Result<bool> {
    let Failure { lease, class, message, unit } = failure;
    if !end(db, *lease, AttemptState::Failed, now_ms, Some(message), Some(lease.session)).await? {
        return Ok(false);
    }
    let budget = budget(db, *lease).await?;
    let next = match Policy::verdict(*class) {
        Verdict::Counted => {
            let failures = budget.failures + 1;
            let dead = failures >= i64::from(policy.failures_max);
            let earlier = u32::try_from(budget.failures).unwrap_or(u32::MAX);
            let not_before_ms = now_ms + policy.backoff_ms(earlier, *unit);
            Next { state: if dead { "dead" } else { "pending" }, not_before_ms, failures, ..budget.unchanged(now_ms) }
        }
        Verdict::Throttled => budget.unchanged(now_ms + policy.throttle_pause_ms(*unit)),
        Verdict::JobFatal => budget.unchanged(now_ms),
    };
    leave_running(db, *lease, next, Some(message)).await?;
    Ok(true)
}

/// Takes leases back for whichever reason, without counting anything. Returns how many still stood.
pub(super) async fn give_back(
    db: &mut Connection,
    lease: LeaseRef,
    how: AttemptState,
    next_state: &'static str,
    reason: &str,
    now_ms: i64,
) -> Result<bool> {
    let session = (!lease.session.0.is_nil()).then_some(lease.session);
    if !end(db, lease, how, now_ms, Some(reason), session).await? {
        return Ok(false);
    }
    let budget = budget(db, lease).await?;
    leave_running(db, lease, Next { state: next_state, ..budget.unchanged(now_ms) }, None).await?;
    Ok(true)
}

pub(super) async fn reap(db: &mut Connection, policy: &Policy, now_ms: i64) -> Result<u64> {
    let lost: Vec<SqliteRow> = query(sweep::LOST_LEASES)
        .bind(now_ms)
        .bind(policy.stall_floor_ms)
        .bind(policy.stall_factor)
        .fetch_all(&mut *db)
        .await?;
    for row in &lost {
        let lease = rows::lease_ref(row)?;
        let reason = if row.text("session_state")? == "dead" { REASON_SESSION_LOST } else { REASON_STALLED };
        end(db, lease, AttemptState::Expired, now_ms, Some(reason), None).await?;
        let budget = budget(db, lease).await?;
        let workers_lost = budget.workers_lost + 1;
        let state = if workers_lost >= i64::from(policy.workers_lost_max) { "dead" } else { "pending" };
        leave_running(db, lease, Next { state, workers_lost, ..budget.unchanged(now_ms) }, Some(reason)).await?;
    }
    Ok(lost.len() as u64)
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

/// By how much a job's counters change.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    pending: i64,
    running: i64,
    dead: i64,
    cancelled: i64,
}

async fn count(db: &mut Connection, job: JobId, change: Counts) -> Result<()> {
    query(sweep::COUNT_SHARDS)
        .bind(job.0)
        .bind(change.pending)
        .bind(change.running)
        .bind(change.dead)
        .bind(change.cancelled)
        .execute(&mut *db)
        .await?;
    Ok(())
}

/// What a running shard has spent.
struct Budget {
    failures: i64,
    workers_lost: i64,
}

impl Budget {
    fn unchanged(&self, not_before_ms: i64) -> Next {
        Next { state: "pending", not_before_ms, failures: self.failures, workers_lost: self.workers_lost }
    }
}

/// Where a running shard goes.
struct Next {
    state: &'static str,
    not_before_ms: i64,
    failures: i64,
    workers_lost: i64,
}

async fn budget(db: &mut Connection, lease: LeaseRef) -> Result<Budget> {
    let row = query(sweep::SHARD_BUDGET)
        .bind(lease.job.0)
        .bind(signed(lease.index))
        .bind(i64::from(lease.epoch.0))
        .fetch_one(&mut *db)
        .await?;
    Ok(Budget { failures: row.int("failures")?, workers_lost: row.int("workers_lost")? })
}

/// Ends a live attempt, of this session where one is given. Returns whether it was live.
async fn end(
    db: &mut Connection,
    lease: LeaseRef,
    how: AttemptState,
    now_ms: i64,
    reason: Option<&str>,
    session: Option<SessionId>,
) -> Result<bool> {
    let ended = query(sweep::END_ATTEMPT)
        .bind(lease.job.0)
        .bind(signed(lease.index))
        .bind(i64::from(lease.epoch.0))
        .bind(how.name())
        .bind(now_ms)
        .bind(reason)
        .bind(session.map(|session| session.0))
        .execute(&mut *db)
        .await?;
    Ok(ended.rows_affected() == 1)
}

async fn leave_running(db: &mut Connection, lease: LeaseRef, next: Next, error: Option<&str>) -> Result<()> {
    let LeaseRef { job, index, epoch: Epoch(epoch), .. } = lease;
    one(query(sweep::LEAVE_RUNNING)
        .bind(job.0)
        .bind(signed(index))
        .bind(i64::from(epoch))
        .bind(next.state)
        .bind(next.not_before_ms)
        .bind(next.failures)
        .bind(next.workers_lost)
        .bind(error)
        .execute(&mut *db)
        .await?);
    let is = |state| i64::from(next.state == state);
    let change = Counts { pending: is("pending"), running: -1, dead: is("dead"), cancelled: is("cancelled") };
    count(db, job, change).await
}

/// The transaction has just read the row that it changes, and nobody else writes.
fn one(result: sqlx::sqlite::SqliteQueryResult) {
    assert_eq!(result.rows_affected(), 1, "a statement changed another number of rows than the one that was read");
}
