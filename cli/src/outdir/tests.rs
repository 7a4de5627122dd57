//! Tests of output directories.

use std::fs;

use dataset::vectors::layout;
use dataset::{FileInfo, Manifest, Storage, VectorWriter};

use super::lock::LOCK_WITHIN;
use super::*;

#[test]
fn a_target_is_a_file_by_its_extension() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.parquet");
    assert_eq!(Target::of(&file), Target::File(file.clone()));
    assert_eq!(Target::of(&file).work_dir().root(), dir.path().join("a.parquet.encaje"));
    fs::create_dir(&file).unwrap();
    assert_eq!(Target::of(&file), Target::Dir(file));
}

#[test]
fn only_one_may_work_in_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let out = OutDir::new(dir.path().join("out"));
    assert!(!out.is_busy());
    let lock = out.lock().unwrap();
    assert!(out.is_busy());
    let error = out.lock().unwrap_err().to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    drop(lock);
    out.lock().unwrap();
}

#[test]
fn a_lock_that_is_let_go_in_a_moment_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let out = OutDir::new(dir.path().join("out"));
    let lock = out.lock().unwrap();
    let holder = std::thread::spawn(move || {
        std::thread::sleep(LOCK_WITHIN / 4);
        drop(lock);
    });
    out.lock().unwrap();
    holder.join().unwrap();
}

#[test]
fn a_part_without_a_record_is_foreign() {
    let dir = tempfile::tempdir().unwrap();
    let out = OutDir::new(dir.path().to_owned());
    assert_eq!(out.foreign_file().unwrap(), None);
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    assert_eq!(out.foreign_file().unwrap(), None);
    fs::write(dir.path().join("part-00000.parquet"), "?").unwrap();
    assert_eq!(out.foreign_file().unwrap(), Some(dir.path().join("part-00000.parquet")));
}

#[test]
fn starting_over_removes_no_file_of_the_user() {
    let dir = tempfile::tempdir().unwrap();
    let out = OutDir::new(dir.path().to_owned());
    fs::write(dir.path().join("part-00000.parquet"), "?").unwrap();
    assert_eq!(out.how_to_start_over(), format!("rm -r {}", dir.path().display()));
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    let said = out.how_to_start_over();
    assert!(said.contains("part-*.parquet") && !said.ends_with(&dir.path().display().to_string()), "{said}");
}

#[test]
fn only_a_job_that_made_nothing_is_forgotten_without_loss() {
    let dir = tempfile::tempdir().unwrap();
    let out = OutDir::new(dir.path().to_owned());
    let _lock = out.lock().unwrap();
    let shards = dir.path().join(".encaje/jobs/j/shards/00000000");
    fs::create_dir_all(&shards).unwrap();
    fs::write(dir.path().join(".encaje/jobs/j/recut-0"), "text").unwrap();
    assert!(!out.has_work().unwrap());
    fs::write(shards.join("e000001-a.parquet"), "?").unwrap();
    assert!(out.has_work().unwrap());
    fs::write(dir.path().join(".encaje/state.db"), "?").unwrap();
    out.reset().unwrap();
    let left: Vec<_> =
        fs::read_dir(dir.path().join(".encaje")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);
}

#[test]
fn a_damaged_record_is_said_to_be_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let out = OutDir::new(dir.path().to_owned());
    let _lock = out.lock().unwrap();
    assert!(out.record().unwrap().is_none());
    fs::write(dir.path().join(".encaje/job.json"), "{").unwrap();
    assert!(format!("{:#}", out.record().unwrap_err()).contains("damaged"));
}

const KEY: &str = "jobs/j/manifest-1.json";

fn info() -> FileInfo {
    FileInfo {
        model: "owner/name".into(),
        revision: None,
        model_digest: "d".into(),
        pooling: "cls".into(),
        normalized: true,
        max_length: 8,
        dtype: "f32".into(),
        output_dtype: dataset::OutputDtype::F32,
        prefix: String::new(),
        prompt: None,
        similarity: None,
        delimiter: None,
        quote: None,
        encoding: None,
        dimensions: 2,
        job_id: "j".into(),
        spec_digest: "s".into(),
    }
}

