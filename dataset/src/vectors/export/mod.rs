//! Vectors as one array of shape rows × dimensions, in the formats of `NumPy`, safetensors and PyTorch: streaming.
//!
//! Every row of the corpus has its place, so that row `i` of the array is row `i` of the corpus: a rejected row is a
//! row of NaN (of zeros in integers), and so is one that is missing. The summary counts them.

mod npy;
mod pt;
mod safetensors;

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use spec::{ExportFormat, OutputDtype};

use super::atomic::AtomicFile;
use super::element::{Element, Vectors, missing_bytes};
use super::error::VectorsError;
use super::holes::RowNumbers;
use super::info::FileInfo;
use super::read::{BATCH_ROWS, VectorSet};
use crate::DatasetError;

const BUFFER_BYTES: usize = 1 << 20;

/// What an export wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportSummary {
    /// The file.
    pub out: PathBuf,
    /// Rows of the array: every row of the corpus, in order.
    pub rows: u64,
    /// Dimensions of a vector; the array has an element for each, or for eight of them (`binary`).
    pub dimensions: u32,
    /// The output type.
    pub dtype: OutputDtype,
    /// Rows of NaN or zeros: those that were rejected.
    pub rejected: u64,
    /// More such rows: those that are in no file.
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
    fn element(&self) -> Element {
        Element::of(self.info.output_dtype)
    }

    /// Elements per row.
    fn width(&self) -> u32 {
        self.element().per_vector(self.info.dimensions)
    }

    fn data_bytes(&self) -> u64 {
        self.rows.saturating_mul(self.element().vector_bytes(self.info.dimensions) as u64)
    }

    /// Size of the scales of all rows; 0 where vectors have none.
    fn scales_bytes(&self) -> u64 {
        if self.element().is_scaled { self.rows.saturating_mul(size_of::<f32>() as u64) } else { 0 }
    }
}

/// Writes the vectors of the folder of a finished job, or of one file, as the array `out`, in the output type that
/// they have. Every file is checked before its rows are used; `out` appears whole or not at all; one that
/// is there is an error, unless `overwrite`. So are vectors with scales that the format has no place for.
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
    if i64::try_from(shape.data_bytes().saturating_add(shape.scales_bytes())).is_err() {
        return Err(VectorsError::damaged(target, format!("it counts {rows} rows, too many for any file")).into());
    }
    check_scales(target, &shape, format)?;
    let temp = AtomicFile::create(out, overwrite)?;
    let file = File::create(temp.path()).map_err(VectorsError::io("create", temp.path()))?;
    let mut sink = Sink { file: BufWriter::with_capacity(BUFFER_BYTES, file), crc: flate2::Crc::new() };
    let (rejected, bytes) = write_array(&set, &shape, format, &mut sink, out)?;
    drop(sink);
    temp.persist()?;
    let (dimensions, dtype) = (set.info().dimensions, set.info().output_dtype);
    Ok(ExportSummary { out: out.to_owned(), rows, dimensions, dtype, rejected, missing, bytes })
}

/// Vectors of unit length are found again without their scales; others are not.
fn check_scales(target: &Path, shape: &Shape<'_>, format: ExportFormat) -> Result<(), VectorsError> {
    let has_scales = match format {
        ExportFormat::Safetensors => true,
        ExportFormat::Npy | ExportFormat::Pt => false,
    };
    if has_scales || !shape.element().is_scaled || shape.info.normalized {
        return Ok(());
    }
    let detail = format!(
        "its vectors have a scale each, which {format} has no place for, and are not of unit length: export safetensors"
    );
    Err(VectorsError::unusable(target, detail))
}

/// Writes headers and arrays. Returns how many rows were rejected, and the size of the file.
fn write_array(
    set: &VectorSet,
    shape: &Shape<'_>,
    format: ExportFormat,
    sink: &mut Sink,
    out: &Path,
) -> Result<(u64, u64), DatasetError> {
    let started = match format {
        ExportFormat::Npy => npy::begin(sink, shape).map(|()| None),
        ExportFormat::Safetensors => safetensors::begin(sink, shape).map(|()| None),
        ExportFormat::Pt => pt::begin(sink, shape).map(Some),
    };
    let archive = started.map_err(VectorsError::io("write", out))?;
    if format == ExportFormat::Safetensors && shape.element().is_scaled {
        write_rows(set, sink, out, f32::NAN.to_le_bytes().to_vec(), |vectors, row, bytes| {
            bytes.extend(vectors.scale(row).unwrap_or(f32::NAN).to_le_bytes());
        })?;
    }
    sink.crc.reset();
    let absent = missing_bytes(shape.info.output_dtype, shape.info.dimensions);
    let rejected = write_rows(set, sink, out, absent.clone(), |vectors, row, bytes| {
        if vectors.has(row) {
            vectors.append_bytes(row, bytes);
        } else {
            bytes.extend_from_slice(&absent);
        }
    })?;
    let ended = match archive {
        None => Ok(()),
        Some(archive) => archive.end(sink),
    };
    let bytes = ended.and_then(|()| sink.finish()).map_err(VectorsError::io("write", out))?;
    Ok((rejected, bytes))
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

    fn finish(&mut self) -> io::Result<u64> {
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

/// Writes the bytes that `append` gives for each row of the corpus, in order, and `absent` for one that is in no file. Returns how
/// many rows have no vector.
fn write_rows(
    set: &VectorSet,
    sink: &mut Sink,
    out: &Path,
    absent: Vec<u8>,
    append: impl Fn(&Vectors<'_>, usize, &mut Vec<u8>),
) -> Result<u64, DatasetError> {
    let info = set.info();
    let mut write = |bytes: &[u8]| sink.write_all(bytes).map_err(VectorsError::io("write", out));
    let mut numbers = RowNumbers::from(0, set.holes());
    let mut bytes = Vec::new();
    let (mut rows, mut rejected) = (0, 0);
    for batch in set.batches(&Vectors::projection(info), BATCH_ROWS) {
        let batch = batch?;
        let vectors = Vectors::of(&batch, info);
        let mut start = 0;
        while start < vectors.len() {
            (0..numbers.skip_hole()).try_for_each(|_| write(&absent))?;
            let run = usize::try_from(numbers.run()).unwrap_or(usize::MAX).min(vectors.len() - start);
            bytes.clear();
            (start..start + run).for_each(|row| append(&vectors, row, &mut bytes));
            write(&bytes)?;
            numbers.take(run as u64);
            start += run;
        }
        rejected += (0..vectors.len()).filter(|&row| !vectors.has(row)).count() as u64;
        rows += batch.num_rows() as u64;
    }
    (0..numbers.skip_hole()).try_for_each(|_| write(&absent))?;
    if rows != set.rows() {
        let detail = format!("it has {rows} rows, expected {}", set.rows());
        return Err(VectorsError::damaged(&set.paths().last().unwrap_or(out.to_owned()), detail).into());
    }
    Ok(rejected)
}

#[cfg(test)]
mod tests;
