//! Counters of jobs, changed in the transaction of what they count.

use proto::JobId;
use sqlx::query;
use sqlx::sqlite::SqliteConnection;

use crate::store::error::StoreError;
use crate::store::sql::sweep;

type Result<T> = std::result::Result<T, StoreError>;

/// By how much a job's counters change.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) pending: i64,
    pub(super) running: i64,
    pub(super) dead: i64,
    pub(super) cancelled: i64,
    pub(super) split: i64,
    /// Attempts that were committed, failed or lost.
    pub(super) ended: i64,
}

pub(super) async fn count(db: &mut SqliteConnection, job: JobId, change: Counts) -> Result<()> {
    query(sweep::COUNT_SHARDS)
        .bind(job.0)
        .bind(change.pending)
        .bind(change.running)
        .bind(change.dead)
        .bind(change.cancelled)
        .bind(change.split)
        .bind(change.ended)
        .execute(&mut *db)
        .await?;
    Ok(())
}

/// Checks that a statement changed one row: the transaction has just read it, and there is no other writer.
pub(super) fn one(result: sqlx::sqlite::SqliteQueryResult) -> Result<()> {
    match result.rows_affected() {
        1 => Ok(()),
        changed => Err(StoreError::Corrupt {
            column: "job_id",
            problem: format!("a statement changed {changed} rows instead of the one that was read"),
        }),
    }
}
