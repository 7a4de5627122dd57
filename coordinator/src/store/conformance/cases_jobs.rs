//! Promises about jobs: submission, planning, the ends.

use proto::job::{JobSpec, JobState, ReuseSource};
use proto::work::{CommitOutcome, FailureClass};
use proto::{Epoch, JobId};

use super::fixture::{Bed, ROWS, cursor, earlier, slices, source, spec};
use crate::store::{StoreErrorKind, Submitted};

pub(super) async fn submitting_twice_is_submitting_once(bed: Bed) {
    let job = JobId::generate();
    assert_eq!(bed.store.submit_job(job, &spec("a")).await.unwrap(), Submitted::Created);
    assert_eq!(bed.store.submit_job(job, &spec("a")).await.unwrap(), Submitted::Existing);
    let jobs = bed.jobs().await;
    assert_eq!(jobs.len(), 1);
    assert_eq!((jobs[0].id, jobs[0].model.as_str(), jobs[0].sources), (job, "owner/model", 1));
    let status = bed.status(job).await;
    assert_eq!((&status.spec, status.state), (&spec("a"), JobState::Planning));
}

pub(super) async fn a_job_submitted_again_takes_vectors_from_what_is_named_then(bed: Bed) {
    let with = |names: &[&str]| JobSpec { reuse: names.iter().copied().map(earlier).collect(), ..spec("a") };
    let job = bed.job(3).await;
    let session = bed.greedy_session().await;
    let mut commits = 0;
    for names in [&[][..], &["old"], &["new", "old"], &["new"], &[]] {
        assert_eq!(bed.store.submit_job(job, &with(names)).await.unwrap(), Submitted::Existing);
        let stored = bed.status(job).await.spec.reuse;
        let active: Vec<&ReuseSource> = stored.iter().filter(|source| !source.retired).collect();
        assert_eq!(active, with(names).reuse.iter().collect::<Vec<_>>());
        assert_eq!(bed.store.source_task(job, 0).await.unwrap().unwrap().reuse, with(names).reuse);
        if names == ["old"] || names == ["new"] {
            let grant = bed.lease_one(session).await;
            assert_eq!(grant.reuse, with(names).reuse);
            assert_eq!(bed.commit(session, &grant).await, CommitOutcome::Committed);
            commits += 1;
        }
    }
    let retired = |name| ReuseSource { retired: true, ..earlier(name) };
    let status = bed.status(job).await;
    assert_eq!(status.spec.reuse, [retired("new"), retired("old")], "what rows may have come from stays listed");
    assert_eq!((status.counts.reused, status.spec.digest()), (2 * commits, spec("a").digest()));
    assert!(bed.store.repair(job, &[0]).await.unwrap());
    assert_eq!(bed.status(job).await.counts.reused, 2 * (commits - 1));
    bed.store.cancel(job).await.unwrap();
    bed.store.submit_job(job, &with(&["old"])).await.unwrap();
    assert_eq!(bed.status(job).await.spec.reuse, status.spec.reuse, "it has ended");
}

pub(super) async fn the_storage_of_a_database_is_noted_once(bed: Bed) {
    assert_eq!(bed.store.storage_id().await.unwrap(), None);
    let (one, other) = tokio::join!(bed.store.adopt_storage("one"), bed.store.adopt_storage("other"));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one, other, "coordinators that start at once agree");
    assert_eq!(bed.store.adopt_storage("third").await.unwrap(), one);
    assert_eq!(bed.store.storage_id().await.unwrap(), Some(one));
}

pub(super) async fn jobs_are_listed_in_pages_newest_first_and_by_owner(bed: Bed) {
    let mut jobs = Vec::new();
    for number in 0..7 {
        let job = JobId::generate();
        let owner = if number % 3 == 0 { "ana" } else { "eva" };
        bed.store.submit_job_of(job, &spec("a"), Some(owner)).await.unwrap();
        // Some in the same moment.
        bed.advance_ms(number % 2);
        jobs.push(job);
    }
    let all: Vec<JobId> = bed.jobs().await.iter().rev().map(|job| job.id).collect();
    let mut listed: Vec<JobId> = Vec::new();
    loop {
        let page = bed.store.newest_jobs(listed.last().copied(), None, 3).await.unwrap();
        if page.is_empty() {
            break;
        }
        listed.extend(page.iter().map(|job| job.id));
    }
    assert_eq!((listed.len(), &listed), (7, &all));
    let place = |job: &JobId| all.iter().position(|one| one == job).unwrap();
    assert!(place(&jobs[6]) < place(&jobs[0]), "the newest come first");
    let mine = bed.store.newest_jobs(None, Some("ana"), 2).await.unwrap();
    let rest = bed.store.newest_jobs(Some(mine[1].id), Some("ana"), 2).await.unwrap();
    let mine: Vec<JobId> = mine.iter().chain(&rest).map(|job| job.id).collect();
    assert_eq!(mine, [jobs[6], jobs[3], jobs[0]]);
    assert!(bed.store.newest_jobs(Some(JobId::generate()), None, 3).await.unwrap().is_empty(), "behind nothing");
    bed.store.fail_job(jobs[1], "no").await.unwrap();
    bed.store.cancel(jobs[2]).await.unwrap();
    let unended = bed.store.unended_jobs(9).await.unwrap();
    assert_eq!(unended.len(), 6, "what is being cancelled has not ended");
    assert!(unended.iter().all(|job| job.id != jobs[1]));
}

