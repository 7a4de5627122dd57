//! A coordinator and the storage of its jobs: which one it starts over, and what it does while another is in its place.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use coordinator::{ClaimError, claim_storage, open_storage};
use dataset::{ErrorKind, STORAGE_ID_KEY, Storage};
use proto::RpcErrorKind;
use proto::job::JobState;
use proto::relay::{relayed, upload_key, upload_source};
use proto::work::CommitOutcome;
use sqlx::{Connection, SqliteConnection};

use crate::harness::{Cluster, spec};

/// How often the finalizer has its turn, where a test says when.
const TURN: Duration = Duration::from_secs(3_600);

fn folder(cluster: &Cluster) -> PathBuf {
    cluster.storage().local_root().unwrap().to_owned()
}

/// Puts an empty folder in the place of the storage; returns where the storage is now.
fn swap(storage: &Path) -> PathBuf {
    let away = storage.with_extension("away");
    std::fs::rename(storage, &away).unwrap();
    std::fs::create_dir(storage).unwrap();
    away
}

fn put_back(storage: &Path, away: &Path) {
    std::fs::remove_dir_all(storage).unwrap();
    std::fs::rename(away, storage).unwrap();
}

/// A cluster that is stopped, and whose one job has succeeded.
async fn finished() -> Cluster {
    let mut cluster = Cluster::start().await;
    let job = cluster.submit(&spec(vec![cluster.corpus("a.csv", 25, &[])])).await;
    cluster.until_state(job, JobState::Running).await;
    cluster.worker().await.drain().await;
    cluster.until_state(job, JobState::Succeeded).await;
    cluster.stop().await;
    cluster
}

/// Makes the database one of an earlier release, which noted no storage.
async fn forget_storage(cluster: &Cluster) {
    let database = folder(cluster).with_file_name("state.db");
    let mut connection = SqliteConnection::connect(database.to_str().unwrap()).await.unwrap();
    sqlx::query("DELETE FROM storage").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// What a database knows when the coordinator starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Database {
    Knows,
    Old,
    New,
}

