//! The store on SQLite: one coordinator, one writer connection, a few readers. Twin of `postgres`.
//!
//! WAL with `synchronous=FULL`: an answered commit survives a power cut. Time is the coordinator's own clock, and the
//! deadlines that an earlier process left behind are rebased when the store opens.

mod attempt_ends;
mod counts;
mod lock;
mod steps;
mod storage;
mod take;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proto::work::{Granted, Progress};
use proto::{JobId, SessionId};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, query, query_scalar};

use super::backend::{
    Backend, Commit, Failure, JobChange, Leadership, LeaseRequest, NewJob, NewSession, REASON_CLOSED, REASON_RELEASED,
    REASON_REVOKED, ShardPage,
};
use super::error::StoreError;
use super::migrations;
use super::reads::{Read, SqlReader};
use super::rows::{self, Fields, signed};
use super::sql::jobs::Pages;
use super::sql::{jobs, sweep, work};
use super::types::{Garbage, StoreFuture};
use crate::clock::Clock;
use uuid::Uuid;

use crate::policy::Policy;
use crate::shard::{AttemptState, LeaseRef, Refusal};
use writer::Writer;

type Result<T> = std::result::Result<T, StoreError>;

/// Connections for status and listings.
const READERS_MAX: u32 = 4;

/// How long a statement waits for a lock that a checkpoint or an operator's shell holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Sqlite {
    writer: Writer,
    readers: SqlitePool,
    clock: Arc<dyn Clock>,
    policy: Arc<Policy>,
}

impl Sqlite {
    pub(super) async fn open(path: &str, clock: Arc<dyn Clock>, policy: Arc<Policy>) -> Result<Self> {
        let path = Path::new(path);
        lock::create_private(path)?;
        let lock = lock::take(path).await?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .pragma("fullfsync", "on");
        let mut connection = options.connect().await?;
        migrations::migrate_sqlite(&mut connection).await?;
        // The former leader has ended, since this process has the lock.
        query(sweep::RESIGN).bind(super::ROLE_UPKEEP).bind(None::<Uuid>).execute(&mut connection).await?;
        let readers =
            SqlitePoolOptions::new().max_connections(READERS_MAX).connect_lazy_with(options.pragma("query_only", "on"));
        Ok(Self { writer: Writer::start(connection, lock), readers, clock, policy })
    }

    fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }
}

/// Returns whether the statement changed a row.
async fn changed(
    statement: sqlx::query::Query<'_, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>,
    db: &mut SqliteConnection,
) -> Result<bool> {
    Ok(statement.execute(db).await?.rows_affected() > 0)
}

impl SqlReader for Sqlite {
    type Row = SqliteRow;
    const PAGES: Pages = jobs::PAGES;

    fn fetch(&self, read: Read) -> StoreFuture<'_, Vec<SqliteRow>> {
        Box::pin(async move { Ok(read.query().fetch_all(&self.readers).await?) })
    }

    fn read_now_ms(&self) -> StoreFuture<'_, i64> {
        Box::pin(std::future::ready(Ok(self.now_ms())))
    }
}