/// Stores the shards of a finished job of so many rows, two to a shard, and its manifest.
async fn finished_job(out: &OutDir, shards: u64) -> Storage {
    let storage = Storage::open(&out.state_dir().display().to_string()).unwrap();
    let schema = arrow_schema::Schema::empty();
    let mut files = Vec::new();
    for index in 0..shards {
        let key = layout::shard_key("j", index, 1, "a");
        let path = storage.local_path(&key).unwrap();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut writer = VectorWriter::create(&path, &schema, &info()).unwrap();
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(2));
        let kept = arrow_array::RecordBatch::try_new_with_options(schema.clone().into(), vec![], &options).unwrap();
        let status = dataset::RowStatus { n_tokens: 3, truncated: false, error: None };
        let vectors = vec![1.0, 0.0, 0.0, 1.0];
        let chunk = dataset::VectorChunk { first_row: 2 * index, kept, vectors, status: vec![status; 2], reused: None };
        writer.write(chunk).unwrap();
        files.push(writer.finish().unwrap().to_manifest_file(key));
    }
    let rows = 2 * shards;
    let source = dataset::ManifestSource { uri: "/a.csv".into(), size: 1, etag: None, rows };
    let manifest = Manifest::new(info(), vec![source], files).unwrap();
    storage.put_new(KEY, manifest.to_bytes().into()).await.unwrap();
    storage
}

async fn publish(out: &OutDir, storage: &Storage) -> anyhow::Result<Manifest> {
    let schema = arrow_schema::Schema::empty();
    out.publish(storage, KEY, EmptyPart { schema: &schema, info: info() }).await
}

#[tokio::test]
async fn parts_are_put_in_place_from_wherever_a_crash_left_them() {
    for moved in 0..=3 {
        let dir = tempfile::tempdir().unwrap();
        let out = OutDir::new(dir.path().to_owned());
        let storage = finished_job(&out, 3).await;
        // A crash came after so many renames, and one in the middle of writing the manifest.
        for index in 0..moved {
            let shard = storage.local_path(&layout::shard_key("j", index, 1, "a")).unwrap();
            fs::rename(shard, dir.path().join(layout::part_name(index))).unwrap();
        }
        fs::write(dir.path().join(".manifest.json.encaje-tmp"), "{").unwrap();
        let manifest = publish(&out, &storage).await.unwrap();
        assert_eq!(out.manifest().unwrap().unwrap(), manifest);
        out.check_parts(&manifest).unwrap();
        // The next crash came before cleaning up: everything is done once more, and is the same.
        assert_eq!(publish(&out, &storage).await.unwrap(), manifest);
        out.clean_up().unwrap();
        out.clean_up().unwrap();
        assert!(!dir.path().join(".encaje/jobs").exists());
        assert_eq!(dataset::VectorSet::open(dir.path()).unwrap().rows(), 6);
    }
}

#[tokio::test]
async fn a_shard_that_is_nowhere_is_an_error_and_no_manifest_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let out = OutDir::new(dir.path().to_owned());
    let storage = finished_job(&out, 2).await;
    fs::remove_file(storage.local_path(&layout::shard_key("j", 1, 1, "a")).unwrap()).unwrap();
    let error = format!("{:#}", publish(&out, &storage).await.unwrap_err());
    assert!(error.contains("part-00001.parquet"), "{error}");
    assert_eq!(out.manifest().unwrap(), None);
}

#[tokio::test]
async fn a_job_without_rows_has_one_empty_part() {
    let dir = tempfile::tempdir().unwrap();
    let out = OutDir::new(dir.path().to_owned());
    let storage = finished_job(&out, 0).await;
    let manifest = publish(&out, &storage).await.unwrap();
    assert_eq!((manifest.files.len(), manifest.totals.rows), (1, 0));
    assert_eq!(publish(&out, &storage).await.unwrap(), manifest);
}