/// What is found where the storage should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Its,
    ItsWithoutId,
    Another,
    Empty,
    Nothing,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_starts_over_the_storage_of_its_database_and_over_no_other() {
    use Database::{Knows, New, Old};
    use Found::{Another, Empty, Its, ItsWithoutId, Nothing};
    let finished = finished().await;
    // Whether it starts, or what the refusal says.
    let cases: [(Database, Found, Result<(), &str>); 15] = [
        (Knows, Its, Ok(())),
        (Knows, ItsWithoutId, Err("`storage-id` is missing; mount it, or give the right --storage")),
        (Knows, Another, Err("another storage is in its place; mount it")),
        (Knows, Empty, Err("`storage-id` is missing; mount it")),
        (Knows, Nothing, Err("there is no such folder; mount it")),
        (Old, Its, Ok(())),
        (Old, ItsWithoutId, Ok(())),
        (Old, Another, Ok(())),
        (Old, Empty, Err("it holds no jobs; mount it")),
        (Old, Nothing, Err("there is no such folder; mount it")),
        (New, Its, Err("holds jobs that this database does not know")),
        (New, ItsWithoutId, Err("holds jobs that this database does not know")),
        (New, Another, Ok(())),
        (New, Empty, Ok(())),
        (New, Nothing, Ok(())),
    ];
    for (database, found, expected) in cases {
        let cluster = finished.copy();
        let storage = folder(&cluster);
        match database {
            Knows => {}
            Old => forget_storage(&cluster).await,
            New => std::fs::remove_file(storage.with_file_name("state.db")).unwrap(),
        }
        match found {
            Its => {}
            ItsWithoutId => std::fs::remove_file(storage.join(STORAGE_ID_KEY)).unwrap(),
            Another => {
                swap(&storage);
                std::fs::write(storage.join(STORAGE_ID_KEY), "another").unwrap();
            }
            Empty => {
                swap(&storage);
            }
            Nothing => std::fs::rename(&storage, storage.with_extension("away")).unwrap(),
        }
        let store = cluster.store().await;
        let opened = open_storage(&store, storage.to_str().unwrap()).await;
        match (expected, opened) {
            (Ok(()), Ok(opened)) => {
                opened.confirm().await.unwrap();
                let id = opened.id().unwrap().as_str().to_owned();
                assert_eq!(store.storage_id().await.unwrap(), Some(id), "{database:?}, {found:?}");
            }
            (Err(part), Err(error @ (ClaimError::Other { .. } | ClaimError::Foreign { .. }))) => {
                let said = error.to_string();
                assert!(said.contains(part) && said.contains(storage.to_str().unwrap()), "{said}");
                assert!(!error.passes());
                assert_eq!(storage.exists(), found != Nothing, "{database:?}, {found:?}");
            }
            (expected, opened) => panic!("{database:?}, {found:?}: expected {expected:?}, got {opened:?}"),
        }
        store.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_database_without_results_takes_an_empty_storage() {
    let mut cluster = Cluster::start().await;
    let job = cluster.submit(&spec(vec![cluster.corpus("a.csv", 25, &[])])).await;
    cluster.until_state(job, JobState::Running).await;
    cluster.stop().await;
    forget_storage(&cluster).await;
    std::fs::remove_file(folder(&cluster).join(STORAGE_ID_KEY)).unwrap();
    let store = cluster.store().await;
    claim_storage(&store, cluster.storage()).await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_committed_while_another_storage_is_in_place() {
    let cluster = Cluster::start().await;
    let job = cluster.submit(&spec(vec![cluster.corpus("a.csv", 25, &[])])).await;
    cluster.until_state(job, JobState::Running).await;
    let worker = cluster.worker().await;
    let grants = worker.lease_some(&cluster, 2).await;
    let output = worker.embed(&grants[0]).await;
    let storage = folder(&cluster);
    let away = swap(&storage);

    // This worker is one of those that do not look by themselves, and its file is where the coordinator looks for it.
    let lost = worker.embed(&grants[1]).await;
    for (grant, output) in grants.iter().zip([&output, &lost]) {
        let refused = cluster.work().commit(worker.session.id, grant.shard, grant.epoch, output).await.unwrap_err();
        assert_eq!(refused.kind, RpcErrorKind::Unavailable);
        assert!(refused.message.contains("is not the storage that this work began in"), "{refused}");
    }
    put_back(&storage, &away);
    assert_eq!(worker.commit(&grants[0], &output).await, CommitOutcome::Committed);
    let missing = cluster.work().commit(worker.session.id, grants[1].shard, grants[1].epoch, &lost).await.unwrap_err();
    assert!(missing.message.contains("is not in storage"), "{missing}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_planned_and_finished_once_its_storage_is_back() {
    let mut cluster = Cluster::start().await;
    cluster.stop().await;
    cluster.config.finalize_gap = TURN;
    cluster.start_again().await;
    // It serves once it has claimed its storage.
    cluster.jobs().list(1).await.unwrap();
    let storage = folder(&cluster);
    let away = swap(&storage);
    let job = cluster.submit(&spec(vec![cluster.corpus("a.csv", 25, &[])])).await;
    for _ in 0..50 {
        cluster.tick().await;
    }
    assert_eq!(cluster.jobs().get(job).await.unwrap().state, JobState::Planning);
    put_back(&storage, &away);
    cluster.until_state(job, JobState::Running).await;
    assert_eq!(cluster.worker().await.drain().await, 3);

    let away = swap(&storage);
    for _ in 0..20 {
        cluster.clock.advance(TURN);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_ne!(cluster.jobs().get(job).await.unwrap().state, JobState::Succeeded);
    assert!(!storage.join("jobs").exists());
    put_back(&storage, &away);
    cluster
        .until(job, |status| {
            cluster.clock.advance(TURN);
            status.state == JobState::Succeeded
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_waits_for_the_storage_that_its_job_will_be_in() {
    let cluster = Cluster::start().await;
    let file = cluster.corpus("a.csv", 25, &[]);
    cluster.jobs().list(1).await.unwrap();
    let storage = folder(&cluster);
    let away = swap(&storage);
    let error = relayed(cluster.wire()).put_new(&upload_key(&"0".repeat(64), "a.csv"), Bytes::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled, "{error:?}");
    let relay: Storage = relayed(cluster.wire());
    assert_eq!(relay.read_id().await.unwrap(), None, "the id of another storage is not told");
    assert!(!storage.join("uploads").exists());
    let uploading = tokio::spawn({
        let (wire, file) = (cluster.wire(), file.uri.clone());
        async move { upload_source(wire, file.as_ref(), &mut |_| {}).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    put_back(&storage, &away);
    let sent = uploading.await.unwrap().unwrap();
    assert!(std::fs::metadata(&sent.uri).unwrap().len() == sent.bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_away_with_its_storage_is_not_missing() {
    let cluster = Cluster::start().await;
    let job = cluster.submit(&spec(vec![cluster.corpus("a.csv", 25, &[])])).await;
    cluster.until_state(job, JobState::Running).await;
    cluster.worker().await.drain().await;
    cluster.until_state(job, JobState::Succeeded).await;
    let manifest = cluster.jobs().get(job).await.unwrap().brief.manifest_key.unwrap();
    let storage = folder(&cluster);
    let away = swap(&storage);

    let refused = cluster.jobs().repair(job, &[0, 1]).await.unwrap_err();
    assert_eq!(refused.kind, RpcErrorKind::Unavailable, "{refused}");
    assert_eq!(cluster.jobs().get(job).await.unwrap().state, JobState::Succeeded, "no result was thrown away");
    let error = relayed(cluster.wire()).get(&manifest).await.unwrap_err();
    assert_ne!(error.kind(), ErrorKind::NotFound, "{error}");
    put_back(&storage, &away);
    relayed(cluster.wire()).get(&manifest).await.unwrap();
}
