//! Random events through the store in memory (which is the pure model), SQLite and PostgreSQL in lock-step: every answer
//! and the whole state are compared after every event.

use std::collections::BTreeSet;
use std::sync::Mutex;

use proptest::prelude::prop;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use proto::job::{JobBrief, JobSpec, JobState};
use proto::work::{Directive, Grant, Output, Progress};
use proto::{JobId, RequestId, SessionId};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};
use uuid::Uuid;

use super::events::{Event, MUST_BE_SEEN, PARTIAL_JOB, Written, burst, prologue};
use super::fixture::{Bed, cursor, earlier, output, slices, source, spec, whole, worker};
use crate::policy::Policy;
use crate::store::memory::model::ModelGrant;
use crate::store::{Store, StoreError, Swept};
use testkit::postgres::Server;

/// Sequences per run; `ENCAJE_TEST_SEQUENCES` asks for more.
const SEQUENCES: u32 = 24;
const BURSTS_MAX: usize = 50;

/// A short-tempered policy, so that budgets are spent within a few events.
fn policy() -> Policy {
    Policy {
        failures_max: 2,
        workers_lost_max: 2,
        expire_floor: 1,
        garbage_grace_ms: 30_000,
        copy_floor_ms: 14_000,
        copy_done_percent: 30,
        copies_percent: 40,
        breaker_attempts: 5,
        quarantine_shards: 1,
        ..Policy::default()
    }
}

/// A store, with the grants that it gave: the same for all, but for the random names.
struct Subject {
    name: &'static str,
    bed: Bed,
    grants: Vec<(SessionId, Grant)>,
}

/// The names that events refer to by number.
#[derive(Default)]
struct Names {
    sessions: Vec<SessionId>,
    requests: Vec<(SessionId, RequestId)>,
    /// With the session that holds it.
    grants: Vec<(SessionId, ModelGrant)>,
    made: u64,
}

impl Names {
    /// Identifiers in the order of their making, so that a run can be repeated.
    fn next(&mut self) -> Uuid {
        self.made += 1;
        Uuid::from_u64_pair(0x0190_0000_0000_7000, self.made)
    }

    fn session(&self, pick: u8) -> Option<SessionId> {
        self.sessions.iter().rev().nth(usize::from(pick) % self.sessions.len().clamp(1, 4)).copied()
    }

    /// Recent grants are more interesting than old ones.
    fn grant(&self, pick: u8) -> Option<usize> {
        let recent = self.grants.len().min(8);
        (recent > 0).then(|| self.grants.len() - 1 - usize::from(pick) % recent)
    }

    fn holder(&self, grant: usize, foreign: bool) -> SessionId {
        let owner = self.grants[grant].0;
        let other = self.sessions.iter().copied().find(|session| *session != owner);
        if foreign { other.unwrap_or(owner) } else { owner }
    }
}

fn job_id(number: u8) -> JobId {
    JobId(Uuid::from_u64_pair(0x0180_0000_0000_7000, u64::from(number) + 1))
}

