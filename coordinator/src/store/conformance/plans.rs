//! How PostgreSQL goes about the statements that run all the time, with many done shards and no statistics: by an index and
//! a condition on it, or by an index that holds few rows. The plan is read, not measured, which takes no time.

use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, query_scalar};

use crate::clock::TestClock;
use crate::policy::Policy;
use crate::store::Store;
use crate::store::postgres::{EVERYWHERE, HOT};
use crate::store::sql::{jobs, sweep, work};
use testkit::postgres::Server;

/// Indexes over rows that are few, whatever is done.
const SMALL: [&str; 8] = [
    "shard_pending",
    "shard_halves",
    "shard_dead",
    "attempt_live",
    "attempt_losers",
    "attempt_wrong",
    "attempt_wrong_session",
    "attempt_garbage",
];

/// What runs on connections with the settings [`HOT`].
pub(super) const HOT_STATEMENTS: [(&str, &str); 12] = [
    ("lease", work::PG_LEASE_SHARDS),
    ("lease again", work::GRANTED),
    ("session standings", work::PG_SESSION_STANDINGS),
    ("copy", work::PG_COPY_SHARD),
    ("beat", work::PG_BEAT),
    ("commit", work::PG_COMMIT_SHARDS),
    ("commit refused", work::COMMIT_REFUSAL),
    ("fail", work::PG_FAIL_ATTEMPT),
    ("release", work::PG_RELEASE_ATTEMPT),
    ("lose", sweep::PG_LOSE_WORKER),
    ("close", sweep::PG_CLOSE_SESSIONS),
    ("release closed", sweep::PG_RELEASE_CLOSED),
];

/// Upkeep, and what people ask for.
const DESK_STATEMENTS: [(&str, &str); 13] = [
    ("expire", sweep::PG_EXPIRE_SESSIONS),
    ("reap", sweep::PG_REAP_LEASES),
    ("mark garbage", sweep::PG_MARK_GARBAGE),
    ("list garbage", sweep::LIST_GARBAGE),
    ("tripped", sweep::TRIPPED_JOBS),
    ("quarantine", sweep::QUARANTINE),
    ("status", jobs::PG_PAGES.one.briefs),
    ("list", jobs::PG_PAGES.newest.briefs),
    ("list, owned", jobs::PG_PAGES.owned.briefs),
    ("to finalize", jobs::JOBS_TO_FINALIZE),
    ("winners", jobs::WINNERS_WHOLE),
    ("winners, halves", jobs::WINNERS_HALVES),
    ("holes", jobs::HOLES),
];

/// Done shards, which no query needs to look at.
const FILLING: [&str; 2] = [
    "INSERT INTO shard (job_id, shard_index, source_index, range_unit, range_start, range_end, first_row, row_count,
        state, epoch, winner_epoch, out_key, out_bytes, out_blake3, in_blake3, out_rejects, out_truncated, out_tokens)
    SELECT '00000000-0000-0000-0000-000000000000', n, 0, 'bytes', 0, 1, 0, 1, 'committed', 1, 1, 'k', 1, 'b', 'i', '{}',
        0, 1
    FROM generate_series(1, 50000) AS n",
    "INSERT INTO attempt (job_id, shard_index, epoch, attempt_id, session_id, request_id, state, granted_ms, ended_ms)
    SELECT job_id, shard_index, 1, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'committed', 0, 0 FROM shard",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_hot_statement_walks_over_what_is_done() {
    let server = Server::start().await;
    let url = server.database("plans").await;
    let clock = std::sync::Arc::new(TestClock::at(0));
    Store::open_with(&url, clock, Policy::default()).await.unwrap().close().await.unwrap();
    let options = PgConnectOptions::from_str(&url).unwrap().options(EVERYWHERE);
    let mut hot = options.clone().options(HOT).connect().await.unwrap();
    let mut background = options.options([("plan_cache_mode", "force_generic_plan")]).connect().await.unwrap();
    for filling in FILLING {
        background.execute(filling).await.unwrap();
    }
    let mut walks = Vec::new();
    for (connection, statements) in [(&mut hot, &HOT_STATEMENTS[..]), (&mut background, &DESK_STATEMENTS[..])] {
        for (name, statement) in statements {
            let plan = prepare(connection, name, statement).await;
            walks.extend(full_scans(&plan).into_iter().map(|line| format!("{name}: {line}")));
        }
    }
    assert!(walks.is_empty(), "{walks:#?}");
    let plan = prepare(&mut background, "walk", "SELECT * FROM shard WHERE row_count > $1").await;
    assert_eq!(full_scans(&plan).len(), 1, "a walk is seen: {plan:#?}");
}

/// Prepares a statement under a name and returns the lines of its plan, which does not depend on its parameters.
pub(super) async fn prepare(connection: &mut PgConnection, name: &str, statement: &str) -> Vec<String> {
    connection.execute(AssertSqlSafe(format!("PREPARE \"{name}\" AS {statement}"))).await.unwrap();
    let count = "SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = $1";
    let count: i32 = query_scalar(count).bind(name).fetch_one(&mut *connection).await.unwrap();
    let nothing = vec!["NULL"; usize::try_from(count).unwrap()].join(", ");
    let arguments = if nothing.is_empty() { nothing } else { format!("({nothing})") };
    let explain = AssertSqlSafe(format!("EXPLAIN EXECUTE \"{name}\"{arguments}"));
    query_scalar(explain).fetch_all(&mut *connection).await.unwrap()
}

/// The scans of shards and attempts that read all of them.
fn full_scans(plan: &[String]) -> Vec<String> {
    let is_large = |line: &str| [" on shard", " on attempt"].iter().any(|table| line.contains(table));
    let scans = plan.iter().enumerate().filter(|(_, line)| line.contains("Scan") && is_large(line));
    let walks = scans.filter(|(at, line)| {
        let is_small = SMALL.iter().any(|index| line.contains(&format!("using {index} ")));
        let has_condition =
            plan.get(at + 1).is_some_and(|next| next.contains("Index Cond") || next.contains("TID Cond"));
        !is_small && !has_condition
    });
    walks.map(|(_, line)| line.trim().to_owned()).collect()
}
