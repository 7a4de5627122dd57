//! Tests of `Storage` on a local folder.

use super::write::PART_BYTES;
use super::*;
use crate::error::ErrorKind;

fn open() -> (tempfile::TempDir, Storage) {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(dir.path().to_str().unwrap()).unwrap();
    (dir, storage)
}

#[test]
fn unknown_schemes_are_refused_with_the_supported_ones() {
    for (url, scheme) in [("ftp://host/x", "ftp"), ("HDFS://host/a.csv", "HDFS")] {
        let error = Storage::open(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadInput);
        let message = error.to_string();
        assert!(message.contains(url) && message.contains(&format!("`{}`", scheme.to_lowercase())), "{message}");
        assert!(message.contains("file://") && message.contains("s3://"), "{message}");
    }
    let error = Storage::open("https://example.org/folder").unwrap_err();
    assert!(error.to_string().contains("read only"), "{error}");
}

#[test]
fn file_urls_open_their_folder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("with space");
    let url = url::Url::from_file_path(&folder).unwrap();
    let storage = Storage::open(url.as_str()).unwrap();
    assert_eq!(storage.url(), std::fs::canonicalize(folder).unwrap().to_str().unwrap());
    assert!(Storage::open("file://elsewhere/x").unwrap_err().to_string().contains("file:///"));
}

#[tokio::test]
async fn keys_that_leave_the_folder_are_refused() {
    let (_dir, storage) = open();
    for key in ["../x", "a/../x", "/etc/passwd", "a//b", "a\0b", "", "a/.", "a\\b", "a#1", "a/b\n"] {
        let error = storage.put_new(key, Bytes::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadInput, "{key:?}");
        assert_eq!(storage.get(key).await.unwrap_err().kind(), ErrorKind::BadInput);
        assert_eq!(storage.local_path(key), None);
    }
    // Percent signs are not escapes: this names a file inside the folder.
    storage.put_new("%2e%2e/x", Bytes::from_static(b"in")).await.unwrap();
    assert_eq!(std::fs::read(storage.local_path("%2e%2e/x").unwrap()).unwrap(), b"in");
}

#[tokio::test]
async fn an_object_is_written_once() {
    let (_dir, storage) = open();
    let put = storage.put_new("jobs/1/a", Bytes::from_static(b"first")).await.unwrap();
    assert_eq!(put, storage.head("jobs/1/a").await.unwrap());
    let again = storage.put_new("jobs/1/a", Bytes::from_static(b"other")).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    assert!(again.to_string().contains("jobs/1/a"));
    assert_eq!(&storage.get("jobs/1/a").await.unwrap()[..], b"first");
    assert_eq!(&storage.get_range("jobs/1/a", 1..3).await.unwrap()[..], b"ir");
    assert_eq!(storage.get("jobs/2").await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_file_is_streamed_and_never_overwrites() {
    let (dir, storage) = open();
    let bytes: Vec<u8> = (0..PART_BYTES * 2 + 77).map(|i| (i % 251) as u8).collect();
    let file = dir.path().join("spool");
    std::fs::write(&file, &bytes).unwrap();
    let put = storage.put_new_file("out/part", &file).await.unwrap();
    assert_eq!(put.size, bytes.len() as u64);
    assert!(storage.get("out/part").await.unwrap() == bytes);
    assert_eq!(storage.put_new_file("out/part", &file).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let keys: Vec<String> = storage.list("out").await.unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["out/part"]);
}

#[tokio::test]
async fn a_write_is_invisible_until_finished_and_the_first_wins() {
    let (_dir, storage) = open();
    let mut slow = storage.create_new("x/piece").await.unwrap();
    slow.write(b"slow").await.unwrap();
    assert_eq!(storage.list("x").await.unwrap(), []);
    let mut fast = storage.create_new("x/piece").await.unwrap();
    fast.write(b"fast").await.unwrap();
    fast.finish().await.unwrap();
    assert_eq!(slow.finish().await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(&storage.get("x/piece").await.unwrap()[..], b"fast");
    assert_eq!(storage.list("").await.unwrap().len(), 1);
}

#[tokio::test]
async fn empty_objects_and_repeated_deletes_succeed() {
    let (_dir, storage) = open();
    storage.create_new("empty").await.unwrap().finish().await.unwrap();
    assert_eq!(storage.head("empty").await.unwrap().size, 0);
    assert!(storage.get_range("empty", 0..0).await.unwrap().is_empty());
    storage.delete("empty").await.unwrap();
    storage.delete("empty").await.unwrap();
    assert_eq!(storage.list("").await.unwrap(), []);
}
