//! What the plans that PostgreSQL makes for the hot statements while its tables are empty read later, beside ten thousand
//! workers: connections keep these plans, and the tables are not analysed for a minute or more.

use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, query_scalar};
use uuid::Uuid;

use super::plans::{HOT_STATEMENTS, prepare};
use crate::clock::TestClock;
use crate::policy::Policy;
use crate::store::Store;
use crate::store::postgres::{EVERYWHERE, HOT};
use testkit::postgres::Server;

/// Requests in a statement.
const BATCH: u128 = 8;
/// Pages that a statement may touch. Each request needs some twenty, to read and to write; all live attempts are 500.
const PAGES_MAX: u64 = 400;
/// Shards that are done. Those from here on run, two at each session.
const DONE: u128 = 50_000;

/// Shards and attempts that are done, ten thousand sessions with two live attempts each, shards that wait.
const FILLING: [&str; 4] = [
    "INSERT INTO job (job_id, spec_digest, spec, task, state, submitted_ms, planned)
    VALUES ('00000000-0000-0000-0000-000000000000', 'd', '{}', '{}', 'running', 0, TRUE)",
    "INSERT INTO session (session_id, name, devices, version, leases_max, state, opened_ms, expires_ms, progress_ms)
    SELECT lpad(to_hex(n), 32, '0')::uuid, 'w', '[]', '1', 4, 'live', 0, 1000000000000000, 0 FROM generate_series(0, 9999) n",
    "INSERT INTO shard (job_id, shard_index, source_index, range_unit, range_start, range_end, first_row, row_count,
        state, epoch, live, winner_epoch, out_key, out_bytes, out_blake3, in_blake3, out_rejects, out_truncated, out_tokens)
    SELECT '00000000-0000-0000-0000-000000000000', n, 0, 'bytes', 0, 1, 0, 1,
        CASE WHEN n < 50000 THEN 'committed' WHEN n < 70000 THEN 'running' ELSE 'pending' END, (n < 70000)::int,
        (n BETWEEN 50000 AND 69999)::int, CASE WHEN n < 50000 THEN 1 END, CASE WHEN n < 50000 THEN 'k' END, 1, 'b', 'i',
        '{}', 0, 1
    FROM generate_series(0, 99999) n",
    "INSERT INTO attempt (job_id, shard_index, epoch, attempt_id, session_id, request_id, state, granted_ms, ended_ms)
    SELECT job_id, shard_index, 1, lpad(to_hex(shard_index), 32, '0')::uuid,
        lpad(to_hex(greatest(0, shard_index - 50000) / 2), 32, '0')::uuid, gen_random_uuid(),
        CASE state WHEN 'running' THEN 'live' ELSE 'committed' END, encaje_now_ms(NULL),
        CASE state WHEN 'committed' THEN 1 END
    FROM shard WHERE state IN ('committed', 'running')",
];

/// What was tried first: with plans from empty tables, it reads all live attempts for every row.
const BY_KEY_AND_STATE: &str = "UPDATE attempt a SET rows_done = 1
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS u (job_id, shard_index, epoch)
    WHERE a.job_id = u.job_id AND a.shard_index = u.shard_index AND a.epoch = u.epoch AND a.state = 'live'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_from_empty_tables_are_good_for_ten_thousand_workers() {
    let server = Server::start().await;
    let url = server.database("prepared").await;
    let clock = std::sync::Arc::new(TestClock::at(0));
    Store::open_with(&url, clock, Policy::default()).await.unwrap().close().await.unwrap();
    let options = PgConnectOptions::from_str(&url).unwrap().options(EVERYWHERE);
    let mut careless = options.clone().options([("plan_cache_mode", "force_generic_plan")]).connect().await.unwrap();
    for table in ["job", "session", "shard", "attempt"] {
        // A look at the tables would make new plans.
        let never = format!("ALTER TABLE {table} SET (autovacuum_enabled = off)");
        careless.execute(AssertSqlSafe(never)).await.unwrap();
    }
    let mut hot = options.options(HOT).connect().await.unwrap();
    for (name, statement) in HOT_STATEMENTS {
        prepare(&mut hot, name, statement).await;
    }
    prepare(&mut careless, "by key and state", BY_KEY_AND_STATE).await;
    for filling in FILLING {
        careless.execute(filling).await.unwrap();
    }
    let (jobs, shards, ones) = (ids(|_| 0), numbers(|n| DONE + 2 * n), numbers(|_| 1));
    let read = pages_read(&mut careless, "by key and state", &format!("{jobs}, {shards}, {ones}")).await;
    assert!(read > PAGES_MAX, "a walk is seen: {read}");

    let mut walks = Vec::new();
    for (round, when) in ["as planned for empty tables", "after a look at the tables"].into_iter().enumerate() {
        for (place, (name, _)) in HOT_STATEMENTS.into_iter().enumerate() {
            // The leases of these sessions are untouched.
            let first = ((round * HOT_STATEMENTS.len() + place) as u128 + 1) * BATCH;
            let read = pages_read(&mut hot, name, &arguments(name, first)).await;
            if read > PAGES_MAX {
                walks.push(format!("{name}, {when}: {read} pages"));
            }
        }
        careless.execute("ANALYZE").await.unwrap();
    }
    assert!(walks.is_empty(), "{walks:#?}");
}

