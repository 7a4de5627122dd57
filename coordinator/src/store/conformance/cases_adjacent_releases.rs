//! Promises about programs of two neighbouring releases over one database.

use std::time::Duration;

use proto::job::JobState;
use proto::work::WorkerInfo;
use proto::{JobId, RequestId};
use uuid::Uuid;

use super::fixture::{Bed, cursor, slices, source, spec, whole, worker};
use crate::store::backend::NewJob;
use crate::store::{Store, StoreErrorKind};

/// The same store as a program of another revision sees it.
fn as_revision(store: &Store, revision: u32) -> Store {
    Store { revision, ..store.clone() }
}

/// Submits a job that needs a program of a revision.
async fn submit(store: &Store, revision: u32) -> JobId {
    let (job, spec) = (JobId::generate(), spec("a"));
    let task = serde_json::json!({
        "read": spec.read, "model": spec.model, "embed": spec.embed, "on_bad_row": spec.on_bad_row,
    });
    let new = NewJob {
        job,
        digest: spec.digest(),
        spec: serde_json::to_string(&spec).unwrap(),
        task: task.to_string(),
        owner: None,
        allow_partial: false,
        model_name: spec.model.name,
        source_total: 1,
        revision,
    };
    assert_eq!(store.backend.submit(new).await.unwrap(), None);
    job
}

pub(super) async fn a_job_of_a_later_revision_is_left_to_others(bed: Bed) {
    let (old, new) = (as_revision(&bed.store, 1), as_revision(&bed.store, 2));
    let (known, later) = (submit(&old, 1).await, submit(&new, 2).await);
    assert_eq!(old.jobs_to_plan().await.unwrap(), [known]);
    assert_eq!(new.jobs_to_plan().await.unwrap(), [known, later]);
    for job in [known, later] {
        assert!(new.set_sources(job, &[source("a")]).await.unwrap());
        assert!(new.insert_shards(job, &cursor(0), &slices(0, 2), &cursor(2), true).await.unwrap());
    }
    assert_eq!(old.source_task(later, 0).await.unwrap_err().kind(), StoreErrorKind::Unavailable, "others know it");
    assert!(new.source_task(later, 0).await.unwrap().is_some());

    let session = bed.greedy_session().await;
    let jobs = async |store: &Store, request| {
        let granted = store.lease(session, request, 10).await.unwrap();
        granted.iter().map(|one| one.lease().0.job).collect::<Vec<_>>()
    };
    assert_eq!(jobs(&old, RequestId::generate()).await, [known, known]);
    assert_eq!(jobs(&old, RequestId::generate()).await, []);
    let request = RequestId::generate();
    assert_eq!(jobs(&new, request).await, [later, later]);
    assert_eq!(jobs(&old, request).await, [], "nor when the request is repeated elsewhere");
    assert_eq!(jobs(&new, request).await, [later, later]);
    bed.assert_invariants().await;
}

pub(super) async fn a_job_of_a_later_revision_is_neither_copied_nor_ended_by_others(bed: Bed) {
    let (old, new) = (as_revision(&bed.store, 1), as_revision(&bed.store, 2));
    let job = submit(&new, 2).await;
    assert!(new.set_sources(job, &[source("a")]).await.unwrap());
    assert!(new.insert_shards(job, &cursor(0), &slices(0, 10), &cursor(10), true).await.unwrap());
    let (slow, idle) = (bed.greedy_session().await, bed.session().await);
    let granted = whole(new.lease(slow, RequestId::generate(), 10).await.unwrap());
    for grant in &granted[1..] {
        bed.commit(slow, grant).await;
    }
    for _ in 0..3 {
        bed.advance_ms(30_000);
        for session in [slow, idle] {
            let held = proto::work::Progress {
                shard: granted[0].shard,
                epoch: granted[0].epoch,
                rows_done: 1,
                tokens_done: 1,
            };
            let held = if session == slow { vec![held] } else { Vec::new() };
            bed.store.heartbeat(session, &held).await.unwrap();
        }
    }
    assert!(old.lease(idle, RequestId::generate(), 1).await.unwrap().is_empty());
    assert_eq!(new.lease(idle, RequestId::generate(), 1).await.unwrap().len(), 1, "a copy");
    bed.commit(slow, &granted[0]).await;
    assert!(old.jobs_to_finalize().await.unwrap().is_empty());
    assert_eq!(new.jobs_to_finalize().await.unwrap(), [job]);
    assert_eq!(old.job(job).await.unwrap().unwrap().state, JobState::Running, "everybody shows it");
    assert_eq!(old.known_job(job).await.unwrap(), None, "and not everybody judges it");
    assert!(new.known_job(job).await.unwrap().is_some());
}

pub(super) async fn the_lead_goes_to_the_latest_revision_at_once(bed: Bed) {
    let (old, new) = (as_revision(&bed.store, 1), as_revision(&bed.store, 2));
    let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    assert!(old.lead_upkeep(one).await.unwrap());
    assert!(new.lead_upkeep(other).await.unwrap());
    assert!(!old.lead_upkeep(one).await.unwrap());
    bed.clock.advance(Duration::from_secs(6));
    assert!(old.lead_upkeep(one).await.unwrap(), "the other one is silent");
    assert!(new.lead_upkeep(other).await.unwrap());
    new.resign_upkeep(other).await.unwrap();
    assert!(old.lead_upkeep(one).await.unwrap());
}

pub(super) async fn a_worker_gets_no_job_that_it_does_not_know(bed: Bed) {
    let mut later = spec("a");
    later.read.delimiter = Some(';');
    let plain = bed.job(1).await;
    let job = JobId::generate();
    bed.store.submit_job(job, &later).await.unwrap();
    assert!(bed.store.set_sources(job, &[source("a")]).await.unwrap());
    assert!(bed.store.insert_shards(job, &cursor(0), &slices(0, 2), &cursor(2), true).await.unwrap());

    let older = bed.store.open_session_with(&WorkerInfo { revision: 0, ..worker() }, 10).await.unwrap();
    let granted = whole(bed.store.lease_known(older, RequestId::generate(), 10, 0).await.unwrap());
    assert_eq!(granted.iter().map(|one| one.shard.job).collect::<Vec<_>>(), [plain]);
    bed.commit(older, &granted[0]).await;
    let status = bed.status(job).await;
    assert_eq!((status.workers, status.workers_outdated), (1, 1));
    assert_eq!(bed.status(plain).await.workers_outdated, 0);
    for _ in 0..60 {
        bed.advance_ms(10_000);
        bed.store.heartbeat(older, &[]).await.unwrap();
    }
    assert_eq!(bed.status(job).await.starved_ms, 600_000, "there is a worker, and it is none for this job");

    let newer = bed.greedy_session().await;
    assert_eq!(bed.status(job).await.starved_ms, 0);
    assert_eq!(bed.lease(newer, 1).await[0].shard.job, job);
    // A coordinator of an earlier release opened this one's session, and did not ask what it knows.
    let moved = bed.store.open_session(&WorkerInfo { revision: 0, ..worker() }).await.unwrap();
    assert_eq!(bed.status(job).await.workers_outdated, 2);
    assert_eq!(bed.lease(moved, 1).await[0].shard.job, job);
    assert_eq!(bed.status(job).await.workers_outdated, 1);
}
