//! Vectors as one array of shape rows × dimensions, in the formats of `NumPy`, safetensors and PyTorch: streaming.
//!
//! Every row of the corpus has its place, so that row `i` of the array is row `i` of the corpus: a rejected row is a
//! row of NaN, and so is one that is missing. The summary counts them.

mod npy;
mod pt;
mod safetensors;

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use arrow_array::{Array, RecordBatch};
use half::f16;
use serde::Serialize;
use spec::{ExportFormat, OutputDtype};

use super::atomic::AtomicFile;
use super::columns::{Components, vectors};
use super::error::VectorsError;
use super::holes::RowNumbers;
use super::info::{FileInfo, component_bytes};
use super::read::{BATCH_ROWS, Projection, VectorSet};
use super::schema::EMBEDDING;
use crate::DatasetError;

const BUFFER_BYTES: usize = 1 << 20;

/// What an export wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportSummary {
    /// The file.
    pub out: PathBuf,
    /// Rows of the array: every row of the corpus, in order.
    pub rows: u64,
    /// Components per row.
    pub dimensions: u32,
    /// Number format.
    pub dtype: OutputDtype,
    /// Rows of NaN: those that were rejected.
    pub rejected: u64,
    /// More rows of NaN: those that are in no file.
    pub missing: u64,
    /// Size of the file, in bytes.
    pub bytes: u64,
}

/// The array to be written, known before its first row.
struct Shape<'a> {
    info: &'a FileInfo,
    rows: u64,
}

impl Shape<'_> {
    fn data_bytes(&self) -> u64 {
        let row_bytes = u64::from(self.info.dimensions) * component_bytes(self.info.output_dtype) as u64;
        self.rows.saturating_mul(row_bytes)
    }
}

/// Writes the vectors of the folder of a finished job, or of one file, as the array `out`, in the number format that
/// they have. Every file is checked before its rows are used; `out` appears whole or not at all; one that
/// is there is an error, unless `overwrite`.
pub fn export(target: &Path, format: ExportFormat, out: &Path, overwrite: bool) -> Result<ExportSummary, DatasetError> {
    let set = VectorSet::open(target)?;
    if set.has_file(out) {
        return Err(VectorsError::unusable(
            out,
            "the output is one of the files that it is made of; choose another name",
        )
        .into());
    }
    let (rows, missing) = (set.rows().saturating_add(set.missing()), set.missing());
    let shape = Shape { info: set.info(), rows };
    if i64::try_from(shape.data_bytes()).is_err() {
        return Err(VectorsError::damaged(target, format!("it counts {rows} rows, too many for any file")).into());
    }
    let temp = AtomicFile::create(out, overwrite)?;
    let file = File::create(temp.path()).map_err(VectorsError::io("create", temp.path()))?;
    let mut sink = Sink { file: BufWriter::with_capacity(BUFFER_BYTES, file), crc: flate2::Crc::new() };
    let started = match format {
        ExportFormat::Npy => npy::begin(&mut sink, &shape).map(|()| None),
        ExportFormat::Safetensors => safetensors::begin(&mut sink, &shape).map(|()| None),
        ExportFormat::Pt => pt::begin(&mut sink, &shape).map(Some),
    };
    let archive = started.map_err(VectorsError::io("write", out))?;
    sink.crc.reset();
    let rejected = write_rows(&set, &mut sink, out)?;
    let ended = match archive {
        None => Ok(()),
        Some(archive) => archive.end(&mut sink),
    };
    let bytes = ended.and_then(|()| sink.finish()).map_err(VectorsError::io("write", out))?;
    temp.persist()?;
    let (dimensions, dtype) = (set.info().dimensions, set.info().output_dtype);
    Ok(ExportSummary { out: out.to_owned(), rows, dimensions, dtype, rejected, missing, bytes })
}

