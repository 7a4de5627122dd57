//! Transitions that go on when their caller goes away, and that are tried again where the server chose them to give way.

use std::sync::Arc;

use super::pool::Pool;
use super::{Count, Result, Statement};
use crate::store::detached;
use crate::store::error::StoreError;

/// How often a transition is tried that the server rolled back for the sake of another one.
pub(super) const DEADLOCK_TRIES_MAX: u32 = 5;

/// Runs a transition detached from its caller. One that lost a deadlock is tried again: nothing of it has happened.
pub(super) async fn transition<T, F, A>(pool: &Pool, transition: F) -> Result<T>
where
    T: Send + 'static,
    F: Fn(Pool) -> A + Send + Sync + 'static,
    A: Future<Output = Result<T>> + Send,
{
    let pool = pool.clone();
    detached(async move {
        let mut tries = 1;
        loop {
            match transition(pool.clone()).await {
                Err(StoreError::Database(error)) if tries < DEADLOCK_TRIES_MAX && was_rolled_back(&error) => tries += 1,
                answer => return answer,
            }
        }
    })
    .await
}

/// Deadlock or serialization failure: the server chose this transaction to give way.
pub(super) fn was_rolled_back(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "40P01" || code == "40001")
}

/// Runs a statement and returns how many rows it changed.
pub(super) async fn changed(pool: &Pool, statement: impl Fn() -> Statement + Send + Sync + 'static) -> Result<u64> {
    let statement = Arc::new(statement);
    transition(pool, move |pool| {
        let statement = statement.clone();
        async move { pool.changed(statement()).await }
    })
    .await
}

/// Runs a statement that ends in `SELECT count(*)` and returns that number.
pub(super) async fn counted(pool: &Pool, statement: impl Fn() -> Count + Send + Sync + 'static) -> Result<u64> {
    let statement = Arc::new(statement);
    transition(pool, move |pool| {
        let statement = statement.clone();
        async move { Ok(u64::try_from(pool.number(statement()).await?).unwrap_or(0)) }
    })
    .await
}