impl Leadership for Sqlite {
    fn lead(&self, role: &'static str, holder: Uuid, revision: u32, for_ms: i64) -> StoreFuture<'_, bool> {
        let now_ms = self.now_ms();
        Box::pin(self.writer.run(move |db| {
            Box::pin(async move {
                let lead = query(sweep::LEAD).bind(role).bind(holder).bind(now_ms).bind(for_ms);
                changed(lead.bind(i64::from(revision)), db).await
            })
        }))
    }

    fn lapsed_ms(&self, role: &'static str) -> StoreFuture<'_, i64> {
        let now_ms = self.now_ms();
        Box::pin(self.writer.run(move |db| {
            Box::pin(async move { Ok(query_scalar(sweep::LAPSED).bind(role).bind(now_ms).fetch_one(db).await?) })
        }))
    }

    fn resign(&self, role: &'static str, holder: Uuid) -> StoreFuture<'_, ()> {
        Box::pin(self.writer.run(move |db| {
            Box::pin(async move {
                query(sweep::RESIGN).bind(role).bind(Some(holder)).execute(db).await?;
                Ok(())
            })
        }))
    }
}

impl Backend for Sqlite {
    fn submit(&self, job: NewJob) -> StoreFuture<'_, Option<String>> {
        let now_ms = self.now_ms();
        Box::pin(self.writer.run(move |db| {
            Box::pin(async move {
                let insert = query(jobs::SUBMIT_JOB).bind(job.job.0).bind(job.digest).bind(job.spec).bind(job.task);
                let insert = insert.bind(now_ms).bind(job.owner).bind(job.allow_partial);
                let insert = insert.bind(job.model_name).bind(signed(job.source_total)).bind(i64::from(job.revision));
                if changed(insert, db).await? {
                    return Ok(None);
                }
                Ok(Some(query_scalar(jobs::JOB_DIGEST).bind(job.job.0).fetch_one(db).await?))
            })
        }))
    }

    fn storage_id(&self, id: Option<String>) -> StoreFuture<'_, Option<String>> {
        Box::pin(self.writer.run(move |db| Box::pin(storage::id(db, id))))
    }

    fn change_job(&self, job: JobId, change: JobChange) -> StoreFuture<'_, bool> {
        Box::pin(self.writer.run(move |db| {
            Box::pin(async move {
                let statement = match change {
                    JobChange::Cancel => query(jobs::CANCEL_JOB).bind(job.0),
                    JobChange::Pause(paused) => query(jobs::PAUSE_JOB).bind(job.0).bind(paused),
                    JobChange::Trip(reason) => query(jobs::TRIP_JOB).bind(job.0).bind(reason),
                    JobChange::Fail(reason) => query(jobs::FAIL_JOB).bind(job.0).bind(reason),
                    JobChange::Exhaust(reason) => query(jobs::EXHAUST_JOB).bind(job.0).bind(reason),
                    JobChange::TakeReuse { spec, task, revision } => {
                        query(jobs::TAKE_REUSE).bind(job.0).bind(spec).bind(task).bind(i64::from(revision))
                    }
                    JobChange::BeginFinalize => query(jobs::BEGIN_FINALIZE).bind(job.0),
                    JobChange::FailFinalize { generation, reason } => {
                        query(jobs::FAIL_FINALIZE).bind(job.0).bind(reason).bind(signed(generation))
                    }
                    JobChange::Finish { generation, key, digest } => {
                        query(jobs::FINISH_JOB).bind(job.0).bind(key).bind(digest).bind(signed(generation))
                    }
                };
                changed(statement, db).await
            })
        }))
    }

