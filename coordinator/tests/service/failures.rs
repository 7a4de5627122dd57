//! What fails a job, and what its reason says.

use std::time::Duration;

use proto::job::{JobSpec, JobState, MaxRejects, OnBadRow};
use proto::work::FailureClass;

use crate::harness::{Cluster, source, spec};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_fails_says_why_in_full() {
    let cluster = Cluster::start().await;
    let good = cluster.corpus("good.csv", 5, &[]);
    let missing = source(std::path::Path::new("/nowhere/corpus.csv"));
    let mut other_column = spec(vec![good.clone()]);
    other_column.read.text_column = "texto".into();
    for (spec, words) in [
        (other_column, &["good.csv", "no column `texto`", "`text`", "--text-column"][..]),
        (spec(vec![good, missing]), &["/nowhere/corpus.csv", "does not exist"]),
    ] {
        let job = cluster.submit(&spec).await;
        let failed = cluster.until(job, |status| status.state == JobState::Failed).await;
        let reason = failed.reason.as_deref().unwrap();
        for word in words {
            assert!(reason.contains(word), "`{word}` is not in: {reason}");
        }
        assert_eq!(failed.shards.pending, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejects_fail_a_job_as_soon_as_they_are_too_many() {
    let cluster = Cluster::start().await;
    let corpus = cluster.corpus("a.csv", 40, &[1, 2, 3]);
    let with = |max_rejects, on_bad_row| JobSpec { max_rejects, on_bad_row, ..spec(vec![corpus.clone()]) };
    for (spec, words) in [
        (
            with(MaxRejects::Rows(2), OnBadRow::Reject),
            "3 of 10 rows were rejected (empty_text: 3), more than --max-rejects 2",
        ),
        (with(MaxRejects::Unlimited, OnBadRow::Fail), "--on-bad-row fail"),
    ] {
        let job = cluster.submit(&spec).await;
        let worker = cluster.worker().await;
        let grant = worker.lease_some(&cluster, 1).await.remove(0);
        assert_eq!((grant.shard.job, grant.shard.index), (job, 0));
        let output = worker.embed(&grant).await;
        worker.commit(&grant, &output).await;
        let failed = cluster.jobs().get(job).await.unwrap();
        assert_eq!(failed.state, JobState::Failed, "before any other shard");
        assert!(failed.reason.as_ref().unwrap().contains(words), "{failed:?}");
        assert!(worker.lease(1).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_percentage_of_rejects_is_judged_at_the_end() {
    let cluster = Cluster::start().await;
    let corpus = cluster.corpus("a.csv", 40, &[1, 2]);
    for (percent, state) in [(5.0, JobState::Succeeded), (4.9, JobState::Failed)] {
        let job =
            cluster.submit(&JobSpec { max_rejects: MaxRejects::Percent(percent), ..spec(vec![corpus.clone()]) }).await;
        cluster.until_state(job, JobState::Running).await;
        // The first shard alone has 20% of them.
        assert_eq!(cluster.worker().await.drain().await, 4);
        let ended = cluster.until_state(job, state).await;
        assert_eq!(ended.reason.is_some(), state == JobState::Failed);
        assert!(ended.brief.reason.is_none_or(|reason| reason.contains("2 of 40 rows") && reason.contains("4.9%")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_fails_too_often_fails_its_job_and_a_retry_gives_it_another_life() {
    let cluster = Cluster::start().await;
    let job = cluster.submit(&spec(vec![cluster.corpus("a.csv", 20, &[])])).await;
    cluster.until_state(job, JobState::Running).await;
    let worker = cluster.worker().await;
    let fail = async |class, message: &str| {
        let grant = worker.lease_some(&cluster, 1).await.remove(0);
        cluster.work().fail(worker.session.id, grant.shard, grant.epoch, class, message).await.unwrap();
        cluster.clock.advance(Duration::from_secs(10));
        // Keeps the session alive over the pauses between attempts.
        cluster.work().heartbeat(worker.session.id, &[]).await.unwrap();
        grant.epoch.0
    };
    let mut epochs = 0;
    loop {
        epochs = epochs.max(fail(FailureClass::Transient, "the disk is full: /spool").await);
        let status = cluster.jobs().get(job).await.unwrap();
        if status.shards.dead == 2 {
            break;
        }
    }
    assert_eq!(epochs, 5);
    let failed = cluster.until(job, |status| status.state == JobState::Failed).await;
    let reason = failed.brief.reason.unwrap();
    assert!(reason.contains("the disk is full: /spool"), "{reason}");

    cluster.jobs().retry(job).await.unwrap();
    let worker = cluster.worker().await;
    let grant = worker.lease_some(&cluster, 1).await.remove(0);
    assert_eq!(grant.epoch.0, 6, "a retry never resets an epoch");
    cluster.work().release(worker.session.id, grant.shard, grant.epoch).await.unwrap();
    assert_eq!(worker.drain().await, 2);
    cluster.until_state(job, JobState::Succeeded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_that_no_attempt_can_mend_fails_the_job_at_once() {
    let cluster = Cluster::start().await;
    let job = cluster.submit(&spec(vec![cluster.corpus("a.csv", 20, &[])])).await;
    let worker = cluster.worker().await;
    let grant = worker.lease_some(&cluster, 1).await.remove(0);
    let message = "corpus source `/a.csv`\u{1b}[31m changed\0";
    let class = FailureClass::InputChanged;
    cluster.work().fail(worker.session.id, grant.shard, grant.epoch, class, message).await.unwrap();
    let failed = cluster.jobs().get(job).await.unwrap();
    assert_eq!(failed.state, JobState::Failed);
    let reason = failed.brief.reason.unwrap();
    assert!(reason.contains("changed") && !reason.contains(['\0', '\u{1b}']), "{reason}");
}
