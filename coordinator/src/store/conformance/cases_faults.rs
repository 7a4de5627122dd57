//! Promises about what goes wrong: shards that kill, shards that are slow, jobs and workers that fail too often.

use proto::job::JobState;
use proto::work::{CommitOutcome, Directive, FailureClass, Grant, Progress};
use proto::{Epoch, JobId, RequestId, SessionId};
use uuid::Uuid;

use super::fixture::{Bed, ROWS, output, slices, whole};

pub(super) async fn losing_three_workers_splits_the_shard_down_to_the_guilty_row(bed: Bed) {
    const GUILTY: u64 = 6;
    let job = bed.job(1).await;
    let mut lost = 0;
    // A worker dies of whatever holds the guilty row and is to be embedded, and does everything else.
    while bed.status(job).await.shards.committed < bed.shards(job).await {
        let session = bed.session().await;
        let grant = bed.lease_one(session).await;
        let wanted = grant.wanted();
        let holds = (wanted.first_row..wanted.first_row + wanted.rows).contains(&GUILTY);
        assert_eq!(grant.slice, slices(0, 1)[0], "the slice is read as it was cut");
        assert!(!grant.is_poison || (wanted.first_row, wanted.rows) == (GUILTY, 1));
        if holds && !grant.is_poison {
            lost += 1;
            bed.starve().await;
        } else {
            assert_eq!(bed.commit(session, &grant).await, CommitOutcome::Committed);
            bed.store.close_session(session).await.unwrap();
        }
        bed.assert_invariants().await;
    }
    assert_eq!(lost, 3 + 1 + 1 + 3, "of ten rows, of five, of two, and of the row itself");
    let (mut winners, mut next_row, mut count) = (bed.store.winners_by_row(job), 0, 0);
    while let Some(winner) = winners.next().await.unwrap() {
        assert_eq!(winner.slice.first_row, next_row);
        next_row += winner.slice.rows;
        count += 1;
    }
    let status = bed.status(job).await;
    assert_eq!((next_row, status.rows_planned, status.counts.rows), (ROWS, ROWS, ROWS));
    assert_eq!((status.shards.split, status.shards.committed), (count - 1, count));
    assert!(bed.store.begin_finalize(job).await.unwrap());
}

pub(super) async fn a_row_that_cannot_even_be_read_kills_its_shard(bed: Bed) {
    let job = bed.one_row_job().await;
    for lost in 1..=6 {
        let session = bed.session().await;
        let grant = bed.lease_one(session).await;
        assert_eq!(grant.is_poison, lost > 3);
        bed.starve().await;
    }
    assert_eq!(bed.status(job).await.shards.dead, 1);
    assert_eq!(bed.store.fail_exhausted().await.unwrap(), [job]);
    bed.assert_invariants().await;
}

/// A job of ten shards of which nine are done, with a worker that has held the last one for a minute.
struct Straggling {
    job: JobId,
    slow: SessionId,
    straggler: Grant,
    idle: SessionId,
}

impl Straggling {
    async fn on(bed: &Bed) -> Self {
        let job = bed.job(10).await;
        let (slow, idle) = (bed.session().await, bed.greedy_session().await);
        let straggler = bed.lease_one(slow).await;
        for grant in bed.lease(idle, 9).await {
            assert!(bed.lease(slow, 0).await.is_empty());
            bed.commit(idle, &grant).await;
        }
        bed.advance_ms(40_000);
        for session in [slow, idle] {
            bed.store.heartbeat(session, &[]).await.unwrap();
        }
        bed.advance_ms(19_999);
        assert!(bed.lease(idle, 1).await.is_empty(), "a minute is not over");
        bed.advance_ms(1);
        Self { job, slow, straggler, idle }
    }
}

pub(super) async fn a_slow_shard_is_copied_once_and_the_first_commit_wins(bed: Bed) {
    let Straggling { job, slow, straggler, idle } = Straggling::on(&bed).await;
    assert!(bed.lease(slow, 1).await.is_empty(), "a session gets no copy of its own shard");
    let request = RequestId::generate();
    let copies = whole(bed.store.lease(idle, request, 2).await.unwrap());
    assert_eq!(copies.iter().map(|one| (one.shard, one.epoch)).collect::<Vec<_>>(), [(straggler.shard, Epoch(2))]);
    assert_eq!(whole(bed.store.lease(idle, request, 2).await.unwrap()), copies, "the same request, the same answer");
    let another = bed.session().await;
    assert!(bed.lease(another, 1).await.is_empty(), "one copy is enough");
    assert_eq!((bed.status(job).await.copies, bed.status(job).await.shards.running), (1, 1));
    bed.assert_invariants().await;
    assert_eq!(bed.commit(idle, &copies[0]).await, CommitOutcome::Committed);
    assert_eq!(bed.commit(slow, &straggler).await, CommitOutcome::LostRace);
    let progress = Progress { shard: straggler.shard, epoch: straggler.epoch, rows_done: 5, tokens_done: 5 };
    assert_eq!(bed.store.heartbeat(slow, &[progress]).await.unwrap().directives, [Directive::Stop]);
    let status = bed.status(job).await;
    assert_eq!((status.shards.committed, status.counts.rows), (10, 10 * ROWS));
    bed.assert_invariants().await;
}

