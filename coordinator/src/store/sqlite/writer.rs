//! The one writer of a SQLite database: a task that owns the connection and takes transitions from a bounded queue.
//!
//! Every transition runs in a savepoint inside one `BEGIN IMMEDIATE` transaction; those that queue up while the disk
//! syncs share the next transaction and its sync. A transition is answered after its transaction is on disk, never
//! before. It runs here and not in its caller's future, so that a caller who goes away cannot leave half of it behind.

use std::fs::File;

use futures::future::BoxFuture;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Executor};
use tokio::sync::{mpsc, oneshot};

use crate::store::error::StoreError;

/// Transitions that wait at most; more callers wait for a place.
const QUEUE_MAX: usize = 256;

/// Transitions in one transaction at most.
const GROUP_MAX: usize = 64;

/// A handle on the writer. The writer ends when the last handle is gone.
pub(super) struct Writer {
    steps: mpsc::Sender<Box<dyn Step>>,
    closed: tokio::sync::watch::Receiver<bool>,
}

impl Writer {
    /// Starts the writer. It lets go of the connection, then of the lock, when it ends.
    pub(super) fn start(connection: SqliteConnection, lock: File) -> Self {
        let (steps, queue) = mpsc::channel(QUEUE_MAX);
        let (ended, closed) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            let outcome = write(connection, queue).await;
            if let Err(error) = outcome {
                tracing::warn!(%error, "the database was not closed cleanly");
            }
            drop(lock);
            ended.send_replace(true);
        });
        Self { steps, closed }
    }

    /// Runs a transition and returns its answer once it is on disk.
    pub(super) async fn run<T, F>(&self, transition: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let step = Transition { run: Some(transition), answer: None, reply };
        self.steps.send(Box::new(step)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Lets the writer finish its queue, takes nothing more, and waits until the database is closed.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        let stopping = self.steps.send(Box::new(Stop)).await;
        if stopping.is_ok() {
            self.closed.clone().wait_for(|closed| *closed).await.map_err(|_| StoreError::Closed)?;
        }
        Ok(())
    }
}

/// A transition whose type of answer only its caller knows.
trait Step: Send {
    /// Whether the writer ends here.
    fn stops(&self) -> bool {
        false
    }
    /// Runs it; returns whether its changes are to be kept.
    fn run<'c>(&'c mut self, connection: &'c mut SqliteConnection) -> BoxFuture<'c, bool>;
    /// Answers the caller, with the error of the whole transaction if there was one.
    fn answer(self: Box<Self>, transaction: Result<(), String>);
}

struct Stop;

impl Step for Stop {
    fn stops(&self) -> bool {
        true
    }
    fn run<'c>(&'c mut self, _: &'c mut SqliteConnection) -> BoxFuture<'c, bool> {
        Box::pin(std::future::ready(true))
    }
    fn answer(self: Box<Self>, _: Result<(), String>) {}
}

struct Transition<T, F> {
    run: Option<F>,
    answer: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Step for Transition<T, F>
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
{
    fn run<'c>(&'c mut self, connection: &'c mut SqliteConnection) -> BoxFuture<'c, bool> {
        let run = self.run.take().expect("the writer runs a step once");
        Box::pin(async move {
            let answer = run(connection).await;
            let keep = answer.is_ok();
            self.answer = Some(answer);
            keep
        })
    }

    fn answer(self: Box<Self>, transaction: Result<(), String>) {
        let answer = match (transaction, self.answer) {
            (_, Some(Err(error))) => Err(error),
            (Ok(()), Some(Ok(answer))) => Ok(answer),
            (Ok(()), None) => Err(StoreError::Closed),
            (Err(problem), _) => Err(StoreError::NotWritten { problem }),
        };
        // The caller may be gone; the transition took effect all the same.
        self.reply.send(answer).ok();
    }
}

async fn write(mut connection: SqliteConnection, mut queue: mpsc::Receiver<Box<dyn Step>>) -> Result<(), sqlx::Error> {
    let mut group: Vec<Box<dyn Step>> = Vec::with_capacity(GROUP_MAX);
    let mut stopping = false;
    while !stopping && queue.recv_many(&mut group, GROUP_MAX).await > 0 {
        stopping = group.iter().any(|step| step.stops());
        let written = transaction(&mut connection, &mut group).await;
        if let Err(error) = &written {
            tracing::error!(%error, transitions = group.len(), "the database did not take a transaction");
        }
        for step in group.drain(..) {
            step.answer(written.as_ref().map(|_| ()).map_err(ToString::to_string));
        }
    }
    connection.close().await
}

async fn transaction(connection: &mut SqliteConnection, group: &mut [Box<dyn Step>]) -> Result<(), sqlx::Error> {
    connection.execute("BEGIN IMMEDIATE").await?;
    match steps(connection, group).await {
        Ok(()) => Ok(()),
        Err(error) => {
            // A full disk may have rolled back already: then this fails, and the first error is the one to tell.
            connection.execute("ROLLBACK").await.ok();
            Err(error)
        }
    }
}

async fn steps(connection: &mut SqliteConnection, group: &mut [Box<dyn Step>]) -> Result<(), sqlx::Error> {
    for step in group {
        connection.execute("SAVEPOINT step").await?;
        if !step.run(connection).await {
            connection.execute("ROLLBACK TO step").await?;
        }
        connection.execute("RELEASE step").await?;
    }
    connection.execute("COMMIT").await?;
    Ok(())
}
