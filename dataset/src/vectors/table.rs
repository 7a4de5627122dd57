//! Parquet files of any program, read as tables.

use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::KeyValue;

use super::error::VectorsError;
use super::place;
use super::read::BATCH_ROWS;
use crate::DatasetError;
use crate::guarded::guarded;

/// A Parquet file of any program: its batches, in order.
pub struct ParquetTable {
    path: PathBuf,
    schema: SchemaRef,
    rows: u64,
    footer: Vec<KeyValue>,
    reader: Option<ParquetRecordBatchReader>,
}

impl ParquetTable {
    /// Opens a file, which may be at a URL.
    ///
    /// # Errors
    /// It is not there, cannot be read, or is not Parquet.
    pub fn open(path: &Path) -> Result<ParquetTable, DatasetError> {
        let file = place::open(path)?;
        let open = || -> Result<ParquetTable, DatasetError> {
            let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(VectorsError::decode(path, None))?;
            let metadata = builder.metadata().file_metadata();
            let rows = u64::try_from(metadata.num_rows()).unwrap_or_default();
            let footer = metadata.key_value_metadata().cloned().unwrap_or_default();
            let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(VectorsError::decode(path, None))?;
            Ok(ParquetTable {
                path: path.to_owned(),
                schema: reader_schema(&reader),
                rows,
                footer,
                reader: Some(reader),
            })
        };
        guarded(open).map_err(|said| VectorsError::panicked(path, &said))?
    }

    /// Returns the columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns the number of rows that the footer says.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns a value of the footer.
    pub fn footer_value(&self, key: &str) -> Option<&str> {
        self.footer.iter().find(|pair| pair.key == key)?.value.as_deref()
    }
}

fn reader_schema(reader: &ParquetRecordBatchReader) -> SchemaRef {
    arrow_array::RecordBatchReader::schema(reader)
}

impl Iterator for ParquetTable {
    type Item = Result<RecordBatch, DatasetError>;

    /// Ends after an error.
    fn next(&mut self) -> Option<Self::Item> {
        let reader = self.reader.as_mut()?;
        let read = guarded(|| reader.next());
        let result = match read {
            Ok(Some(batch)) => batch.map_err(|error| {
                VectorsError::unusable(&self.path, format!("its rows cannot be decoded, so it is damaged: {error}"))
                    .into()
            }),
            Ok(None) => return None,
            Err(said) => Err(VectorsError::panicked(&self.path, &said).into()),
        };
        if result.is_err() {
            self.reader = None;
        }
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array};
    use parquet::arrow::ArrowWriter;

    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_table_is_read_and_damage_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..20_000));
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        let mut bytes = writer.into_inner().unwrap();
        fs::write(&path, &bytes).unwrap();
        let table = ParquetTable::open(&path).unwrap();
        assert_eq!((table.rows(), table.schema().field(0).name().as_str()), (20_000, "n"));
        assert_eq!(table.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 20_000);
        bytes[4..2_000].fill(0xff);
        fs::write(&path, &bytes).unwrap();
        let read: Vec<_> = ParquetTable::open(&path).unwrap().collect();
        assert!(read.last().unwrap().as_ref().is_err_and(|error| error.to_string().contains("a.parquet")));
        fs::write(&path, b"text").unwrap();
        assert!(ParquetTable::open(&path).is_err());
        let gone = ParquetTable::open(&dir.path().join("gone.parquet")).err().unwrap();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    }
}