pub(super) async fn what_workers_may_have_died_of_is_leased_alone(bed: Bed) {
    bed.job(5).await;
    let (victim, busy) = (bed.session().await, bed.session().await);
    let lost = bed.lease(victim, 2).await;
    let held = bed.lease_one(busy).await;
    for grant in &lost {
        let (shard, epoch) = (grant.shard, grant.epoch);
        assert!(bed.store.fail(victim, shard, epoch, FailureClass::WorkerLost, "it died").await.unwrap());
    }
    assert!(bed.lease(busy, 1).await.is_empty(), "it holds another shard, and gets no isolated shard to lose it with");
    let (first, second) = (bed.session().await, bed.session().await);
    let alone = bed.lease(first, 2).await;
    assert_eq!(alone.iter().map(|one| one.shard).collect::<Vec<_>>(), [lost[0].shard]);
    assert!(bed.lease(first, 1).await.is_empty(), "nothing beside an isolated shard");
    assert_eq!(bed.commit(busy, &held).await, CommitOutcome::Committed);
    assert_eq!(bed.lease_one(busy).await.shard, lost[1].shard, "it is idle now");
    assert_eq!(bed.lease(second, 2).await.len(), 2, "no isolated shard waits any more");
    assert_eq!(bed.commit(first, &alone[0]).await, CommitOutcome::Committed);
    bed.assert_invariants().await;
}

pub(super) async fn the_end_of_one_of_two_attempts_leaves_the_other(bed: Bed) {
    for how in 0..4 {
        let Straggling { job, slow, straggler, idle } = Straggling::on(&bed).await;
        let copy = bed.lease_one(idle).await;
        let (shard, epoch) = (straggler.shard, straggler.epoch);
        match how {
            0 => assert!(bed.store.release(slow, shard, epoch).await.unwrap()),
            1 => bed.store.close_session(slow).await.unwrap(),
            2 => assert!(bed.store.fail(slow, shard, epoch, FailureClass::Transient, "x").await.unwrap()),
            _ => bed.store.cancel(job).await.unwrap(),
        }
        let cancelled = how == 3;
        let expected = if cancelled { CommitOutcome::Cancelled } else { CommitOutcome::Committed };
        assert_eq!(bed.status(job).await.shards.running, u64::from(!cancelled));
        bed.assert_invariants().await;
        assert_eq!(bed.commit(idle, &copy).await, expected);
        bed.assert_invariants().await;
        bed.store.close_all_sessions().await.unwrap();
    }
}

pub(super) async fn two_attempts_that_commit_at_once_have_one_winner(bed: Bed) {
    let Straggling { job, slow, straggler, idle } = Straggling::on(&bed).await;
    let copy = bed.lease_one(idle).await;
    let (one, other) = (bed.store.clone(), bed.store.clone());
    let (first, second) = (output(&straggler), output(&copy));
    let (first, second) = tokio::join!(
        one.commit(slow, straggler.shard, straggler.epoch, &first),
        other.commit(idle, copy.shard, copy.epoch, &second)
    );
    let mut outcomes = [first.unwrap(), second.unwrap()].map(|outcome| format!("{outcome:?}"));
    outcomes.sort();
    assert_eq!(outcomes, ["Committed", "LostRace"]);
    assert_eq!(bed.status(job).await.shards.committed, 10);
    bed.assert_invariants().await;
}

pub(super) async fn too_many_failures_of_one_class_pause_the_job(bed: Bed) {
    let job = bed.job(60).await;
    let session = bed.greedy_session().await;
    let grants = bed.lease(session, 60).await;
    for (at, grant) in grants.iter().take(50).enumerate() {
        if at % 4 == 0 {
            let class = FailureClass::Resource;
            bed.store.fail(session, grant.shard, grant.epoch, class, "no memory").await.unwrap();
        } else {
            bed.commit(session, grant).await;
        }
        let tripped = bed.store.trip_breakers().await.unwrap();
        assert_eq!(tripped.len(), usize::from(at == 49), "13 of 50 are more than 20 %");
    }
    let status = bed.status(job).await;
    assert_eq!((status.paused, status.state), (true, JobState::Running));
    let reason = status.brief.pause_reason.unwrap();
    assert!(reason.contains("13 of its last 50") && reason.contains("resource"), "{reason}");
    bed.advance_ms(1_000);
    assert!(bed.lease(session, 1).await.is_empty());
    bed.store.resume(job).await.unwrap();
    assert!(bed.store.trip_breakers().await.unwrap().is_empty(), "what was seen is forgotten");
    assert_eq!((bed.status(job).await.brief.pause_reason, bed.lease(session, 1).await.len()), (None, 1));
}

