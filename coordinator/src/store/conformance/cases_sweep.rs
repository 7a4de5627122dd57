//! Promises about sessions that fall silent, and about what is cleared up.

use proto::job::JobState;
use proto::work::{CommitOutcome, Directive, FailureClass, Grant, Progress};

use super::fixture::{Bed, output};
use crate::store::Swept;

fn progress(grant: &Grant, rows_done: u64) -> Progress {
    Progress { shard: grant.shard, epoch: grant.epoch, rows_done, tokens_done: rows_done * 7 }
}

pub(super) async fn a_dead_session_gives_its_shards_back(bed: Bed) {
    let job = bed.job(3).await;
    let (silent, alive) = (bed.session().await, bed.session().await);
    bed.lease(silent, 2).await;
    let kept = bed.lease_one(alive).await;
    for _ in 0..2 {
        bed.advance_ms(30_000);
        bed.store.heartbeat(alive, &[progress(&kept, 0)]).await.unwrap();
        let swept = bed.store.expire_sessions().await.unwrap();
        if bed.clock_ms() < super::fixture::EPOCH_MS + 60_000 {
            assert_eq!(swept, Swept::default());
        } else {
            assert_eq!(swept, Swept { sessions: 1, leases: 2 });
        }
    }
    let status = bed.status(job).await;
    assert_eq!((status.shards.pending, status.shards.running, status.workers), (2, 1, 1));
    assert_eq!(bed.commit(alive, &kept).await, CommitOutcome::Committed);
    bed.assert_invariants().await;
}

pub(super) async fn a_heartbeat_keeps_the_session_and_tells_the_progress(bed: Bed) {
    let job = bed.job(2).await;
    let session = bed.session().await;
    let grants = bed.lease(session, 2).await;
    for round in 1..=4 {
        bed.advance_ms(30_000);
        let reports = [progress(&grants[0], round), progress(&grants[1], 2)];
        let reply = bed.store.heartbeat(session, &reports).await.unwrap();
        assert_eq!((reply.directives, reply.session_lost), (vec![Directive::Continue; 2], false));
        assert_eq!(bed.store.expire_sessions().await.unwrap(), Swept::default());
    }
    let status = bed.status(job).await;
    assert_eq!((status.rows_in_flight, status.tokens_in_flight), (6, 42));
    bed.commit(session, &grants[0]).await;
    assert_eq!(bed.status(job).await.rows_in_flight, 2);
}

pub(super) async fn a_late_heartbeat_saves_a_session_that_nobody_has_buried(bed: Bed) {
    bed.job(1).await;
    let session = bed.session().await;
    let grant = bed.lease_one(session).await;
    bed.advance_ms(3_600_000);
    assert!(!bed.store.heartbeat(session, &[progress(&grant, 1)]).await.unwrap().session_lost);
    assert_eq!(bed.commit(session, &grant).await, CommitOutcome::Committed);
}

pub(super) async fn a_heartbeat_learns_of_a_revoked_lease(bed: Bed) {
    let first = bed.job(1).await;
    bed.advance_ms(1);
    bed.job(1).await;
    let session = bed.session().await;
    let grants = bed.lease(session, 2).await;
    bed.store.cancel(first).await.unwrap();
    let reply = bed.store.heartbeat(session, &[progress(&grants[0], 1), progress(&grants[1], 1)]).await.unwrap();
    assert_eq!(reply.directives, [Directive::Stop, Directive::Continue]);
}

pub(super) async fn a_lease_that_its_worker_does_not_know_of_goes_back(bed: Bed) {
    let job = bed.job(4).await;
    let session = bed.greedy_session().await;
    let known = bed.lease_one(session).await;
    bed.advance_ms(1);
    // The answer is lost, and the worker never asks for it again.
    let stray = bed.lease_one(session).await;
    bed.advance_ms(59_999);
    assert!(!bed.store.heartbeat(session, &[progress(&known, 1)]).await.unwrap().session_lost);
    assert_eq!(bed.status(job).await.shards.running, 2, "it may be on its way for a while");
    bed.advance_ms(1);
    let young = bed.lease_one(session).await;
    let reply = bed.store.heartbeat(session, &[progress(&known, 2)]).await.unwrap();
    assert_eq!(reply.directives, [Directive::Continue]);
    let status = bed.status(job).await;
    assert_eq!((status.shards.pending, status.shards.running, status.shards.dead), (2, 2, 0));
    assert_eq!(bed.commit(session, &stray).await, CommitOutcome::Stale);
    let again = bed.lease_one(bed.session().await).await;
    assert_eq!((again.shard, again.epoch), (stray.shard, proto::Epoch(2)), "another worker has it at once");
    for grant in [&known, &young] {
        assert_eq!(bed.commit(session, grant).await, CommitOutcome::Committed);
    }
    bed.assert_invariants().await;
}

