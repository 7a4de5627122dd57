//! Promises about leases and what becomes of them.

use std::collections::BTreeSet;

use proto::job::JobState;
use proto::work::{CommitOutcome, FailureClass, Granted};
use proto::{Epoch, JobId, RequestId, SessionId};

use super::fixture::{Bed, cursor, output, slices, source, spec, whole};
use crate::store::StoreErrorKind;
use crate::store::rows::to_json;
use crate::store::sql::work::SOURCE_TASK_BYTES_MAX;
use crate::store::types::Task;

pub(super) async fn grants_carry_everything_that_a_worker_needs(bed: Bed) {
    let job = bed.job(3).await;
    let session = bed.greedy_session().await;
    let grants = bed.lease(session, 3).await;
    for (grant, slice) in grants.iter().zip(super::fixture::slices(0, 3)) {
        assert_eq!(grant.slice, slice);
        assert_eq!((grant.epoch, &grant.source, &grant.read), (Epoch(1), &source("a"), &spec("a").read));
        assert_eq!((&grant.model, &grant.embed), (&spec("a").model, &spec("a").embed));
        assert_eq!((grant.on_bad_row, &grant.spec_digest), (spec("a").on_bad_row, &spec("a").digest()));
        let folder = format!("jobs/{job}/shards/{:08}/e000001-", grant.shard.index);
        assert!(
            grant.output_key.starts_with(&folder) && grant.output_key.ends_with(".parquet"),
            "{}",
            grant.output_key
        );
    }
    assert_eq!(grants.len(), 3);
}

pub(super) async fn jobs_are_served_in_order_of_submission(bed: Bed) {
    let first = bed.job(2).await;
    bed.advance_ms(1);
    let second = bed.job(2).await;
    let session = bed.greedy_session().await;
    let mut served = Vec::new();
    for _ in 0..2 {
        served.extend(bed.lease(session, 2).await.iter().map(|grant| (grant.shard.job, grant.shard.index)));
    }
    assert_eq!(served, [(first, 0), (first, 1), (second, 0), (second, 1)]);
}

pub(super) async fn a_large_job_makes_no_large_grants(bed: Bed) {
    let task = Task::of(&spec("a"));
    let small = to_json(&task).len() + to_json(&source("a")).len();
    let session = bed.greedy_session().await;
    for (more, travels) in [(SOURCE_TASK_BYTES_MAX - small, true), (SOURCE_TASK_BYTES_MAX - small + 1, false)] {
        let job = JobId::generate();
        let mut wide = source("a");
        wide.kept_schema += &"B".repeat(more);
        bed.store.submit_job(job, &spec("a")).await.unwrap();
        assert!(bed.store.set_sources(job, &[wide.clone()]).await.unwrap());
        bed.store.insert_shards(job, &cursor(0), &slices(0, 3), &cursor(3), true).await.unwrap();
        let request = RequestId::generate();
        let granted = bed.store.lease(session, request, 3).await.unwrap();
        assert_eq!(bed.store.lease(session, request, 3).await.unwrap(), granted, "the same request, the same answer");
        assert_eq!(granted.len(), 3);
        let fetched = bed.store.source_task(job, 0).await.unwrap().unwrap();
        assert_eq!((&fetched.source, &fetched.embed), (&wide, &task.embed));
        for one in granted {
            let grant = match one {
                Granted::Whole(grant) if travels => *grant,
                Granted::Light(light) if !travels => light.with(&fetched),
                other => panic!("{travels}: {other:?}"),
            };
            assert_eq!((&grant.source, &grant.read), (&wide, &task.read));
            assert_eq!(bed.commit(session, &grant).await, CommitOutcome::Committed);
        }
        assert_eq!(bed.store.source_task(job, 1).await.unwrap(), None);
    }
    assert_eq!(bed.store.source_task(JobId::generate(), 0).await.unwrap(), None);
}

pub(super) async fn a_session_holds_no_more_leases_than_its_limit(bed: Bed) {
    bed.job(5).await;
    let session = bed.session().await;
    let grants = bed.lease(session, 5).await;
    assert_eq!(grants.len(), 2);
    assert!(bed.lease(session, 5).await.is_empty());
    bed.commit(session, &grants[0]).await;
    assert_eq!(bed.lease(session, 5).await.len(), 1);
    let wide = bed.store.open_session_with(&super::fixture::worker(), 3).await.unwrap();
    assert_eq!(bed.lease(wide, 0).await.len(), 0);
    assert_eq!(bed.lease(wide, 5).await.len(), 2, "no more are left");
}

