//! Connections to a server that may go silent: a network that swallows everything ends no connection, and nothing below
//! us would ever notice. What is not answered in time is given up together with its connection; so is the connection of
//! a caller who goes away in the middle of a conversation.

use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::Connection;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgRow};
use tokio::time::error::Elapsed;

use super::{Count, Result, Statement};
use crate::store::error::StoreError;

/// How long a request waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that has been idle for so long is pinged before use,
const IDLE_TRUSTED: Duration = Duration::from_secs(1);
/// and has so long to answer.
const PING_PATIENCE: Duration = Duration::from_secs(2);

/// Connections of one kind.
#[derive(Clone)]
pub(super) struct Pool {
    pool: PgPool,
    /// An answer that takes longer is lost.
    patience: Duration,
}

impl Pool {
    pub(super) fn new(options: PgConnectOptions, connections_max: u32, patience: Duration) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for <= IDLE_TRUSTED {
                        return Ok(true);
                    }
                    match tokio::time::timeout(PING_PATIENCE, connection.ping()).await {
                        Ok(answer) => answer.map(|()| true),
                        Err(_) => Err(silence()),
                    }
                })
            });
        Self { pool: pool.connect_lazy_with(options), patience }
    }

    /// The pool itself, for migrations.
    pub(super) fn raw(&self) -> &PgPool {
        &self.pool
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    pub(super) async fn acquire(&self) -> Result<Held> {
        Ok(Held(Some(self.pool.acquire().await?)))
    }

    /// Runs a statement and returns its rows.
    pub(super) async fn rows(&self, statement: Statement) -> Result<Vec<PgRow>> {
        self.run(|connection| Box::pin(async move { Ok(statement.fetch_all(connection).await?) })).await
    }

    /// Runs a statement and returns how many rows it changed.
    pub(super) async fn changed(&self, statement: Statement) -> Result<u64> {
        self.run(|connection| Box::pin(async move { Ok(statement.execute(connection).await?.rows_affected()) })).await
    }

    /// Runs a statement and returns the number that it answers with.
    pub(super) async fn number(&self, statement: Count) -> Result<i64> {
        self.run(|connection| Box::pin(async move { Ok(statement.fetch_one(connection).await?) })).await
    }

    async fn run<T>(&self, work: impl for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T>>) -> Result<T> {
        let mut held = self.acquire().await?;
        let answered = tokio::time::timeout(self.patience, work(held.connection()?)).await;
        let answer = held.settle(answered);
        held.give_back();
        answer
    }
}

/// A connection in use. Dropped before it is given back, it is closed without a word.
pub(super) struct Held(Option<PoolConnection<sqlx::Postgres>>);

impl Held {
    /// The connection, for one conversation with a time limit; what came of it is [settled](Held::settle).
    pub(super) fn connection(&mut self) -> Result<&mut PgConnection> {
        self.0.as_deref_mut().ok_or_else(|| StoreError::Database(silence()))
    }

    /// Ends a conversation; gives the connection up where there was no answer in time.
    pub(super) fn settle<T>(&mut self, answered: std::result::Result<Result<T>, Elapsed>) -> Result<T> {
        answered.unwrap_or_else(|_| {
            self.hang_up();
            Err(StoreError::Database(silence()))
        })
    }

    /// Hands the connection back to its pool: its last conversation is over.
    pub(super) fn give_back(mut self) {
        drop(self.0.take());
    }

    fn hang_up(&mut self) {
        // Given back, it would be pinged, and the ping waited for.
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.hang_up();
    }
}

/// What a connection that says nothing amounts to.
fn silence() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "PostgreSQL does not answer"))
}
