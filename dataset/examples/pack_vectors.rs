//! Writes vectors that were made elsewhere as a vector file, for benchmarks:
//! `pack_vectors VECTORS.f32 DIMENSIONS LABELS.u32 OUT.parquet`. Both inputs are plain little-endian numbers, row by row;
//! vectors have unit length; the labels become the kept column `label`.

use std::error::Error;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use dataset::{FileInfo, OutputDtype, RowStatus, VectorChunk, VectorWriter};

const CHUNK_ROWS: usize = 4096;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [vectors, dimensions, labels, out] = words.as_slice() else {
        return Err("usage: pack_vectors VECTORS.f32 DIMENSIONS LABELS.u32 OUT.parquet".into());
    };
    let dimensions: u32 = dimensions.parse()?;
    let kept = Schema::new(vec![Field::new("label", DataType::Utf8, true)]);
    let mut writer = VectorWriter::create(Path::new(out), &kept, &info(dimensions))?;
    let (mut vectors, mut labels) = (BufReader::new(File::open(vectors)?), BufReader::new(File::open(labels)?));
    loop {
        let codes = take(&mut labels, CHUNK_ROWS)?;
        let values = take(&mut vectors, CHUNK_ROWS * dimensions as usize)?;
        if codes.is_empty() {
            break;
        }
        let names: StringArray = codes.iter().map(|code| Some(format!("c{}", u32::from_le_bytes(*code)))).collect();
        writer.write(VectorChunk {
            first_row: writer.rows(),
            kept: RecordBatch::try_new(Arc::new(kept.clone()), vec![Arc::new(names)])?,
            vectors: values.iter().map(|value| f32::from_le_bytes(*value)).collect(),
            status: vec![RowStatus { n_tokens: 1, truncated: false, error: None }; codes.len()],
            reused: None,
        })?;
    }
    writer.finish()?;
    Ok(())
}

/// Reads up to `count` numbers of four bytes.
fn take(source: &mut impl Read, count: usize) -> Result<Vec<[u8; 4]>, Box<dyn Error>> {
    let mut bytes = Vec::with_capacity(4 * count);
    source.take(4 * count as u64).read_to_end(&mut bytes)?;
    let (numbers, rest) = bytes.as_chunks::<4>();
    if rest.is_empty() { Ok(numbers.to_vec()) } else { Err("a file ends within a number".into()) }
}

fn info(dimensions: u32) -> FileInfo {
    FileInfo {
        model: "random vectors".into(),
        revision: None,
        model_digest: "0".repeat(64),
        pooling: "mean".into(),
        normalized: true,
        max_length: 1,
        dtype: "f32".into(),
        output_dtype: OutputDtype::F32,
        prefix: String::new(),
        prompt: None,
        similarity: None,
        delimiter: None,
        quote: None,
        encoding: None,
        dimensions,
        job_id: "random".into(),
        spec_digest: "0".repeat(64),
    }
}