pub(super) async fn a_repeated_lease_request_returns_the_same_grants(bed: Bed) {
    bed.job(5).await;
    let session = bed.session().await;
    let request = RequestId::generate();
    let (store, again) = (bed.store.clone(), bed.store.clone());
    let (first, second) = tokio::join!(store.lease(session, request, 2), again.lease(session, request, 2));
    let (first, second) = (whole(first.unwrap()), whole(second.unwrap()));
    assert_eq!((first.len(), &first), (2, &second), "also when both are under way at once");
    assert_eq!(whole(bed.store.lease(session, request, 2).await.unwrap()), first);
    bed.commit(session, &first[0]).await;
    assert_eq!(whole(bed.store.lease(session, request, 2).await.unwrap()), first[1..]);
    bed.assert_invariants().await;
}

pub(super) async fn an_expired_session_leases_nothing(bed: Bed) {
    bed.job(1).await;
    let session = bed.session().await;
    bed.advance_ms(60_000);
    assert!(bed.lease(session, 1).await.is_empty());
    bed.store.heartbeat(session, &[]).await.unwrap();
    assert_eq!(bed.lease(session, 1).await.len(), 1);
}

pub(super) async fn a_lost_session_is_told_to_open_a_new_one(bed: Bed) {
    bed.job(1).await;
    let session = bed.session().await;
    bed.starve().await;
    for lost in [session, SessionId::generate()] {
        let error = bed.store.lease(lost, RequestId::generate(), 1).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::SessionLost);
        assert!(bed.store.heartbeat(lost, &[]).await.unwrap().session_lost);
    }
}

pub(super) async fn two_parallel_leasers_get_disjoint_shards(bed: Bed) {
    bed.job(60).await;
    let mut leasers = Vec::new();
    for _ in 0..6 {
        let (store, session) = (bed.store.clone(), bed.greedy_session().await);
        leasers.push(tokio::spawn(async move {
            let mut shards = Vec::new();
            for _ in 0..5 {
                let grants = store.lease(session, RequestId::generate(), 2).await.unwrap();
                shards.extend(grants.iter().map(Granted::lease));
            }
            shards
        }));
    }
    let mut all = Vec::new();
    for leaser in leasers {
        all.extend(leaser.await.unwrap());
    }
    assert_eq!(all.len(), 60);
    assert_eq!(all.iter().copied().collect::<BTreeSet<_>>().len(), 60, "no shard twice");
    bed.assert_invariants().await;
}

pub(super) async fn a_repeated_commit_is_counted_once(bed: Bed) {
    let job = bed.job(2).await;
    let session = bed.session().await;
    let grant = bed.lease_one(session).await;
    bed.advance_ms(5_000);
    for _ in 0..3 {
        assert_eq!(bed.commit(session, &grant).await, CommitOutcome::Committed);
    }
    let status = bed.status(job).await;
    assert_eq!(status.counts, output(&grant).counts);
    assert_eq!((status.shards.committed, status.shards.pending), (1, 1));
    let mut other = output(&grant);
    other.blake3 = "another".into();
    assert_eq!(bed.try_commit(session, &grant, &other).await.unwrap_err().kind(), StoreErrorKind::Invalid);
    bed.assert_invariants().await;
}

pub(super) async fn a_lost_lease_cannot_complete(bed: Bed) {
    let job = bed.job(1).await;
    let slow = bed.session().await;
    let grant = bed.lease_one(slow).await;
    bed.starve().await;
    assert_eq!(bed.commit(slow, &grant).await, CommitOutcome::Stale);
    assert!(!bed.store.fail(slow, grant.shard, grant.epoch, FailureClass::Transient, "x").await.unwrap());
    assert!(!bed.store.release(slow, grant.shard, grant.epoch).await.unwrap());
    let quick = bed.session().await;
    let again = bed.lease_one(quick).await;
    assert_eq!(again.epoch, Epoch(2));
    assert_eq!(bed.commit(slow, &grant).await, CommitOutcome::Stale);
    assert_eq!(bed.status(job).await.shards.running, 1);
    bed.assert_invariants().await;
}

pub(super) async fn a_late_commit_loses_to_the_winner(bed: Bed) {
    bed.job(1).await;
    let slow = bed.session().await;
    let late = bed.lease_one(slow).await;
    bed.starve().await;
    let quick = bed.session().await;
    let grant = bed.lease_one(quick).await;
    assert_eq!(bed.commit(quick, &grant).await, CommitOutcome::Committed);
    assert_eq!(bed.commit(slow, &late).await, CommitOutcome::LostRace);
    assert_eq!(bed.commit(quick, &grant).await, CommitOutcome::Committed);
    bed.assert_invariants().await;
}

