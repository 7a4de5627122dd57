//! Writes a made-up finished job in every number format, merged files and exports into a folder, for
//! `tests/readers.py` to open with the libraries that users have: `cargo run --example sample_vectors -- DIR`.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use dataset::vectors::layout::{MANIFEST_NAME, part_name};
use dataset::{
    ExportFormat, FileInfo, Manifest, ManifestSource, MergeOptions, OutputDtype, RejectReason, RowStatus, VectorChunk,
    VectorWriter, export, merge,
};

/// Rows of each part.
const PARTS: [u64; 3] = [700, 1, 4200];
const DIMENSIONS: u32 = 384;

fn info(output_dtype: OutputDtype) -> FileInfo {
    FileInfo {
        model: "made/up".to_owned(),
        revision: None,
        model_digest: "0".repeat(64),
        pooling: "mean".to_owned(),
        normalized: true,
        max_length: 128,
        dtype: "f32".to_owned(),
        output_dtype,
        prefix: String::new(),
        prompt: None,
        similarity: None,
        delimiter: None,
        quote: None,
        encoding: None,
        dimensions: DIMENSIONS,
        job_id: "sample".to_owned(),
        spec_digest: "0".repeat(64),
    }
}

fn kept_schema() -> Schema {
    Schema::new(vec![
        Field::new("text", DataType::Utf8, true),
        Field::new("label", DataType::Utf8, true),
        Field::new("id", DataType::Int64, true),
        Field::new("weight", DataType::Float64, true),
        Field::new("seen", DataType::Boolean, true),
    ])
}

/// Every seventh row is rejected. The vectors are sines: nothing random, so that the files are always the same.
fn chunk(first_row: u64, rows: u64) -> Result<VectorChunk, Box<dyn Error>> {
    let numbers = first_row..first_row + rows;
    let mut vectors = Vec::new();
    let mut status = Vec::new();
    for row in numbers.clone() {
        let raw: Vec<f64> = (0..DIMENSIONS).map(|place| ((row * 31 + u64::from(place)) as f64).sin()).collect();
        let norm = raw.iter().map(|value| value * value).sum::<f64>().sqrt();
        vectors.extend(raw.iter().map(|value| (value / norm) as f32));
        let error = (row % 7 == 3).then_some(RejectReason::EmptyText);
        status.push(RowStatus { n_tokens: (row % 120) as i32 + 2, truncated: row % 50 == 0, error });
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter(
            numbers.clone().map(|row| (row % 7 != 3).then(|| format!("la frase {row} ñ"))),
        )),
        Arc::new(StringArray::from_iter(numbers.clone().map(|row| Some(["😀", "🎉", "💔"][(row % 3) as usize])))),
        Arc::new(Int64Array::from_iter(numbers.clone().map(|row| (row % 13 != 0).then_some(row as i64)))),
        Arc::new(Float64Array::from_iter_values(numbers.clone().map(|row| row as f64 / 3.0))),
        Arc::new(BooleanArray::from_iter(numbers.map(|row| Some(row % 2 == 0)))),
    ];
    let kept = RecordBatch::try_new(Arc::new(kept_schema()), columns)?;
    Ok(VectorChunk { first_row, kept, vectors, status, reused: None })
}

fn write_job(dir: &Path, info: &FileInfo) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(dir)?;
    let mut files = Vec::new();
    let mut first_row = 0;
    for (index, rows) in PARTS.into_iter().enumerate() {
        let name = part_name(index as u64);
        let mut writer = VectorWriter::create(&dir.join(&name), &kept_schema(), info)?;
        writer.write(chunk(first_row, rows)?)?;
        files.push(writer.finish()?.to_manifest_file(name));
        first_row += rows;
    }
    let source = ManifestSource { uri: "/made/up.csv".to_owned(), size: 1, etag: None, rows: first_row };
    let manifest = Manifest::new(info.clone(), vec![source], files)?;
    fs::write(dir.join(MANIFEST_NAME), manifest.to_bytes())?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args().nth(1).ok_or("usage: sample_vectors DIR")?;
    let dir = Path::new(&dir);
    for &dtype in OutputDtype::ALL {
        let job = dir.join(dtype.to_string());
        write_job(&job, &info(dtype))?;
        merge(&job, &dir.join(format!("{dtype}.parquet")), &MergeOptions::default(), &mut |_| ())?;
        let parted = MergeOptions { partition_rows: Some(2000), ..MergeOptions::default() };
        merge(&job, &dir.join(format!("{dtype}-parted")), &parted, &mut |_| ())?;
        for format in [ExportFormat::Npy, ExportFormat::Safetensors, ExportFormat::Pt] {
            export(&job, format, &dir.join(format!("{dtype}.{format}")), false)?;
        }
    }
    Ok(())
}
