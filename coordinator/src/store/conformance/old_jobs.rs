//! A database with jobs that a program of the second schema left behind: migrated, listed, read and finished, on both.

use std::path::Path;
use std::str::FromStr;

use proto::job::JobState;
use proto::work::CommitOutcome;
use proto::{Epoch, JobId, RequestId, SessionId, ShardId};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use uuid::Uuid;

use super::fixture::{Bed, EPOCH_MS, ROWS, cursor, output, slices, spec, whole};
use crate::policy::Policy;
use crate::shard::{attempt_of_key, output_key};
use crate::store::{Submitted, migrations};
use testkit::postgres::Server;

/// The last schema of the programs that left these jobs.
const OLD_SCHEMA: i64 = 2;
/// A spec as those programs stored it, and its digest.
const SPEC: &str = r#"{"sources":[{"uri":"/corpus/a.csv","format":"csv","compression":"none"}],"read":{"text_column":"text","id_column":null,"keep":"all"},"model":{"name":"owner/model","revision":null,"digest":"ab"},"embed":{"pooling":null,"normalize":true,"max_length":null,"prefix":"a","dtype":"f32","output_dtype":"f32","dimensions":null,"batch_tokens":null},"limits":{"rows_max":10,"bytes_max":1000},"on_bad_row":"reject","max_rejects":"unlimited"}"#;
const DIGEST: &str = "088230dde0a77f18213a45d173c43f418cb7ca87cae5d5f4511017968398c1ff";
/// The part of it that every grant carries.
const TASK: &str = r#"{"read":{"text_column":"text","id_column":null,"keep":"all"},"model":{"name":"owner/model","revision":null,"digest":"ab"},"embed":{"pooling":null,"normalize":true,"max_length":null,"prefix":"a","dtype":"f32","output_dtype":"f32","dimensions":null,"batch_tokens":null},"on_bad_row":"reject"}"#;
const PLANNED: &str = r#"{"source":{"uri":"/corpus/a.csv","format":"csv","compression":"none"},"fingerprint":{"size":1000000,"etag":"1-2"},"header":["text"],"kept_schema":"AAAA"}"#;

/// The jobs, by what is left to be done, in the order of submission.
const PLANNING: u128 = 1;
const RUNNING: u128 = 2;
const FINALIZING: u128 = 3;
const FAILED: u128 = 4;
const SUCCEEDED: u128 = 5;
const CANCELLED: u128 = 6;
const JOBS: [u128; 6] = [PLANNING, RUNNING, FINALIZING, FAILED, SUCCEEDED, CANCELLED];
/// A worker of that time, which is at work.
const SESSION: u128 = 7;
/// Its attempt at the second shard of the running job.
const ATTEMPT: u128 = 8;

fn job(number: u128) -> JobId {
    JobId(Uuid::from_u128(number))
}

/// What the two databases spell differently.
struct Dialect {
    is_postgres: bool,
}

impl Dialect {
    fn id(&self, number: u128) -> String {
        if self.is_postgres { format!("'{}'", Uuid::from_u128(number)) } else { format!("x'{number:032x}'") }
    }

