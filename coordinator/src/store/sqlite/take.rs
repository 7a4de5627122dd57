//! How shards are taken: leases, and copies of slow ones. Steps inside a transaction of the writer.

use proto::work::Granted;
use proto::{RequestId, SessionId};
use sqlx::sqlite::SqliteConnection;
use sqlx::{query, query_scalar};

use super::counts::{Counts, count, one};
use crate::policy::Policy;
use crate::shard::LeaseRef;
use crate::store::backend::LeaseRequest;
use crate::store::error::StoreError;
use crate::store::rows::{self, Fields, signed};
use crate::store::sql::work;

type Result<T> = std::result::Result<T, StoreError>;
type Connection = SqliteConnection;

pub(super) async fn lease(
    db: &mut Connection,
    lease_request: LeaseRequest,
    now_ms: i64,
) -> Result<Option<Vec<Granted>>> {
    let LeaseRequest { session, request, max, .. } = lease_request;
    let standing = query(work::SESSION_STANDING).bind(session.0).fetch_optional(&mut *db).await?;
    let Some(standing) = standing.filter(|row| row.text("state").is_ok_and(|state| state == "live")) else {
        return Ok(None);
    };
    let repeated = standing.opt_id("last_request")? == Some(request.0);
    if !repeated && standing.int("expires_ms")? > now_ms && !standing.flag("quarantined")? {
        let held: i64 = query_scalar(work::COUNT_LIVE_LEASES).bind(session.0).fetch_one(&mut *db).await?;
        let room = i64::from(max).min(standing.int("leases_max")? - held);
        let isolated: i64 = query_scalar(work::COUNT_SUSPECTS).bind(session.0).fetch_one(&mut *db).await?;
        if room > 0 && isolated == 0 {
            take_shards(db, lease_request, (room, held == 0), now_ms).await?;
        }
    }
    granted(db, lease_request).await.map(Some)
}

/// Returns the live leases that a request was granted.
async fn granted(db: &mut Connection, lease_request: LeaseRequest) -> Result<Vec<Granted>> {
    let statement = query(work::GRANTED)
        .bind(lease_request.session.0)
        .bind(lease_request.request.0)
        .bind(i64::from(lease_request.revision));
    statement.fetch_all(&mut *db).await?.iter().map(rows::grant).collect()
}

/// Takes what a session that has room may have: a shard that must be isolated where it is idle, and nothing where it is not; up to
/// `room` others while no such shard waits.
async fn take_shards(
    db: &mut Connection,
    lease_request: LeaseRequest,
    (room, idle): (i64, bool),
    now_ms: i64,
) -> Result<()> {
    let LeaseRequest { session, request, revision, .. } = lease_request;
    let revision = i64::from(revision);
    let picked = match query(work::PICK_SUSPECT).bind(now_ms).bind(revision).fetch_optional(&mut *db).await? {
        Some(isolated) if idle => vec![isolated],
        Some(_) => Vec::new(),
        None => query(work::PICK_SHARDS).bind(now_ms).bind(room).bind(revision).fetch_all(&mut *db).await?,
    };
    for row in &picked {
        let before = rows::lease_ref(row)?;
        let (index, epoch) = (signed(before.index), i64::from(before.epoch.0));
        one(query(work::LEASE_SHARD).bind(before.job.0).bind(index).bind(epoch).execute(&mut *db).await?)?;
        insert_attempt(db, before, session, request, now_ms, false).await?;
        count(db, before.job, Counts { pending: -1, running: 1, ..Counts::default() }).await?;
    }
    if !picked.is_empty() {
        note_request(db, lease_request, now_ms).await?;
    }
    Ok(())
}

/// Remembers of a session which request was granted something, and that it asks for jobs up to a revision.
async fn note_request(db: &mut Connection, lease_request: LeaseRequest, now_ms: i64) -> Result<()> {
    let note = query(work::NOTE_REQUEST).bind(lease_request.session.0).bind(lease_request.request.0).bind(now_ms);
    note.bind(i64::from(lease_request.revision)).execute(&mut *db).await?;
    Ok(())
}

/// Begins a second attempt at the slowest shard, for a session that holds nothing.
pub(super) async fn copy(
    db: &mut Connection,
    lease_request: LeaseRequest,
    policy: &Policy,
    now_ms: i64,
) -> Result<Vec<Granted>> {
    let LeaseRequest { session, request, .. } = lease_request;
    let standing = query(work::SESSION_STANDING).bind(session.0).fetch_optional(&mut *db).await?;
    let Some(standing) = standing.filter(|row| row.text("state").is_ok_and(|state| state == "live")) else {
        return Ok(Vec::new());
    };
    let held: i64 = query_scalar(work::COUNT_LIVE_LEASES).bind(session.0).fetch_one(&mut *db).await?;
    let repeated = standing.opt_id("last_request")? == Some(request.0);
    if held > 0 || repeated || standing.int("expires_ms")? <= now_ms || standing.flag("quarantined")? {
        return Ok(Vec::new());
    }
    let slow = query(work::SLOW_SHARD)
        .bind(now_ms)
        .bind(session.0)
        .bind(policy.copy_floor_ms)
        .bind(policy.copy_factor)
        .bind(i64::from(policy.copy_done_percent))
        .bind(i64::from(policy.copies_percent))
        .bind(i64::from(lease_request.revision))
        .fetch_optional(&mut *db)
        .await?;
    let Some(slow) = slow else { return Ok(Vec::new()) };
    let before = rows::lease_ref(&slow)?;
    let (index, epoch) = (signed(before.index), i64::from(before.epoch.0));
    one(query(work::COPY_SHARD).bind(before.job.0).bind(index).bind(epoch).execute(&mut *db).await?)?;
    one(query(work::COUNT_COPY).bind(before.job.0).execute(&mut *db).await?)?;
    insert_attempt(db, before, session, request, now_ms, true).await?;
    note_request(db, lease_request, now_ms).await?;
    granted(db, lease_request).await
}

/// Inserts the attempt that follows the shard's latest one.
async fn insert_attempt(
    db: &mut Connection,
    before: LeaseRef,
    session: SessionId,
    request: RequestId,
    now_ms: i64,
    is_copy: bool,
) -> Result<()> {
    query(work::INSERT_ATTEMPT)
        .bind(before.job.0)
        .bind(signed(before.index))
        .bind(i64::from(before.epoch.0) + 1)
        .bind(uuid::Builder::from_random_bytes(rand::random()).into_uuid())
        .bind(session.0)
        .bind(request.0)
        .bind(now_ms)
        .bind(is_copy)
        .execute(&mut *db)
        .await?;
    Ok(())
}
