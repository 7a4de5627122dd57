//! What a coordinator relays, over its wire: uploads, outputs, sources; and what it does not.

use bytes::Bytes;
use coordinator::Roots;
use dataset::{ErrorKind, RejectReason};
use proto::job::JobState;
use proto::relay::{connect_storage, fallback_source, relayed, source_key, upload_key, upload_source};

use crate::harness::{Cluster, spec};

const MIB: usize = 1 << 20;

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_uploaded_once_and_read_back_whole_and_in_part() {
    let cluster = Cluster::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mis tweets.csv");
    let content = bytes(19 * MIB + 7);
    std::fs::write(&file, &content).unwrap();
    let mut heard = 0;
    let sent = upload_source(cluster.wire(), &file, &mut |bytes| heard = bytes).await.unwrap();
    assert_eq!((sent.bytes, sent.was_there, heard), (content.len() as u64, false, 2 * content.len() as u64));
    let key = upload_key(&sent.blake3, "mis_tweets.csv");
    assert_eq!(sent.uri, format!("{}/{key}", cluster.storage().url()));

    let again = upload_source(cluster.wire(), &file, &mut |_| {}).await.unwrap();
    assert!(again.was_there && again.uri == sent.uri);

    let relay = relayed(cluster.wire());
    assert!(relay.get(&key).await.unwrap() == content);
    let part = relay.get_range(&key, 3 * MIB as u64 - 5..5 * MIB as u64).await.unwrap();
    assert!(part[..] == content[3 * MIB - 5..5 * MIB]);
    assert_eq!(relay.get_range(&key, 19 * MIB as u64..u64::MAX).await.unwrap().len(), 7);
    assert_eq!(relay.head(&key).await.unwrap().size, content.len() as u64);
    // Nothing else is left, neither of the upload nor of the second one.
    assert_eq!(cluster.storage().list("uploads").await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_elsewhere_reads_the_sources_of_a_job_and_writes_its_outputs() {
    let cluster = Cluster::start().await;
    let spec = spec(vec![cluster.corpus("a.csv", 25, &[3])]);
    let job = cluster.submit(&spec).await;
    cluster.until_state(job, JobState::Running).await;
    let worker = cluster.worker().await;
    let grants = worker.lease_some(&cluster, 2).await;
    let relay = relayed(cluster.wire());

    // To a worker elsewhere, the path is that of nothing, or of another file.
    for foreign in [None, Some("text,label\nnot this,x\n")] {
        let mut source = grants[0].source.clone();
        let elsewhere = tempfile::tempdir().unwrap();
        source.source.uri = elsewhere.path().join("a.csv").to_str().unwrap().to_owned();
        if let Some(content) = foreign {
            std::fs::write(&source.source.uri, content).unwrap();
        }
        let fallback = fallback_source(&relay, job, grants[0].slice.source_index);
        let mut reader =
            dataset::read_with_fallback(&source, &grants[0].slice, &spec.read, &relay, &fallback).await.unwrap();
        let chunk = reader.next_chunk().await.unwrap().unwrap();
        assert_eq!(chunk.texts[0], Ok("text 0".to_owned()));
        assert_eq!(chunk.texts[3], Err(RejectReason::EmptyText));
        assert!(reader.next_chunk().await.unwrap().is_none());
    }

    let key = &grants[0].output_key;
    relay.put_new(key, Bytes::from_static(b"output")).await.unwrap();
    assert_eq!(&cluster.storage().get(key).await.unwrap()[..], b"output");
    let other = relay.put_new(key, Bytes::from_static(b"another")).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::AlreadyExists);
    // The answer of the first may have been lost: the same bytes are no conflict.
    relay.put_new(key, Bytes::from_static(b"output")).await.unwrap();
    let listed = relay.list(&format!("jobs/{job}")).await.unwrap();
    assert!(listed.iter().any(|(found, info)| found == key && info.size == 6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_changed_is_not_relayed() {
    let cluster = Cluster::start().await;
    let source = cluster.corpus("a.csv", 25, &[]);
    let job = cluster.submit(&spec(vec![source.clone()])).await;
    cluster.until_state(job, JobState::Running).await;
    let worker = cluster.worker().await;
    let grant = worker.lease_some(&cluster, 1).await.remove(0);
    std::fs::write(&source.uri, "text,label\nother,x\n").unwrap();
    let fallback = fallback_source(&relayed(cluster.wire()), job, 0);
    let read =
        dataset::read_with_fallback(&grant.source, &grant.slice, &spec(vec![]).read, &cluster.storage(), &fallback)
            .await;
    let error = read.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceChanged);
    assert!(error.to_string().contains(&source.uri), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_may_name_is_refused() {
    let cluster = Cluster::start().await;
    let job = cluster.submit(&spec(vec![cluster.corpus("a.csv", 5, &[])])).await;
    cluster.until_state(job, JobState::Running).await;
    cluster.storage().put_new("private/x", Bytes::from_static(b"secret")).await.unwrap();
    let relay = relayed(cluster.wire());
    for key in ["private/x", "state.db", &format!("jobs/{job}/.hidden/x"), "sources/x/0", "uploads/x/a.csv"] {
        assert_eq!(relay.get(key).await.unwrap_err().kind(), ErrorKind::Auth, "{key}");
        assert_eq!(relay.put_new(key, Bytes::new()).await.unwrap_err().kind(), ErrorKind::Auth, "{key}");
    }
    assert_eq!(relay.get(&source_key(job, 1)).await.unwrap_err().kind(), ErrorKind::NotFound);
    for key in [
        format!("jobs/{job}/manifest-1.json"),
        format!("jobs/{job}/recut/x"),
        source_key(job, 0),
        "storage-id".to_owned(),
    ] {
        assert_eq!(relay.put_new(&key, Bytes::new()).await.unwrap_err().kind(), ErrorKind::Auth, "{key}");
    }
    // An upload is what its name says.
    let forged = upload_key(&"0".repeat(64), "a.csv");
    assert!(relay.put_new(&forged, Bytes::from_static(b"x")).await.is_err());
    assert_eq!(relay.get(&forged).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(relay.list("").await.is_err() && relay.list("uploads").await.is_err());
    assert!(relay.delete(&forged).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_is_opened_directly_only_where_it_is_the_right_one() {
    let cluster = Cluster::start().await;
    let here = cluster.storage().url().to_owned();
    assert_eq!(connect_storage(cluster.wire(), &here).await.url(), here);
    let other = tempfile::tempdir().unwrap();
    let other = other.path().to_str().unwrap();
    assert_ne!(connect_storage(cluster.wire(), other).await.url(), other);
    let missing = format!("{other}/missing");
    assert_ne!(connect_storage(cluster.wire(), &missing).await.url(), missing);
    assert!(!std::path::Path::new(&missing).try_exists().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_over_a_corpus_that_nobody_allowed_is_refused_and_over_an_upload_it_is_not() {
    let mut cluster = Cluster::start().await;
    cluster.stop().await;
    cluster.config.roots = Roots::uploads_only();
    cluster.start_again().await;
    let source = cluster.corpus("a.csv", 5, &[]);
    let refused = cluster.jobs().submit(proto::JobId::generate(), &spec(vec![source.clone()])).await.unwrap_err();
    assert!(refused.message.contains("does not read"), "{refused}");

    let sent = upload_source(cluster.wire(), source.uri.as_ref(), &mut |_| {}).await.unwrap();
    let uploaded = dataset::Source { uri: sent.uri, ..source };
    let job = cluster.submit(&spec(vec![uploaded])).await;
    cluster.until_state(job, JobState::Running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_gone_below_a_root_is_missing_and_not_forbidden() {
    let mut cluster = Cluster::start().await;
    let source = cluster.corpus("a.csv", 25, &[]);
    let job = cluster.submit(&spec(vec![source.clone()])).await;
    cluster.until_state(job, JobState::Running).await;
    cluster.stop().await;
    let folder = std::path::Path::new(&source.uri).parent().unwrap().to_str().unwrap().to_owned();
    cluster.config.roots = Roots::listed(&[folder]).unwrap();
    cluster.start_again().await;
    std::fs::remove_file(&source.uri).unwrap();
    assert_eq!(relayed(cluster.wire()).get(&source_key(job, 0)).await.unwrap_err().kind(), ErrorKind::NotFound);
    let refused = cluster.jobs().submit(proto::JobId::generate(), &spec(vec![source.clone()])).await.unwrap_err();
    assert_eq!(refused.kind, proto::RpcErrorKind::FailedPrecondition);
    assert!(refused.message.contains(&source.uri) && refused.message.contains("is not found"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_relay_asks_to_come_again() {
    let mut cluster = Cluster::start().await;
    cluster.stop().await;
    cluster.config.relays_max = 0;
    cluster.start_again().await;
    let error = relayed(cluster.wire()).get("storage-id").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_away_for_a_moment_is_neither_forbidden_nor_lost() {
    let mut cluster = Cluster::start().await;
    let source = cluster.corpus("a.csv", 25, &[]);
    let sent = upload_source(cluster.wire(), source.uri.as_ref(), &mut |_| {}).await.unwrap();
    let away = format!("{}.away", sent.uri);
    std::fs::rename(&sent.uri, &away).unwrap();
    // This coordinator takes any path, so that the planner is the first to look.
    let job = cluster.submit(&spec(vec![dataset::Source { uri: sent.uri.clone(), ..source.clone() }])).await;
    for _ in 0..8 {
        cluster.tick().await;
    }
    assert_eq!(cluster.jobs().get(job).await.unwrap().state, JobState::Planning);
    std::fs::rename(&away, &sent.uri).unwrap();
    cluster.until_state(job, JobState::Running).await;

    cluster.stop().await;
    cluster.config.roots = Roots::uploads_only();
    cluster.start_again().await;
    let relay = relayed(cluster.wire());
    relay.get(&source_key(job, 0)).await.unwrap();
    std::fs::rename(&sent.uri, &away).unwrap();
    assert_eq!(relay.get(&source_key(job, 0)).await.unwrap_err().kind(), ErrorKind::NotFound);
    let again = spec(vec![dataset::Source { uri: sent.uri.clone(), ..source }]);
    let refused = cluster.jobs().submit(proto::JobId::generate(), &again).await.unwrap_err();
    assert_eq!(refused.kind, proto::RpcErrorKind::Unavailable);
    assert!(refused.message.contains("is not found now"), "{refused}");
    std::fs::rename(&away, &sent.uri).unwrap();
    cluster.submit(&again).await;
    relay.get(&source_key(job, 0)).await.unwrap();
}