/// The file being written, with the CRC-32 of what was written since it was last reset.
struct Sink {
    file: BufWriter<File>,
    crc: flate2::Crc,
}

impl Sink {
    fn position(&mut self) -> io::Result<u64> {
        self.file.stream_position()
    }

    fn overwrite(&mut self, place: u64, bytes: &[u8]) -> io::Result<()> {
        let end = self.position()?;
        self.file.seek(SeekFrom::Start(place))?;
        self.file.write_all(bytes)?;
        self.file.seek(SeekFrom::Start(end))?;
        Ok(())
    }

    fn finish(mut self) -> io::Result<u64> {
        let bytes = self.position()?;
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok(bytes)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.crc.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn write_rows(set: &VectorSet, sink: &mut Sink, out: &Path) -> Result<u64, DatasetError> {
    let projection = Projection::Columns(vec![EMBEDDING.to_owned()]);
    let mut write = |bytes: &[u8]| sink.write_all(bytes).map_err(VectorsError::io("write", out));
    let mut numbers = RowNumbers::from(0, set.holes());
    let nan = nan_row(set.info());
    let mut bytes = Vec::new();
    let (mut rows, mut rejected) = (0, 0);
    for batch in set.batches(&projection, BATCH_ROWS) {
        let batch = batch?;
        let mut start = 0;
        while start < batch.num_rows() {
            (0..numbers.skip_hole()).try_for_each(|_| write(&nan))?;
            let run = usize::try_from(numbers.run()).unwrap_or(usize::MAX).min(batch.num_rows() - start);
            bytes.clear();
            rejected += little_endian(&batch.slice(start, run), &mut bytes);
            write(&bytes)?;
            numbers.take(run as u64);
            start += run;
        }
        rows += batch.num_rows() as u64;
    }
    (0..numbers.skip_hole()).try_for_each(|_| write(&nan))?;
    if rows != set.rows() {
        let detail = format!("it has {rows} rows, expected {}", set.rows());
        return Err(VectorsError::damaged(&set.paths().last().unwrap_or(out.to_owned()), detail).into());
    }
    Ok(rejected)
}

/// A row that is not there.
fn nan_row(info: &FileInfo) -> Vec<u8> {
    let dimensions = info.dimensions as usize;
    match info.output_dtype {
        OutputDtype::F32 => f32::NAN.to_le_bytes().repeat(dimensions),
        OutputDtype::F16 => f16::NAN.to_le_bytes().repeat(dimensions),
    }
}

/// Appends the vectors of a batch, NaN for a rejected row, and returns how many of those there were.
fn little_endian(batch: &RecordBatch, bytes: &mut Vec<u8>) -> u64 {
    let (list, components) = vectors(batch);
    let dimensions = usize::try_from(list.value_length()).expect("a length is not negative");
    let mut rejected = 0;
    for index in 0..list.len() {
        let range = index * dimensions..(index + 1) * dimensions;
        match (&components, list.is_null(index)) {
            (Components::F32(values), false) => append(bytes, values[range].iter().map(|value| value.to_le_bytes())),
            (Components::F16(values), false) => append(bytes, values[range].iter().map(|value| value.to_le_bytes())),
            (Components::F32(_), true) => append(bytes, range.map(|_| f32::NAN.to_le_bytes())),
            (Components::F16(_), true) => append(bytes, range.map(|_| f16::NAN.to_le_bytes())),
        }
        rejected += u64::from(list.is_null(index));
    }
    rejected
}

/// Appends numbers at a known place each, which compiles to a plain copy.
fn append<const N: usize>(bytes: &mut Vec<u8>, numbers: impl ExactSizeIterator<Item = [u8; N]>) {
    let start = bytes.len();
    bytes.resize(start + numbers.len() * N, 0);
    for (place, number) in bytes[start..].chunks_exact_mut(N).zip(numbers) {
        place.copy_from_slice(&number);
    }
}

#[cfg(test)]
mod tests;
