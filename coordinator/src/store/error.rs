//! What can go wrong in the store, and what the caller may do about it.

use proto::job::JobState;
use proto::{Epoch, JobId, SessionId, ShardId};

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
    #[error("cannot {action} job `{job}`: it is {state}")]
    WrongState {
        /// The job.
        job: JobId,
        /// The verb.
        action: &'static str,
        /// The state of the job.
        state: JobState,
    },
    /// The session is unknown or dead: its worker opens a new one and drops all leases.
    #[error("session `{session}` is unknown or dead; open a new one")]
    SessionLost {
        /// The session.
        session: SessionId,
    },
    /// The output is not what the lease specifies; the lease stays valid.
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
    /// The database was migrated by a later release, which took away what this program needs.
    #[error(
        "the database was upgraded for encaje {release} and later (schema {oldest}), and this is encaje {} (schema \
         {schema}): start encaje {release} or later, or go back to the backup of before the upgrade",
        env!("CARGO_PKG_VERSION")
    )]
    TooOld {
        /// The last migration that this program knows.
        schema: i64,
        /// The one that it would have to know.
        oldest: i64,
        /// The first release that knows it.
        release: String,
    },
    /// The job uses what only a later release knows: other coordinators see to it.
    #[error("job `{job}` needs a coordinator of a later release than {}", env!("CARGO_PKG_VERSION"))]
    JobNewer {
        /// The job.
        job: JobId,
    },
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
            StoreError::Closed
            | StoreError::Held { .. }
            | StoreError::NotWritten { .. }
            | StoreError::JobNewer { .. } => StoreErrorKind::Unavailable,
            StoreError::Database(source) if is_transient(source) => StoreErrorKind::Unavailable,
            StoreError::Database(_)
            | StoreError::Open { .. }
            | StoreError::Migrate(_)
            | StoreError::TooOld { .. }
            | StoreError::Corrupt { .. } => StoreErrorKind::Internal,
        }
    }
}

/// SQLSTATE codes and classes after which the same statement may succeed later, with the reason. Everything else (syntax,
/// missing tables, violated constraints, bad values) fails in the same way each time.
const POSTGRES_TRANSIENT: [&str; 16] = [
    "08",    // connection exception
    "0A000", // cached plan must not change result type: the schema was migrated under a prepared statement
    "25", // invalid transaction state: read-only after a failover (25006), a connection left in a transaction (25P02)
    "26000", // prepared statement does not exist: a pooler switched servers
    "28", // role or password refused: it is being changed
    "3D000", // database does not exist: it is being restored
    "40", // serialization failure, deadlock
    "42501", // insufficient privilege: rights are being changed
    "53", // too many connections, disk full, out of memory
    "55", // lock not available, object in use
    "57", // shutdown, crash recovery, cancelled statement
    "58", // I/O error
    "72000", // snapshot too old
    "F0", // lock file or configuration error
    "HV00N", // unable to establish a connection
    "XX000", // internal error: such as a cache lookup that raced with a schema change
];

/// SQLite's primary result codes after which the same statement may succeed later.
const SQLITE_TRANSIENT: [i32; 8] = [
    3,  // PERM
    5,  // BUSY
    6,  // LOCKED
    7,  // NOMEM
    8,  // READONLY: the file system is mounted read-only
    10, // IOERR
    13, // FULL
    14, // CANTOPEN
];

/// Returns whether the same statement may succeed later.
fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => true,
        sqlx::Error::WorkerCrashed => true,
        // A server, or a proxy before one, that hung up in the middle of a greeting or an answer.
        sqlx::Error::Protocol(_) | sqlx::Error::BeginFailed => true,
        sqlx::Error::Database(database) => database.code().is_some_and(|code| is_transient_code(&code)),
        _ => false,
    }
}

/// PostgreSQL's codes have five characters, SQLite's are numbers whose low byte is the primary code.
fn is_transient_code(code: &str) -> bool {
    if code.len() == 5 {
        return POSTGRES_TRANSIENT.iter().any(|transient| code.starts_with(transient));
    }
    code.parse::<i32>().is_ok_and(|code| SQLITE_TRANSIENT.contains(&(code & 0xff)))
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        StoreError::Database(error)
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection, PgConnection};
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::{is_transient, is_transient_code};

    #[tokio::test]
    async fn a_proxy_that_hangs_up_because_the_database_is_gone_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://nobody@{}/nothing", listener.local_addr().unwrap());
        let hang_up = async {
            let (mut client, _) = listener.accept().await.unwrap();
            assert!(client.read(&mut [0; 8]).await.unwrap() > 0, "it greets");
        };
        let (refused, ()) = tokio::join!(PgConnection::connect(&url), hang_up);
        let error = refused.expect_err("nobody is there");
        assert!(is_transient(&error), "{error}");
    }

    #[test]
    fn a_database_that_refuses_for_a_while_is_waited_for() {
        for code in ["25006", "25P02", "28000", "28P01", "42501", "57P01", "53300", "40001", "0A000", "8", "14", "266"]
        {
            assert!(is_transient_code(code), "{code}");
        }
    }

    #[test]
    fn statements_that_fail_each_time_are_not_repeated() {
        for code in ["42P01", "42601", "42703", "23505", "22P02", "0A001", "1", "11", "19"] {
            assert!(!is_transient_code(code), "{code}");
        }
    }
}