    fn retry(&self, job: JobId) -> StoreFuture<'_, bool> {
        let now_ms = self.now_ms();
        Box::pin(self.writer.run(move |db| Box::pin(steps::retry(db, job, now_ms))))
    }

    fn repair(&self, job: JobId, shards: Vec<u64>) -> StoreFuture<'_, u64> {
        let now_ms = self.now_ms();
        Box::pin(self.writer.run(move |db| Box::pin(async move { steps::repair(db, job, &shards, now_ms).await })))
    }

    fn set_sources(&self, job: JobId, sources: Vec<(String, String)>) -> StoreFuture<'_, bool> {
        Box::pin(self.writer.run(move |db| Box::pin(async move { steps::set_sources(db, job, &sources).await })))
    }

    fn insert_shards(&self, page: ShardPage) -> StoreFuture<'_, bool> {
        Box::pin(self.writer.run(move |db| Box::pin(async move { steps::insert_shards(db, &page).await })))
    }

    fn open_session(&self, session: NewSession) -> StoreFuture<'_, ()> {
        let (now_ms, ttl_ms) = (self.now_ms(), self.policy.ttl_ms);
        Box::pin(self.writer.run(move |db| {
            Box::pin(async move {
                query(work::OPEN_SESSION)
                    .bind(session.session.0)
                    .bind(session.name)
                    .bind(session.devices)
                    .bind(session.version)
                    .bind(i64::from(session.leases_max))
                    .bind(now_ms)
                    .bind(ttl_ms)
                    .bind(i64::from(session.revision))
                    .execute(db)
                    .await?;
                Ok(())
            })
        }))
    }

    fn heartbeat(&self, session: SessionId, progress: Vec<Progress>) -> StoreFuture<'_, Option<Vec<bool>>> {
        let (now_ms, ttl_ms) = (self.now_ms(), self.policy.ttl_ms);
        Box::pin(
            self.writer
                .run(move |db| Box::pin(async move { steps::heartbeat(db, session, &progress, now_ms, ttl_ms).await })),
        )
    }

    fn close_sessions(&self, session: Option<SessionId>) -> StoreFuture<'_, ()> {
        let now_ms = self.now_ms();
        Box::pin(self.writer.run(move |db| {
            Box::pin(async move {
                let session = session.map(|session| session.0);
                query(sweep::CLOSE_SESSIONS).bind(session).bind(now_ms).bind(REASON_CLOSED).execute(&mut *db).await?;
                let held: Vec<SqliteRow> = query(sweep::CLOSED_LEASES).bind(session).fetch_all(&mut *db).await?;
                for row in &held {
                    let lease = rows::lease_ref(row)?;
                    attempt_ends::give_back(db, lease, AttemptState::Released, "pending", REASON_CLOSED, now_ms)
                        .await?;
                }
                Ok(())
            })
        }))
    }

    fn lease(&self, lease_request: LeaseRequest) -> StoreFuture<'_, Option<Vec<Granted>>> {
        let now_ms = self.now_ms();
        Box::pin(self.writer.run(move |db| Box::pin(take::lease(db, lease_request, now_ms))))
    }

    fn copy_slow(&self, lease_request: LeaseRequest) -> StoreFuture<'_, Vec<Granted>> {
        let (now_ms, policy) = (self.now_ms(), self.policy.clone());
        Box::pin(
            self.writer.run(move |db| Box::pin(async move { take::copy(db, lease_request, &policy, now_ms).await })),
        )
    }

    fn commit(&self, commit: Commit) -> StoreFuture<'_, bool> {
        let now_ms = self.now_ms();
        Box::pin(self.writer.run(move |db| Box::pin(async move { steps::commit(db, &commit, now_ms).await })))
    }

    fn refusal(&self, lease: LeaseRef) -> StoreFuture<'_, Refusal> {
        Box::pin(async move {
            let row = query(work::COMMIT_REFUSAL)
                .bind(lease.session.0)
                .bind(lease.job.0)
                .bind(signed(lease.index))
                .bind(i64::from(lease.epoch.0))
                .fetch_optional(&self.readers)
                .await?;
            row.map_or(Ok(Refusal::unknown()), |row| rows::refusal(&row, lease))
        })
    }

    fn fail(&self, failure: Failure) -> StoreFuture<'_, bool> {
        let (now_ms, policy) = (self.now_ms(), self.policy.clone());
        Box::pin(
            self.writer.run(move |db| Box::pin(async move { attempt_ends::fail(db, &failure, &policy, now_ms).await })),
        )
    }

    fn release(&self, lease: LeaseRef) -> StoreFuture<'_, bool> {
        let now_ms = self.now_ms();
        Box::pin(self.writer.run(move |db| {
            Box::pin(attempt_ends::give_back(db, lease, AttemptState::Released, "pending", REASON_RELEASED, now_ms))
        }))
    }

    fn quarantine(&self, shards: u32) -> StoreFuture<'_, Vec<SessionId>> {
        Box::pin(self.writer.run(move |db| {
            Box::pin(async move {
                let sessions: Vec<Uuid> = query_scalar(sweep::QUARANTINE).bind(i64::from(shards)).fetch_all(db).await?;
                Ok(sessions.into_iter().map(SessionId).collect())
            })
        }))
    }

    fn rebase(&self) -> StoreFuture<'_, ()> {
        let (now_ms, policy) = (self.now_ms(), self.policy.clone());
        Box::pin(self.writer.run(move |db| {
            Box::pin(async move {
                query(sweep::REBASE_SESSIONS).bind(now_ms).bind(policy.ttl_ms).execute(&mut *db).await?;
                let latest_ms = now_ms + policy.backoff_max_ms.max(policy.throttle_ms);
                query(sweep::REBASE_PAUSES).bind(latest_ms).execute(&mut *db).await?;
                Ok(())
            })
        }))
    }

    fn expire(&self) -> StoreFuture<'_, u64> {
        let (now_ms, policy) = (self.now_ms(), self.policy.clone());
        Box::pin(self.writer.run(move |db| {
            Box::pin(async move {
                let expired = query(sweep::EXPIRE_SESSIONS)
                    .bind(now_ms)
                    .bind(i64::from(policy.expire_floor))
                    .bind(i64::from(policy.expire_percent))
                    .execute(db)
                    .await?;
                Ok(expired.rows_affected())
            })
        }))
    }

    fn reap(&self) -> StoreFuture<'_, u64> {
        let (now_ms, policy) = (self.now_ms(), self.policy.clone());
        Box::pin(self.writer.run(move |db| Box::pin(async move { attempt_ends::reap(db, &policy, now_ms).await })))
    }

    fn revoke(&self, job: Option<JobId>) -> StoreFuture<'_, u64> {
        let now_ms = self.now_ms();
        Box::pin(self.writer.run(move |db| {
            Box::pin(async move {
                let held: Vec<SqliteRow> =
                    query(sweep::ORPHANED_LEASES).bind(job.map(|job| job.0)).fetch_all(&mut *db).await?;
                for row in &held {
                    let lease = rows::lease_ref(row)?;
                    // A failed job may be retried: its shards stay pending.
                    let next = if row.text("job_state")? == "failed" { "pending" } else { "cancelled" };
                    attempt_ends::give_back(db, lease, AttemptState::Revoked, next, REASON_REVOKED, now_ms).await?;
                }
                Ok(held.len() as u64)
            })
        }))
    }

    fn cancel_pending(&self, limit: u32) -> StoreFuture<'_, u64> {
        Box::pin(self.writer.run(move |db| Box::pin(steps::cancel_pending(db, limit))))
    }

    fn settle(&self) -> StoreFuture<'_, u64> {
        Box::pin(
            self.writer.run(move |db| {
                Box::pin(async move { Ok(query(jobs::SETTLE_JOBS).execute(db).await?.rows_affected()) })
            }),
        )
    }

    fn mark_garbage(&self, limit: u32) -> StoreFuture<'_, u64> {
        let latest_ms = self.now_ms() - self.policy.garbage_grace_ms;
        Box::pin(self.writer.run(move |db| {
            Box::pin(async move {
                let marked = query(sweep::MARK_GARBAGE).bind(latest_ms).bind(i64::from(limit)).execute(db).await?;
                Ok(marked.rows_affected())
            })
        }))
    }

    fn garbage_deleted(&self, garbage: Vec<Garbage>) -> StoreFuture<'_, ()> {
        let now_ms = self.now_ms();
        Box::pin(self.writer.run(move |db| {
            Box::pin(async move {
                for Garbage { job, index, epoch, .. } in garbage {
                    let statement = query(sweep::GARBAGE_DELETED).bind(job.0).bind(signed(index));
                    statement.bind(i64::from(epoch)).bind(now_ms).execute(&mut *db).await?;
                }
                Ok(())
            })
        }))
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.readers.close().await;
            self.writer.close().await
        })
    }

    #[cfg(test)]
    fn lines(&self, listing: &'static super::conformance::dump::Listing) -> StoreFuture<'_, Vec<String>> {
        Box::pin(async move {
            query(listing.sql).fetch_all(&self.readers).await?.iter().map(|row| listing.line(row)).collect()
        })
    }
}
