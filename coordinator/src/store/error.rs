//! What can go wrong in the store, and what the caller may do about it.

use proto::job::JobState;
use proto::{Epoch, JobId, SessionId, ShardId};

use crate::shard::job_state_name;

/// A request to the store that was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database cannot be opened.
    #[error("cannot open the database `{url}`: {problem}")]
    Open {
        /// The URL or path, without a password.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Another coordinator uses the SQLite database.
    #[error(
        "the database `{path}` is in use by {holder}; stop that process first, or use PostgreSQL for several coordinators"
    )]
    Held {
        /// The database file.
        path: String,
        /// Who holds it, as far as the lock file says.
        holder: String,
    },
    /// There is no such job.
    #[error("no such job: `{job}`")]
    JobUnknown {
        /// The job.
        job: JobId,
    },
    /// The job exists, and it is another one.
    #[error("job `{job}` exists with other parameters; submit under a new id")]
    SpecDiffers {
        /// The job.
        job: JobId,
    },
    /// The job's state does not allow the action.
    #[error("cannot {action} job `{job}`: it is {}", job_state_name(*state))]
    WrongState {
        /// The job.
        job: JobId,
        /// The verb.
        action: &'static str,
        /// Where the job stands.
        state: JobState,
    },
    /// The session is unknown or dead: its worker opens a new one and drops all leases.
    #[error("session `{session}` is unknown or dead; open a new one")]
    SessionLost {
        /// The session.
        session: SessionId,
    },
    /// The output is not what the lease asked for; the lease stands.
    #[error("output of shard `{shard}`, epoch {epoch}, refused: {problem}")]
    OutputRefused {
        /// The shard.
        shard: ShardId,
        /// The lease.
        epoch: Epoch,
        /// What is wrong with it.
        problem: String,
    },
    /// The schema of the database is not this program's.
    #[error("cannot bring the database schema up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A statement failed or the database is out of reach. Every request may be repeated as it is.
    #[error("database statement failed")]
    Database(#[source] sqlx::Error),
    /// The database did not take the transaction: a full disk, most of the time. Nothing of it is stored.
    #[error("the database did not take the change: {problem}")]
    NotWritten {
        /// What it said.
        problem: String,
    },
    /// A stored value cannot be read back.
    #[error("stored value of `{column}` is not readable: {problem}")]
    Corrupt {
        /// The column.
        column: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

/// What the caller may do about a [`StoreError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// The subject does not exist.
    NotFound,
    /// The subject exists and is another one.
    AlreadyExists,
    /// The subject is in a state that does not allow it.
    WrongState,
    /// Open a new session.
    SessionLost,
    /// The request can never be carried out as it is.
    Invalid,
    /// Repeat the same request later.
    Unavailable,
    /// Somebody has to look.
    Internal,
}

impl StoreError {
    /// Returns what the caller may do.
    pub fn kind(&self) -> StoreErrorKind {
        match self {
            StoreError::JobUnknown { .. } => StoreErrorKind::NotFound,
            StoreError::SpecDiffers { .. } => StoreErrorKind::AlreadyExists,
            StoreError::WrongState { .. } => StoreErrorKind::WrongState,
            StoreError::SessionLost { .. } => StoreErrorKind::SessionLost,
            StoreError::OutputRefused { .. } => StoreErrorKind::Invalid,
            StoreError::Closed | StoreError::Held { .. } | StoreError::NotWritten { .. } => StoreErrorKind::Unavailable,
            StoreError::Database(source) if is_transient(source) => StoreErrorKind::Unavailable,
            StoreError::Database(_) | StoreError::Open { .. } | StoreError::Migrate(_) | StoreError::Corrupt { .. } => {
                StoreErrorKind::Internal
            }
        }
    }
}

/// Returns whether the same statement may succeed later: lost connections, timeouts, shutdowns, a full disk, locks.
fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => true,
        sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(database) => database.code().is_some_and(|code| {
            // PostgreSQL: connection (08), rollback (40), resources (53), lock timeout (55), intervention (57), system
            // (58). SQLite primary codes: BUSY 5, LOCKED 6, IOERR 10, FULL 13.
            let postgres = code.len() == 5 && ["08", "40", "53", "55", "57", "58"].iter().any(|c| code.starts_with(c));
            let sqlite = code.parse::<i32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13));
            postgres || (code.len() < 5 && sqlite)
        }),
        _ => false,
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        StoreError::Database(error)
    }
}
