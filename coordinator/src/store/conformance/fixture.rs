//! A store under test, its clock, and short ways to say what the cases need.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dataset::{Compression, Cursor, Fingerprint, Format, PlannedSource, RejectReason, Slice, SliceRange, Source};
use proto::job::{EmbedSpec, JobBrief, JobSpec, JobStatus, ModelSpec, ReuseSource, RowCounts, ShardLimits};
use proto::revision::REVISION;
use proto::work::{CommitOutcome, Grant, Granted, Output, WorkerInfo};
use proto::{JobId, RequestId, SessionId};
use testkit::job_spec;
use uuid::Uuid;

use super::dump::{STATE, VIOLATIONS};
use crate::clock::TestClock;
use crate::policy::Policy;
use crate::store::memory::Memory;
use crate::store::{Planning, Store, StoreError};

/// When tests begin, in milliseconds.
pub(super) const EPOCH_MS: i64 = 1_700_000_000_000;

/// Rows of every shard in the tests.
pub(super) const ROWS: u64 = 10;

pub(crate) struct Bed {
    pub(super) store: Store,
    pub(super) clock: TestClock,
}

impl Bed {
    pub(super) async fn on_sqlite(folder: &Path) -> Self {
        Self::open(folder.join("state.db").to_str().unwrap(), Policy::default()).await
    }

    pub(super) async fn on_postgres(url: &str) -> Self {
        Self::open(url, Policy::default()).await
    }

    pub(super) async fn on_memory() -> Self {
        Self::in_memory(Policy::default()).await
    }

    pub(super) async fn in_memory(policy: Policy) -> Self {
        let policy = unhurried(policy);
        let clock = TestClock::at(EPOCH_MS);
        let memory = Memory::new(Arc::new(clock.clone()), &policy, Uuid::now_v7);
        let gate = Arc::new(crate::store::memory::Open);
        let mut store = Store::in_memory(&memory, gate, Arc::new(clock.clone()), policy).await.unwrap();
        store.jitter = || 0.5;
        Self { store, clock }
    }

    pub(super) async fn open(url: &str, policy: Policy) -> Self {
        let policy = unhurried(policy);
        let clock = TestClock::at(EPOCH_MS);
        let mut store = Store::open_with(url, Arc::new(clock.clone()), policy).await.unwrap();
        store.jitter = || 0.5;
        Self { store, clock }
    }

    pub(super) fn advance_ms(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
    }

    pub(super) fn clock_ms(&self) -> i64 {
        crate::clock::Clock::now_ms(&self.clock)
    }

    /// Submits a job of so many shards, fully planned.
    pub(super) async fn job(&self, shards: u64) -> JobId {
        self.job_of(&spec("a"), shards).await
    }

    /// Submits a job of so many shards, fully planned, that may succeed without some of them.
    pub(super) async fn partial_job(&self, shards: u64) -> JobId {
        self.job_of(&JobSpec { allow_partial: true, ..spec("a") }, shards).await
    }

    async fn job_of(&self, spec: &JobSpec, shards: u64) -> JobId {
        let job = JobId::generate();
        self.store.submit_job(job, spec).await.unwrap();
        assert!(self.store.set_sources(job, &[source("a")]).await.unwrap());
        let next = cursor(shards);
        assert!(self.store.insert_shards(job, &cursor(0), &slices(0, shards), &next, true).await.unwrap());
        job
    }

    /// Submits a job of one shard of one row.
    pub(super) async fn one_row_job(&self) -> JobId {
        let job = JobId::generate();
        self.store.submit_job(job, &spec("a")).await.unwrap();
        assert!(self.store.set_sources(job, &[source("a")]).await.unwrap());
        let slice = Slice { rows: 1, ..slices(0, 1).remove(0) };
        let next = Cursor { next_row: 1, ..cursor(1) };
        assert!(self.store.insert_shards(job, &cursor(0), &[slice], &next, true).await.unwrap());
        job
    }

    /// Shards of a job that are to be committed: all but the split ones.
    pub(super) async fn shards(&self, job: JobId) -> u64 {
        let shards = self.status(job).await.shards;
        shards.pending + shards.running + shards.committed + shards.dead + shards.cancelled
    }

    pub(super) async fn session(&self) -> SessionId {
        self.store.open_session(&worker()).await.unwrap()
    }

    /// A session that may hold a hundred leases.
    pub(super) async fn greedy_session(&self) -> SessionId {
        self.store.open_session_with(&worker(), 100).await.unwrap()
    }

    pub(super) async fn lease(&self, session: SessionId, max: u32) -> Vec<Grant> {
        whole(self.store.lease(session, RequestId::generate(), max).await.unwrap())
    }

