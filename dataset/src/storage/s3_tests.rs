//! Storage and corpora on a real S3 protocol server over HTTP, with network and store faults. Each ends in success or
//! in the right kind of error.

use std::sync::atomic::{AtomicU32, Ordering};

use object_store::aws::AmazonS3Builder;
use spec::ReadOptions;

use super::remote::register_s3;
use super::write::PART_BYTES;
use super::*;
use crate::corpus::{Cursor, CutLimits, Cutter, PlannedSource, expand, inspect, read};
use crate::error::ErrorKind;
use testkit::s3::{ACCESS_KEY, BUCKET, Fault, S3Server, SECRET_KEY};

const SLOW_DOWN: Fault = Fault::Answer(503, "SlowDown");
const ALWAYS: usize = 1_000;

/// A bucket on its own server with a unique URL, since stores are cached per process.
struct Lake {
    server: S3Server,
    url: String,
}

impl Lake {
    fn new() -> Lake {
        Self::with_secret(SECRET_KEY)
    }

    fn with_secret(secret: &str) -> Lake {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = S3Server::start();
        let url = format!("s3://lake-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let builder = AmazonS3Builder::new()
            .with_endpoint(server.url())
            .with_region("us-east-1")
            .with_access_key_id(ACCESS_KEY)
            .with_secret_access_key(secret);
        register_s3(builder, BUCKET, &url);
        Lake { server, url }
    }

    fn storage(&self) -> Storage {
        Storage::open(&format!("{}/a/prefix", self.url)).unwrap()
    }

    /// Puts an object directly on the server.
    fn put(&self, key: &str, bytes: &[u8]) {
        let file = self.server.file(key);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

async fn write_large(storage: &Storage, key: &str, content: &[u8]) -> Result<ObjectInfo, DatasetError> {
    let mut object = storage.create_new(key).await?;
    object.write(content).await?;
    object.finish().await
}

#[tokio::test]
async fn small_and_large_objects_are_written_once() {
    let lake = Lake::new();
    let storage = lake.storage();
    storage.put_new("x/small", Bytes::from_static(b"small")).await.unwrap();
    let content = bytes(2 * PART_BYTES + 77);
    let put = write_large(&storage, "x/large", &content).await.unwrap();
    assert_eq!((put.size, put), (content.len() as u64, storage.head("x/large").await.unwrap()));
    assert!(storage.get("x/large").await.unwrap() == content);
    assert_eq!(&storage.get_range("x/small", 1..3).await.unwrap()[..], b"ma");
    assert!(lake.server.file("a/prefix/x/small").is_file());
    let keys: Vec<String> = storage.list("x").await.unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["x/large", "x/small"]);

    let other = storage.put_new("x/small", Bytes::from_static(b"other")).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::AlreadyExists);
    assert!(other.to_string().contains(&format!("{}/a/prefix/x/small", lake.url)), "{other}");
    assert_eq!(write_large(&storage, "x/large", b"x").await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(storage.get("x/none").await.unwrap_err().kind(), ErrorKind::NotFound);
    storage.delete("x/small").await.unwrap();
    storage.delete("x/small").await.unwrap();
    assert_eq!(storage.get("x/small").await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn of_two_multipart_writers_the_first_to_finish_wins() {
    let lake = Lake::new();
    let storage = lake.storage();
    let (first, second) = (bytes(PART_BYTES + 9), vec![7; PART_BYTES + 9]);
    let mut slow = storage.create_new("x/piece").await.unwrap();
    slow.write(&second).await.unwrap();
    assert_eq!(storage.list("x").await.unwrap(), []);
    write_large(&storage, "x/piece", &first).await.unwrap();
    assert_eq!(slow.finish().await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert!(storage.get("x/piece").await.unwrap() == first);
}

#[tokio::test]
async fn temporary_failures_are_retried() {
    let lake = Lake::new();
    let storage = lake.storage();
    let content = bytes(PART_BYTES + 9);
    for (index, fault) in [Fault::Answer(500, "InternalError"), SLOW_DOWN, Fault::Cut].into_iter().enumerate() {
        let key = format!("object-{index}");
        for (method, part) in [("HEAD", ""), ("PUT", "partNumber"), ("POST", "uploads"), ("POST", "uploadId=")] {
            lake.server.fail(method, part, fault, 1);
        }
        write_large(&storage, &key, &content).await.unwrap_or_else(|error| panic!("{fault:?}: {error:?}"));
        lake.server.fail("GET", "", fault, 1);
        assert!(storage.get(&key).await.unwrap() == content, "{fault:?}");
        lake.server.heal();
    }
}

#[tokio::test]
async fn a_write_with_a_lost_answer_succeeds() {
    let lake = Lake::new();
    let storage = lake.storage();
    let lost =
        [Fault::ApplyThenAnswer(500, "InternalError"), Fault::ApplyThenAnswer(503, "SlowDown"), Fault::ApplyThenCut];
    for (index, fault) in lost.into_iter().enumerate() {
        let (small, large) = (format!("small-{index}"), format!("large-{index}"));
        lake.server.fail("PUT", "small", fault, 1);
        storage
            .put_new(&small, Bytes::from_static(b"mine"))
            .await
            .unwrap_or_else(|error| panic!("{fault:?}: {error:?}"));
        let content = bytes(PART_BYTES + 9);
        lake.server.fail("POST", "uploadId=", fault, 1);
        write_large(&storage, &large, &content).await.unwrap_or_else(|error| panic!("{fault:?}: {error:?}"));
        assert!(storage.get(&large).await.unwrap() == content);
    }
    // The same answers over another writer's object.
    lake.put("a/prefix/taken", b"theirs");
    lake.server.fail("PUT", "taken", Fault::Answer(500, "InternalError"), 1);
    let error = storage.put_new("taken", Bytes::from_static(b"mine!!")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
}

#[tokio::test]
async fn permanent_failures_are_classified() {
    let lake = Lake::new();
    let storage = lake.storage();
    storage.put_new("there", Bytes::from_static(b"content")).await.unwrap();
    let cases = [
        (SLOW_DOWN, ErrorKind::Throttled),
        (Fault::Answer(500, "InternalError"), ErrorKind::Io),
        (Fault::Answer(403, "AccessDenied"), ErrorKind::Auth),
        (Fault::Answer(403, "SignatureDoesNotMatch"), ErrorKind::Auth),
        (Fault::Answer(400, "ExpiredToken"), ErrorKind::Auth),
        (Fault::Answer(401, "Unauthorized"), ErrorKind::Auth),
        (Fault::Cut, ErrorKind::Io),
    ];
    for (fault, kind) in cases {
        for method in ["GET", "PUT", "HEAD"] {
            lake.server.fail(method, "", fault, ALWAYS);
        }
        let read = storage.get("there").await.unwrap_err();
        assert_eq!(read.kind(), kind, "{fault:?}: {read:?}");
        let write = storage.put_new("new", Bytes::from_static(b"x")).await.unwrap_err();
        assert_eq!(write.kind(), kind, "{fault:?}: {write:?}");
        for error in [read, write] {
            let said = format!("{error} {error:?}");
            assert!(!said.contains(SECRET_KEY) && said.contains(&lake.url), "{said}");
        }
        lake.server.heal();
    }
}

#[tokio::test]
async fn a_conflict_without_an_object_is_temporary() {
    let lake = Lake::new();
    let storage = lake.storage();
    // Two conflicting conditional writers: neither object exists.
    for (status, code) in [(409, "ConditionalRequestConflict"), (412, "PreconditionFailed")] {
        lake.server.fail("PUT", "met", Fault::Answer(status, code), 1);
        let error = storage.put_new("met", Bytes::from_static(b"x")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
    }
    storage.put_new("met", Bytes::from_static(b"x")).await.unwrap();
}

#[tokio::test]
async fn wrong_credentials_are_reported_without_revealing_them() {
    let lake = Lake::with_secret("canary-wrong-0123456789");
    let storage = lake.storage();
    for error in [
        storage.get("x").await.unwrap_err(),
        storage.list("x").await.unwrap_err(),
        storage.put_new("x", Bytes::new()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Auth, "{error:?}");
        assert!(error.to_string().contains("credentials"), "{error}");
        assert!(!format!("{error:?} {storage:?}").contains("canary"), "{error:?}");
    }
}

fn options() -> ReadOptions {
    ReadOptions::default()
}

async fn texts(planned: &[PlannedSource]) -> Result<Vec<String>, DatasetError> {
    let dir = tempfile::tempdir().unwrap();
    let recut = Storage::open(dir.path().to_str().unwrap()).unwrap();
    let limits = CutLimits { rows_max: 3, bytes_max: 1 << 20 };
    let mut cutter =
        Cutter::new(planned.to_vec(), options(), limits, recut.clone(), "recut".to_owned(), Cursor::default()).await?;
    let mut texts = Vec::new();
    while let Some(slice) = cutter.next().await? {
        let mut reader = read(&planned[slice.source_index as usize], &slice, &options(), &recut).await?;
        while let Some(chunk) = reader.next_chunk().await? {
            texts.extend(chunk.texts.into_iter().map(Result::unwrap));
        }
    }
    Ok(texts)
}

#[tokio::test]
async fn a_pattern_over_a_bucket_is_a_corpus_in_order() {
    let lake = Lake::new();
    for (key, text) in
        [("in/b.csv", "b"), ("in/a.csv", "a"), ("in/deep/c.csv", "c"), ("in/d.txt", "d"), ("out/e.csv", "e")]
    {
        lake.put(key, format!("text\n{text}1\n{text}2\n").as_bytes());
    }
    let expanded = |pattern: &str| {
        let pattern = format!("{}/{pattern}", lake.url);
        async move {
            let found = expand(&[pattern], None).await;
            found.map(|sources| sources.into_iter().map(|source| source.uri).collect::<Vec<_>>())
        }
    };
    let url = |key: &str| format!("{}/{key}", lake.url);
    assert_eq!(expanded("in/*.csv").await.unwrap(), [url("in/a.csv"), url("in/b.csv")]);
    assert_eq!(expanded("in/**/*.csv").await.unwrap(), [url("in/a.csv"), url("in/b.csv"), url("in/deep/c.csv")]);
    assert_eq!(expanded("in/[bc].csv").await.unwrap(), [url("in/b.csv")]);
    assert_eq!(expanded("out/e.csv").await.unwrap(), [url("out/e.csv")]);
    for pattern in ["in/*.parquet", "in/", ""] {
        assert_eq!(expanded(pattern).await.unwrap_err().kind(), ErrorKind::BadInput, "{pattern}");
    }

    let sources = expand(&[url("in/*.csv")], None).await.unwrap();
    let planned = inspect(&sources, &options()).await.unwrap();
    assert_eq!(texts(&planned).await.unwrap(), ["a1", "a2", "b1", "b2"]);
    let missing = expand(&[url("in/gone.csv")], None).await.unwrap();
    let error = inspect(&missing, &options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(&url("in/gone.csv")), "{error}");
}

#[tokio::test]
async fn a_changed_source_is_named_for_any_size() {
    let lake = Lake::new();
    lake.put("a.csv", b"text\none\ntwo\n");
    let uri = format!("{}/a.csv", lake.url);
    let planned = inspect(&expand(std::slice::from_ref(&uri), None).await.unwrap(), &options()).await.unwrap();
    assert!(planned[0].fingerprint.etag.is_some());
    for content in [&b"text\none\ntwo\nthree\n"[..], b"text\none\nowt\n"] {
        lake.put("a.csv", content);
        let error = texts(&planned).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SourceChanged, "{error:?}");
        assert!(error.to_string().contains(&uri), "{error}");
    }
    std::fs::remove_file(lake.server.file("a.csv")).unwrap();
    assert_eq!(texts(&planned).await.unwrap_err().kind(), ErrorKind::SourceChanged);
}

#[tokio::test]
async fn a_source_is_read_through_broken_connections() {
    let lake = Lake::new();
    let lines: String = (0..5_000).map(|row| format!("text number {row} of a long file\n")).collect();
    lake.put("a.txt", lines.as_bytes());
    let sources = expand(&[format!("{}/a.txt", lake.url)], None).await.unwrap();
    let planned = inspect(&sources, &options()).await.unwrap();
    lake.server.fail("GET", "a.txt", Fault::Truncate, 2);
    lake.server.fail("GET", "a.txt", Fault::Cut, 1);
    lake.server.fail("GET", "a.txt", SLOW_DOWN, 1);
    let dir = tempfile::tempdir().unwrap();
    let recut = Storage::open(dir.path().to_str().unwrap()).unwrap();
    let limits = CutLimits { rows_max: 5_000, bytes_max: 1 << 20 };
    let mut cutter = Cutter::new(planned.clone(), options(), limits, recut.clone(), "r".to_owned(), Cursor::default())
        .await
        .unwrap();
    let slice = cutter.next().await.unwrap().unwrap();
    assert_eq!(slice.rows, 5_000);
    let mut reader = read(&planned[0], &slice, &options(), &recut).await.unwrap();
    let mut rows = 0;
    while let Some(chunk) = reader.next_chunk().await.unwrap() {
        rows += chunk.texts.len();
    }
    assert_eq!(rows, 5_000);

    lake.server.fail("GET", "a.txt", Fault::Answer(403, "ExpiredToken"), ALWAYS);
    assert_eq!(texts(&planned).await.unwrap_err().kind(), ErrorKind::Auth);
}

#[tokio::test]
async fn a_different_bucket_is_not_confirmed() {
    let lake = Lake::new();
    let id = lake.storage().ensure_id(&StorageId::new("first")).await.unwrap();
    assert_eq!(lake.storage().ensure_id(&StorageId::new("second")).await.unwrap(), id, "the first decides");
    let storage = lake.storage().with_id(id);
    storage.confirm().await.unwrap();
    let file = lake.server.file("a/prefix/storage-id");
    let content = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(storage.confirm().await.unwrap_err().kind(), ErrorKind::StorageSwapped);
    lake.put("a/prefix/storage-id", b"another");
    assert_eq!(storage.confirm().await.unwrap_err().kind(), ErrorKind::StorageSwapped);
    lake.put("a/prefix/storage-id", &content);
    storage.confirm().await.unwrap();
}
