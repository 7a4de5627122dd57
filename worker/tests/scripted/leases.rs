//! What happens when a lease does not simply run to its end.

use std::io::{self, Write};
use std::sync::Arc;

use dataset::{DatasetError, Storage};
use futures::future::BoxFuture;
use proto::work::{FailureClass, Grant, Output};
use tokio_util::sync::CancellationToken;
use worker::{Failed, Meter, Preload, WorkerError, WorkerHost};

use crate::fake::{Event, Fake, Script};
use crate::rig::{Rig, committed, texts};

/// Enough for a heartbeat to find the shard at work.
const LONG: usize = 20_000;

fn failure(events: &[Event]) -> Option<(FailureClass, String)> {
    events.iter().find_map(|event| match event {
        Event::Failed(_, class, message) => Some((*class, message.clone())),
        _ => None,
    })
}

#[tokio::test]
async fn a_revoked_shard_is_dropped_and_work_goes_on() {
    let rig = Rig::new(&texts(300));
    let (fake, summary) = rig.run_all(Script::RevokeFirstLease, 100).await;
    let events = fake.events();
    assert!(!events.contains(&Event::Committed(0, 1)), "{events:?}");
    assert!(events.contains(&Event::Committed(0, 2)), "{events:?}");
    assert_eq!((summary.shards, summary.rows), (3, 300));
    assert_eq!(rig.rows(&fake.outputs()).len(), 300);
    assert!(rig.spool_is_empty());
}

#[tokio::test]
async fn a_lost_session_drops_everything_and_a_new_one_finishes_the_work() {
    let rig = Rig::new(&texts(300));
    let (fake, summary) = rig.run_all(Script::LoseFirstSession, 100).await;
    let events = fake.events();
    assert_eq!(events.iter().filter(|event| **event == Event::SessionOpened).count(), 2, "{events:?}");
    let first: Vec<_> = events.iter().filter(|event| matches!(event, Event::Committed(_, 1))).collect();
    assert!(first.len() <= 1, "only a shard that was never leased in the first session has epoch 1: {events:?}");
    assert_eq!(summary.shards, 3);
    assert_eq!(rig.rows(&fake.outputs()).len(), 300);
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_repeated_and_counts_once() {
    let rig = Rig::new(&texts(100));
    let grants = rig.grants(u64::MAX).await;
    let (fake, channel) = Fake::start(Script::LoseCommitReply, rig.storage().url(), grants);
    let shutdown = CancellationToken::new();
    let worker = tokio::spawn(worker::run(rig.config(), channel, shutdown.clone()));
    fake.until(|events| committed(events) == 1).await;
    // The commit has taken effect, its answer has not arrived: stopping now must not give the shard back.
    shutdown.cancel();
    let summary = worker.await.unwrap().unwrap();
    assert_eq!((summary.shards, summary.rows, fake.commit_calls()), (1, 100, 2));
    assert!(!fake.events().contains(&Event::Released(0, 1)));
}

#[tokio::test]
async fn a_lease_request_whose_answer_is_lost_leaks_nothing() {
    let rig = Rig::new(&texts(300));
    let (fake, summary) = rig.run_all(Script::LoseLeaseReply, 100).await;
    assert_eq!(summary.shards, 3);
    assert!(fake.events().contains(&Event::Committed(0, 1)), "{:?}", fake.events());
}

#[tokio::test]
async fn a_grant_that_cannot_be_read_costs_its_shard_and_no_other() {
    let rig = Rig::new(&texts(300));
    let grants = rig.grants(100).await;
    let done = |events: &[Event]| committed(events) == 2 && failure(events).is_some();
    let (fake, summary) = rig.run_until(Script::GrantNonsense, grants, done).await;
    assert_eq!(summary.unwrap().shards, 2);
    let (class, message) = failure(&fake.events()).unwrap();
    assert_eq!(class, FailureClass::Transient);
    assert!(message.contains("cannot read its grant") && message.contains("77"), "{message}");
}

#[tokio::test]
async fn no_answer_to_a_lease_request_ends_the_worker() {
    for script in [Script::AnswerTooLarge, Script::AnswerInternal] {
        let rig = Rig::new(&texts(300));
        let (fake, summary) = rig.run_all(script, 100).await;
        assert_eq!(summary.shards, 3, "{script:?}");
        assert!(!fake.events().contains(&Event::Committed(0, 1)), "{script:?}: {:?}", fake.events());
    }
}

#[tokio::test]
async fn what_a_source_has_in_common_is_fetched_once() {
    let rig = Rig::new(&texts(300));
    let (fake, summary) = rig.run_all(Script::GrantLightly, 50).await;
    assert_eq!((summary.shards, rig.rows(&fake.outputs()).len()), (6, 300));
    let bytes = u32::try_from(rig.source_task_bytes().await).unwrap();
    assert_eq!(fake.task_calls(), bytes.div_ceil(64), "one call for each piece");
}

/// A machine that crashes at shard 0, and finds something wrong with every other.
struct Crashing(Storage);

impl WorkerHost for Crashing {
    fn storage<'a>(&'a self, _url: &'a str) -> BoxFuture<'a, Result<Storage, DatasetError>> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }

    fn embed_shard<'a>(
        &'a self,
        _storage: &'a Storage,
        grant: &'a Grant,
        _meter: &'a Arc<Meter>,
    ) -> BoxFuture<'a, Result<Output, Failed>> {
        Box::pin(async move {
            assert_ne!(grant.shard.index, 0, "a bug");
            Err(Failed { class: FailureClass::Resource, message: "no room".to_owned() })
        })
    }

    fn spawn_heartbeat(&self, heartbeat: BoxFuture<'static, ()>) -> io::Result<BoxFuture<'static, ()>> {
        let task = tokio::spawn(heartbeat);
        Ok(Box::pin(async move { drop(task.await) }))
    }
}