    /// The status of all jobs, in the order of submission.
    pub(super) async fn jobs(&self) -> Vec<JobBrief> {
        let mut jobs = self.store.newest_jobs(None, None, u32::MAX).await.unwrap();
        jobs.reverse();
        jobs
    }

    /// The first of the jobs that are to be planned.
    pub(super) async fn planning(&self) -> Option<Planning> {
        let first = self.store.jobs_to_plan().await.unwrap().into_iter().next()?;
        self.store.planning(first).await.unwrap()
    }

    /// Leases one shard that must be there.
    pub(super) async fn lease_one(&self, session: SessionId) -> Grant {
        self.lease(session, 1).await.pop().expect("a shard to lease")
    }

    pub(super) async fn commit(&self, session: SessionId, grant: &Grant) -> CommitOutcome {
        self.try_commit(session, grant, &output(grant)).await.unwrap()
    }

    pub(super) async fn try_commit(
        &self,
        session: SessionId,
        grant: &Grant,
        output: &Output,
    ) -> Result<CommitOutcome, StoreError> {
        self.store.commit(session, grant.shard, grant.epoch, output).await
    }

    pub(super) async fn status(&self, job: JobId) -> JobStatus {
        self.store.job(job).await.unwrap().expect("the job exists")
    }

    /// Lets a session miss its heartbeats while sweeps go on, so that it is expired and nothing looks like an outage.
    pub(super) async fn starve(&self) {
        let step_ms = self.store.policy().ttl_ms / 2;
        for _ in 0..3 {
            self.advance_ms(step_ms.unsigned_abs());
            self.store.expire_sessions().await.unwrap();
        }
    }

    pub(super) async fn assert_invariants(&self) {
        for listing in &VIOLATIONS {
            let found = self.store.backend.lines(listing).await.unwrap();
            assert!(found.is_empty(), "violated: {found:#?}");
        }
    }

    /// The whole state, line by line.
    pub(super) async fn state(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for listing in &STATE {
            lines.extend(self.store.backend.lines(listing).await.unwrap());
        }
        lines
    }
}

/// Grants of small jobs, which hold all that is needed.
pub(super) fn whole(granted: Vec<Granted>) -> Vec<Grant> {
    granted.into_iter().map(|one| one.into_whole().expect("a small grant travels as a whole")).collect()
}

/// A test asks for one thing at a time: there is nothing to gather.
fn unhurried(policy: Policy) -> Policy {
    Policy { heartbeat_gather_ms: 0, copy_look_ms: 0, ..policy }
}

pub(super) fn worker() -> WorkerInfo {
    WorkerInfo { name: "host/1".into(), devices: vec!["cpu".into()], version: "0.1.0".into(), revision: REVISION }
}

pub(super) fn spec(prefix: &str) -> JobSpec {
    JobSpec {
        sources: vec![source("a").source],
        // Recorded databases have it.
        model: ModelSpec { digest: "ab".into(), ..job_spec().model },
        embed: EmbedSpec { prefix: prefix.into(), ..job_spec().embed },
        limits: ShardLimits { rows_max: ROWS, bytes_max: 1_000 },
        ..job_spec()
    }
}

/// An earlier output that vectors are taken from.
pub(super) fn earlier(name: &str) -> ReuseSource {
    ReuseSource { uri: format!("/{name}"), blake3: name.into(), text_column: "text".into(), retired: false }
}

pub(super) fn source(name: &str) -> PlannedSource {
    PlannedSource {
        source: Source { uri: format!("/corpus/{name}.csv"), format: Format::Csv, compression: Compression::None },
        fingerprint: Fingerprint { size: 1_000_000, etag: Some("1-2".into()) },
        header: vec!["text".into()],
        kept_schema: "AAAA".into(),
    }
}

/// The planning cursor after so many shards.
pub(super) fn cursor(shards: u64) -> Cursor {
    Cursor { source_index: 0, position: shards * 100, next_row: shards * ROWS }
}

pub(super) fn slices(first: u64, count: u64) -> Vec<Slice> {
    (first..first + count)
        .map(|index| Slice {
            source_index: 0,
            recut_key: (index % 3 == 2).then(|| format!("jobs/x/recut/{index}")),
            range: SliceRange::Bytes { start: index * 100, end: (index + 1) * 100 },
            first_row: index * ROWS,
            rows: ROWS,
            blake3: None,
        })
        .collect()
}

pub(super) fn output(grant: &Grant) -> Output {
    Output {
        key: grant.output_key.clone(),
        bytes: 4_096,
        blake3: format!("digest-{}", grant.shard.index),
        input_blake3: format!("input-{}", grant.shard.index),
        counts: RowCounts {
            rows: grant.wanted().rows,
            rejects: [(RejectReason::EmptyText, 1), (RejectReason::NullText, 2)].into(),
            truncated: 3,
            tokens: 100,
            reused: 2,
        },
    }
}
