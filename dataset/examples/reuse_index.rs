//! What an index of earlier outputs costs. `reuse_index make DIR ROWS DIMENSIONS` writes an output of made texts and vectors, and
//! `reuse_index look DIR [STEP]` indexes it in a process of its own, looks all of its texts up, and prints seconds and peak memory.
//! With a STEP that shares no factor with the number of rows, they are looked up in another order: every so many-th.
#![expect(clippy::print_stdout, reason = "a measurement is printed")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use dataset::vectors::layout::{MANIFEST_NAME, part_name};
use dataset::{
    EarlierOutput, FileInfo, Manifest, ManifestSource, OutputDtype, RejectReason, ReuseIndex, RowStatus, VectorChunk,
    VectorSet, VectorWriter,
};

const CHUNK_ROWS: u64 = 4096;
const PART_ROWS: u64 = 100 * CHUNK_ROWS;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["make", dir, rows, dimensions] => make(Path::new(dir), rows.parse()?, &info(dimensions.parse()?)),
        ["look", dir] => look(Path::new(dir), 1),
        ["look", dir, step] => look(Path::new(dir), step.parse()?),
        _ => Err("usage: reuse_index make DIR ROWS DIMENSIONS | look DIR [STEP]".into()),
    }
}

/// The text of a row: about as long as a short message.
fn text(row: u64) -> String {
    format!("row {row} of a corpus that was made to be looked up, with some words more")
}

fn info(dimensions: u32) -> FileInfo {
    FileInfo {
        model: "made".into(),
        revision: None,
        model_digest: "0".repeat(64),
        pooling: "cls".into(),
        normalized: false,
        max_length: 128,
        dtype: "f32".into(),
        output_dtype: OutputDtype::F32,
        prefix: String::new(),
        prompt: None,
        similarity: None,
        delimiter: None,
        quote: None,
        encoding: None,
        dimensions,
        job_id: "made".into(),
        spec_digest: "0".repeat(64),
    }
}

fn make(dir: &Path, rows: u64, info: &FileInfo) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(dir)?;
    let kept = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, true)]));
    let mut files = Vec::new();
    for first in (0..rows).step_by(PART_ROWS as usize) {
        let name = part_name(files.len() as u64);
        let mut writer = VectorWriter::create(&dir.join(&name), &kept, info)?.with_text_column("text");
        let end = rows.min(first + PART_ROWS);
        for first_row in (first..end).step_by(CHUNK_ROWS as usize) {
            let count = CHUNK_ROWS.min(end - first_row);
            let texts = StringArray::from_iter_values((first_row..first_row + count).map(text));
            writer.write(VectorChunk {
                first_row,
                kept: RecordBatch::try_new(Arc::clone(&kept), vec![Arc::new(texts)])?,
                // As hard to compress as real ones.
                vectors: (0..count * u64::from(info.dimensions)).map(|place| noise(first_row + place)).collect(),
                status: vec![RowStatus { n_tokens: 9, truncated: false, error: None }; count as usize],
                reused: None,
            })?;
        }
        files.push(writer.finish()?.to_manifest_file(name));
    }
    let source = ManifestSource { uri: "/made".into(), size: 0, etag: None, rows };
    std::fs::write(dir.join(MANIFEST_NAME), Manifest::new(info.clone(), vec![source], files)?.to_bytes())?;
    Ok(())
}

/// A number between -1 and 1.
fn noise(place: u64) -> f32 {
    let mixed = place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

fn look(dir: &Path, step: u64) -> Result<(), Box<dyn Error>> {
    let set = VectorSet::open(dir)?;
    let (rows, info) = (set.rows(), set.info().clone());
    let source =
        EarlierOutput::open(dir.to_str().ok_or("the name of the folder is not UTF-8")?, "text")?.source().clone();
    let started = Instant::now();
    let index = ReuseIndex::build(&[source], &info)?;
    let built = started.elapsed();
    println!("{} texts indexed in {:.1} s, peak memory {} MiB", index.texts(), built.as_secs_f64(), peak_mib()?);
    let started = Instant::now();
    let mut found = 0;
    // About 64 MiB of vectors at a time, as a worker does.
    let chunks = (64_u64 << 20).div_ceil(CHUNK_ROWS * index.vector_bytes() as u64).clamp(1, 16);
    for first in (0..rows).step_by((chunks * CHUNK_ROWS) as usize) {
        let texts = |chunk: u64| -> Vec<Result<String, RejectReason>> {
            let from = first + chunk * CHUNK_ROWS;
            (from..rows.min(from + CHUNK_ROWS)).map(|row| Ok(text(row * step % rows))).collect()
        };
        let chunks: Vec<Vec<Result<String, RejectReason>>> = (0..chunks).map(texts).collect();
        let chunks: Vec<&[Result<String, RejectReason>]> = chunks.iter().map(Vec::as_slice).collect();
        found += index.look_up(&chunks)?.iter().flatten().map(dataset::ReusedRows::count).sum::<u64>();
    }
    println!("{found} found in {:.1} s, peak memory {} MiB", started.elapsed().as_secs_f64(), peak_mib()?);
    Ok(())
}

/// The peak of this process's resident memory, as Linux tells it.
fn peak_mib() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse::<u64>()? / 1024)
}