#[tokio::test]
async fn a_panic_over_a_shard_is_reported_as_its_failure() {
    let rig = Rig::new(&texts(300));
    let (fake, channel) = Fake::start(Script::Obliging, rig.storage().url(), rig.grants(100).await);
    let shutdown = CancellationToken::new();
    let host = Arc::new(Crashing(rig.storage()));
    let worker = tokio::spawn(worker::serve(rig.config(), channel, host, shutdown.clone()));
    let failures = |events: &[Event]| events.iter().filter(|event| matches!(event, Event::Failed(..))).count();
    fake.until(|events| failures(events) == 3).await;
    shutdown.cancel();
    worker.await.unwrap().unwrap();
    let told =
        |event: &Event| matches!(event, Event::Failed(0, FailureClass::Transient, said) if said.contains("panicked"));
    assert!(fake.events().iter().any(told), "{:?}", fake.events());
}

#[tokio::test]
async fn a_source_that_changed_is_told_as_such() {
    let rig = Rig::new(&texts(300));
    let grants = rig.grants(100).await;
    let mut corpus = std::fs::File::options().append(true).open(rig.corpus()).unwrap();
    corpus.write_all(b"300,later\n").unwrap();
    let (fake, summary) = rig.run_until(Script::Obliging, grants, |events| failure(events).is_some()).await;
    summary.unwrap();
    let (class, message) = failure(&fake.events()).unwrap();
    assert_eq!(class, FailureClass::InputChanged, "{message}");
    assert!(message.contains("corpus.csv"), "{message}");
}

#[tokio::test]
async fn another_model_than_the_jobs_is_refused() {
    let mut rig = Rig::new(&texts(10));
    rig.digest = "0".repeat(64);
    let grants = rig.grants(100).await;
    let (fake, summary) = rig.run_until(Script::Obliging, grants, |events| failure(events).is_some()).await;
    summary.unwrap();
    let (class, message) = failure(&fake.events()).unwrap();
    assert_eq!(class, FailureClass::ModelMismatch);
    assert!(message.contains(&rig.digest), "{message}");
}

#[tokio::test]
async fn a_model_that_cannot_be_preloaded_ends_the_worker_before_its_first_lease() {
    let rig = Rig::new(&texts(10));
    let grants = rig.grants(100).await;
    let mut model = grants[0].model.clone();
    model.name = "/no/such/model".to_owned();
    let mut config = rig.config();
    config.preload = Some(Preload { model, embed: rig.embed.clone() });
    let (fake, channel) = Fake::start(Script::Obliging, rig.storage().url(), grants);
    let error = worker::run(config, channel, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, WorkerError::Model { .. }), "{error}");
    assert!(error.to_string().contains("/no/such/model"), "{error}");
    assert_eq!(fake.events(), []);
}

#[tokio::test]
async fn a_stopping_worker_gives_its_shards_back_and_says_goodbye() {
    let rig = Rig::new(&texts(3 * LONG));
    let grants = rig.grants(LONG as u64).await;
    let leased = |events: &[Event]| events.iter().any(|event| matches!(event, Event::HeartbeatReply(1, _)));
    let (fake, summary) = rig.run_until(Script::Obliging, grants, leased).await;
    assert_eq!(summary.unwrap().shards, 0);
    let events = fake.events();
    for expected in [Event::Released(0, 1), Event::Released(1, 1)] {
        assert!(events.contains(&expected), "{events:?}");
    }
    assert!(!events.contains(&Event::Leased(2, 1)), "two shards are held, never three");
    assert_eq!(events.last(), Some(&Event::SessionClosed));
    assert!(failure(&events).is_none());
    assert!(rig.spool_is_empty());
}

#[tokio::test]
async fn an_upload_that_is_not_found_is_no_change_of_the_input() {
    let rig = Rig::new(&texts(300));
    let mut grants = rig.grants(100).await;
    for grant in &mut grants {
        let upload = rig.folder.path().join(format!("storage/uploads/{}/a.csv", "0".repeat(64)));
        grant.source.source.uri = upload.to_str().unwrap().to_owned();
    }
    let (fake, summary) = rig.run_until(Script::Obliging, grants, |events| failure(events).is_some()).await;
    summary.unwrap();
    let (class, message) = failure(&fake.events()).unwrap();
    assert_eq!(class, FailureClass::Transient, "{message}");
    assert!(message.contains("is not found now"), "{message}");
}
