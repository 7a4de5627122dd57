//! The life of jobs: submitted, shown, steered, done.

use std::path::Path;

use dataset::RejectReason;
use proto::generated as wire;
use proto::job::{JobState, MaxRejects};
use proto::work::{CommitOutcome, Directive, Progress};
use proto::{JobId, JobsClient, RpcErrorKind};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::harness::{Cluster, source, spec};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_goes_from_corpus_to_manifest() {
    let cluster = Cluster::start().await;
    let sources = vec![cluster.corpus("a.csv", 25, &[3, 24]), cluster.corpus("b.csv", 7, &[])];
    let spec = spec(sources);
    let job = cluster.submit(&spec).await;
    let planned = cluster.until_state(job, JobState::Running).await;
    assert_eq!((planned.rows_planned, planned.shards.pending, planned.counts.rows), (32, 4, 0));

    assert_eq!(cluster.worker().await.drain().await, 4);
    let done = cluster.until_state(job, JobState::Succeeded).await;
    assert_eq!((done.shards.committed, done.counts.rows, done.counts.tokens), (4, 32, 30 * 3));
    assert_eq!(done.brief.counts.rejects.into_iter().collect::<Vec<_>>(), [(RejectReason::EmptyText, 2)]);

    let manifest = cluster.manifest(&cluster.jobs().get(job).await.unwrap()).await;
    assert_eq!(manifest.problems(), Vec::<String>::new());
    assert_eq!((manifest.job_id, manifest.spec_digest), (job.to_string(), spec.digest()));
    assert_eq!((manifest.info.pooling.as_str(), manifest.info.dimensions), ("cls", 2));
    assert_eq!(manifest.sources.iter().map(|source| source.rows).collect::<Vec<_>>(), [25, 7]);
    assert_eq!(manifest.files.iter().map(|file| file.first_row).collect::<Vec<_>>(), [0, 10, 20, 25]);
    for file in &manifest.files {
        let bytes = cluster.storage().get(&file.name).await.unwrap();
        assert_eq!((bytes.len() as u64, blake3::hash(&bytes).to_hex().to_string()), (file.bytes, file.blake3.clone()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_jobs_at_once_do_not_mix() {
    let cluster = Cluster::start().await;
    let specs = [spec(vec![cluster.corpus("a.csv", 15, &[])]), spec(vec![cluster.corpus("b.csv", 42, &[0])])];
    let first = cluster.submit(&specs[0]).await;
    let second = cluster.submit(&specs[1]).await;
    let (one, other) = (cluster.worker().await, cluster.worker().await);
    for job in [first, second] {
        cluster.until_state(job, JobState::Running).await;
    }
    let (shards, others) = tokio::join!(one.drain(), other.drain());
    assert_eq!(shards + others, 2 + 5);
    for (job, spec, rows) in [(first, &specs[0], 15), (second, &specs[1], 42)] {
        let done = cluster.until_state(job, JobState::Succeeded).await;
        let manifest = cluster.manifest(&done).await;
        assert_eq!((manifest.totals.rows, manifest.spec_digest), (rows, spec.digest()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corpus_without_records_has_a_manifest_without_files() {
    let cluster = Cluster::start().await;
    let job = cluster.submit(&spec(vec![cluster.corpus("a.csv", 0, &[])])).await;
    let done = cluster.until_state(job, JobState::Succeeded).await;
    let manifest = cluster.manifest(&done).await;
    assert_eq!((manifest.files.len(), manifest.sources.len(), manifest.totals.rows), (0, 1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_a_crash_left_behind_is_found_again_and_another_one_is_not_touched() {
    let mut cluster = Cluster::start().await;
    let job = cluster.submit(&spec(vec![cluster.corpus("a.csv", 10, &[])])).await;
    cluster.until_state(job, JobState::Running).await;
    let worker = cluster.worker().await;
    let grant = worker.lease(1).await.remove(0);
    let output = worker.embed(&grant).await;
    cluster.stop().await;
    // The last commit, without a coordinator to finalize.
    let store = cluster.store().await;
    store.commit(worker.session.id, grant.shard, grant.epoch, &output).await.unwrap();
    store.close().await.unwrap();
    drop(store);
    let (mut crashed, mut foreign) = (cluster.copy(), cluster.copy());

    cluster.start_again().await;
    let done = cluster.until_state(job, JobState::Succeeded).await;
    let key = done.brief.manifest_key.unwrap();
    let written = cluster.storage().get(&key).await.unwrap();

    crashed.storage().put_new(&key, written.clone()).await.unwrap();
    crashed.start_again().await;
    crashed.until_state(job, JobState::Succeeded).await;

    foreign.storage().put_new(&key, "{}".into()).await.unwrap();
    foreign.start_again().await;
    let failed = foreign.until_state(job, JobState::Failed).await;
    let reason = failed.brief.reason.unwrap();
    assert!(reason.contains("another manifest") && reason.contains(&key), "{reason}");
    assert_eq!(foreign.storage().get(&key).await.unwrap(), "{}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn submitting_twice_is_submitting_once() {
    let cluster = Cluster::start().await;
    let mut spec = spec(vec![cluster.corpus("a.csv", 5, &[])]);
    let job = cluster.submit(&spec).await;
    assert_eq!(cluster.jobs().submit(job, &spec).await.unwrap().id, job);
    assert_eq!(cluster.jobs().list(9).await.unwrap().jobs.len(), 1);

    spec.max_rejects = MaxRejects::Rows(1);
    let error = cluster.jobs().submit(job, &spec).await.unwrap_err();
    assert_eq!(error.kind, RpcErrorKind::AlreadyExists);
    spec.sources.clear();
    let error = cluster.jobs().submit(JobId::generate(), &spec).await.unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (RpcErrorKind::InvalidArgument, "the job names no sources"));
    let error = cluster.jobs().get(JobId::generate()).await.unwrap_err();
    assert_eq!(error.kind, RpcErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_longer_than_a_message_comes_in_pages_newest_first() {
    let cluster = Cluster::start().await;
    // Each of the specs takes a third of a message.
    let mut long = spec(vec![cluster.corpus("a.csv", 1, &[])]);
    let far = |number: usize| source(Path::new(&format!("/{}/{number}.csv", "x".repeat(50_000))));
    long.sources.extend((0..26).map(far));
    let mut jobs = Vec::new();
    for _ in 0..7 {
        jobs.push(cluster.submit(&long).await);
    }
    jobs.reverse();
    let list = cluster.jobs().list(usize::MAX).await.unwrap();
    assert_eq!((list.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), list.more), (jobs.clone(), false));
    assert_eq!((list.jobs[0].model.as_str(), list.jobs[0].sources), ("owner/model", 27));
    let newest = cluster.jobs().list(2).await.unwrap();
    assert_eq!((newest.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), newest.more), (jobs[..2].to_vec(), true));

    // An older client wants the specs, and gets as many as fit.
    let mut older = wire::jobs_client::JobsClient::new(cluster.wire());
    let mut listed = Vec::new();
    loop {
        let before_job_id = listed.last().cloned().unwrap_or_default();
        let request = wire::ListRequest { limit: 0, before_job_id, without_specs: false };
        let page = older.list(request).await.unwrap().into_inner();
        assert!(page.jobs.len() <= 3 && page.jobs.iter().all(|job| job.spec.as_ref().unwrap().sources.len() == 27));
        listed.extend(page.jobs.into_iter().map(|job| job.job_id));
        if !page.more {
            break;
        }
    }
    assert_eq!(listed, jobs.iter().map(ToString::to_string).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spec_that_is_too_large_is_refused_before_it_is_sent_and_by_the_coordinator() {
    let cluster = Cluster::start().await;
    let small = spec(vec![cluster.corpus("a.csv", 1, &[])]);
    let mut long = small.clone();
    long.embed.prefix = "x".repeat(3_900_000);
    let mut many = small.clone();
    many.sources = vec![source(Path::new(&format!("/{}", "x".repeat(50_000)))); 90];
    for (spec, remedy) in [(long, "shorten --prefix"), (many, "fewer, larger sources")] {
        let error = cluster.jobs().submit(JobId::generate(), &spec).await.unwrap_err();
        assert_eq!(error.kind, RpcErrorKind::InvalidArgument);
        assert!(error.message.contains(remedy), "{error}");
    }
    let mut older = wire::jobs_client::JobsClient::new(cluster.wire());
    let mut spec = wire::JobSpec::from(&small);
    spec.embed.as_mut().unwrap().prefix = "x".repeat(3_900_000);
    let request = wire::SubmitRequest { job_id: JobId::generate().to_string(), spec: Some(spec), ..Default::default() };
    let status = older.submit(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("shorten --prefix"), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_revokes_what_runs_and_ends_the_job() {
    let cluster = Cluster::start().await;
    let job = cluster.submit(&spec(vec![cluster.corpus("a.csv", 30, &[])])).await;
    let worker = cluster.worker().await;
    let grant = worker.lease_some(&cluster, 1).await.remove(0);
    let output = worker.embed(&grant).await;

    cluster.jobs().cancel(job).await.unwrap();
    let progress = Progress { shard: grant.shard, epoch: grant.epoch, rows_done: 1, tokens_done: 1 };
    let reply = cluster.work().heartbeat(worker.session.id, &[progress]).await.unwrap();
    assert_eq!((reply.directives, reply.session_lost), (vec![Directive::Stop], false));
    assert_eq!(worker.commit(&grant, &output).await, CommitOutcome::Cancelled);
    assert!(worker.lease(2).await.is_empty());

    let ended = cluster.until_state(job, JobState::Cancelled).await;
    assert_eq!((ended.shards.committed, ended.brief.manifest_key), (0, None));
    cluster.jobs().cancel(job).await.unwrap();
    let error = cluster.jobs().resume(job).await.unwrap_err();
    assert_eq!(error.kind, RpcErrorKind::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_job_commits_but_leases_nothing() {
    let cluster = Cluster::start().await;
    let job = cluster.submit(&spec(vec![cluster.corpus("a.csv", 20, &[])])).await;
    cluster.until_state(job, JobState::Running).await;
    let worker = cluster.worker().await;
    let grant = worker.lease(1).await.remove(0);
    assert!(cluster.jobs().pause(job).await.unwrap().paused);
    assert!(worker.lease(1).await.is_empty());
    let output = worker.embed(&grant).await;
    assert_eq!(worker.commit(&grant, &output).await, CommitOutcome::Committed);
    assert!(!cluster.jobs().resume(job).await.unwrap().paused);
    assert_eq!(worker.drain().await, 1);
    cluster.until_state(job, JobState::Succeeded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_coordinator_is_served_over_tcp_and_says_that_it_is_healthy() {
    let mut cluster = Cluster::start().await;
    cluster.stop().await;
    let incoming = proto::listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let url = format!("http://{}", incoming.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    let (config, store, storage) = (cluster.config.clone(), cluster.store().await, cluster.storage());
    let task = tokio::spawn(coordinator::run(config, store, storage, incoming, shutdown.clone()));

    let channel = proto::connect(&url).await.unwrap();
    assert!(JobsClient::new(channel.clone()).list(9).await.unwrap().jobs.is_empty());
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    for service in ["", "encaje.v1.Jobs", "encaje.v1.Work"] {
        let request = tonic_health::pb::HealthCheckRequest { service: service.into() };
        let status = health.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, tonic_health::pb::health_check_response::ServingStatus::Serving);
    }
    shutdown.cancel();
    task.await.unwrap().unwrap();
    assert!(proto::connect(&url).await.is_err());
}
