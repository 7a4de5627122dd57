//! [`VectorWriter`]: rows in, one Parquet file out; streaming, with bounded memory, checked on the way.

use std::collections::BTreeMap;
use std::path::Path;

use arrow_schema::{Schema, SchemaRef};
use parquet::file::metadata::KeyValue;
use serde::{Deserialize, Serialize};

use super::batch::{count, encode_chunk};
use super::error::VectorsError;
use super::info::{FileInfo, FileTotals, TOTALS_KEY, Totals};
use super::parquet_file::ParquetFile;
use super::read::VectorReader;
use super::schema::output_schema;
use super::{ManifestFile, VectorChunk};
use crate::{DatasetError, RejectReason};

/// A finished file, as its writer describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSummary {
    /// Row number of the first row, over the whole corpus; 0 for a file without rows.
    pub first_row: u64,
    /// Rows with or without a vector.
    pub rows: u64,
    /// Rows without, by reason.
    pub rejects: BTreeMap<RejectReason, u64>,
    /// Rows whose text was cut to the maximum length.
    pub truncated: u64,
    /// Tokens fed to the model.
    pub tokens: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3 of the file, in hex.
    pub blake3: String,
}

impl FileSummary {
    /// Returns the manifest's entry for this file under a name.
    pub fn to_manifest_file(&self, name: impl Into<String>) -> ManifestFile {
        ManifestFile {
            name: name.into(),
            first_row: self.first_row,
            rows: self.rows,
            bytes: self.bytes,
            blake3: self.blake3.clone(),
            rejects: self.rejects.clone(),
            truncated: self.truncated,
            tokens: self.tokens,
        }
    }
}

/// Writes one file of vectors. Holds one row group in memory, at most about 64 MiB of encoded columns.
///
/// The same chunks give the same bytes. A writer that is dropped leaves an incomplete file behind.
pub struct VectorWriter {
    file: ParquetFile,
    schema: SchemaRef,
    kept: Schema,
    info: FileInfo,
    first_row: Option<u64>,
    totals: Totals,
}

impl VectorWriter {
    /// Creates the file (emptying one that is there) for rows with these kept columns. A kept column with the name of
    /// an output column is an error.
    pub fn create(path: &Path, kept_schema: &Schema, info: &FileInfo) -> Result<VectorWriter, DatasetError> {
        let schema = output_schema(kept_schema, info)?;
        let file = ParquetFile::create(path, &schema, info)?;
        let (kept, info) = (kept_schema.clone(), info.clone());
        Ok(VectorWriter { file, schema, kept, info, first_row: None, totals: Totals::default() })
    }

    /// Writes rows. Fails, naming the row and writing none, if: they do not follow on the last ones; lengths disagree;
    /// a vector is not finite, or not of unit norm where normalised; `n_tokens` is not in `1..=max_length`.
    pub fn write(&mut self, chunk: VectorChunk) -> Result<(), DatasetError> {
        let expected = self.first_row.map_or(chunk.first_row, |first| first + self.totals.rows);
        if chunk.first_row != expected {
            let detail = format!("rows must follow on each other: expected row {expected}");
            return Err(VectorsError::bad_row(chunk.first_row, detail).into());
        }
        if chunk.kept.schema().fields() != self.kept.fields() {
            let detail = "the kept columns are not those that the file was created for";
            return Err(VectorsError::bad_row(chunk.first_row, detail).into());
        }
        let status = chunk.status.clone();
        let batch = encode_chunk(&self.schema, &self.info, chunk)?;
        self.file.write(&batch)?;
        self.first_row = Some(self.first_row.unwrap_or(expected));
        count(&mut self.totals, &status);
        Ok(())
    }

    /// Returns how many rows were written so far.
    pub fn rows(&self) -> u64 {
        self.totals.rows
    }

    /// Writes the footer, makes the file durable, opens it again and checks what the footer says.
    pub fn finish(self) -> Result<FileSummary, DatasetError> {
        let path = self.file.path().to_owned();
        let totals = FileTotals { first_row: self.first_row.unwrap_or_default(), totals: self.totals };
        let written = self.file.finish(vec![totals_pair(&totals)])?;
        let reader = VectorReader::open(&path)?;
        if reader.info() != &self.info || reader.totals() != &totals {
            return Err(VectorsError::damaged(&path, "its footer reads otherwise than it was written").into());
        }
        let FileTotals { first_row, totals } = totals;
        let Totals { rows, rejects, truncated, tokens } = totals;
        Ok(FileSummary { first_row, rows, rejects, truncated, tokens, bytes: written.bytes, blake3: written.blake3 })
    }
}

/// Returns the footer key-value that tells what is in the file.
pub(super) fn totals_pair(totals: &FileTotals) -> KeyValue {
    let json = serde_json::to_string(totals).expect("totals have string keys and no failing values");
    KeyValue::new(TOTALS_KEY.to_owned(), json)
}
