//! The schema, compiled in: twins of the same numbers and names.

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// Returns the migrations for SQLite.
pub(super) fn sqlite() -> Migrator {
    numbered(&[
        (1, "jobs", include_str!("../../../migrations/sqlite/0001_jobs.sql")),
        (2, "holes", include_str!("../../../migrations/sqlite/0002_holes.sql")),
        (4, "lists", include_str!("../../../migrations/sqlite/0004_lists.sql")),
    ])
}

/// Returns the migrations for PostgreSQL.
pub(super) fn postgres() -> Migrator {
    numbered(&[
        (1, "jobs", include_str!("../../../migrations/postgres/0001_jobs.sql")),
        (2, "holes", include_str!("../../../migrations/postgres/0002_holes.sql")),
        (4, "lists", include_str!("../../../migrations/postgres/0004_lists.sql")),
    ])
}

fn numbered(files: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migrations = files.iter().map(|(version, name, sql)| {
        Migration::new(*version, (*name).into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.collect())
}
