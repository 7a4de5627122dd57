//! How attempts end without a commit, and what that does to their shards. Steps inside a transaction of the writer.

use proto::work::RowWindow;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{query, query_scalar};

use super::counts::{Counts, count, one};
use crate::policy::{Policy, Verdict};
use crate::shard::{AttemptState, LeaseRef, failure_name, halves};
use crate::store::backend::{Failure, REASON_SESSION_LOST, REASON_STALLED};
use crate::store::error::StoreError;
use crate::store::rows::{self, Fields, signed};
use crate::store::sql::sweep;

type Result<T> = std::result::Result<T, StoreError>;
type Connection = SqliteConnection;

/// The class of an attempt whose worker is lost.
const WORKER_LOST: &str = "worker_lost";

pub(super) async fn fail(db: &mut Connection, failure: &Failure, policy: &Policy, now_ms: i64) -> Result<bool> {
    let Failure { lease, class, message, unit } = failure;
    let verdict = Policy::verdict(*class);
    if verdict == Verdict::Free {
        return give_back(db, *lease, AttemptState::Released, "pending", message, now_ms).await;
    }
    if !end(db, *lease, AttemptState::Failed, now_ms, Some(message), Some(failure_name(*class))).await? {
        return Ok(false);
    }
    let spent = spent(db, *lease).await?;
    let next = match verdict {
        Verdict::Counted => {
            let failures = spent.failures + 1;
            let dead = failures >= i64::from(policy.failures_max);
            let earlier = u32::try_from(spent.failures).unwrap_or(u32::MAX);
            let not_before_ms = now_ms + policy.backoff_ms(earlier, *unit);
            Next { state: if dead { "dead" } else { "pending" }, not_before_ms, failures, ..spent.unchanged(now_ms) }
        }
        Verdict::Throttled => spent.unchanged(now_ms + policy.throttle_pause_ms(*unit)),
        Verdict::WorkerLost => spent.with_worker_lost(policy, now_ms),
        Verdict::JobFatal | Verdict::JobPaused | Verdict::Free => spent.unchanged(now_ms),
    };
    leave(db, *lease, &spent, next, Some(message), 1).await?;
    Ok(true)
}

/// Takes a lease back for whichever reason, without counting anything. Returns whether it was live.
pub(super) async fn give_back(
    db: &mut Connection,
    lease: LeaseRef,
    how: AttemptState,
    next_state: &'static str,
    reason: &str,
    now_ms: i64,
) -> Result<bool> {
    if !end(db, lease, how, now_ms, Some(reason), None).await? {
        return Ok(false);
    }
    let spent = spent(db, lease).await?;
    leave(db, lease, &spent, Next { state: next_state, ..spent.unchanged(now_ms) }, None, 0).await?;
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
        end(db, lease, AttemptState::Expired, now_ms, Some(reason), Some(WORKER_LOST)).await?;
        let spent = spent(db, lease).await?;
        let next = spent.with_worker_lost(policy, now_ms);
        leave(db, lease, &spent, next, Some(reason), 1).await?;
    }
    Ok(lost.len() as u64)
}

/// What a running shard is and has spent.
struct Spent {
    /// Live attempts, the one that has just ended among them.
    live: i64,
    failures: i64,
    workers_lost: i64,
    rows: RowWindow,
    is_half: bool,
    is_poison: bool,
}

/// Where a running shard goes, unless another attempt at it is live.
struct Next {
    state: &'static str,
    not_before_ms: i64,
    failures: i64,
    workers_lost: i64,
    is_poison: bool,
}

impl Spent {
    fn unchanged(&self, not_before_ms: i64) -> Next {
        let (failures, workers_lost, is_poison) = (self.failures, self.workers_lost, self.is_poison);
        Next { state: "pending", not_before_ms, failures, workers_lost, is_poison }
    }

    fn with_worker_lost(&self, policy: &Policy, now_ms: i64) -> Next {
        let workers_lost = self.workers_lost + 1;
        let next = Next { workers_lost, ..self.unchanged(now_ms) };
        let rows = self.rows.rows;
        if self.live > 1 || workers_lost < i64::from(policy.workers_lost_max(self.is_half, rows)) {
            return next;
        }
        match (rows, self.is_poison) {
            (2.., _) => Next { state: "split", ..next },
            (1, false) => Next { workers_lost: 0, is_poison: true, ..next },
            _ => Next { state: "dead", ..next },
        }
    }
}

async fn spent(db: &mut Connection, lease: LeaseRef) -> Result<Spent> {
    let row = query(sweep::RUNNING_SHARD).bind(lease.job.0).bind(signed(lease.index)).fetch_one(&mut *db).await?;
    Ok(Spent {
        live: row.int("live")?,
        failures: row.int("failures")?,
        workers_lost: row.int("workers_lost")?,
        rows: RowWindow { first_row: row.count("first_row")?, rows: row.count("row_count")? },
        is_half: row.opt_int("part_of")?.is_some(),
        is_poison: row.flag("convicted")?,
    })
}

/// Ends a live attempt, of this session where one is given. Returns whether it was live.
pub(super) async fn end(
    db: &mut Connection,
    lease: LeaseRef,
    how: AttemptState,
    now_ms: i64,
    reason: Option<&str>,
    class: Option<&str>,
) -> Result<bool> {
    let session = (!lease.session.0.is_nil()).then_some(lease.session.0);
    let ended = query(sweep::END_ATTEMPT)
        .bind(lease.job.0)
        .bind(signed(lease.index))
        .bind(i64::from(lease.epoch.0))
        .bind(how.name())
        .bind(now_ms)
        .bind(reason)
        .bind(session)
        .bind(class)
        .execute(&mut *db)
        .await?;
    Ok(ended.rows_affected() == 1)
}

/// Moves the shard of an attempt that has ended. `ended`: by how much the breaker's count of attempts grows.
async fn leave(
    db: &mut Connection,
    lease: LeaseRef,
    spent: &Spent,
    next: Next,
    error: Option<&str>,
    ended: i64,
) -> Result<()> {
    let state = if spent.live > 1 { "running" } else { next.state };
    one(query(sweep::LEAVE_ATTEMPT)
        .bind(lease.job.0)
        .bind(signed(lease.index))
        .bind(state)
        .bind(next.not_before_ms)
        .bind(next.failures)
        .bind(next.workers_lost)
        .bind(error)
        .bind(next.is_poison)
        .execute(&mut *db)
        .await?)?;
    let is = |other| i64::from(state == other);
    let born = if state == "split" { split(db, lease, spent.rows).await? } else { 0 };
    let change = Counts {
        pending: is("pending") + born,
        running: is("running") - 1,
        dead: is("dead"),
        cancelled: is("cancelled"),
        split: is("split"),
        ended,
    };
    count(db, lease.job, change).await
}

/// Makes the halves of a shard. Returns how many they are.
async fn split(db: &mut Connection, lease: LeaseRef, rows: RowWindow) -> Result<i64> {
    let first_index: i64 = query_scalar(sweep::GROW_JOB).bind(lease.job.0).fetch_one(&mut *db).await?;
    let halves = halves(rows);
    for (index, half) in (first_index..).zip(&halves) {
        query(sweep::INSERT_HALF)
            .bind(lease.job.0)
            .bind(signed(lease.index))
            .bind(index)
            .bind(signed(half.first_row))
            .bind(signed(half.rows))
            .execute(&mut *db)
            .await?;
    }
    Ok(signed(halves.len() as u64))
}
