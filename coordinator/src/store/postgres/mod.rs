//! The store on PostgreSQL: any number of coordinators over one database. Twin of `sqlite`.
//!
//! Every transition is ONE autocommit statement, run in a task of its own: a handler that is dropped can neither leave a
//! transaction open nor hand a connection in the middle of a conversation back to the pool. Time is the database's.

mod batch;
mod pool;
mod settings;
mod storage;
mod transition;
mod work;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use proto::work::{Granted, Progress};
use proto::{JobId, SessionId};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{query, query_scalar};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::backend::{
    Backend, Commit, Failure, JobChange, Leadership, LeaseRequest, NewJob, NewSession, REASON_CLOSED, REASON_RELEASED,
    REASON_REPAIRED, REASON_REVOKED, REASON_SESSION_LOST, REASON_STALLED, ShardPage,
};
use super::error::StoreError;
use super::migrations;
use super::reads::{Read, SqlReader};
use super::rows::{self, Fields, signed};
use super::sql::jobs::Pages;
use super::sql::{jobs, sweep, work as sql_work};
use super::types::{Garbage, StoreFuture};
use crate::clock::Clock;
use crate::policy::{Policy, Verdict};
use crate::shard::{LeaseRef, Refusal, failure_name};
use batch::{Batcher, Shape};
use pool::Pool;
#[cfg(test)]
pub(in crate::store) use settings::{EVERYWHERE, HOT};
use transition::{changed, counted, transition};
use work::{Closes, Commits, Heartbeats, Leases, Opens, Report, insert_shards};

type Result<T> = std::result::Result<T, StoreError>;

/// Connections for what frees work: commits, failures, heartbeats. They come first: while nothing can be committed,
/// everything else only makes it worse.
const WORK_POOL_MAX: u32 = 8;
/// Connections for leases.
const LEASE_POOL_MAX: u32 = 6;
/// Connections for submission, planning, status and upkeep.
const BACKGROUND_POOL_MAX: u32 = 6;

/// Statements off the hot path are given up only after so many times what the hot path waits: longer than the server
/// works at them.
const PATIENCE_FACTOR: u32 = 3;

/// How commits and leases are gathered. Three statements at once of each: some on their way to the disk, one being computed.
/// To start a statement costs as much as ten commits in it, so that a handful is waited for while one is under way. The
/// statements of a batch touch few rows of one table each, so that hundreds are still milliseconds.
const COMMITS: Shape = Shape {
    workers: 3,
    batch_max: 256,
    gather: Duration::from_millis(10),
    enough: 8,
    hurry: true,
    patience: Duration::MAX,
};
const LEASES: Shape = COMMITS;
/// Heartbeats: their answers are not urgent, see `Policy::heartbeat_gather_ms`.
const HEARTBEATS: Shape = Shape { workers: 1, batch_max: 512, enough: 512, hurry: false, ..COMMITS };
/// Workers that come and go: whole fleets do so together.
const SESSIONS: Shape = Shape { workers: 1, ..COMMITS };

pub(super) struct Postgres {
    work: Pool,
    lease_pool: Pool,
    background: Pool,
    commits: Batcher<Commits>,
    leases: Batcher<Leases>,
    heartbeats: Batcher<Heartbeats>,
    opens: Batcher<Opens>,
    closes: Batcher<Closes>,
    stop: CancellationToken,
    clock: Arc<dyn Clock>,
    policy: Arc<Policy>,
}