pub(super) async fn lost_workers_pause_a_job_only_where_both_halves_of_a_shard_lose_one(bed: Bed) {
    let job = bed.job(60).await;
    let steady = bed.greedy_session().await;
    // A power loss: 30 workers with a shard each, in one moment.
    let mut lost = Vec::new();
    for _ in 0..30 {
        let victim = bed.session().await;
        lost.push((victim, bed.lease_one(victim).await));
    }
    let rest = bed.lease(steady, 30).await;
    for (victim, grant) in &lost {
        let (shard, epoch) = (grant.shard, grant.epoch);
        assert!(bed.store.fail(*victim, shard, epoch, FailureClass::WorkerLost, "power").await.unwrap());
    }
    for grant in rest {
        bed.commit(steady, &grant).await;
    }
    assert!(bed.store.trip_breakers().await.unwrap().is_empty(), "30 lost workers are not the job's fault");
    // Rows that kill: every attempt at an isolated shard loses its worker, both halves of it too.
    let mut deaths = 0;
    let tripped = loop {
        let victim = bed.session().await;
        let grant = bed.lease_one(victim).await;
        let (shard, epoch) = (grant.shard, grant.epoch);
        assert!(bed.store.fail(victim, shard, epoch, FailureClass::WorkerLost, "it died").await.unwrap());
        deaths += 1;
        let tripped = bed.store.trip_breakers().await.unwrap();
        if !tripped.is_empty() || deaths > 1_000 {
            break tripped;
        }
    };
    assert_eq!(tripped, [job]);
    let reason = bed.status(job).await.brief.pause_reason.unwrap();
    assert!(reason.contains("worker_lost"), "{reason}");
    bed.assert_invariants().await;
}

pub(super) async fn missing_credentials_pause_the_job_with_the_reason(bed: Bed) {
    let job = bed.job(1).await;
    let session = bed.session().await;
    let grant = bed.lease_one(session).await;
    bed.store.fail(session, grant.shard, grant.epoch, FailureClass::Auth, "token expired").await.unwrap();
    let status = bed.status(job).await;
    assert_eq!((status.paused, status.pause_reason.as_deref()), (true, Some("shard 0: token expired")));
    assert!(bed.lease(session, 1).await.is_empty());
    bed.store.resume(job).await.unwrap();
    assert_eq!(bed.lease_one(session).await.epoch, Epoch(2), "nothing was counted");
    bed.assert_invariants().await;
}

pub(super) async fn a_worker_that_fails_what_others_complete_gets_no_more(bed: Bed) {
    bed.job(8).await;
    let (bad, good) = (bed.greedy_session().await, bed.greedy_session().await);
    for done in 0..5 {
        let grant = bed.lease_one(bad).await;
        bed.store.fail(bad, grant.shard, grant.epoch, FailureClass::Transient, "x").await.unwrap();
        bed.advance_ms(500);
        let grant = bed.lease_one(good).await;
        bed.commit(good, &grant).await;
        assert_eq!(bed.store.quarantine_sessions().await.unwrap(), if done == 4 { vec![bad] } else { vec![] });
    }
    assert!(bed.lease(bad, 1).await.is_empty());
    assert!(!bed.store.heartbeat(bad, &[]).await.unwrap().session_lost, "it lives, and may finish what it has");
    assert_eq!(bed.lease(good, 1).await.len(), 1);
    assert_eq!(bed.jobs().await[0].workers_quarantined, 1);
}

pub(super) async fn a_job_without_workers_is_shown_as_starved_after_a_while(bed: Bed) {
    let job = bed.job(1).await;
    bed.advance_ms(599_999);
    assert_eq!(bed.status(job).await.starved_ms, 0);
    bed.advance_ms(1);
    assert_eq!(bed.status(job).await.starved_ms, 600_000);
    let session = bed.session().await;
    assert_eq!(bed.status(job).await.starved_ms, 0);
    bed.store.close_session(session).await.unwrap();
    assert_eq!(bed.status(job).await.starved_ms, 0, "it has just been there");
    bed.advance_ms(600_000);
    assert_eq!(bed.status(job).await.starved_ms, 600_000);
    bed.store.pause(job).await.unwrap();
    assert_eq!(bed.status(job).await.starved_ms, 0, "it waits for somebody else");
}

pub(super) async fn one_coordinator_leads_until_it_resigns_or_is_silent(bed: Bed) {
    let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    assert!(bed.store.lead_upkeep(one).await.unwrap());
    assert!(bed.store.lead_upkeep(one).await.unwrap());
    assert!(!bed.store.lead_upkeep(other).await.unwrap());
    bed.store.resign_upkeep(other).await.unwrap();
    assert!(!bed.store.lead_upkeep(other).await.unwrap(), "only the holder can resign");
    bed.store.resign_upkeep(one).await.unwrap();
    assert!(bed.store.lead_upkeep(other).await.unwrap());
    bed.advance_ms(6_000);
    assert!(bed.store.lead_upkeep(one).await.unwrap());
}