#[test]
fn model_sqlite_and_postgres_agree_after_every_event() {
    let seen = Mutex::new(BTreeSet::new());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = runtime.block_on(Server::start());
    let url = runtime.block_on(server.database("lockstep"));
    let asked = std::env::var("ENCAJE_TEST_SEQUENCES").ok().and_then(|text| text.parse().ok());
    // Shrinking replays whole sequences on two databases: a few hundred tries find a short one within minutes.
    let cases = asked.unwrap_or(SEQUENCES);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 300, ..Config::default() };
    // The same sequences every time, so that a failure is due to the change; more cases are other sequences.
    let mut runner = match asked {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    };
    let outcome = runner.run(&prop::collection::vec(burst(), 20..BURSTS_MAX), |bursts| {
        let events: Vec<Event> = prologue().into_iter().chain(bursts.into_iter().flatten()).collect();
        runtime.block_on(run(&events, &url, &seen));
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    let seen = seen.into_inner().unwrap();
    let missed: Vec<_> = MUST_BE_SEEN.iter().filter(|word| !seen.contains(**word)).collect();
    assert!(missed.is_empty(), "the sequences never came to {missed:?}");
}

fn note(seen: &Mutex<BTreeSet<String>>, answer: &str, state: &[String]) {
    let mut seen = seen.lock().unwrap();
    let job = format!("job_id={}", job_id(PARTIAL_JOB));
    let about =
        |kind, word| state.iter().any(|line| line.starts_with(&format!("{kind} {job} ")) && line.contains(word));
    if about("job", " state=succeeded ") && about("shard", " state=dead ") {
        seen.insert("succeeded without dead shards".to_owned());
    }
    seen.insert(answer.to_owned());
    seen.extend(
        state.iter().flat_map(|line| line.split(' ')).filter(|word| MUST_BE_SEEN.contains(word)).map(str::to_owned),
    );
}

async fn run(events: &[Event], url: &str, seen: &Mutex<BTreeSet<String>>) {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = Bed::open(folder.path().join("state.db").to_str().unwrap(), policy()).await;
    let postgres = Bed::open(url, policy()).await;
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.execute("TRUNCATE job, source, shard, attempt, session, job_count, job_reject, leader").await.unwrap();
    // What opening has noted is gone with the rest.
    postgres.store.expire_sessions().await.unwrap();
    let mut subjects = [
        Subject { name: "SQLite", bed: sqlite, grants: Vec::new() },
        Subject { name: "PostgreSQL", bed: postgres, grants: Vec::new() },
    ];
    let mut model = Subject { name: "memory", bed: Bed::in_memory(policy()).await, grants: Vec::new() };
    let mut names = Names::default();
    let mut before: Vec<JobBrief> = Vec::new();
    for (number, event) in events.iter().enumerate() {
        let planned = Planned::new(event, &model, &mut names).await;
        let expected = planned.on_store(&mut model).await;
        let granted = &model.grants[names.grants.len()..];
        names.grants.extend(granted.iter().map(|(session, grant)| (*session, (grant.shard, grant.epoch))));
        let (state, finalizable) = (model.bed.state().await, model.bed.store.jobs_to_finalize().await.unwrap());
        note(seen, &expected, &state);
        for subject in &mut subjects {
            let context = format!("{} at event {number} of {events:?}", subject.name);
            let answer = planned.on_store(subject).await;
            assert_eq!(answer, expected, "answer of {context}");
            assert_eq!(subject.bed.state().await, state, "state of {context}");
            subject.bed.assert_invariants().await;
            let statuses = subject.bed.jobs().await;
            assert_eq!(subject.bed.store.jobs_to_finalize().await.unwrap(), finalizable, "{context}");
            nothing_is_committed_after_the_end(&before, &statuses);
            if subject.name == "PostgreSQL" {
                before = statuses;
            }
        }
    }
    for subject in subjects {
        subject.bed.store.close().await.unwrap();
    }
}

/// I4.
fn nothing_is_committed_after_the_end(before: &[JobBrief], after: &[JobBrief]) {
    for (before, after) in before.iter().zip(after) {
        if before.state.is_terminal() && after.state == before.state || before.state == JobState::Cancelling {
            assert_eq!(before.shards.committed, after.shards.committed, "I4: committed after the end");
        }
    }
}

/// An event whose numbers are replaced by names, so that every store gets the very same request.
struct Planned<'e> {
    event: &'e Event,
    session: Option<SessionId>,
    request: RequestId,
    grant: Option<usize>,
    reports: Vec<usize>,
    cursor_shards: u64,
}

impl<'e> Planned<'e> {
    async fn new(event: &'e Event, model: &Subject, names: &mut Names) -> Self {
        let mut planned = Self {
            event,
            session: None,
            request: RequestId(Uuid::nil()),
            grant: None,
            reports: Vec::new(),
            cursor_shards: 0,
        };
        match event {
            Event::InsertShards { job, stale, .. } => {
                let planning = model.bed.store.planning(job_id(*job)).await.unwrap();
                let shards = planning.map_or(0, |planning| planning.cursor.next_row / super::fixture::ROWS);
                planned.cursor_shards = shards + u64::from(*stale);
            }
            Event::OpenSession { .. } => {
                let session = SessionId(names.next());
                names.sessions.push(session);
                planned.session = Some(session);
            }
            Event::Lease { session, repeated, .. } => {
                planned.session = names.session(*session);
                let last = names.requests.iter().rev().find(|(of, _)| Some(*of) == planned.session).copied();
                planned.request = match last {
                    Some((_, request)) if *repeated => request,
                    _ => RequestId(names.next()),
                };
                names.requests.extend(planned.session.map(|session| (session, planned.request)));
            }
            Event::Commit { grant, foreign, .. } | Event::Release { grant, foreign } => {
                planned.grant = names.grant(*grant);
                planned.session = planned.grant.map(|grant| names.holder(grant, *foreign));
            }
            Event::Fail { grant, .. } => {
                planned.grant = names.grant(*grant);
                planned.session = planned.grant.map(|grant| names.holder(grant, false));
            }
            Event::HeartbeatReply { session, grants, .. } => {
                planned.session = names.session(*session);
                planned.reports = grants.iter().filter_map(|pick| names.grant(*pick)).collect();
                planned.reports.dedup();
            }
            Event::Close { session } => planned.session = session.and_then(|pick| names.session(pick)),
            _ => {}
        }
        planned
    }

