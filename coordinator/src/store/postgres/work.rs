//! The hot path on PostgreSQL: leases, heartbeats and commits of many workers in one statement each, and their coming and
//! going.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use proto::SessionId;
use proto::work::{Granted, Progress};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{query, query_scalar};
use uuid::Uuid;

use super::Count;
use super::batch::Batched;
use crate::clock::Clock;
use crate::store::backend::{
    Commit, LeaseRequest, NewSession, REASON_CLOSED, REASON_LOST_RACE, REASON_STRAY, ShardPage,
};
use crate::store::error::StoreError;
use crate::store::rows::{self, Fields, signed};
use crate::store::sql::{jobs, sweep, work};

type Result<T> = std::result::Result<T, StoreError>;

/// Commits.
pub(super) struct Commits {
    pub(super) clock: Arc<dyn Clock>,
}

impl Batched for Commits {
    type Request = Commit;
    type Answer = bool;

    fn run<'c>(&'c self, connection: &'c mut PgConnection, commits: &'c [Commit]) -> BoxFuture<'c, Result<Vec<bool>>> {
        Box::pin(async move {
            let text = |value: fn(&Commit) -> String| commits.iter().map(value).collect::<Vec<String>>();
            let int = |value: fn(&Commit) -> u64| commits.iter().map(|one| signed(value(one))).collect::<Vec<i64>>();
            let id = |value: fn(&Commit) -> Uuid| commits.iter().map(value).collect::<Vec<Uuid>>();
            let won = query(work::PG_COMMIT_SHARDS)
                .bind(self.clock.now_override_ms())
                .bind(id(|one| one.lease.session.0))
                .bind(id(|one| one.lease.job.0))
                .bind(int(|one| one.lease.index))
                .bind(int(|one| u64::from(one.lease.epoch.0)))
                .bind(id(|one| one.attempt))
                .bind(text(|one| one.output.key.clone()))
                .bind(int(|one| one.output.bytes))
                .bind(text(|one| one.output.blake3.clone()))
                .bind(text(|one| one.output.input_blake3.clone()))
                .bind(text(|one| rows::to_json(&one.output.counts.rejects)))
                .bind(int(|one| one.output.counts.rows))
                .bind(int(|one| one.output.counts.truncated))
                .bind(int(|one| one.output.counts.tokens))
                .bind(REASON_LOST_RACE)
                .bind(int(|one| one.output.counts.reused))
                .fetch_all(connection)
                .await?;
            let mut answers = vec![false; commits.len()];
            for row in &won {
                mark(&mut answers, row.int("ordinal")?);
            }
            Ok(answers)
        })
    }
}

/// Sets the flag at a position counted from 1.
fn mark(flags: &mut [bool], ordinal: i64) {
    if let Some(flag) = usize::try_from(ordinal - 1).ok().and_then(|at| flags.get_mut(at)) {
        *flag = true;
    }
}

/// Leases.
pub(super) struct Leases {
    pub(super) clock: Arc<dyn Clock>,
}

impl Batched for Leases {
    type Request = LeaseRequest;
    /// `None`: the session is lost.
    type Answer = Option<Vec<Granted>>;

    fn run<'c>(
        &'c self,
        connection: &'c mut PgConnection,
        lease_requests: &'c [LeaseRequest],
    ) -> BoxFuture<'c, Result<Vec<Option<Vec<Granted>>>>> {
        Box::pin(async move {
            let mut answers: Vec<Option<Vec<Granted>>> = vec![None; lease_requests.len()];
            let mut waiting: Vec<usize> = (0..lease_requests.len()).collect();
            // A session that asks twice at once has its second answer after its first; those of one revision are answered
            // together.
            while let Some(first) = waiting.first() {
                let revision = lease_requests[*first].revision;
                let mut sessions = BTreeSet::new();
                let (now, later): (Vec<usize>, Vec<usize>) = waiting.into_iter().partition(|at| {
                    lease_requests[*at].revision == revision && sessions.insert(lease_requests[*at].session)
                });
                let round: Vec<LeaseRequest> = now.iter().map(|at| lease_requests[*at]).collect();
                let granted = lease(connection, &round, self.clock.now_override_ms()).await?;
                for (at, grants) in now.into_iter().zip(granted) {
                    answers[at] = grants;
                }
                waiting = later;
            }
            Ok(answers)
        })
    }
}