pub(super) async fn sums_over_all_jobs_are_those_of_each(bed: Bed) {
    let jobs = [bed.job(2).await, bed.job(1).await];
    let session = bed.greedy_session().await;
    for grant in bed.lease(session, 3).await {
        bed.commit(session, &grant).await;
    }
    bed.store.fail_job(jobs[0], "no").await.unwrap();
    let tally = bed.store.tally().await.unwrap();
    assert_eq!((tally.rows, tally.rejected, tally.tokens), (3 * ROWS, 3 * 3, 300));
    assert_eq!((tally.workers, tally.workers_quarantined), (1, 0));
    let in_state = |state| tally.jobs.iter().filter(|(of, _)| *of == state).map(|(_, jobs)| *jobs).sum::<u64>();
    assert_eq!((in_state(JobState::Failed), in_state(JobState::Running)), (1, 1));
    bed.store.ping().await.unwrap();
}

pub(super) async fn the_same_id_with_other_parameters_is_refused(bed: Bed) {
    let job = JobId::generate();
    bed.store.submit_job(job, &spec("a")).await.unwrap();
    let error = bed.store.submit_job(job, &spec("b")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::AlreadyExists);
}

pub(super) async fn sources_are_stored_once(bed: Bed) {
    let job = JobId::generate();
    bed.store.submit_job(job, &spec("a")).await.unwrap();
    assert_eq!(bed.planning().await.unwrap().sources, None);
    assert!(bed.store.set_sources(job, &[source("a"), source("b")]).await.unwrap());
    assert!(bed.store.set_sources(job, &[source("a"), source("b")]).await.unwrap(), "a repeat is fine");
    assert!(!bed.store.set_sources(job, &[source("a"), source("c")]).await.unwrap(), "others came first");
    let planning = bed.planning().await.unwrap();
    assert_eq!(planning.sources.as_deref(), Some(&[source("a"), source("b")][..]));
    assert_eq!(bed.store.sources(job).await.unwrap(), [source("a"), source("b")]);
}

pub(super) async fn two_planners_store_a_page_once(bed: Bed) {
    let job = JobId::generate();
    bed.store.submit_job(job, &spec("a")).await.unwrap();
    let page = slices(0, 3);
    assert!(!bed.store.insert_shards(job, &cursor(0), &page, &cursor(3), false).await.unwrap(), "no sources yet");
    bed.store.set_sources(job, &[source("a")]).await.unwrap();
    let (from, to) = (cursor(0), cursor(3));
    let (first, second) = tokio::join!(
        bed.store.insert_shards(job, &from, &page, &to, false),
        bed.store.insert_shards(job, &from, &page, &to, false)
    );
    assert_eq!(u8::from(first.unwrap()) + u8::from(second.unwrap()), 1);
    assert_eq!(bed.planning().await.unwrap().cursor, cursor(3));
    assert!(bed.store.insert_shards(job, &cursor(3), &slices(3, 2), &cursor(5), true).await.unwrap());
    let status = bed.status(job).await;
    assert_eq!((status.state, status.shards.pending, status.rows_planned), (JobState::Running, 5, 5 * ROWS));
    assert!(bed.planning().await.is_none());
    bed.assert_invariants().await;
}

pub(super) async fn shards_are_leasable_while_planning_goes_on(bed: Bed) {
    let job = JobId::generate();
    bed.store.submit_job(job, &spec("a")).await.unwrap();
    bed.store.set_sources(job, &[source("a")]).await.unwrap();
    bed.store.insert_shards(job, &cursor(0), &slices(0, 1), &cursor(1), false).await.unwrap();
    let session = bed.session().await;
    let grant = bed.lease_one(session).await;
    assert_eq!(bed.commit(session, &grant).await, CommitOutcome::Committed);
    assert!(bed.store.jobs_to_finalize().await.unwrap().is_empty(), "planning is not over");
    bed.store.insert_shards(job, &cursor(1), &[], &cursor(1), true).await.unwrap();
    assert_eq!(bed.store.jobs_to_finalize().await.unwrap(), [job]);
}