    async fn on_store(&self, subject: &mut Subject) -> String {
        let store = subject.bed.store.clone();
        match self.event {
            Event::Submit { job, reuse } => {
                let reuse = if *reuse { vec![earlier("old")] } else { Vec::new() };
                let spec = JobSpec { allow_partial: *job == PARTIAL_JOB, reuse, ..spec("a") };
                format!("{:?}", store.submit_job(job_id(*job), &spec).await.unwrap())
            }
            Event::SetSources(job) => store.set_sources(job_id(*job), &[source("a")]).await.unwrap().to_string(),
            Event::InsertShards { job, count, done, .. } => {
                let (from, page, to) = self.page(*count);
                store.insert_shards(job_id(*job), &from, &page, &to, *done).await.unwrap().to_string()
            }
            Event::Advance(ms) => {
                subject.bed.advance_ms(u64::from(*ms));
                String::new()
            }
            Event::Sweep => {
                let Swept { sessions, leases } = store.expire_sessions().await.unwrap();
                format!("{:?}", (sessions, leases))
            }
            Event::Cancel(job) => applied(store.cancel(job_id(*job)).await),
            Event::Pause(job, true) => applied(store.pause(job_id(*job)).await),
            Event::Pause(job, false) => applied(store.resume(job_id(*job)).await),
            Event::Retry(job) => applied(store.retry(job_id(*job)).await),
            Event::Repair { job, shards } => match store.repair(job_id(*job), &distinct(*shards)).await {
                Ok(repaired) => format!("{:?}", Some(repaired)),
                Err(StoreError::WrongState { .. } | StoreError::JobUnknown { .. }) => "None".to_owned(),
                Err(error) => panic!("{error:?}"),
            },
            Event::FailJob(job) => store.fail_job(job_id(*job), "by request").await.unwrap().to_string(),
            Event::FailExhausted => format!("{:?}", store.fail_exhausted().await.unwrap()),
            Event::TripBreakers => format!("{:?}", store.trip_breakers().await.unwrap()),
            Event::Quarantine => format!("{:?}", store.quarantine_sessions().await.unwrap()),
            Event::Lead(process) => store.lead_upkeep(process_id(*process)).await.unwrap().to_string(),
            Event::Resign(process) => {
                store.resign_upkeep(process_id(*process)).await.unwrap();
                String::new()
            }
            Event::BeginFinalize(job) => store.begin_finalize(job_id(*job)).await.unwrap().to_string(),
            Event::Finish(job, other) => {
                let digest = if *other { "other" } else { "digest" };
                let generation = store.job(job_id(*job)).await.unwrap().map_or(1, |job| job.generation);
                store.finish_job(job_id(*job), generation, "manifest", digest).await.unwrap().to_string()
            }
            Event::FailFinalize { job, stale } => {
                let generation = store.job(job_id(*job)).await.unwrap().map_or(1, |job| job.generation);
                let generation = generation - u64::from(*stale);
                store.fail_finalize(job_id(*job), generation, "no manifest").await.unwrap().to_string()
            }
            Event::Settle => store.settle_cancelled().await.unwrap().to_string(),
            Event::MarkGarbage => store.mark_garbage(1_000).await.unwrap().len().to_string(),
            Event::GarbageDeleted => {
                let garbage = store.mark_garbage(1_000).await.unwrap();
                store.garbage_deleted(&garbage).await.unwrap();
                garbage.len().to_string()
            }
            Event::OpenSession { .. }
            | Event::Lease { .. }
            | Event::Commit { .. }
            | Event::Fail { .. }
            | Event::Release { .. }
            | Event::HeartbeatReply { .. }
            | Event::Close { .. } => self.work_on_store(&store, subject).await,
        }
    }

