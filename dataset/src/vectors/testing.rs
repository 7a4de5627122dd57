//! Generated jobs for tests: chunks, finished folders, damage.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use spec::RejectReason;

use super::info::tests::info;
use super::layout::{MANIFEST_NAME, part_name};
use super::read::{Projection, VectorSet};
use super::{FileInfo, Manifest, ManifestFile, ManifestHole, ManifestSource, RowStatus, VectorChunk, VectorWriter};

/// A folder with a finished job in `job/`.
pub(super) struct Job {
    dir: tempfile::TempDir,
}

impl Job {
    pub(super) fn new() -> Job {
        Job { dir: tempfile::tempdir().unwrap() }
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.dir.path().join("job")
    }
}

pub(super) fn kept_schema() -> Schema {
    Schema::new(vec![Field::new("text", DataType::Utf8, true), Field::new("id", DataType::Int64, true)])
}

/// A repeatable stream of numbers (splitmix64).
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    pub(super) fn component(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Rows whose content depends on their number only: every seventh is rejected, every fifth truncated.
pub(super) fn chunk(info: &FileInfo, first_row: u64, rows: usize) -> VectorChunk {
    let dimensions = info.dimensions as usize;
    let mut vectors = Vec::with_capacity(rows * dimensions);
    let mut status = Vec::new();
    for row in first_row..first_row + rows as u64 {
        let mut numbers = Numbers(row);
        let raw: Vec<f32> = (0..dimensions).map(|_| numbers.component()).collect();
        let norm = raw.iter().map(|value| value * value).sum::<f32>().sqrt();
        vectors.extend(raw.iter().map(|value| value / norm));
        let error = (row % 7 == 3).then(|| RejectReason::ALL[(row % 3) as usize]);
        status.push(RowStatus { n_tokens: (row % 100) as i32 + 2, truncated: row % 5 == 0, error });
    }
    let numbers = first_row..first_row + rows as u64;
    let texts: ArrayRef = Arc::new(StringArray::from_iter(
        numbers.clone().map(|row| (row % 7 != 3).then(|| format!("texto número {row} ✓"))),
    ));
    let ids: ArrayRef = Arc::new(Int64Array::from_iter(numbers.map(|row| (row % 11 != 0).then_some(row as i64 * 3))));
    let kept = RecordBatch::try_new(Arc::new(kept_schema()), vec![texts, ids]).unwrap();
    VectorChunk { first_row, kept, vectors, status, reused: None }
}

/// Writes a finished job of parts with so many rows.
pub(super) fn job(dimensions: u32, parts: &[usize]) -> Job {
    let job = Job::new();
    write_job(&job.dir(), &info(dimensions), parts);
    job
}

pub(super) fn write_job(dir: &Path, info: &FileInfo, parts: &[usize]) {
    fs::create_dir_all(dir).unwrap();
    let mut files = Vec::new();
    let mut first_row = 0;
    for (index, rows) in parts.iter().enumerate() {
        let name = part_name(index as u64);
        let mut writer = VectorWriter::create(&dir.join(&name), &kept_schema(), info).unwrap();
        for start in (0..*rows).step_by(1000) {
            let count = (*rows - start).min(1000);
            writer.write(chunk(info, first_row + start as u64, count)).unwrap();
        }
        // A file without rows has no first row of its own.
        files.push(ManifestFile { first_row, ..writer.finish().unwrap().to_manifest_file(name) });
        first_row += *rows as u64;
    }
    let source = ManifestSource { uri: "/corpus.csv".into(), size: 1, etag: None, rows: first_row };
    let manifest = Manifest::new(info.clone(), vec![source], files).unwrap();
    fs::write(dir.join(MANIFEST_NAME), manifest.to_bytes()).unwrap();
}

/// Takes parts away as if all attempts at their shards had failed, in a job that was allowed to end without.
pub(super) fn punch(dir: &Path, parts: &[usize]) {
    let manifest = Manifest::load(dir).unwrap();
    let (mut files, mut holes) = (Vec::new(), Vec::new());
    for (index, file) in manifest.files.into_iter().enumerate() {
        if !parts.contains(&index) {
            files.push(file);
            continue;
        }
        fs::remove_file(dir.join(&file.name)).unwrap();
        let ManifestFile { first_row, rows, .. } = file;
        holes.push(ManifestHole { source: 0, first_row, rows, reason: "it broke".into() });
    }
    let manifest = Manifest::with_holes(manifest.info, manifest.sources, files, holes).unwrap();
    fs::write(dir.join(MANIFEST_NAME), manifest.to_bytes()).unwrap();
}

/// Reads every row of a folder or file.
pub(super) fn all_rows(target: &Path) -> Vec<RecordBatch> {
    let set = VectorSet::open(target).unwrap();
    set.batches(&Projection::All, 512).map(|batch| batch.unwrap()).collect()
}

/// Spells rows out one by one, so that outputs of different batch sizes can be compared.
pub(super) fn row_texts(batches: &[RecordBatch]) -> Vec<String> {
    let mut texts = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let columns = batch.columns().iter().map(|column| format!("{:?}", column.slice(row, 1)));
            texts.push(columns.collect::<Vec<_>>().join("|"));
        }
    }
    texts
}

/// Flips the bits of one byte; doing so twice restores the file.
pub(super) fn flip(path: &Path, place: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[place] ^= 0xff;
    fs::write(path, bytes).unwrap();
}

/// The recorded job of a released format version.
fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/format-1")
}

/// `UPDATE=1` records the job again: only before a format version is released.
#[test]
fn the_recorded_job_of_format_1_still_reads() {
    if std::env::var_os("UPDATE").is_some() {
        drop(fs::remove_dir_all(recorded()));
        write_job(&recorded(), &info(6), &[9, 1, 12]);
    }
    let report = super::verify::check_target(&recorded());
    assert!(report.passed(), "{report}");
    let schema = super::schema::output_schema(&kept_schema(), &info(6)).unwrap();
    let expected = super::batch::encode_chunk(&schema, &info(6), chunk(&info(6), 0, 22)).unwrap();
    assert_eq!(row_texts(&all_rows(&recorded())), row_texts(&[expected]));
}
