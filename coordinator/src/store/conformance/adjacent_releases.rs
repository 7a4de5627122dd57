//! A database that programs of other releases have migrated, on both databases.

use std::str::FromStr;
use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

use crate::clock::TestClock;
use crate::policy::Policy;
use crate::store::{Store, StoreError, StoreErrorKind};
use testkit::postgres::Server;

/// What a later release may do that its neighbour need not know of.
const EXPANSION: [&str; 3] = [
    "ALTER TABLE job ADD COLUMN later TEXT",
    "CREATE INDEX job_later ON job (later)",
    "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
    SELECT 9001, 'later', success, checksum, execution_time FROM _sqlx_migrations WHERE version = 1",
];
/// And what ends the neighbourhood.
const CONTRACTION: &str = "UPDATE schema_compat SET oldest_schema = 9001, oldest_release = '9.0.0'";

async fn open(url: &str) -> Result<Store, StoreError> {
    Store::open_with(url, Arc::new(TestClock::at(0)), Policy::default()).await
}

/// Runs statements beside the store.
async fn run(url: &str, statements: &[&'static str]) {
    if url.starts_with("postgres") {
        let mut connection = PgConnectOptions::from_str(url).unwrap().connect().await.unwrap();
        for statement in statements {
            connection.execute(AssertSqlSafe(*statement)).await.unwrap();
        }
        connection.close().await.unwrap();
    } else {
        let mut connection = SqliteConnectOptions::new().filename(url).connect().await.unwrap();
        for statement in statements {
            connection.execute(AssertSqlSafe(*statement)).await.unwrap();
        }
        connection.close().await.unwrap();
    }
}

async fn a_schema_of_a_later_release_is_used_until_it_says_otherwise(url: &str) {
    open(url).await.unwrap().close().await.unwrap();
    run(url, &EXPANSION).await;
    let store = open(url).await.expect("a neighbour's schema");
    store.submit_job(proto::JobId::generate(), &super::fixture::spec("a")).await.unwrap();
    store.close().await.unwrap();
    run(url, &[CONTRACTION]).await;
    let refused = open(url).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Internal, "asking again does not help");
    let said = refused.to_string();
    assert!(said.contains("for encaje 9.0.0 and later (schema 9001)"), "{said}");
    assert!(said.contains(&format!("this is encaje {}", env!("CARGO_PKG_VERSION"))), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_of_a_later_release_is_used_until_it_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    a_schema_of_a_later_release_is_used_until_it_says_otherwise(path.to_str().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_of_a_later_release_is_used_until_it_says_otherwise() {
    let server = Server::start().await;
    a_schema_of_a_later_release_is_used_until_it_says_otherwise(&server.database("later").await).await;
}