    async fn work_on_store(&self, store: &Store, subject: &mut Subject) -> String {
        if let Event::Close { session } = self.event
            && session.is_none()
        {
            store.close_all_sessions().await.unwrap();
            return String::new();
        }
        let Some(session) = self.session else { return String::new() };
        let grant = self.grant.map(|grant| subject.grants[grant].1.clone());
        match self.event {
            Event::OpenSession { leases_max } => {
                store.register(session, &worker(), u32::from(*leases_max)).await.unwrap();
                String::new()
            }
            Event::Lease { max, .. } => {
                let grants = match store.lease(session, self.request, u32::from(*max)).await {
                    Ok(grants) => Some(whole(grants)),
                    Err(StoreError::SessionLost { .. }) => None,
                    Err(error) => panic!("{error:?}"),
                };
                subject.grants.extend(grants.iter().flatten().map(|grant| (session, grant.clone())));
                let plain: Option<Vec<ModelGrant>> =
                    grants.map(|grants| grants.iter().map(|grant| (grant.shard, grant.epoch)).collect());
                format!("{plain:?}")
            }
            Event::Commit { what, .. } => {
                let grant = grant.unwrap();
                let output = written(&grant, *what);
                match store.commit(session, grant.shard, grant.epoch, &output).await {
                    Ok(outcome) => shown(Ok(format!("{outcome:?}"))),
                    Err(StoreError::OutputRefused { .. }) => shown(Err(())),
                    Err(error) => panic!("{error:?}"),
                }
            }
            Event::Fail { class, .. } => {
                let grant = grant.unwrap();
                store.fail(session, grant.shard, grant.epoch, *class, "it broke").await.unwrap().to_string()
            }
            Event::Release { .. } => {
                let grant = grant.unwrap();
                store.release(session, grant.shard, grant.epoch).await.unwrap().to_string()
            }
            Event::HeartbeatReply { rows, .. } => {
                let rows_done = u64::from(*rows);
                let reports: Vec<Progress> = self
                    .reports
                    .iter()
                    .map(|grant| &subject.grants[*grant].1)
                    .map(|one| Progress { shard: one.shard, epoch: one.epoch, rows_done, tokens_done: rows_done * 7 })
                    .collect();
                let reply = store.heartbeat(session, &reports).await.unwrap();
                let standing: Vec<bool> = reply.directives.iter().map(|one| *one == Directive::Continue).collect();
                format!("{:?}", (!reply.session_lost).then_some(standing))
            }
            _ => {
                store.close_session(session).await.unwrap();
                String::new()
            }
        }
    }

    fn page(&self, count: u8) -> (dataset::Cursor, Vec<dataset::Slice>, dataset::Cursor) {
        let (first, count) = (self.cursor_shards, u64::from(count));
        let mut slices = slices(first, count);
        // Few rows, so that shards are split down to one within few events.
        for (at, slice) in (first..).zip(&mut slices) {
            slice.rows = 1 + at % 2 * 3;
        }
        (cursor(first), slices, cursor(first + count))
    }
}

fn process_id(number: u8) -> Uuid {
    Uuid::from_u64_pair(0x01a0_0000_0000_7000, u64::from(number))
}

fn distinct(shards: [u8; 2]) -> Vec<u64> {
    shards.into_iter().collect::<BTreeSet<_>>().into_iter().map(u64::from).collect()
}

fn applied(answer: Result<(), StoreError>) -> String {
    match answer {
        Ok(()) => "true".to_owned(),
        Err(StoreError::WrongState { .. } | StoreError::JobUnknown { .. }) => "false".to_owned(),
        Err(error) => panic!("{error:?}"),
    }
}

fn shown(outcome: Result<String, ()>) -> String {
    outcome.unwrap_or_else(|()| "refused".to_owned())
}

/// Returns the output that an attempt claims.
fn written(grant: &Grant, what: Written) -> Output {
    let mut output = output(grant);
    match what {
        Written::Right => {}
        Written::OtherDigest => output.blake3.push_str("-other"),
        Written::OtherInput => output.input_blake3.push_str("-other"),
        Written::MissingRow => output.counts.rows -= 1,
        Written::OtherKey => output.key = output.key.replace("shards", "elsewhere"),
    }
    output
}
