//! Does the shards of a job by SQL, and looks at what leases and commits cost beside a million done ones.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coordinator::{Store, SystemClock};
use proto::work::{CommitOutcome, Progress};
use proto::{JobId, RequestId};
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, query_as, query_scalar};

use crate::spec::Sample;
use crate::{percentiles, spec};

/// Rounds of lease, heartbeat and release.
const ROUNDS: u64 = 50;

/// Commits all shards of a job but the last one, the first with this file. Returns the key of the first one's output.
pub(crate) async fn commit_all_but_the_last(url: &str, job: JobId, shards: u64, first_file: &Sample) -> String {
    let first = format!("SELECT out_key FROM shard WHERE shard_index = 0 AND job_id = {}", id(url, job));
    if url.starts_with("postgres:") {
        let mut connection = PgConnection::connect(url).await.unwrap();
        for statement in statements(url, job, shards, first_file) {
            connection.execute(AssertSqlSafe(statement)).await.unwrap();
        }
        connection.execute("VACUUM ANALYZE").await.unwrap();
        query_scalar(AssertSqlSafe(first)).fetch_one(&mut connection).await.unwrap()
    } else {
        let mut connection = SqliteConnection::connect(url).await.unwrap();
        for statement in statements(url, job, shards, first_file) {
            connection.execute(AssertSqlSafe(statement)).await.unwrap();
        }
        query_scalar(AssertSqlSafe(first)).fetch_one(&mut connection).await.unwrap()
    }
}

/// A job's id as it stands in a statement.
fn id(url: &str, job: JobId) -> String {
    if url.starts_with("postgres:") { format!("'{job}'") } else { format!("x'{}'", job.0.simple()) }
}

fn statements(url: &str, job: JobId, shards: u64, first_file: &Sample) -> [String; 5] {
    let postgres = url.starts_with("postgres:");
    let id = id(url, job);
    let (index, most, chance) = if postgres {
        ("lpad(shard_index::text, 8, '0')", "greatest", "gen_random_uuid()")
    } else {
        ("printf('%08d', shard_index)", "max", "randomblob(16)")
    };
    let (digest, last) = ("d".repeat(64), shards - 1);
    [
        format!(
            "UPDATE shard SET state = 'committed', epoch = {most}(epoch, 1), winner_epoch = {most}(epoch, 1),
            out_key = 'jobs/{job}/shards/' || {index} || '/e000001-00000000-0000-0000-0000-000000000000.parquet',
            out_bytes = 4096, out_blake3 = '{digest}', in_blake3 = '{digest}', out_rejects = '{{}}', out_truncated = 0,
            out_tokens = 100
            WHERE job_id = {id} AND shard_index < {last} AND state = 'pending'"
        ),
        format!(
            "UPDATE shard SET out_bytes = {}, out_blake3 = '{}' WHERE job_id = {id} AND shard_index = 0",
            first_file.bytes.len(),
            first_file.blake3
        ),
        format!(
            "INSERT INTO attempt (job_id, shard_index, epoch, attempt_id, session_id, request_id, state, granted_ms,
                ended_ms)
            SELECT job_id, shard_index, epoch, {chance}, {chance}, {chance}, 'committed', 0, 0
            FROM shard WHERE job_id = {id} AND state = 'committed' ON CONFLICT DO NOTHING"
        ),
        format!("DELETE FROM job_count WHERE job_id = {id}"),
        format!(
            "INSERT INTO job_count (job_id, slot, pending, committed, ended, row_count, tokens)
            VALUES ({id}, 0, 1, {last}, {last}, {last}, {last} * 100)"
        ),
    ]
}

/// Times leases, heartbeats and releases of the last shard, and its commit in the end. On PostgreSQL also counts the rows
/// that they read.
pub(crate) async fn hot_path(url: &str) {
    let mut counter = if url.starts_with("postgres:") { Some(PgConnection::connect(url).await.unwrap()) } else { None };
    if let Some(connection) = &mut counter {
        connection.execute("SELECT pg_stat_reset()").await.unwrap();
    }
    let store = Store::open(url, Arc::new(SystemClock::new())).await.unwrap();
    let session = store.open_session(&spec::worker()).await.unwrap();
    let mut leases: Vec<Duration> = Vec::new();
    for round in 1..=ROUNDS {
        let asked = Instant::now();
        let grant = store.lease(session, RequestId::generate(), 1).await.unwrap().remove(0).into_whole().unwrap();
        leases.push(asked.elapsed());
        let progress = Progress { shard: grant.shard, epoch: grant.epoch, rows_done: round, tokens_done: round };
        assert!(!store.heartbeat(session, &[progress]).await.unwrap().session_lost);
        store.expire_sessions().await.unwrap();
        store.trip_breakers().await.unwrap();
        store.quarantine_sessions().await.unwrap();
        store.mark_garbage(10).await.unwrap();
        if round < ROUNDS {
            assert!(store.release(session, grant.shard, grant.epoch).await.unwrap());
        } else {
            let outcome = store.commit(session, grant.shard, grant.epoch, &spec::output(&grant, 4_096)).await.unwrap();
            assert_eq!(outcome, CommitOutcome::Committed);
        }
    }
    store.close_session(session).await.unwrap();
    store.close().await.unwrap();
    println!("  beside the shards that are done: lease {}", percentiles(&mut leases));
    let Some(connection) = &mut counter else { return };
    let counts: Vec<(String, i64, i64)> = query_as(
        "SELECT t.relname::text, t.seq_tup_read, (
            SELECT sum(i.idx_tup_read)::bigint FROM pg_stat_user_indexes i WHERE i.relid = t.relid)
        FROM pg_stat_user_tables t WHERE t.relname IN ('shard', 'attempt') ORDER BY 1",
    )
    .fetch_all(connection)
    .await
    .unwrap();
    for (table, scanned, by_index) in counts {
        println!(
            "  {ROUNDS} rounds of lease, heartbeat, release and sweep read of `{table}`: {by_index} rows by index, {scanned} by scans"
        );
    }
}
