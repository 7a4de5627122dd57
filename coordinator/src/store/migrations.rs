//! The schema, compiled in: twins of the same numbers and names.

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// Returns the migrations for SQLite.
pub(super) fn sqlite() -> Migrator {
    numbered(&[
        ("jobs", include_str!("../../../migrations/sqlite/0001_jobs.sql")),
        ("holes", include_str!("../../../migrations/sqlite/0002_holes.sql")),
    ])
}

/// Returns the migrations for PostgreSQL.
pub(super) fn postgres() -> Migrator {
    numbered(&[
        ("jobs", include_str!("../../../migrations/postgres/0001_jobs.sql")),
        ("holes", include_str!("../../../migrations/postgres/0002_holes.sql")),
    ])
}

fn numbered(files: &[(&'static str, &'static str)]) -> Migrator {
    let migrations = (1..).zip(files).map(|(version, (name, sql))| {
        Migration::new(version, (*name).into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.collect())
}
