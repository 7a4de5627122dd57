//! Promises about jobs that may succeed without some of their shards.

use dataset::ManifestHole;
use proto::job::JobState;
use proto::work::{CommitOutcome, FailureClass};
use proto::{JobId, SessionId};

use super::fixture::{Bed, ROWS};
use crate::store::StoreErrorKind;

/// Fails a shard, the first that is pending, until it is out of attempts.
async fn kill(bed: &Bed, session: SessionId, index: u64) {
    for _ in 0..5 {
        let grant = bed.lease_one(session).await;
        assert_eq!(grant.shard.index, index);
        bed.store.fail(session, grant.shard, grant.epoch, FailureClass::Transient, "disk on fire").await.unwrap();
        bed.advance_ms(20_000);
        bed.store.heartbeat(session, &[]).await.unwrap();
    }
}

async fn commit_all(bed: &Bed, session: SessionId) {
    while let Some(grant) = bed.lease(session, 1).await.pop() {
        assert_eq!(bed.commit(session, &grant).await, CommitOutcome::Committed);
    }
}

async fn holes(bed: &Bed, job: JobId) -> Vec<ManifestHole> {
    let (mut found, mut holes) = (Vec::new(), bed.store.holes_by_row(job, true));
    while let Some(hole) = holes.next_before(u64::MAX).await.unwrap() {
        found.push(hole);
    }
    found
}

fn hole(first_row: u64, rows: u64) -> ManifestHole {
    ManifestHole { source: 0, first_row, rows, reason: "disk on fire".into() }
}

/// A job of three shards that has succeeded without the first.
async fn finished(bed: &Bed) -> (JobId, SessionId) {
    let (job, session) = (bed.partial_job(3).await, bed.session().await);
    kill(bed, session, 0).await;
    commit_all(bed, session).await;
    assert!(bed.store.begin_finalize(job).await.unwrap());
    assert!(bed.store.finish_job(job, 1, "m", "d").await.unwrap());
    (job, session)
}

pub(super) async fn a_job_that_may_succeeds_without_its_dead_shards(bed: Bed) {
    let (job, session) = (bed.partial_job(3).await, bed.session().await);
    kill(&bed, session, 0).await;
    assert!(!bed.store.begin_finalize(job).await.unwrap(), "others are pending");
    commit_all(&bed, session).await;
    assert!(bed.store.fail_exhausted().await.unwrap().is_empty());
    assert_eq!(bed.store.jobs_to_finalize().await.unwrap(), [job]);
    assert!(bed.store.begin_finalize(job).await.unwrap());
    assert_eq!(bed.store.retry(job).await.unwrap_err().kind(), StoreErrorKind::WrongState);
    assert_eq!(holes(&bed, job).await, [hole(0, ROWS)]);
    assert!(bed.store.finish_job(job, 1, "m", "d").await.unwrap());
    let status = bed.status(job).await;
    assert_eq!((status.state, status.rows_missing(), status.counts.rows), (JobState::Succeeded, ROWS, 2 * ROWS));
    bed.assert_invariants().await;
}

pub(super) async fn a_job_of_dead_shards_alone_fails_all_the_same(bed: Bed) {
    let (job, session) = (bed.partial_job(2).await, bed.session().await);
    kill(&bed, session, 0).await;
    kill(&bed, session, 1).await;
    assert!(bed.store.jobs_to_finalize().await.unwrap().is_empty());
    assert!(!bed.store.begin_finalize(job).await.unwrap());
    assert_eq!(bed.store.fail_exhausted().await.unwrap(), [job]);
    assert_eq!((bed.status(job).await.state, bed.status(job).await.rows_missing()), (JobState::Failed, 0));
    bed.store.retry(job).await.unwrap();
    commit_all(&bed, session).await;
    assert_eq!(bed.store.jobs_to_finalize().await.unwrap(), [job]);
    assert!(holes(&bed, job).await.is_empty());
}

pub(super) async fn a_retry_fills_the_holes_of_a_finished_job_for_the_next_manifest(bed: Bed) {
    let (job, session) = finished(&bed).await;
    bed.store.retry(job).await.unwrap();
    let status = bed.status(job).await;
    assert_eq!((status.state, status.generation, status.manifest_key.clone()), (JobState::Running, 2, None));
    assert_eq!((status.shards.pending, status.shards.committed, status.shards.dead), (1, 2, 0));
    bed.assert_invariants().await;
    let grant = bed.lease_one(session).await;
    assert_eq!((grant.shard.index, grant.epoch.0), (0, 6), "epochs only grow");
    bed.commit(session, &grant).await;
    assert!(holes(&bed, job).await.is_empty());
    assert!(bed.store.begin_finalize(job).await.unwrap());
    assert!(!bed.store.finish_job(job, 1, "m", "d").await.unwrap(), "a manifest of the past");
    assert!(bed.store.finish_job(job, 2, "m2", "d2").await.unwrap());
    assert_eq!(bed.status(job).await.rows_missing(), 0);
    assert_eq!(bed.store.retry(job).await.unwrap_err().kind(), StoreErrorKind::WrongState, "nothing is missing");
    bed.assert_invariants().await;
}

pub(super) async fn a_retry_that_fails_again_and_a_repair_leave_the_holes(bed: Bed) {
    let (job, session) = finished(&bed).await;
    bed.store.retry(job).await.unwrap();
    kill(&bed, session, 0).await;
    assert!(bed.store.begin_finalize(job).await.unwrap());
    assert!(bed.store.finish_job(job, 2, "m2", "d2").await.unwrap());
    assert!(bed.store.repair(job, &[0, 1]).await.unwrap());
    let status = bed.status(job).await;
    assert_eq!((status.state, status.generation, status.shards.dead), (JobState::Running, 3, 1));
    commit_all(&bed, session).await;
    assert!(bed.store.begin_finalize(job).await.unwrap());
    assert_eq!(holes(&bed, job).await, [hole(0, ROWS)]);
    bed.assert_invariants().await;
}

pub(super) async fn a_dead_half_is_a_hole_among_the_rows_where_it_belongs(bed: Bed) {
    let job = bed.partial_job(2).await;
    for _ in 0..3 {
        let session = bed.session().await;
        assert_eq!(bed.lease_one(session).await.shard.index, 0);
        bed.starve().await;
    }
    let session = bed.session().await;
    while bed.status(job).await.shards.pending > 0 {
        let grant = bed.lease_one(session).await;
        // The second half: halves come after all others by index.
        if grant.shard.index == 3 {
            bed.store.fail(session, grant.shard, grant.epoch, FailureClass::Transient, "disk on fire").await.unwrap();
        } else {
            bed.commit(session, &grant).await;
        }
        bed.advance_ms(20_000);
        bed.store.heartbeat(session, &[]).await.unwrap();
    }
    let status = bed.status(job).await;
    assert_eq!((status.shards.split, status.shards.dead, status.shards.pending), (1, 1, 0));
    assert!(bed.store.begin_finalize(job).await.unwrap());
    let found = holes(&bed, job).await;
    let mut winners = bed.store.winners_by_row(job);
    assert_eq!(found, [hole(5, 5)]);
    let mut rows: Vec<(u64, u64)> = found.iter().map(|hole| (hole.first_row, hole.rows)).collect();
    while let Some(winner) = winners.next().await.unwrap() {
        rows.push((winner.slice.first_row, winner.slice.rows));
    }
    rows.sort_unstable();
    assert_eq!(rows, [(0, 5), (5, 5), (10, 10)]);
    bed.assert_invariants().await;
}
