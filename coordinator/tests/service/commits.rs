//! Who may commit what, and when.

use std::collections::BTreeSet;
use std::time::Duration;

use proto::job::JobState;
use proto::work::{CommitOutcome, Output};
use proto::{RequestId, RpcErrorKind};

use crate::harness::{Cluster, spec};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_commit_is_a_commit_and_another_output_is_not() {
    let cluster = Cluster::start().await;
    let job = cluster.submit(&spec(vec![cluster.corpus("a.csv", 20, &[])])).await;
    let worker = cluster.worker().await;
    let grant = worker.lease_some(&cluster, 1).await.remove(0);
    let output = worker.embed(&grant).await;
    for _ in 0..3 {
        assert_eq!(worker.commit(&grant, &output).await, CommitOutcome::Committed);
    }
    let status = cluster.jobs().get(job).await.unwrap();
    assert_eq!((status.shards.committed, status.counts.rows), (1, 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_was_silent_too_long_commits_in_vain() {
    let cluster = Cluster::start().await;
    let job = cluster.submit(&spec(vec![cluster.corpus("a.csv", 10, &[])])).await;
    let silent = cluster.worker().await;
    let lost = silent.lease_some(&cluster, 1).await.remove(0);
    let late = silent.embed(&lost).await;
    cluster.until(job, |status| status.shards.pending == 1).await;

    let worker = cluster.worker().await;
    let grant = worker.lease_some(&cluster, 1).await.remove(0);
    assert_eq!((grant.shard, grant.epoch.0), (lost.shard, lost.epoch.0 + 1));
    assert_ne!(grant.output_key, lost.output_key);
    assert_eq!(silent.commit(&lost, &late).await, CommitOutcome::Stale);
    let output = worker.embed(&grant).await;
    assert_eq!(worker.commit(&grant, &output).await, CommitOutcome::Committed);
    assert_ne!(silent.commit(&lost, &late).await, CommitOutcome::Committed);

    let done = cluster.until_state(job, JobState::Succeeded).await;
    let manifest = cluster.manifest(&done).await;
    assert_eq!(manifest.files.iter().map(|file| &file.name).collect::<Vec<_>>(), [&grant.output_key]);
    assert!(cluster.work().heartbeat(silent.session.id, &[]).await.unwrap().session_lost);
    // In time, what the loser wrote is deleted, and nothing else.
    cluster.clock.advance(Duration::from_secs(16 * 60));
    cluster.until_gone(&lost.output_key).await;
    cluster.storage().head(&grant.output_key).await.unwrap();
    let error = cluster.work().lease(silent.session.id, RequestId::generate(), 1).await.unwrap_err();
    assert_eq!(error.kind, RpcErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_that_is_not_there_as_described_is_refused_and_the_lease_stands() {
    let cluster = Cluster::start().await;
    cluster.submit(&spec(vec![cluster.corpus("a.csv", 20, &[])])).await;
    let worker = cluster.worker().await;
    let mut grants = worker.lease_some(&cluster, 1).await;
    while grants.len() < 2 {
        grants.extend(worker.lease_some(&cluster, 1).await);
    }
    let [grant, other] = grants.try_into().unwrap();
    let refused = async |output: &Output| {
        let commit = cluster.work().commit(worker.session.id, grant.shard, grant.epoch, output).await;
        commit.unwrap_err().kind
    };

    let good = worker.embed(&grant).await;
    let absent = Output { key: good.key.replace(".parquet", "x.parquet"), ..good.clone() };
    assert_eq!(refused(&absent).await, RpcErrorKind::FailedPrecondition);
    let longer = Output { bytes: good.bytes + 1, ..good.clone() };
    assert_eq!(refused(&longer).await, RpcErrorKind::InvalidArgument);
    let foreign = worker.embed(&other).await;
    assert_eq!(refused(&foreign).await, RpcErrorKind::InvalidArgument);
    for key in ["../../state.db", "jobs", ""] {
        let outside = Output { key: key.into(), ..good.clone() };
        assert_eq!(refused(&outside).await, RpcErrorKind::InvalidArgument, "{key}");
    }
    // The right folder, the right size, and not the key that was granted.
    let (aside, bytes) = (absent.key.clone(), cluster.storage().get(&good.key).await.unwrap());
    cluster.storage().put_new(&aside, bytes).await.unwrap();
    assert_eq!(refused(&absent).await, RpcErrorKind::InvalidArgument);

    assert_eq!(worker.commit(&grant, &good).await, CommitOutcome::Committed);
    assert_eq!(worker.commit(&other, &foreign).await, CommitOutcome::Committed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_request_leases_the_same_shards_and_an_idle_worker_is_told_when_to_come() {
    let cluster = Cluster::start().await;
    let job = cluster.submit(&spec(vec![cluster.corpus("a.csv", 30, &[])])).await;
    cluster.until_state(job, JobState::Running).await;
    let worker = cluster.worker().await;
    let request = RequestId::generate();
    let leased = worker.ask(request).await;
    assert_eq!((leased.grants.len(), leased.retry_after_ms), (1, 0));
    assert_eq!(worker.ask(request).await, leased);

    // A session holds two leases at most; with both taken it is told to wait.
    let more = worker.lease(5).await;
    let shards: BTreeSet<u64> = leased
        .grants
        .iter()
        .map(|grant| grant.lease().0)
        .chain(more.iter().map(|grant| grant.shard))
        .map(|shard| shard.index)
        .collect();
    assert_eq!((more.len(), shards.len()), (1, 2));
    let idle = worker.ask(RequestId::generate()).await;
    assert!(idle.grants.is_empty() && idle.retry_after_ms >= 500, "{idle:?}");

    let again = worker.session.id;
    cluster.work().release(again, more[0].shard, more[0].epoch).await.unwrap();
    cluster.work().close_session(again).await.unwrap();
    cluster.work().close_session(again).await.unwrap();
    let other = cluster.worker().await.lease(2).await;
    assert_eq!(other.iter().map(|grant| (grant.shard.index, grant.epoch.0)).collect::<Vec<_>>(), [(0, 2), (1, 2)]);
}