impl Postgres {
    pub(super) async fn open(url: &str, clock: Arc<dyn Clock>, policy: Arc<Policy>) -> Result<Self> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|error| StoreError::Open { url: "postgres://…".to_owned(), problem: error.to_string() })?
            .application_name("encaje")
            .options(settings::EVERYWHERE);
        let silence = Duration::from_millis(policy.silence_ms);
        let (hot, background) = (options.clone().options(settings::HOT), options.options(settings::BACKGROUND));
        let pool = |options: &PgConnectOptions, most| Pool::new(options.clone(), most, silence * PATIENCE_FACTOR);
        let (work, lease_pool) = (pool(&hot, WORK_POOL_MAX), pool(&hot, LEASE_POOL_MAX));
        let background = pool(&background, BACKGROUND_POOL_MAX);
        migrations::migrate_postgres(background.raw()).await?;
        let stop = CancellationToken::new();
        let (ttl_ms, gather) = (policy.ttl_ms, Duration::from_millis(policy.heartbeat_gather_ms));
        let patient = |shape| Shape { patience: silence, ..shape };
        let heartbeats = Shape { gather, ..patient(HEARTBEATS) };
        Ok(Self {
            commits: Batcher::start(Commits { clock: clock.clone() }, &work, patient(COMMITS), &stop),
            leases: Batcher::start(Leases { clock: clock.clone() }, &lease_pool, patient(LEASES), &stop),
            heartbeats: Batcher::start(Heartbeats { clock: clock.clone(), ttl_ms }, &work, heartbeats, &stop),
            opens: Batcher::start(Opens { clock: clock.clone(), ttl_ms }, &lease_pool, patient(SESSIONS), &stop),
            closes: Batcher::start(Closes { clock: clock.clone() }, &work, patient(SESSIONS), &stop),
            work,
            lease_pool,
            background,
            stop,
            clock,
            policy,
        })
    }

    /// The time that the database must take for its own: none in production.
    fn now_override_ms(&self) -> Option<i64> {
        self.clock.now_override_ms()
    }
}

type Statement = sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments>;
type Count = sqlx::query::QueryScalar<'static, sqlx::Postgres, i64, sqlx::postgres::PgArguments>;

impl Postgres {
    /// As [`Closes`] does it for those that say so.
    async fn close_all_sessions(&self) -> Result<()> {
        let (now_override_ms, all) = (self.now_override_ms(), None::<Vec<Uuid>>);
        let closed =
            move || query(sweep::PG_CLOSE_SESSIONS).bind(all.clone()).bind(now_override_ms).bind(REASON_CLOSED);
        changed(&self.background, closed).await?;
        let all = None::<Vec<Uuid>>;
        let released = move || query_scalar(sweep::PG_RELEASE_CLOSED).bind(all.clone()).bind(now_override_ms);
        counted(&self.background, move || released().bind(REASON_CLOSED)).await?;
        Ok(())
    }
}

impl SqlReader for Postgres {
    type Row = PgRow;
    const PAGES: Pages = jobs::PG_PAGES;

    fn fetch(&self, read: Read) -> StoreFuture<'_, Vec<PgRow>> {
        Box::pin(self.background.rows(read.query()))
    }

    fn read_now_ms(&self) -> StoreFuture<'_, i64> {
        Box::pin(self.background.number(query_scalar(jobs::PG_NOW).bind(self.now_override_ms())))
    }
}

impl Leadership for Postgres {
    fn lead(&self, role: &'static str, holder: Uuid, revision: u32, for_ms: i64) -> StoreFuture<'_, bool> {
        let now_override_ms = self.now_override_ms();
        Box::pin(async move {
            let lead = move || {
                let lead = query(sweep::PG_LEAD).bind(role).bind(holder).bind(now_override_ms).bind(for_ms);
                lead.bind(i64::from(revision))
            };
            Ok(changed(&self.background, lead).await? > 0)
        })
    }

    fn lapsed_ms(&self, role: &'static str) -> StoreFuture<'_, i64> {
        Box::pin(self.background.number(query_scalar(sweep::PG_LAPSED).bind(role).bind(self.now_override_ms())))
    }

    fn resign(&self, role: &'static str, holder: Uuid) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            changed(&self.background, move || query(sweep::PG_RESIGN).bind(role).bind(Some(holder))).await?;
            Ok(())
        })
    }
}