/// What one of the hot statements is called with, by or for the sessions from `first` on.
fn arguments(name: &str, first: u128) -> String {
    let shard = move |n: u128| DONE + 2 * (first + n);
    let (session, job) = (format!("'{}'", Uuid::from_u128(first)), format!("'{}'", Uuid::nil()));
    let lease = format!("{session}, {job}, {}, 1", shard(0));
    let (sessions, jobs, shards) = (ids(|n| first + n), ids(|_| 0), numbers(shard));
    let (ones, words) = (numbers(|_| 1), format!("ARRAY[{}]", vec!["'{}'"; BATCH as usize].join(", ")));
    match name {
        "lease" => format!("NULL, {sessions}, {}, {}, 0", ids(|_| Uuid::now_v7().as_u128()), numbers(|_| 2)),
        "lease again" => format!("{session}, {job}, 0"),
        "session standings" => sessions,
        "copy" => format!("NULL, {session}, {job}, 60000, 3, 90, 5, 0"),
        "beat" => format!("NULL, 60000, {sessions}, {sessions}, {jobs}, {shards}, {ones}, {ones}, {ones}, 'stray', 0"),
        "commit" => format!(
            "NULL, {sessions}, {jobs}, {shards}, {ones}, {}, {words}, {ones}, {words}, {words}, {words}, {ones}, {ones}, \
             {ones}, 'lost race', {ones}",
            ids(shard)
        ),
        "commit refused" => lease,
        "fail" => format!("{lease}, NULL, 'no', TRUE, ARRAY[1, 2], 0, 5, 'transient'"),
        "release" => format!("{lease}, NULL, 'no'"),
        "lose" => format!("{lease}, NULL, 'no', 3"),
        "close" | "release closed" => format!("{sessions}, NULL, 'closed'"),
        _ => panic!("what is `{name}` called with?"),
    }
}

/// An array of as many ids as a statement has requests.
fn ids(id: impl Fn(u128) -> u128) -> String {
    let ids: Vec<String> = (0..BATCH).map(|n| format!("'{}'", Uuid::from_u128(id(n)))).collect();
    format!("ARRAY[{}]::uuid[]", ids.join(", "))
}

/// An array of as many numbers.
fn numbers(number: impl Fn(u128) -> u128) -> String {
    let numbers: Vec<String> = (0..BATCH).map(|n| number(n).to_string()).collect();
    format!("ARRAY[{}]::bigint[]", numbers.join(", "))
}

/// Carries a statement out that was prepared, and returns how many pages it touched.
async fn pages_read(connection: &mut PgConnection, name: &str, arguments: &str) -> u64 {
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS) EXECUTE \"{name}\" ({arguments})");
    let plan: Vec<String> = query_scalar(AssertSqlSafe(explain)).fetch_all(&mut *connection).await.unwrap();
    // The first line of its kind is about the whole.
    let line = plan.iter().find(|line| line.contains("Buffers: shared")).unwrap();
    let counts = line.split_whitespace().filter_map(|word| word.split_once('='));
    counts.filter(|(what, _)| matches!(*what, "hit" | "read")).map(|(_, count)| count.parse::<u64>().unwrap()).sum()
}