pub(super) async fn an_output_that_is_not_the_granted_one_is_refused(bed: Bed) {
    let job = bed.job(2).await;
    let session = bed.session().await;
    let grants = bed.lease(session, 2).await;
    let mut short = output(&grants[0]);
    short.counts.rows -= 1;
    assert_eq!(bed.try_commit(session, &grants[0], &short).await.unwrap_err().kind(), StoreErrorKind::Invalid);
    let mut elsewhere = output(&grants[0]);
    elsewhere.key = "jobs/elsewhere.parquet".into();
    assert_eq!(bed.try_commit(session, &grants[0], &elsewhere).await.unwrap_err().kind(), StoreErrorKind::Invalid);
    elsewhere.key = grants[1].output_key.clone();
    assert_eq!(bed.try_commit(session, &grants[0], &elsewhere).await.unwrap_err().kind(), StoreErrorKind::Invalid);
    assert_eq!(bed.status(job).await.shards.committed, 0);
    assert_eq!(bed.commit(session, &grants[0]).await, CommitOutcome::Committed, "the lease stays live");
}

pub(super) async fn a_commit_to_a_cancelled_job_is_cancelled(bed: Bed) {
    let job = bed.job(1).await;
    let session = bed.session().await;
    let grant = bed.lease_one(session).await;
    bed.store.cancel(job).await.unwrap();
    assert_eq!(bed.commit(session, &grant).await, CommitOutcome::Cancelled);
    bed.store.settle_cancelled().await.unwrap();
    assert_eq!(bed.commit(session, &grant).await, CommitOutcome::Cancelled);
    assert_eq!(bed.status(job).await.shards.committed, 0);
}

pub(super) async fn transient_failures_back_off_and_then_kill_the_shard(bed: Bed) {
    let job = bed.job(1).await;
    let session = bed.session().await;
    for failures in 0..5_u32 {
        let grant = bed.lease_one(session).await;
        assert_eq!(grant.epoch, Epoch(failures + 1));
        let class = if failures % 2 == 0 { FailureClass::Transient } else { FailureClass::Resource };
        assert!(bed.store.fail(session, grant.shard, grant.epoch, class, "x").await.unwrap());
        let pause_ms = 500 << failures;
        bed.advance_ms(pause_ms - 1);
        assert!(bed.lease(session, 1).await.is_empty(), "too early after {failures} failures");
        bed.advance_ms(1);
    }
    assert!(bed.lease(session, 1).await.is_empty());
    assert_eq!(bed.status(job).await.shards.dead, 1);
    bed.store.retry(job).await.unwrap();
    assert_eq!(bed.lease_one(session).await.epoch, Epoch(6));
    bed.assert_invariants().await;
}

pub(super) async fn throttling_is_not_counted(bed: Bed) {
    let job = bed.job(1).await;
    let session = bed.session().await;
    for _ in 0..7 {
        let grant = bed.lease_one(session).await;
        bed.store.fail(session, grant.shard, grant.epoch, FailureClass::Throttled, "503").await.unwrap();
        assert!(bed.lease(session, 1).await.is_empty());
        bed.advance_ms(30_000);
        bed.store.heartbeat(session, &[]).await.unwrap();
    }
    assert_eq!(bed.status(job).await.shards.pending, 1);
}

pub(super) async fn a_fatal_failure_fails_the_job_and_revokes_the_rest(bed: Bed) {
    for class in [FailureClass::InputChanged, FailureClass::Config, FailureClass::ModelMismatch, FailureClass::BadRow] {
        let job = bed.job(3).await;
        let session = bed.session().await;
        let grants = bed.lease(session, 2).await;
        assert!(bed.store.fail(session, grants[1].shard, grants[1].epoch, class, "no such column").await.unwrap());
        let status = bed.status(job).await;
        assert_eq!(status.reason.as_deref(), Some("shard 1: no such column"));
        assert_eq!((status.state, status.shards.pending), (JobState::Failed, 3));
        assert_eq!(bed.commit(session, &grants[0]).await, CommitOutcome::Cancelled);
        assert!(bed.lease(session, 2).await.is_empty());
        bed.assert_invariants().await;
    }
}

pub(super) async fn a_released_shard_is_pending_at_once(bed: Bed) {
    bed.job(1).await;
    let session = bed.session().await;
    for epoch in 1..=9 {
        let grant = bed.lease_one(session).await;
        assert_eq!(grant.epoch, Epoch(epoch));
        assert!(bed.store.release(session, grant.shard, grant.epoch).await.unwrap());
        assert!(!bed.store.release(session, grant.shard, grant.epoch).await.unwrap());
    }
    bed.assert_invariants().await;
}

pub(super) async fn a_foreign_session_can_do_nothing_with_a_lease(bed: Bed) {
    let job = bed.job(1).await;
    let (owner, thief) = (bed.session().await, bed.session().await);
    let grant = bed.lease_one(owner).await;
    assert_eq!(bed.commit(thief, &grant).await, CommitOutcome::Stale);
    assert!(!bed.store.release(thief, grant.shard, grant.epoch).await.unwrap());
    assert!(!bed.store.fail(thief, grant.shard, grant.epoch, FailureClass::Config, "x").await.unwrap());
    assert_eq!(bed.status(job).await.state, JobState::Running);
    assert_eq!(bed.commit(owner, &grant).await, CommitOutcome::Committed);
}
