//! The schema, compiled in: twins of the same numbers and names; and which programs may use which schema.
//!
//! Migrations that a later release has applied are passed over: its schema serves this program as well, until one of them
//! says in `schema_compat` that it does not.

use sqlx::migrate::{Migration, MigrationType, Migrator};
#[cfg(test)]
use sqlx::postgres::PgConnection;
use sqlx::postgres::PgPool;
use sqlx::sqlite::SqliteConnection;
use sqlx::{SqlSafeStr, query};

use super::error::StoreError;
use super::rows::Fields;

type Result<T> = std::result::Result<T, StoreError>;

type Numbered = (i64, &'static str, &'static str);

const SQLITE: [Numbered; 7] = [
    (1, "jobs", include_str!("../../../migrations/sqlite/0001_jobs.sql")),
    (2, "holes", include_str!("../../../migrations/sqlite/0002_holes.sql")),
    (4, "lists", include_str!("../../../migrations/sqlite/0004_lists.sql")),
    (5, "neighbours", include_str!("../../../migrations/sqlite/0005_neighbours.sql")),
    (6, "fleet", include_str!("../../../migrations/sqlite/0006_fleet.sql")),
    (7, "storage", include_str!("../../../migrations/sqlite/0007_storage.sql")),
    (8, "reuse", include_str!("../../../migrations/sqlite/0008_reuse.sql")),
];
const POSTGRES: [Numbered; 7] = [
    (1, "jobs", include_str!("../../../migrations/postgres/0001_jobs.sql")),
    (2, "holes", include_str!("../../../migrations/postgres/0002_holes.sql")),
    (4, "lists", include_str!("../../../migrations/postgres/0004_lists.sql")),
    (5, "neighbours", include_str!("../../../migrations/postgres/0005_neighbours.sql")),
    (6, "fleet", include_str!("../../../migrations/postgres/0006_fleet.sql")),
    (7, "storage", include_str!("../../../migrations/postgres/0007_storage.sql")),
    (8, "reuse", include_str!("../../../migrations/postgres/0008_reuse.sql")),
];

/// The number of the last migration that this program knows.
const SCHEMA: i64 = POSTGRES[POSTGRES.len() - 1].0;

/// No parameters.
const SCHEMA_COMPAT: &str = "-- schema_compat
SELECT oldest_schema, oldest_release FROM schema_compat";

/// Brings the schema up to date, or refuses a database that this program is too old for.
pub(super) async fn migrate_sqlite(connection: &mut SqliteConnection) -> Result<()> {
    numbered(&SQLITE).run_direct(None, connection, false).await.map_err(StoreError::Migrate)?;
    admit(&query(SCHEMA_COMPAT).fetch_one(connection).await?)
}

/// As [`migrate_sqlite`]. Coordinators that start together wait for each other here.
pub(super) async fn migrate_postgres(pool: &PgPool) -> Result<()> {
    numbered(&POSTGRES).run(pool).await.map_err(StoreError::Migrate)?;
    admit(&query(SCHEMA_COMPAT).fetch_one(pool).await?)
}

/// Makes the schema of an earlier program, which had the migrations up to a number.
#[cfg(test)]
pub(super) async fn sqlite_until(last: i64, connection: &mut SqliteConnection) -> Result<()> {
    numbered(&SQLITE).run_direct(Some(last), connection, false).await.map_err(StoreError::Migrate)
}

/// As [`sqlite_until`].
#[cfg(test)]
pub(super) async fn postgres_until(last: i64, connection: &mut PgConnection) -> Result<()> {
    numbered(&POSTGRES).run_direct(Some(last), connection, false).await.map_err(StoreError::Migrate)
}

fn numbered(files: &[Numbered]) -> Migrator {
    let migrations = files.iter().map(|(version, name, sql)| {
        Migration::new(*version, (*name).into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.set_ignore_missing(true);
    migrator
}

fn admit(compat: &impl Fields) -> Result<()> {
    let oldest = compat.int("oldest_schema")?;
    if SCHEMA >= oldest {
        return Ok(());
    }
    Err(StoreError::TooOld { schema: SCHEMA, oldest, release: compat.text("oldest_release")? })
}