    /// The rows of all jobs, as the programs of that time left them.
    fn rows(&self) -> Vec<String> {
        let mut rows = vec![format!(
            "INSERT INTO session (session_id, name, devices, version, leases_max, state, opened_ms, expires_ms, progress_ms,
                last_request)
            VALUES ({}, 'host/1', '[\"cpu\"]', '0.1.0', 2, 'live', {EPOCH_MS}, {EPOCH_MS} + 60000, {EPOCH_MS}, {})",
            self.id(SESSION),
            self.id(ATTEMPT)
        )];
        for (number, state, planned, reason, manifest) in [
            (PLANNING, "planning", false, "NULL", "NULL, NULL"),
            (RUNNING, "running", true, "NULL", "NULL, NULL"),
            (FINALIZING, "finalizing", true, "NULL", "NULL, NULL"),
            (FAILED, "failed", true, "'2 of its shards are out of attempts'", "NULL, NULL"),
            (SUCCEEDED, "succeeded", true, "NULL", "'jobs/5/manifest-1.json', 'digest'"),
            (CANCELLED, "cancelled", true, "NULL", "NULL, NULL"),
        ] {
            let id = self.id(number);
            rows.push(format!(
                "INSERT INTO job (job_id, spec_digest, spec, task, state, planned, reason, submitted_ms, source_count,
                    shard_count, rows_planned, cursor_position, cursor_row, manifest_key, manifest_digest)
                VALUES ({id}, '{DIGEST}', '{SPEC}', '{TASK}', '{state}', {planned}, {reason}, {EPOCH_MS} + {number}, 1,
                    2, 20, 200, 20, {manifest})"
            ));
            rows.push(format!(
                "INSERT INTO source (job_id, source_index, uri, planned) VALUES ({id}, 0, '/corpus/a.csv', '{PLANNED}')"
            ));
            rows.extend((0..2).flat_map(|index| self.shard(number, index)));
        }
        rows
    }

    /// One of the two shards of a job, with its latest attempt and its part of the counters.
    fn shard(&self, number: u128, index: u64) -> Vec<String> {
        let id = self.id(number);
        let state = match (number, index) {
            (PLANNING, _) => "pending",
            (RUNNING, 1) => "running",
            (FAILED, _) => "dead",
            (CANCELLED, _) => "cancelled",
            _ => "committed",
        };
        let key = output_key(ShardId { job: job(number), index }, Epoch(1), Uuid::from_u128(u128::from(index)));
        let won = match state {
            "committed" => {
                format!("1, '{key}', 4096, 'digest-{index}', 'input-{index}', '{{\"empty_text\":1}}', 3, 100")
            }
            _ => ["NULL"; 8].join(", "),
        };
        let (first, live) = (index * ROWS, u8::from(state == "running"));
        let epoch = u8::from(!["pending", "cancelled"].contains(&state));
        let failures = u8::from(state == "dead");
        let mut rows = vec![
            format!(
                "INSERT INTO shard (job_id, shard_index, source_index, range_unit, range_start, range_end, first_row,
                    row_count, state, epoch, live, failures, winner_epoch, out_key, out_bytes, out_blake3, in_blake3,
                    out_rejects, out_truncated, out_tokens)
                VALUES ({id}, {index}, 0, 'bytes', {index} * 100, {index} * 100 + 100, {first}, {ROWS}, '{state}', {epoch},
                    {live}, {failures}, {won})"
            ),
            format!(
                "INSERT INTO job_count AS c (job_id, slot, {state}, row_count, truncated, tokens, ended)
                VALUES ({id}, 0, 1, {0} * {ROWS}, {0} * 3, {0} * 100, {0} + {failures}) ON CONFLICT (job_id, slot) DO UPDATE
                SET {state} = c.{state} + 1, row_count = c.row_count + excluded.row_count,
                    truncated = c.truncated + excluded.truncated, tokens = c.tokens + excluded.tokens,
                    ended = c.ended + excluded.ended",
                u8::from(state == "committed")
            ),
        ];
        if state == "committed" {
            rows.push(format!(
                "INSERT INTO job_reject AS r (job_id, slot, reason, row_count) VALUES ({id}, 0, 'empty_text', 1)
                ON CONFLICT (job_id, slot, reason) DO UPDATE SET row_count = r.row_count + 1"
            ));
            rows.push(self.attempt(&id, index, u128::from(index), "committed", "1"));
        }
        if state == "dead" {
            rows.push(self.attempt(&id, index, u128::from(index), "failed", "1"));
        }
        if state == "running" {
            rows.push(self.attempt(&id, index, ATTEMPT, "live", "NULL"));
        }
        rows
    }

    fn attempt(&self, job: &str, index: u64, attempt: u128, state: &str, ended: &str) -> String {
        format!(
            "INSERT INTO attempt (job_id, shard_index, epoch, attempt_id, session_id, request_id, state, granted_ms, ended_ms)
            VALUES ({job}, {index}, 1, {}, {}, {}, '{state}', {EPOCH_MS}, {ended})",
            self.id(attempt),
            self.id(SESSION),
            self.id(attempt)
        )
    }
}

