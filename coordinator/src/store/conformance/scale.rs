//! What does not depend on how many shards are done, and what survives a database that is away.

use std::time::Duration;

use proto::RequestId;
use proto::work::{CommitOutcome, Progress};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor, query, query_as, query_scalar};

use super::fixture::{Bed, output};
use crate::store::backend::REASON_CLOSED;
use crate::store::{StoreErrorKind, Swept};
use testkit::postgres::Server;

/// Done shards beside the ones that are worked on.
const DONE: i64 = 100_000;
/// Rounds of everything that happens all the time.
const ROUNDS: usize = 10;
/// Rows of shards and attempts that these may look at.
const ROWS_READ_MAX: i64 = 4_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hot_path_reads_few_rows_however_many_shards_are_done() {
    let server = Server::start().await;
    let url = server.database("scale").await;
    let bed = Bed::on_postgres(&url).await;
    let job = bed.job(40).await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    // Done shards come first in the order of service, so that a query that walks over them is detected.
    for statement in [
        "INSERT INTO shard (job_id, shard_index, source_index, range_unit, range_start, range_end, first_row, row_count,
            state, epoch, winner_epoch, out_key, out_bytes, out_blake3, in_blake3, out_rejects, out_truncated, out_tokens)
        SELECT $1, -n, 0, 'bytes', 0, 1, 0, 1, 'committed', 1, 1, 'k', 1, 'b', 'i', '{}', 0, 1
        FROM generate_series(1, $2) AS n",
        "INSERT INTO attempt (job_id, shard_index, epoch, attempt_id, session_id, request_id, state, granted_ms, ended_ms)
        SELECT $1, -n, 1, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'committed', 0, 0
        FROM generate_series(1, $2) AS n",
    ] {
        query(statement).bind(job.0).bind(DONE).execute(&mut connection).await.unwrap();
    }
    connection.execute("ANALYZE").await.unwrap();
    connection.execute("SELECT pg_stat_reset()").await.unwrap();
    let session = bed.greedy_session().await;
    for round in 1..=ROUNDS {
        let grants = bed.lease(session, 3).await;
        let (shard, epoch) = (grants[0].shard, grants[0].epoch);
        let progress = Progress { shard, epoch, rows_done: round as u64, tokens_done: 1 };
        bed.store.heartbeat(session, &[progress]).await.unwrap();
        assert_eq!(bed.commit(session, &grants[0]).await, CommitOutcome::Committed);
        assert!(bed.store.release(session, grants[1].shard, grants[1].epoch).await.unwrap());
        bed.status(job).await;
        bed.store.expire_sessions().await.unwrap();
        bed.store.trip_breakers().await.unwrap();
        bed.store.quarantine_sessions().await.unwrap();
        bed.store.jobs_to_finalize().await.unwrap();
        bed.store.mark_garbage(10).await.unwrap();
    }
    // The server's processes report what they did when they end, which is a little after their clients are gone.
    bed.store.close().await.unwrap();
    let others = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    while query_scalar::<_, i64>(others).fetch_one(&mut connection).await.unwrap() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let counts: Vec<(String, i64, i64, i64)> = query_as(
        "SELECT t.relname::text, t.seq_scan, t.seq_tup_read, (
            SELECT sum(i.idx_tup_read)::bigint FROM pg_stat_user_indexes i WHERE i.relid = t.relid)
        FROM pg_stat_user_tables t WHERE t.relname IN ('shard', 'attempt')",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    for (table, scans, scanned, read) in &counts {
        assert!(
            (1..ROWS_READ_MAX).contains(&(scanned + read)),
            "{table}: {scans} scans of {scanned} rows, {read} by index"
        );
    }
    assert_eq!(counts.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minute_without_the_database_costs_no_shard() {
    let mut server = Server::start().await;
    let bed = Bed::on_postgres(&server.database("outage").await).await;
    let job = bed.job(3).await;
    let session = bed.greedy_session().await;
    let grants = bed.lease(session, 3).await;
    assert_eq!(bed.commit(session, &grants[0]).await, CommitOutcome::Committed);
    server.stop();
    let lost = bed.try_commit(session, &grants[1], &output(&grants[1])).await.unwrap_err();
    assert_eq!(lost.kind(), StoreErrorKind::Unavailable, "{lost}");
    for _ in 0..6 {
        bed.advance_ms(10_000);
    }
    assert_eq!(bed.store.expire_sessions().await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    server.start_again().await;
    // The leases have been over for a while by the clock, and could not be renewed: their sessions get a fresh TTL.
    while let Err(error) = bed.store.job(job).await {
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    }
    assert_eq!(bed.store.expire_sessions().await.unwrap(), Swept::default());
    for grant in &grants {
        // The first one is a repeat: its answer may have been lost with the server.
        assert_eq!(bed.commit(session, grant).await, CommitOutcome::Committed);
    }
    assert!(bed.store.lease(session, RequestId::generate(), 3).await.unwrap().is_empty(), "nothing is done again");
    assert_eq!(bed.status(job).await.shards.committed, 3);
    bed.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_being_closed_is_no_lost_worker() {
    let server = Server::start().await;
    let url = server.database("closing").await;
    let bed = Bed::on_postgres(&url).await;
    bed.job(1).await;
    let session = bed.session().await;
    bed.lease_one(session).await;
    // What a coordinator has done between its two statements; here it dies after the first.
    let close = "UPDATE session SET state = 'dead', ended_ms = $1, end_reason = $2";
    let mut connection = PgConnection::connect(&url).await.unwrap();
    query(close).bind(bed.clock_ms()).bind(REASON_CLOSED).execute(&mut connection).await.unwrap();
    for _ in 0..3 {
        assert_eq!(bed.store.expire_sessions().await.unwrap(), Swept::default());
        bed.advance_ms(20_000);
    }
    assert_eq!(bed.store.expire_sessions().await.unwrap(), Swept { sessions: 0, leases: 1 });
    bed.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coordinators_that_sweep_by_turns_leave_no_gap_between_them() {
    let server = Server::start().await;
    let url = server.database("turns").await;
    let (first, second) = (Bed::on_postgres(&url).await, Bed::on_postgres(&url).await);
    first.session().await;
    let mut expired = 0;
    for turn in 0..4 {
        first.advance_ms(20_000);
        second.advance_ms(20_000);
        let sweeper = if turn % 2 == 0 { &first } else { &second };
        expired += sweeper.store.expire_sessions().await.unwrap().sessions;
    }
    assert_eq!(expired, 1);
}
