//! The suite that both databases and the one in memory pass: every promise of the protocol by name, and random events in
//! lock-step with the model. PostgreSQL is real and started by the test; where it is not installed, the test fails and says what to do.

mod adjacent_releases;
mod cases_adjacent_releases;
mod cases_faults;
mod cases_holes;
mod cases_jobs;
mod cases_sweep;
mod cases_work;
mod crash;
pub(crate) mod dump;
mod events;
mod fixture;
mod old_jobs;
mod plans;
mod prepared;
mod random;
mod scale;
mod silence;
mod storm;

use fixture::Bed;
use futures::future::BoxFuture;
use testkit::postgres::Server;

type Promise = (&'static str, fn(Bed) -> BoxFuture<'static, ()>);

macro_rules! promises {
    ($($file:ident: $($name:ident),+;)+) => {
        mod sqlite_keeps_its_promise_that {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let folder = tempfile::tempdir().unwrap();
                    super::$file::$name(super::Bed::on_sqlite(folder.path()).await).await;
                }
            )+)+
        }
        mod memory_keeps_its_promise_that {
            $($(
                #[tokio::test]
                async fn $name() {
                    super::$file::$name(super::Bed::on_memory().await).await;
                }
            )+)+
        }
        const PROMISES: &[Promise] = &[$($((stringify!($name), |bed| Box::pin($file::$name(bed)))),+),+];
    };
}

promises! {
    cases_jobs:
        submitting_twice_is_submitting_once,
        a_job_submitted_again_takes_vectors_from_what_is_named_then,
        jobs_are_listed_in_pages_newest_first_and_by_owner,
        sums_over_all_jobs_are_those_of_each,
        the_same_id_with_other_parameters_is_refused,
        sources_are_stored_once,
        the_storage_of_a_database_is_noted_once,
        two_planners_store_a_page_once,
        shards_are_leasable_while_planning_goes_on,
        a_paused_job_leases_nothing_but_commits,
        a_cancelled_job_settles_when_no_lease_is_live,
        a_failed_job_can_be_retried_and_keeps_its_epochs,
        a_job_of_dead_shards_fails_and_names_the_first,
        a_job_is_finalized_when_every_shard_is_committed,
        winners_come_in_pages_and_in_order,
        an_unknown_job_is_told_apart_from_a_finished_one,
        a_repaired_shard_is_done_again_under_a_later_epoch_and_manifest,
        a_repair_that_reads_another_input_fails_the_job;
    cases_work:
        grants_carry_everything_that_a_worker_needs,
        a_large_job_makes_no_large_grants,
        jobs_are_served_in_order_of_submission,
        a_session_holds_no_more_leases_than_its_limit,
        a_repeated_lease_request_returns_the_same_grants,
        an_expired_session_leases_nothing,
        a_lost_session_is_told_to_open_a_new_one,
        two_parallel_leasers_get_disjoint_shards,
        a_repeated_commit_is_counted_once,
        a_lost_lease_cannot_complete,
        a_late_commit_loses_to_the_winner,
        an_output_that_is_not_the_granted_one_is_refused,
        a_commit_to_a_cancelled_job_is_cancelled,
        transient_failures_back_off_and_then_kill_the_shard,
        throttling_is_not_counted,
        a_fatal_failure_fails_the_job_and_revokes_the_rest,
        a_released_shard_is_pending_at_once,
        a_foreign_session_can_do_nothing_with_a_lease;
    cases_sweep:
        a_dead_session_gives_its_shards_back,
        a_heartbeat_keeps_the_session_and_tells_the_progress,
        a_late_heartbeat_saves_a_session_that_nobody_has_buried,
        a_heartbeat_learns_of_a_revoked_lease,
        a_lease_that_its_worker_does_not_know_of_goes_back,
        a_stuck_session_loses_its_leases_though_it_beats,
        one_sweep_expires_a_part_of_the_fleet,
        after_a_gap_every_session_gets_a_fresh_ttl,
        a_closed_session_gives_its_shards_back_uncounted,
        the_keys_of_losing_attempts_become_garbage,
        a_lease_that_slipped_past_the_end_of_its_job_is_taken_back;
    cases_faults:
        losing_three_workers_splits_the_shard_down_to_the_guilty_row,
        a_row_that_cannot_even_be_read_kills_its_shard,
        what_workers_may_have_died_of_is_leased_alone,
        a_slow_shard_is_copied_once_and_the_first_commit_wins,
        two_attempts_that_commit_at_once_have_one_winner,
        the_end_of_one_of_two_attempts_leaves_the_other,
        too_many_failures_of_one_class_pause_the_job,
        lost_workers_pause_a_job_only_where_both_halves_of_a_shard_lose_one,
        missing_credentials_pause_the_job_with_the_reason,
        a_worker_that_fails_what_others_complete_gets_no_more,
        a_job_without_workers_is_shown_as_starved_after_a_while,
        one_coordinator_leads_until_it_resigns_or_is_silent;
    cases_holes:
        a_job_that_may_succeeds_without_its_dead_shards,
        a_job_of_dead_shards_alone_fails_all_the_same,
        a_retry_fills_the_holes_of_a_finished_job_for_the_next_manifest,
        a_retry_that_fails_again_and_a_repair_leave_the_holes,
        a_dead_half_is_a_hole_among_the_rows_where_it_belongs;
    cases_adjacent_releases:
        a_job_of_a_later_revision_is_left_to_others,
        a_job_of_a_later_revision_is_neither_copied_nor_ended_by_others,
        the_lead_goes_to_the_latest_revision_at_once,
        a_worker_gets_no_job_that_it_does_not_know;
    storm:
        a_storm_of_everything_keeps_the_invariants;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_every_promise() {
    let server = Server::start().await;
    let mut broken = Vec::new();
    for (name, promise) in PROMISES {
        let short: String = name.chars().take(60).collect();
        let bed = Bed::on_postgres(&server.database(&short).await).await;
        let store = bed.store.clone();
        if tokio::spawn(promise(bed)).await.is_err() {
            broken.push(*name);
        }
        store.close().await.unwrap();
    }
    assert!(broken.is_empty(), "promises that PostgreSQL does not keep: {broken:?}");
}