async fn every_job_goes_on(bed: Bed) {
    assert_eq!(serde_json::from_str::<proto::job::JobSpec>(SPEC).unwrap().digest(), DIGEST);
    let listed = bed.jobs().await;
    assert_eq!(listed.iter().map(|brief| brief.id).collect::<Vec<_>>(), JOBS.map(job));
    assert!(listed.iter().all(|brief| (brief.model.as_str(), brief.sources) == ("owner/model", 1)), "{listed:#?}");
    let succeeded = bed.status(job(SUCCEEDED)).await;
    assert_eq!((succeeded.state, succeeded.spec.clone()), (JobState::Succeeded, spec("a")));
    assert_eq!((succeeded.counts.rows, succeeded.counts.rejected()), (2 * ROWS, 2));
    assert_eq!(bed.store.winners(job(SUCCEEDED), None, 10).await.unwrap().len(), 2);
    assert_eq!(bed.store.submit_job(job(SUCCEEDED), &spec("a")).await.unwrap(), Submitted::Existing);
    bed.assert_invariants().await;

    // The worker that was at work goes on, and does not know of any change.
    let shard = ShardId { job: job(RUNNING), index: 1 };
    let session = SessionId(Uuid::from_u128(SESSION));
    assert!(!bed.store.heartbeat(session, &[]).await.unwrap().session_lost);
    let key = output_key(shard, Epoch(1), Uuid::from_u128(ATTEMPT));
    assert_eq!(attempt_of_key(shard, Epoch(1), &key), Some(Uuid::from_u128(ATTEMPT)));
    let granted = whole(bed.store.lease(session, RequestId(Uuid::from_u128(ATTEMPT)), 0).await.unwrap());
    let granted: Vec<_> = granted.into_iter().filter(|grant| grant.shard == shard).collect();
    let made = granted.first().map_or_else(|| panic!("its lease is live"), output);
    assert_eq!(bed.store.commit(session, shard, Epoch(1), &made).await.unwrap(), CommitOutcome::Committed);

    // What was planned in part is planned to its end.
    let planning = bed.planning().await.unwrap();
    assert_eq!(
        (planning.job, &planning.cursor, planning.sources.map(|all| all.len())),
        (job(PLANNING), &cursor(2), Some(1))
    );
    assert!(bed.store.insert_shards(job(PLANNING), &cursor(2), &slices(2, 1), &cursor(3), true).await.unwrap());
    bed.store.retry(job(FAILED)).await.unwrap();
    assert!(bed.store.repair(job(SUCCEEDED), &[0]).await.unwrap());
    let worker = bed.greedy_session().await;
    let grants = bed.lease(worker, 100).await;
    assert_eq!(grants.len(), 3 + 2 + 1);
    for grant in &grants {
        assert_eq!((grant.read.clone(), grant.embed.clone()), (spec("a").read, spec("a").embed));
        assert_eq!(bed.commit(worker, grant).await, CommitOutcome::Committed);
    }
    for number in [PLANNING, RUNNING, FINALIZING, FAILED, SUCCEEDED] {
        assert!(bed.store.begin_finalize(job(number)).await.unwrap(), "job {number}");
        let generation = bed.status(job(number)).await.generation;
        assert!(bed.store.finish_job(job(number), generation, "manifest", "digest").await.unwrap());
        assert_eq!(bed.status(job(number)).await.state, JobState::Succeeded);
    }
    assert!(bed.store.retry(job(CANCELLED)).await.is_err());
    bed.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_goes_on_with_the_jobs_of_an_old_schema() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    fill_sqlite(&path).await;
    every_job_goes_on(Bed::on_sqlite(folder.path()).await).await;
}

async fn fill_sqlite(path: &Path) {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    migrations::sqlite_until(OLD_SCHEMA, &mut connection).await.unwrap();
    for row in (Dialect { is_postgres: false }).rows() {
        connection.execute(AssertSqlSafe(row)).await.unwrap();
    }
    connection.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_goes_on_with_the_jobs_of_an_old_schema() {
    let server = Server::start().await;
    let url = server.database("old").await;
    let mut connection = PgConnectOptions::from_str(&url).unwrap().connect().await.unwrap();
    migrations::postgres_until(OLD_SCHEMA, &mut connection).await.unwrap();
    for row in (Dialect { is_postgres: true }).rows() {
        connection.execute(AssertSqlSafe(row)).await.unwrap();
    }
    connection.close().await.unwrap();
    every_job_goes_on(Bed::open(&url, Policy::default()).await).await;
}