/// One round of lease requests, at most one of each session, and all of one revision.
async fn lease(
    connection: &mut PgConnection,
    lease_requests: &[LeaseRequest],
    now_override_ms: Option<i64>,
) -> Result<Vec<Option<Vec<Granted>>>> {
    let granted = query(work::PG_LEASE_SHARDS)
        .bind(now_override_ms)
        .bind(lease_requests.iter().map(|lease_request| lease_request.session.0).collect::<Vec<Uuid>>())
        .bind(lease_requests.iter().map(|lease_request| lease_request.request.0).collect::<Vec<Uuid>>())
        .bind(lease_requests.iter().map(|lease_request| i64::from(lease_request.max)).collect::<Vec<i64>>())
        .bind(lease_requests.first().map_or(0, |lease_request| i64::from(lease_request.revision)))
        .fetch_all(&mut *connection)
        .await?;
    let mut grants: BTreeMap<SessionId, Vec<Granted>> = BTreeMap::new();
    for row in &granted {
        grants.entry(SessionId(row.id("session_id")?)).or_default().push(rows::grant(row)?);
    }
    let empty: Vec<Uuid> = lease_requests
        .iter()
        .map(|lease_request| lease_request.session)
        .filter(|id| !grants.contains_key(id))
        .map(|id| id.0)
        .collect();
    let mut live: BTreeMap<SessionId, Option<Uuid>> = BTreeMap::new();
    if !empty.is_empty() {
        // Nothing new: because there is nothing, because the session is lost, or because it has been answered.
        for row in &query(work::PG_SESSION_STANDINGS).bind(empty).fetch_all(&mut *connection).await? {
            live.insert(SessionId(row.id("session_id")?), row.opt_id("last_request")?);
        }
    }
    let mut answers = Vec::with_capacity(lease_requests.len());
    for lease_request in lease_requests {
        answers.push(match (grants.remove(&lease_request.session), live.get(&lease_request.session)) {
            (Some(grants), _) => Some(grants),
            (None, None) => None,
            (None, Some(last)) if *last == Some(lease_request.request.0) => {
                let statement = query(work::GRANTED).bind(lease_request.session.0).bind(lease_request.request.0);
                let statement = statement.bind(i64::from(lease_request.revision));
                let again: Vec<PgRow> = statement.fetch_all(&mut *connection).await?;
                Some(again.iter().map(rows::grant).collect::<Result<_>>()?)
            }
            (None, Some(_)) => Some(Vec::new()),
        });
    }
    Ok(answers)
}

/// What a session says of its leases.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) session: SessionId,
    pub(super) progress: Vec<Progress>,
    /// When it came: of what was granted since, it cannot tell.
    pub(super) came_ms: i64,
}

/// Heartbeats.
pub(super) struct Heartbeats {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ttl_ms: i64,
}

impl Batched for Heartbeats {
    type Request = Report;
    /// Which leases are live; `None`: the session is lost.
    type Answer = Option<Vec<bool>>;

    fn run<'c>(
        &'c self,
        connection: &'c mut PgConnection,
        heartbeats: &'c [Report],
    ) -> BoxFuture<'c, Result<Vec<Option<Vec<bool>>>>> {
        Box::pin(async move {
            let reports = || heartbeats.iter().flat_map(|beat| beat.progress.iter().map(|one| (beat.session, one)));
            let waited_ms = heartbeats.iter().map(|beat| self.clock.now_ms() - beat.came_ms).max();
            let int = |value: fn(&Progress) -> u64| reports().map(|(_, one)| signed(value(one))).collect::<Vec<i64>>();
            let alive = query(work::PG_BEAT)
                .bind(self.clock.now_override_ms())
                .bind(self.ttl_ms)
                .bind(heartbeats.iter().map(|beat| beat.session.0).collect::<Vec<Uuid>>())
                .bind(reports().map(|(session, _)| session.0).collect::<Vec<Uuid>>())
                .bind(reports().map(|(_, one)| one.shard.job.0).collect::<Vec<Uuid>>())
                .bind(int(|one| one.shard.index))
                .bind(int(|one| u64::from(one.epoch.0)))
                .bind(int(|one| one.rows_done))
                .bind(int(|one| one.tokens_done))
                .bind(REASON_STRAY)
                .bind(waited_ms)
                .fetch_all(connection)
                .await?;
            let mut standing = vec![false; reports().count()];
            let mut sessions = BTreeSet::new();
            for row in &alive {
                sessions.insert(SessionId(row.id("session_id")?));
                if let Some(ordinal) = row.opt_int("ordinal")? {
                    mark(&mut standing, ordinal);
                }
            }
            let mut rest = standing.as_slice();
            let mut answers = Vec::with_capacity(heartbeats.len());
            for Report { session, progress, .. } in heartbeats {
                let (mine, others) = rest.split_at(progress.len());
                answers.push(sessions.contains(session).then(|| mine.to_vec()));
                rest = others;
            }
            Ok(answers)
        })
    }
}

