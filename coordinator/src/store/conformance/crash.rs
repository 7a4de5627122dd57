//! What survives: power cuts of SQLite, a second coordinator, callers who go away.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proto::work::CommitOutcome;
use proto::{JobId, RequestId};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, query_scalar};

use super::fixture::{Bed, EPOCH_MS, output};
use crate::clock::TestClock;
use crate::store::{Store, StoreErrorKind};
use testkit::postgres::Server;

/// The files of a database that a power cut leaves behind. The shared-memory file is rebuilt from the log.
fn snapshot(folder: &Path) -> (Vec<u8>, Vec<u8>) {
    let read = |name| std::fs::read(folder.join(name)).unwrap();
    (read("state.db"), read("state.db-wal"))
}

async fn committed_after_restart(database: &[u8], log: &[u8], job: JobId) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("state.db"), database).unwrap();
    std::fs::write(folder.path().join("state.db-wal"), log).unwrap();
    let bed = Bed::on_sqlite(folder.path()).await;
    bed.assert_invariants().await;
    let committed = bed.status(job).await.shards.committed;
    assert_eq!(bed.store.winners(job, None, 1_000).await.unwrap().len() as u64, committed);
    bed.store.close().await.unwrap();
    committed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_commit_survives_a_power_cut_at_any_byte() {
    let folder = tempfile::tempdir().unwrap();
    let bed = Bed::on_sqlite(folder.path()).await;
    let job = bed.job(30).await;
    let session = bed.session().await;
    let mut random = StdRng::seed_from_u64(1);
    for acknowledged in 0..30 {
        let (database, before) = snapshot(folder.path());
        let grant = bed.lease_one(session).await;
        assert_eq!(bed.commit(session, &grant).await, CommitOutcome::Committed);
        let (_, after) = snapshot(folder.path());
        assert_eq!(committed_after_restart(&database, &before, job).await, acknowledged);
        assert!(after.len() > before.len(), "the log is not checkpointed within so few commits");
        // The cut comes while the next transactions are being written: some of their bytes are there, some are not.
        let cut = random.random_range(before.len()..=after.len());
        let survived = committed_after_restart(&database, &after[..cut], job).await;
        assert!(survived == acknowledged || survived == acknowledged + 1, "{survived} of {acknowledged}");
        assert_eq!(committed_after_restart(&database, &after, job).await, acknowledged + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_coordinator_is_refused_and_told_who_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let bed = Bed::on_sqlite(folder.path()).await;
    let job = bed.job(1).await;
    let url = format!("sqlite://{}", folder.path().join("state.db").display());
    let clock = Arc::new(TestClock::at(EPOCH_MS));
    let refused = Store::open(&url, clock.clone()).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Unavailable);
    let holder = format!("process {}", std::process::id());
    assert!(refused.to_string().contains(&holder), "{refused}");
    bed.store.close().await.unwrap();
    let reopened = Store::open(&url, clock).await.unwrap();
    assert_eq!(reopened.job(job).await.unwrap().unwrap().shards.pending, 1);
    assert_eq!(bed.store.cancel(job).await.unwrap_err().kind(), StoreErrorKind::Unavailable, "it is closed");
}

#[tokio::test]
async fn the_database_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let bed = Bed::on_sqlite(&folder.path().join("new").join("folder")).await;
    bed.job(1).await;
    let files = std::fs::read_dir(folder.path().join("new").join("folder")).unwrap();
    let mut names = Vec::new();
    for file in files {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
        names.push(file.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["state.db", "state.db-shm", "state.db-wal", "state.db.lock"]);
}

#[tokio::test]
async fn a_url_of_no_known_kind_is_refused() {
    for url in ["mysql://host/database", "sqlite://", "sqlite::memory:"] {
        let error = Store::open(url, Arc::new(TestClock::at(EPOCH_MS))).await.unwrap_err();
        assert!(error.to_string().starts_with("cannot open the database"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_an_earlier_process_get_a_fresh_ttl() {
    let folder = tempfile::tempdir().unwrap();
    let bed = Bed::on_sqlite(folder.path()).await;
    bed.job(1).await;
    let session = bed.session().await;
    let grant = bed.lease_one(session).await;
    bed.store.close().await.unwrap();
    // The wall clock was set back by a day meanwhile; that must neither expire the session nor keep it for a day.
    let clock = TestClock::at(EPOCH_MS - 86_400_000);
    let path = folder.path().join("state.db");
    let store = Store::open(path.to_str().unwrap(), Arc::new(clock.clone())).await.unwrap();
    assert_eq!(store.expire_sessions().await.unwrap().sessions, 0);
    for expired in [0, 1] {
        clock.advance(Duration::from_millis(30_000));
        assert_eq!(store.expire_sessions().await.unwrap().sessions, expired);
    }
    let outcome = store.commit(session, grant.shard, grant.epoch, &output(&grant)).await.unwrap();
    assert_eq!(outcome, CommitOutcome::Stale);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_go_away_leave_no_transaction_open_on_postgres() {
    let server = Server::start().await;
    let url = server.database("cancel").await;
    let bed = Bed::on_postgres(&url).await;
    bed.job(300).await;
    let session = bed.greedy_session().await;
    let mut random = StdRng::seed_from_u64(2);
    for _ in 0..300 {
        let patience = Duration::from_micros(random.random_range(0..3_000));
        let attempt = async {
            for grant in bed.lease(session, 2).await {
                bed.commit(session, &grant).await;
            }
        };
        // Whether it was in time is of no interest.
        tokio::time::timeout(patience, attempt).await.ok();
    }
    bed.store.close().await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let open: i64 = query_scalar("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(open, 0);
    let bed = Bed::on_postgres(&url).await;
    bed.assert_invariants().await;
    bed.store.lease(session, RequestId::generate(), 1).await.unwrap();
}
