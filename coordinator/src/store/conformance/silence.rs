//! A database that does not answer: nothing waits for it for ever, and what waited knows that it did.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proto::work::CommitOutcome;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::fixture::Bed;
use crate::policy::Policy;
use crate::store::StoreErrorKind;
use testkit::postgres::Server;

/// What PostgreSQL calls its socket.
const SOCKET: &str = ".s.PGSQL.5432";

/// A way to the server, of which every connection that has been made can be struck dumb: as when a router on the way has
/// forgotten it. Later connections work.
struct Way {
    folder: tempfile::TempDir,
    dumb_below: Arc<AtomicU64>,
    made: Arc<AtomicU64>,
}

impl Way {
    fn to(server: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        let (dumb_below, made) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        tokio::spawn(accept(listener, server.join(SOCKET), dumb_below.clone(), made.clone()));
        Self { folder, dumb_below, made }
    }

    fn strike_dumb(&self) {
        self.dumb_below.store(self.made.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

async fn accept(listener: UnixListener, server: PathBuf, dumb_below: Arc<AtomicU64>, made: Arc<AtomicU64>) {
    while let Ok((client, _)) = listener.accept().await {
        let number = made.fetch_add(1, Ordering::SeqCst);
        let server = UnixStream::connect(&server).await.unwrap();
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        tokio::spawn(carry(from_client, to_server, number, dumb_below.clone()));
        tokio::spawn(carry(from_server, to_client, number, dumb_below.clone()));
    }
}

async fn carry(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    number: u64,
    dumb_below: Arc<AtomicU64>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let is_dumb = number < dumb_below.load(Ordering::SeqCst);
        if !is_dumb && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    // The end of a connection is swallowed, too.
    if number < dumb_below.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_went_dumb_are_left_for_new_ones() {
    let server = Server::start().await;
    let (url, way) = (server.database("dumb").await, Way::to(server.folder()));
    let host = |folder: &Path| format!("host={}", folder.display());
    let url = url.replace(&host(server.folder()), &host(way.folder.path()));
    let bed = Bed::open(&url, Policy { silence_ms: 1_000, ..Policy::default() }).await;
    let job = bed.job(3).await;
    let session = bed.greedy_session().await;
    let grants = bed.lease(session, 2).await;
    assert_eq!(bed.commit(session, &grants[0]).await, CommitOutcome::Committed);
    way.strike_dumb();
    assert_eq!(bed.commit(session, &grants[1]).await, CommitOutcome::Committed);
    assert!(!bed.store.heartbeat(session, &[]).await.unwrap().session_lost);
    let last = bed.lease(session, 1).await;
    assert_eq!(bed.commit(session, &last[0]).await, CommitOutcome::Committed);
    // Statements that no lease depends on are not repeated.
    while let Err(error) = bed.store.job(job).await {
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    }
    assert_eq!(bed.status(job).await.shards.committed, 3);
    bed.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_that_waited_gives_nothing_back_that_was_granted_meanwhile() {
    let server = Server::start().await;
    let url = server.database("waited").await;
    let bed = Bed::on_postgres(&url).await;
    let _job = bed.job(1).await;
    let (other, session) = (bed.session().await, bed.session().await);
    let mut blocker = PgConnection::connect(&url).await.unwrap();
    let mut blocking = blocker.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM session WHERE session_id = $1 FOR UPDATE")
        .bind(other.0)
        .execute(&mut *blocking)
        .await
        .unwrap();
    let heartbeat = |session| {
        let store = bed.store.clone();
        tokio::spawn(async move { store.heartbeat(session, &[]).await })
    };
    // The first cannot go on, and the second waits behind it.
    let first = heartbeat(other);
    let mut watcher = PgConnection::connect(&url).await.unwrap();
    let waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    while watcher.execute(waiting).await.unwrap().rows_affected() == 0 {}
    let second = heartbeat(session);
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let grant = bed.lease_one(session).await;
    bed.advance_ms(bed.store.policy().ttl_ms.unsigned_abs());
    blocking.rollback().await.unwrap();
    for beat in [first, second] {
        assert!(!beat.await.unwrap().unwrap().session_lost);
    }
    assert_eq!(bed.commit(session, &grant).await, CommitOutcome::Committed);
}