/// Sessions that begin.
pub(super) struct Opens {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ttl_ms: i64,
}

impl Batched for Opens {
    type Request = NewSession;
    type Answer = ();

    fn run<'c>(
        &'c self,
        connection: &'c mut PgConnection,
        sessions: &'c [NewSession],
    ) -> BoxFuture<'c, Result<Vec<()>>> {
        Box::pin(async move {
            let text = |value: fn(&NewSession) -> &str| {
                sessions.iter().map(|session| value(session).to_owned()).collect::<Vec<String>>()
            };
            query(work::PG_OPEN_SESSIONS)
                .bind(sessions.iter().map(|one| one.session.0).collect::<Vec<Uuid>>())
                .bind(text(|one| &one.name))
                .bind(text(|one| &one.devices))
                .bind(text(|one| &one.version))
                .bind(sessions.iter().map(|one| i64::from(one.leases_max)).collect::<Vec<i64>>())
                .bind(self.clock.now_override_ms())
                .bind(self.ttl_ms)
                .bind(sessions.iter().map(|one| i64::from(one.revision)).collect::<Vec<i64>>())
                .execute(connection)
                .await?;
            Ok(vec![(); sessions.len()])
        })
    }
}

/// Sessions that end in peace.
pub(super) struct Closes {
    pub(super) clock: Arc<dyn Clock>,
}

impl Batched for Closes {
    type Request = SessionId;
    type Answer = ();

    fn run<'c>(
        &'c self,
        connection: &'c mut PgConnection,
        sessions: &'c [SessionId],
    ) -> BoxFuture<'c, Result<Vec<()>>> {
        Box::pin(async move {
            let ids: Vec<Uuid> = sessions.iter().map(|session| session.0).collect();
            let now_override_ms = self.clock.now_override_ms();
            // Two statements: the second sees every lease that was granted before the first closed the session. What a
            // crash between them leaves behind is reaped by the sweep, after a while.
            let close = query(sweep::PG_CLOSE_SESSIONS).bind(ids.clone()).bind(now_override_ms).bind(REASON_CLOSED);
            close.execute(&mut *connection).await?;
            let release = query_scalar(sweep::PG_RELEASE_CLOSED).bind(ids).bind(now_override_ms).bind(REASON_CLOSED);
            let _released: i64 = release.fetch_one(&mut *connection).await?;
            Ok(vec![(); sessions.len()])
        })
    }
}

/// Binds a page of shards.
pub(super) fn insert_shards(page: &ShardPage) -> Count {
    let (expected, next, slices) = (&page.expected, &page.next, &page.slices);
    let ranges: Vec<_> = slices.iter().map(|slice| rows::range_columns(slice.range)).collect();
    query_scalar(jobs::PG_INSERT_SHARDS)
        .bind(page.job.0)
        .bind(i64::from(expected.source_index))
        .bind(signed(expected.position))
        .bind(signed(expected.next_row))
        .bind(i64::from(next.source_index))
        .bind(signed(next.position))
        .bind(signed(next.next_row))
        .bind(signed(slices.len() as u64))
        .bind(signed(slices.iter().map(|slice| slice.rows).sum()))
        .bind(page.done)
        .bind(slices.iter().map(|slice| i64::from(slice.source_index)).collect::<Vec<i64>>())
        .bind(slices.iter().map(|slice| slice.recut_key.clone()).collect::<Vec<Option<String>>>())
        .bind(ranges.iter().map(|(unit, ..)| (*unit).to_owned()).collect::<Vec<String>>())
        .bind(ranges.iter().map(|(_, start, _)| *start).collect::<Vec<i64>>())
        .bind(ranges.iter().map(|(.., end)| *end).collect::<Vec<i64>>())
        .bind(slices.iter().map(|slice| signed(slice.first_row)).collect::<Vec<i64>>())
        .bind(slices.iter().map(|slice| signed(slice.rows)).collect::<Vec<i64>>())
        .bind(slices.iter().map(|slice| slice.blake3.clone()).collect::<Vec<Option<String>>>())
}