pub(super) async fn a_paused_job_leases_nothing_but_commits(bed: Bed) {
    let job = bed.job(2).await;
    let session = bed.session().await;
    let grant = bed.lease_one(session).await;
    bed.store.pause(job).await.unwrap();
    assert!(bed.status(job).await.paused);
    assert!(bed.lease(session, 2).await.is_empty());
    assert_eq!(bed.commit(session, &grant).await, CommitOutcome::Committed);
    bed.store.resume(job).await.unwrap();
    assert_eq!(bed.lease(session, 2).await.len(), 1);
}

pub(super) async fn a_cancelled_job_settles_when_no_lease_is_live(bed: Bed) {
    let job = bed.job(4).await;
    let session = bed.session().await;
    let grants = bed.lease(session, 2).await;
    bed.commit(session, &grants[0]).await;
    bed.store.cancel(job).await.unwrap();
    assert_eq!(bed.status(job).await.state, JobState::Cancelling);
    bed.store.cancel(job).await.unwrap();
    assert!(bed.lease(session, 2).await.is_empty());
    assert_eq!(bed.store.settle_cancelled().await.unwrap(), 1);
    let status = bed.status(job).await;
    assert_eq!(status.state, JobState::Cancelled);
    assert_eq!((status.shards.committed, status.shards.cancelled), (1, 3));
    assert_eq!(bed.store.settle_cancelled().await.unwrap(), 0);
    assert_eq!(bed.store.retry(job).await.unwrap_err().kind(), StoreErrorKind::WrongState);
    bed.assert_invariants().await;
}

pub(super) async fn a_failed_job_can_be_retried_and_keeps_its_epochs(bed: Bed) {
    let job = bed.job(2).await;
    let session = bed.session().await;
    let grant = bed.lease_one(session).await;
    assert!(bed.store.fail_job(job, "the source is gone").await.unwrap());
    assert!(!bed.store.fail_job(job, "again").await.unwrap());
    let status = bed.status(job).await;
    assert_eq!((status.state, status.reason.as_deref()), (JobState::Failed, Some("the source is gone")));
    assert!(bed.lease(session, 2).await.is_empty());
    bed.store.retry(job).await.unwrap();
    assert_eq!(bed.status(job).await.reason, None);
    let again = bed.lease_one(session).await;
    assert_eq!((again.shard, again.epoch.0), (grant.shard, grant.epoch.0 + 1));
    bed.assert_invariants().await;
}

pub(super) async fn a_job_of_dead_shards_fails_and_names_the_first(bed: Bed) {
    let job = bed.job(2).await;
    let session = bed.session().await;
    for failure in 0..5 {
        assert!(bed.store.fail_exhausted().await.unwrap().is_empty(), "after {failure} failures");
        let grant = bed.lease_one(session).await;
        assert_eq!(grant.shard.index, 0);
        bed.store.fail(session, grant.shard, grant.epoch, FailureClass::Transient, "disk on fire").await.unwrap();
        bed.advance_ms(20_000);
        bed.store.heartbeat(session, &[]).await.unwrap();
    }
    let grant = bed.lease_one(session).await;
    assert_eq!(bed.commit(session, &grant).await, CommitOutcome::Committed);
    assert!(bed.store.jobs_to_finalize().await.unwrap().is_empty());
    assert_eq!(bed.store.fail_exhausted().await.unwrap(), [job]);
    let status = bed.status(job).await;
    let reason = status.reason.as_deref().unwrap();
    assert!(status.state == JobState::Failed && reason.contains("shard 0: disk on fire"), "{reason}");
    bed.store.retry(job).await.unwrap();
    let grant = bed.lease_one(session).await;
    assert_eq!((grant.shard.index, grant.epoch.0), (0, 6));
    bed.assert_invariants().await;
}

pub(super) async fn a_job_is_finalized_when_every_shard_is_committed(bed: Bed) {
    let job = bed.job(2).await;
    let session = bed.session().await;
    for grant in bed.lease(session, 2).await {
        assert!(!bed.store.begin_finalize(job).await.unwrap());
        bed.commit(session, &grant).await;
    }
    assert_eq!(bed.store.jobs_to_finalize().await.unwrap(), [job]);
    assert!(!bed.store.finish_job(job, 1, "m", "d").await.unwrap(), "not before it is finalizing");
    assert!(bed.store.begin_finalize(job).await.unwrap());
    assert_eq!(bed.store.jobs_to_finalize().await.unwrap(), [job], "a crash here must not lose the job");
    assert!(bed.store.begin_finalize(job).await.unwrap());
    assert!(bed.store.finish_job(job, 1, "m", "d").await.unwrap());
    assert!(bed.store.finish_job(job, 1, "m", "d").await.unwrap());
    assert!(!bed.store.finish_job(job, 1, "m", "other").await.unwrap());
    let status = bed.status(job).await;
    assert_eq!((status.state, status.manifest_key.as_deref()), (JobState::Succeeded, Some("m")));
    assert!(bed.store.jobs_to_finalize().await.unwrap().is_empty());
    assert_eq!(bed.store.cancel(job).await.unwrap_err().kind(), StoreErrorKind::WrongState);
}