pub(super) async fn a_stuck_session_loses_its_leases_though_it_beats(bed: Bed) {
    let job = bed.job(3).await;
    let (stuck, busy) = (bed.session().await, bed.session().await);
    let grant = bed.lease_one(stuck).await;
    let grants = bed.lease(busy, 2).await;
    for round in 1..=20 {
        bed.advance_ms(30_000);
        bed.store.heartbeat(stuck, &[progress(&grant, 0)]).await.unwrap();
        // The second lease of the busy one is prefetched: it waits its turn, and that is no fault of its own.
        bed.store.heartbeat(busy, &[progress(&grants[0], round), progress(&grants[1], 0)]).await.unwrap();
        let swept = bed.store.expire_sessions().await.unwrap();
        assert_eq!(swept, Swept { sessions: 0, leases: u64::from(round == 20) });
    }
    assert_eq!(bed.status(job).await.shards.running, 2);
    let reply = bed.store.heartbeat(stuck, &[progress(&grant, 1)]).await.unwrap();
    assert_eq!((reply.directives, reply.session_lost), (vec![Directive::Stop], false));
    bed.assert_invariants().await;
}

pub(super) async fn one_sweep_expires_a_part_of_the_fleet(bed: Bed) {
    for _ in 0..25 {
        bed.session().await;
    }
    for round in 0..2 {
        bed.advance_ms(30_000);
        let swept = bed.store.expire_sessions().await.unwrap();
        assert_eq!(swept.sessions, if round == 0 { 0 } else { 10 });
    }
    assert_eq!(bed.store.expire_sessions().await.unwrap().sessions, 10);
    assert_eq!(bed.store.expire_sessions().await.unwrap().sessions, 5);
}

pub(super) async fn after_a_gap_every_session_gets_a_fresh_ttl(bed: Bed) {
    bed.job(1).await;
    let session = bed.session().await;
    let grant = bed.lease_one(session).await;
    bed.advance_ms(120_000);
    assert_eq!(bed.store.expire_sessions().await.unwrap(), Swept::default(), "no heartbeat could arrive");
    bed.advance_ms(30_000);
    assert_eq!(bed.store.expire_sessions().await.unwrap(), Swept::default());
    bed.advance_ms(29_999);
    assert_eq!(bed.store.expire_sessions().await.unwrap(), Swept::default());
    bed.advance_ms(1);
    assert_eq!(bed.store.expire_sessions().await.unwrap(), Swept { sessions: 1, leases: 1 });
    assert_eq!(bed.commit(session, &grant).await, CommitOutcome::Stale);
}

pub(super) async fn a_closed_session_gives_its_shards_back_uncounted(bed: Bed) {
    let job = bed.job(4).await;
    for _ in 0..4 {
        let session = bed.session().await;
        let grant = bed.lease(session, 2).await.remove(0);
        bed.store.close_session(session).await.unwrap();
        bed.store.close_session(session).await.unwrap();
        assert_eq!(bed.commit(session, &grant).await, CommitOutcome::Stale);
        assert!(bed.store.heartbeat(session, &[]).await.unwrap().session_lost);
    }
    for _ in 0..2 {
        let session = bed.session().await;
        bed.lease(session, 2).await;
    }
    assert_eq!(bed.status(job).await.shards.running, 4);
    bed.store.close_all_sessions().await.unwrap();
    let status = bed.status(job).await;
    assert_eq!((status.shards.pending, status.workers), (4, 0));
    bed.assert_invariants().await;
}

pub(super) async fn the_keys_of_losing_attempts_become_garbage(bed: Bed) {
    bed.job(2).await;
    let session = bed.session().await;
    let failed = bed.lease_one(session).await;
    bed.store.fail(session, failed.shard, failed.epoch, FailureClass::Transient, "x").await.unwrap();
    bed.advance_ms(1_000);
    let won = bed.lease_one(session).await;
    bed.commit(session, &won).await;
    let live = bed.lease_one(session).await;
    assert!(bed.store.mark_garbage(10).await.unwrap().is_empty(), "its worker may still be writing");
    bed.advance_ms(900_000);
    for _ in 0..2 {
        let garbage = bed.store.mark_garbage(10).await.unwrap();
        assert_eq!(garbage.iter().map(|one| &one.key).collect::<Vec<_>>(), [&failed.output_key]);
    }
    let garbage = bed.store.mark_garbage(10).await.unwrap();
    bed.store.garbage_deleted(&garbage).await.unwrap();
    assert!(bed.store.mark_garbage(10).await.unwrap().is_empty());
    assert_eq!(bed.try_commit(session, &live, &output(&live)).await.unwrap(), CommitOutcome::Committed);
    bed.assert_invariants().await;
}

pub(super) async fn a_lease_that_slipped_past_the_end_of_its_job_is_taken_back(bed: Bed) {
    // A lease that reads the job as active while another statement ends it cannot be seen by that statement: it is
    // planted here by changing the job's row alone, as the first half of `cancel` and `fail_job` does.
    for state in [JobState::Cancelling, JobState::Failed] {
        let job = bed.job(1).await;
        let session = bed.session().await;
        let grant = bed.lease_one(session).await;
        let change = match state {
            JobState::Failed => crate::store::backend::JobChange::Fail("x".into()),
            _ => crate::store::backend::JobChange::Cancel,
        };
        assert!(bed.store.backend.change_job(job, change).await.unwrap());
        assert_eq!(bed.commit(session, &grant).await, CommitOutcome::Cancelled, "{state}");
        let reply = bed.store.heartbeat(session, &[progress(&grant, 1)]).await.unwrap();
        assert_eq!(reply.directives, [Directive::Stop]);
        bed.store.settle_cancelled().await.unwrap();
        let status = bed.status(job).await;
        assert_eq!(status.shards.running, 0);
        assert_eq!(status.state, if state == JobState::Failed { state } else { JobState::Cancelled });
        bed.assert_invariants().await;
    }
}
