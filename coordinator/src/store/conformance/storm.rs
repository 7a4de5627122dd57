//! Everything at once: workers that commit, fail, give back and vanish, while sweeps, cancels and retries go on.

use std::sync::Arc;

use proto::job::JobState;
use proto::work::{CommitOutcome, FailureClass};
use proto::{JobId, RequestId};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::fixture::{Bed, output, whole, worker};
use crate::store::Store;

const WORKERS: u64 = 6;
const ROUNDS: usize = 25;

pub(super) async fn a_storm_of_everything_keeps_the_invariants(bed: Bed) {
    let jobs = Arc::new([bed.job(20).await, bed.job(20).await, bed.job(20).await]);
    let mut tasks = Vec::new();
    for seed in 0..WORKERS {
        tasks.push(tokio::spawn(work(bed.store.clone(), StdRng::seed_from_u64(seed))));
    }
    tasks.push(tokio::spawn(disturb(bed.store.clone(), jobs.clone())));
    for _ in 0..ROUNDS {
        bed.advance_ms(9_000);
        bed.store.expire_sessions().await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut commits = 0;
    for task in tasks {
        commits += task.await.unwrap();
    }
    bed.store.close_all_sessions().await.unwrap();
    bed.store.settle_cancelled().await.unwrap();
    bed.assert_invariants().await;
    let statuses = bed.jobs().await;
    assert_eq!(statuses.iter().map(|status| status.shards.committed).sum::<u64>(), commits);
    assert_eq!(bed.status(jobs[2]).await.state, JobState::Cancelled);
}

/// Returns how many commits were acknowledged.
async fn work(store: Store, mut random: StdRng) -> u64 {
    let mut commits = 0;
    let mut session = store.open_session(&worker()).await.unwrap();
    for _ in 0..ROUNDS {
        let Ok(grants) = store.lease(session, RequestId::generate(), 2).await else {
            session = store.open_session(&worker()).await.unwrap();
            continue;
        };
        for grant in whole(grants) {
            let (shard, epoch) = (grant.shard, grant.epoch);
            match random.random_range(0..10) {
                0 => drop(store.release(session, shard, epoch).await.unwrap()),
                1 => drop(store.fail(session, shard, epoch, FailureClass::Throttled, "x").await.unwrap()),
                2 => {
                    // It vanishes, and comes back too late.
                    let gone = session;
                    session = store.open_session(&worker()).await.unwrap();
                    store.close_session(gone).await.unwrap();
                    assert_ne!(
                        store.commit(gone, shard, epoch, &output(&grant)).await.unwrap(),
                        CommitOutcome::Committed
                    );
                }
                _ => {
                    let (once, twice) = (store.clone(), store.clone());
                    let output = output(&grant);
                    let (first, second) = tokio::join!(
                        once.commit(session, shard, epoch, &output),
                        twice.commit(session, shard, epoch, &output)
                    );
                    let answers = [first.unwrap(), second.unwrap()];
                    let accepted = answers.map(|answer| answer == CommitOutcome::Committed);
                    let committed = accepted.contains(&true);
                    // The job may end between the two: then one of them still made it and the other came too late. Two
                    // refusals may differ: a lease that is stale at first has lost its race a moment later.
                    let agree = accepted[0] == accepted[1] || answers.contains(&CommitOutcome::Cancelled);
                    assert!(agree, "{answers:?}");
                    commits += u64::from(committed);
                }
            }
        }
    }
    commits
}

async fn disturb(store: Store, jobs: Arc<[JobId; 3]>) -> u64 {
    for round in 0..ROUNDS {
        store.pause(jobs[0]).await.unwrap();
        store.fail_job(jobs[1], "a disturbance").await.unwrap();
        store.resume(jobs[0]).await.unwrap();
        store.retry(jobs[1]).await.unwrap();
        if round == ROUNDS / 2 {
            store.cancel(jobs[2]).await.unwrap();
        }
        store.settle_cancelled().await.unwrap();
    }
    0
}