pub(super) async fn winners_come_in_pages_and_in_order(bed: Bed) {
    let job = bed.job(5).await;
    let session = bed.greedy_session().await;
    let grants = bed.lease(session, 5).await;
    for grant in grants.iter().rev() {
        bed.commit(session, grant).await;
    }
    let first = bed.store.winners(job, None, 3).await.unwrap();
    assert_eq!(first.iter().map(|winner| winner.index).collect::<Vec<_>>(), [0, 1, 2]);
    let second = bed.store.winners(job, Some(2), 3).await.unwrap();
    assert_eq!(second.iter().map(|winner| winner.index).collect::<Vec<_>>(), [3, 4]);
    for (winner, grant) in first.iter().chain(&second).zip(&grants) {
        assert_eq!(winner.slice, grant.slice);
        assert_eq!(winner.output, super::fixture::output(grant));
    }
}

pub(super) async fn an_unknown_job_is_told_apart_from_a_finished_one(bed: Bed) {
    let nobody = JobId::generate();
    assert_eq!(bed.store.job(nobody).await.unwrap(), None);
    for answer in [bed.store.cancel(nobody).await, bed.store.pause(nobody).await, bed.store.retry(nobody).await] {
        assert_eq!(answer.unwrap_err().kind(), StoreErrorKind::NotFound);
    }
    let job = bed.job(0).await;
    bed.store.begin_finalize(job).await.unwrap();
    bed.store.finish_job(job, 1, "m", "d").await.unwrap();
    for answer in [bed.store.cancel(job).await, bed.store.pause(job).await, bed.store.retry(job).await] {
        assert_eq!(answer.unwrap_err().kind(), StoreErrorKind::WrongState);
    }
}

pub(super) async fn a_repaired_shard_is_done_again_under_a_later_epoch_and_manifest(bed: Bed) {
    let job = bed.job(2).await;
    let session = bed.session().await;
    for grant in bed.lease(session, 2).await {
        bed.commit(session, &grant).await;
    }
    bed.store.begin_finalize(job).await.unwrap();
    assert!(bed.store.finish_job(job, 1, "m", "d").await.unwrap());
    assert!(bed.store.repair(job, &[1, 1, 99]).await.unwrap());
    assert!(!bed.store.repair(job, &[1]).await.unwrap(), "it is under way");
    let status = bed.status(job).await;
    assert_eq!((status.state, status.generation, &status.manifest_key), (JobState::Running, 2, &None));
    assert_eq!((status.shards.pending, status.shards.committed, status.counts.rows), (1, 1, super::fixture::ROWS));
    bed.assert_invariants().await;
    let grant = bed.lease_one(session).await;
    assert_eq!((grant.shard.index, grant.epoch), (1, Epoch(2)));
    bed.commit(session, &grant).await;
    assert!(bed.store.begin_finalize(job).await.unwrap());
    assert!(!bed.store.finish_job(job, 1, "m", "d").await.unwrap(), "a manifest of the past");
    assert!(!bed.store.fail_finalize(job, 1, "no manifest").await.unwrap(), "a failure of the past");
    assert!(bed.store.finish_job(job, 2, "m2", "d2").await.unwrap());
    bed.advance_ms(900_000);
    let garbage = bed.store.mark_garbage(10).await.unwrap();
    assert_eq!(garbage.iter().map(|one| (one.index, one.epoch)).collect::<Vec<_>>(), [(1, 1)]);
    bed.assert_invariants().await;
}

pub(super) async fn a_repair_that_reads_another_input_fails_the_job(bed: Bed) {
    let job = bed.job(1).await;
    let session = bed.session().await;
    let grant = bed.lease_one(session).await;
    bed.commit(session, &grant).await;
    bed.store.repair(job, &[0]).await.unwrap();
    let again = bed.lease_one(session).await;
    let mut other = super::fixture::output(&again);
    other.input_blake3 = "another".into();
    assert_eq!(bed.try_commit(session, &again, &other).await.unwrap(), CommitOutcome::Cancelled);
    let status = bed.status(job).await;
    assert_eq!(status.state, JobState::Failed);
    assert!(status.brief.reason.unwrap().contains("input_changed"));
    let cancelled = bed.job(1).await;
    bed.store.cancel(cancelled).await.unwrap();
    assert_eq!(bed.store.repair(cancelled, &[0]).await.unwrap_err().kind(), StoreErrorKind::WrongState);
    bed.assert_invariants().await;
}