impl Backend for Postgres {
    fn submit(&self, job: NewJob) -> StoreFuture<'_, Option<String>> {
        let (id, now_override_ms) = (job.job.0, self.now_override_ms());
        Box::pin(async move {
            let inserted = changed(&self.background, move || {
                let NewJob { digest, spec, task, owner, allow_partial, model_name, source_total, revision, .. } =
                    job.clone();
                let insert =
                    query(jobs::PG_SUBMIT_JOB).bind(id).bind(digest).bind(spec).bind(task).bind(now_override_ms);
                let insert = insert.bind(owner).bind(allow_partial).bind(model_name).bind(signed(source_total));
                insert.bind(i64::from(revision))
            })
            .await?;
            if inserted > 0 {
                return Ok(None);
            }
            let stored = self.background.rows(query(jobs::JOB_DIGEST).bind(id)).await?;
            stored.first().ok_or(sqlx::Error::RowNotFound)?.text("spec_digest").map(Some)
        })
    }

    fn storage_id(&self, id: Option<String>) -> StoreFuture<'_, Option<String>> {
        Box::pin(storage::id(&self.background, id))
    }

    fn change_job(&self, job: JobId, change: JobChange) -> StoreFuture<'_, bool> {
        Box::pin(async move {
            let rows = changed(&self.background, move || match change.clone() {
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
            })
            .await?;
            Ok(rows > 0)
        })
    }

    fn retry(&self, job: JobId) -> StoreFuture<'_, bool> {
        let now_override_ms = self.now_override_ms();
        Box::pin(async move {
            let revived =
                counted(&self.background, move || query_scalar(jobs::PG_RETRY_JOB).bind(job.0).bind(now_override_ms))
                    .await?;
            Ok(revived > 0)
        })
    }

    fn repair(&self, job: JobId, shards: Vec<u64>) -> StoreFuture<'_, u64> {
        let now_override_ms = self.now_override_ms();
        let indexes: Vec<i64> = shards.into_iter().map(signed).collect();
        Box::pin(counted(&self.background, move || {
            let statement = query_scalar(jobs::PG_REPAIR_SHARDS).bind(job.0).bind(indexes.clone());
            statement.bind(now_override_ms).bind(REASON_REPAIRED)
        }))
    }

    fn set_sources(&self, job: JobId, sources: Vec<(String, String)>) -> StoreFuture<'_, bool> {
        Box::pin(async move {
            let (uris, planned): (Vec<String>, Vec<String>) = sources.into_iter().unzip();
            let claimed = counted(&self.background, move || {
                let statement = query_scalar(jobs::PG_SET_SOURCES).bind(job.0).bind(signed(uris.len() as u64));
                statement.bind(uris.clone()).bind(planned.clone())
            })
            .await?;
            Ok(claimed > 0)
        })
    }

    fn insert_shards(&self, page: ShardPage) -> StoreFuture<'_, bool> {
        Box::pin(async move {
            let advanced = counted(&self.background, move || insert_shards(&page)).await?;
            Ok(advanced > 0)
        })
    }

    fn open_session(&self, session: NewSession) -> StoreFuture<'_, ()> {
        Box::pin(self.opens.ask(session))
    }

    fn heartbeat(&self, session: SessionId, progress: Vec<Progress>) -> StoreFuture<'_, Option<Vec<bool>>> {
        Box::pin(self.heartbeats.ask(Report { session, progress, came_ms: self.clock.now_ms() }))
    }

    fn close_sessions(&self, session: Option<SessionId>) -> StoreFuture<'_, ()> {
        match session {
            Some(session) => Box::pin(self.closes.ask(session)),
            None => Box::pin(self.close_all_sessions()),
        }
    }

    fn lease(&self, lease_request: LeaseRequest) -> StoreFuture<'_, Option<Vec<Granted>>> {
        Box::pin(self.leases.ask(lease_request))
    }

    fn copy_slow(&self, lease_request: LeaseRequest) -> StoreFuture<'_, Vec<Granted>> {
        let (now_override_ms, policy) = (self.now_override_ms(), self.policy.clone());
        Box::pin(async move {
            let granted: Vec<PgRow> = transition(&self.lease_pool, move |pool| {
                let statement = query(sql_work::PG_COPY_SHARD)
                    .bind(now_override_ms)
                    .bind(lease_request.session.0)
                    .bind(lease_request.request.0)
                    .bind(policy.copy_floor_ms)
                    .bind(policy.copy_factor)
                    .bind(i64::from(policy.copy_done_percent))
                    .bind(i64::from(policy.copies_percent))
                    .bind(i64::from(lease_request.revision));
                async move { pool.rows(statement).await }
            })
            .await?;
            granted.iter().map(rows::grant).collect()
        })
    }

    fn commit(&self, commit: Commit) -> StoreFuture<'_, bool> {
        Box::pin(self.commits.ask(commit))
    }

    fn refusal(&self, lease: LeaseRef) -> StoreFuture<'_, Refusal> {
        Box::pin(async move {
            let statement = query(sql_work::COMMIT_REFUSAL).bind(lease.session.0).bind(lease.job.0);
            let statement = statement.bind(signed(lease.index)).bind(i64::from(lease.epoch.0));
            let found = self.work.rows(statement).await?;
            found.first().map_or(Ok(Refusal::unknown()), |row| rows::refusal(row, lease))
        })
    }

    fn fail(&self, failure: Failure) -> StoreFuture<'_, bool> {
        let (now_override_ms, policy) = (self.now_override_ms(), self.policy.clone());
        Box::pin(async move {
            let was_live = counted(&self.work, move || {
                let Failure { lease, class, message, unit } = failure.clone();
                let (counts, pause_ms) = match Policy::verdict(class) {
                    Verdict::Counted => (true, 0),
                    Verdict::Throttled => (false, policy.throttle_pause_ms(unit)),
                    Verdict::JobFatal | Verdict::JobPaused => (false, 0),
                    Verdict::Free => {
                        let release = of_lease(query_scalar(sql_work::PG_RELEASE_ATTEMPT), lease);
                        return release.bind(now_override_ms).bind(message);
                    }
                    Verdict::WorkerLost => {
                        let lose =
                            of_lease(query_scalar(sweep::PG_LOSE_WORKER), lease).bind(now_override_ms).bind(message);
                        return lose.bind(i64::from(policy.workers_lost_max));
                    }
                };
                of_lease(query_scalar(sql_work::PG_FAIL_ATTEMPT), lease)
                    .bind(now_override_ms)
                    .bind(message)
                    .bind(counts)
                    .bind(policy.backoffs_ms(unit))
                    .bind(pause_ms)
                    .bind(i64::from(policy.failures_max))
                    .bind(failure_name(class))
            })
            .await?;
            Ok(was_live > 0)
        })
    }

    fn release(&self, lease: LeaseRef) -> StoreFuture<'_, bool> {
        let now_override_ms = self.now_override_ms();
        Box::pin(async move {
            let was_live = counted(&self.work, move || {
                of_lease(query_scalar(sql_work::PG_RELEASE_ATTEMPT), lease).bind(now_override_ms).bind(REASON_RELEASED)
            })
            .await?;
            Ok(was_live > 0)
        })
    }

    fn quarantine(&self, shards: u32) -> StoreFuture<'_, Vec<SessionId>> {
        Box::pin(async move {
            let found = transition(&self.background, move |pool| async move {
                pool.rows(query(sweep::QUARANTINE).bind(i64::from(shards))).await
            })
            .await?;
            found.iter().map(|row| row.id("session_id").map(SessionId)).collect()
        })
    }

    fn rebase(&self) -> StoreFuture<'_, ()> {
        let (now_override_ms, ttl_ms) = (self.now_override_ms(), self.policy.ttl_ms);
        Box::pin(async move {
            changed(&self.background, move || query(sweep::PG_REBASE_SESSIONS).bind(now_override_ms).bind(ttl_ms))
                .await?;
            Ok(())
        })
    }

    fn expire(&self) -> StoreFuture<'_, u64> {
        let (now_override_ms, policy) = (self.now_override_ms(), self.policy.clone());
        Box::pin(async move {
            changed(&self.background, move || {
                let (floor, percent) = (i64::from(policy.expire_floor), i64::from(policy.expire_percent));
                query(sweep::PG_EXPIRE_SESSIONS).bind(now_override_ms).bind(floor).bind(percent)
            })
            .await
        })
    }

    fn reap(&self) -> StoreFuture<'_, u64> {
        let (now_override_ms, policy) = (self.now_override_ms(), self.policy.clone());
        Box::pin(async move {
            counted(&self.background, move || {
                query_scalar(sweep::PG_REAP_LEASES)
                    .bind(now_override_ms)
                    .bind(policy.stall_floor_ms)
                    .bind(policy.stall_factor)
                    .bind(i64::from(policy.workers_lost_max))
                    .bind(REASON_SESSION_LOST)
                    .bind(REASON_STALLED)
                    .bind(REASON_CLOSED)
                    .bind(policy.ttl_ms)
            })
            .await
        })
    }

    fn revoke(&self, job: Option<JobId>) -> StoreFuture<'_, u64> {
        let (now_override_ms, job) = (self.now_override_ms(), job.map(|job| job.0));
        Box::pin(async move {
            counted(&self.background, move || {
                query_scalar(sweep::PG_REVOKE_LEASES).bind(job).bind(now_override_ms).bind(REASON_REVOKED)
            })
            .await
        })
    }

    fn cancel_pending(&self, limit: u32) -> StoreFuture<'_, u64> {
        Box::pin(counted(&self.background, move || query_scalar(sweep::PG_CANCEL_PENDING).bind(i64::from(limit))))
    }

    fn settle(&self) -> StoreFuture<'_, u64> {
        Box::pin(changed(&self.background, || query(jobs::SETTLE_JOBS)))
    }

    fn mark_garbage(&self, limit: u32) -> StoreFuture<'_, u64> {
        let (now_override_ms, grace_ms) = (self.now_override_ms(), self.policy.garbage_grace_ms);
        Box::pin(changed(&self.background, move || {
            query(sweep::PG_MARK_GARBAGE).bind(now_override_ms).bind(i64::from(limit)).bind(grace_ms)
        }))
    }

    fn garbage_deleted(&self, garbage: Vec<Garbage>) -> StoreFuture<'_, ()> {
        let now_override_ms = self.now_override_ms();
        Box::pin(async move {
            changed(&self.background, move || {
                query(sweep::PG_GARBAGE_DELETED)
                    .bind(garbage.iter().map(|one| one.job.0).collect::<Vec<Uuid>>())
                    .bind(garbage.iter().map(|one| signed(one.index)).collect::<Vec<i64>>())
                    .bind(garbage.iter().map(|one| i64::from(one.epoch)).collect::<Vec<i64>>())
                    .bind(now_override_ms)
            })
            .await?;
            Ok(())
        })
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.stop.cancel();
            self.lease_pool.close().await;
            self.background.close().await;
            self.work.close().await;
            Ok(())
        })
    }

    #[cfg(test)]
    fn lines(&self, listing: &'static super::conformance::dump::Listing) -> StoreFuture<'_, Vec<String>> {
        Box::pin(async move {
            self.background.rows(query(listing.sql)).await?.iter().map(|row| listing.line(row)).collect()
        })
    }
}

/// Binds the first four parameters of every statement about one lease.
fn of_lease(statement: Count, lease: LeaseRef) -> Count {
    let statement = statement.bind(lease.session.0).bind(lease.job.0);
    statement.bind(signed(lease.index)).bind(i64::from(lease.epoch.0))
}
