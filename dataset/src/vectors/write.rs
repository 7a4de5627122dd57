//! [`VectorWriter`]: rows in, one Parquet file out; streaming, with bounded memory, checked on the way.

use std::collections::BTreeMap;
use std::path::Path;

use arrow_schema::{Schema, SchemaRef};
use parquet::file::metadata::KeyValue;
use serde::{Deserialize, Serialize};
use spec::{RejectReason, RowCounts};

use super::batch::{count, encode_chunk};
use super::error::VectorsError;
use super::info::{FileInfo, FileTotals, TEXT_COLUMN_KEY, TOTALS_KEY};
use super::parquet_file::ParquetFile;
use super::read::VectorReader;
use super::reused_rows::ReusedRows;
use super::schema::output_schema;
use super::seal::Written;
use super::{ManifestFile, VectorChunk};
use crate::DatasetError;

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
    /// Tokens of rows with a vector.
    pub tokens: u64,
    /// Rows whose vector was taken from an earlier output.
    #[serde(default, skip_serializing_if = "spec::is_zero")]
    pub reused: u64,
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
            reused: self.reused,
        }
    }
}

/// Writes one file of vectors. Holds one row group in memory, at most about 16 MiB of encoded columns.
///
/// The same chunks give the same bytes. A writer that is dropped leaves an incomplete file behind.
pub struct VectorWriter {
    file: ParquetFile,
    schema: SchemaRef,
    kept: Schema,
    info: FileInfo,
    text_column: Option<String>,
    first_row: Option<u64>,
    totals: RowCounts,
}

impl VectorWriter {
    /// Creates the file (truncating an existing one) for rows with these kept columns. A kept column with the name of
    /// an output column is an error.
    pub fn create(path: &Path, kept_schema: &Schema, info: &FileInfo) -> Result<VectorWriter, DatasetError> {
        let schema = output_schema(kept_schema, info)?;
        let file = ParquetFile::create(path, &schema, info)?;
        let (kept, info, text_column) = (kept_schema.clone(), info.clone(), None);
        Ok(VectorWriter { file, schema, kept, info, text_column, first_row: None, totals: RowCounts::default() })
    }

    /// Names the column that the texts were read from, for the footer, whether it is kept or not.
    pub fn with_text_column(self, name: &str) -> VectorWriter {
        VectorWriter { text_column: Some(name.to_owned()), ..self }
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
        let reused = chunk.reused.as_ref().map_or(0, ReusedRows::count);
        let batch = encode_chunk(&self.schema, &self.info, chunk)?;
        self.file.write(&batch)?;
        self.first_row = Some(self.first_row.unwrap_or(expected));
        count(&mut self.totals, &status);
        self.totals.reused += reused;
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
        let text_column = self.text_column.map(|name| KeyValue::new(TEXT_COLUMN_KEY.to_owned(), name));
        let written = self.file.finish(text_column.into_iter().chain([totals_pair(&totals)]).collect())?;
        let reader = VectorReader::open(&path)?;
        if reader.info() != &self.info || reader.totals() != &totals {
            return Err(VectorsError::damaged(&path, "its footer reads otherwise than it was written").into());
        }
        let FileTotals { first_row, totals } = totals;
        let RowCounts { rows, rejects, truncated, tokens, reused } = totals;
        let Written { bytes, blake3 } = written;
        Ok(FileSummary { first_row, rows, rejects, truncated, tokens, reused, bytes, blake3 })
    }
}

/// Returns the footer key-value that tells what is in the file.
pub(super) fn totals_pair(totals: &FileTotals) -> KeyValue {
    let json = serde_json::to_string(totals).expect("totals have string keys and no failing values");
    KeyValue::new(TOTALS_KEY.to_owned(), json)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use arrow_array::{RecordBatch, new_null_array};
    use arrow_schema::{DataType, Field, Fields, TimeUnit};
    use parquet::basic::{Compression, Encoding};
    use proptest::prelude::*;

    use super::super::info::tests::info;
    use super::super::parquet_file::ROW_GROUP_BYTES_MAX;
    use super::super::read::Projection;
    use super::super::testing::{chunk, kept_schema, row_texts};
    use super::super::{RowStatus, layout};
    use super::*;
    use spec::OutputDtype;

    fn write(path: &Path, info: &FileInfo, first_row: u64, sizes: &[usize]) -> FileSummary {
        let mut writer = VectorWriter::create(path, &kept_schema(), info).unwrap();
        let mut row = first_row;
        for size in sizes {
            writer.write(chunk(info, row, *size)).unwrap();
            row += *size as u64;
        }
        writer.finish().unwrap()
    }

    fn refused(change: impl FnOnce(&mut VectorChunk)) -> String {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = VectorWriter::create(&dir.path().join("f"), &kept_schema(), &info(4)).unwrap();
        writer.write(chunk(&info(4), 10, 3)).unwrap();
        let mut bad = chunk(&info(4), 13, 3);
        change(&mut bad);
        let error = writer.write(bad).unwrap_err().to_string();
        assert_eq!(writer.finish().unwrap().rows, 3, "nothing of a refused chunk is written");
        error
    }

    #[test]
    fn the_summary_and_the_footer_count_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.parquet");
        let summary = write(&path, &info(8), 70, &[20, 0, 15]);
        assert_eq!((summary.first_row, summary.rows), (70, 35));
        assert_eq!(summary.rejects.values().sum::<u64>(), 5);
        let bytes = fs::read(&path).unwrap();
        assert_eq!(summary.bytes, bytes.len() as u64);
        assert_eq!(summary.blake3, blake3::hash(&bytes).to_hex().to_string());
        let reader = VectorReader::open(&path).unwrap();
        assert_eq!(reader.info(), &info(8));
        assert_eq!(reader.totals().totals, summary.to_manifest_file(layout::part_name(0)).totals());
    }

    #[test]
    fn the_same_chunks_give_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("a"), dir.path().join("b"));
        assert_eq!(write(&first, &info(8), 0, &[20, 15]), write(&second, &info(8), 0, &[20, 15]));
        assert_eq!(fs::read(first).unwrap(), fs::read(second).unwrap());
    }

    #[test]
    fn broken_promises_are_refused_by_row() {
        assert!(refused(|bad| bad.vectors[5] = f32::NAN).contains("row 14"));
        assert!(refused(|bad| bad.vectors[5] += 0.1).contains("norm"));
        assert!(refused(|bad| bad.status[2].n_tokens = 0).contains("row 15: it has 0 tokens"));
        assert!(refused(|bad| bad.status[2].n_tokens = 129).contains("1 to 128"));
        assert!(refused(|bad| bad.first_row = 14).contains("expected row 13"));
        assert!(refused(|bad| bad.vectors.truncate(8)).contains("8 numbers of 12"));
        assert!(refused(|bad| bad.status.truncate(2)).contains("kept columns"));
    }

    #[test]
    fn a_rejected_row_carries_nothing_of_its_chunk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.parquet");
        let mut bad = chunk(&info(4), 0, 4);
        bad.vectors[12..].fill(f32::NAN);
        bad.status[3] = RowStatus { n_tokens: 9, truncated: true, error: Some(RejectReason::NonFinite) };
        let mut writer = VectorWriter::create(&path, &kept_schema(), &info(4)).unwrap();
        writer.write(bad).unwrap();
        let summary = writer.finish().unwrap();
        assert_eq!(summary.tokens, 2 + 3 + 4);
        let batch = VectorReader::open(&path).unwrap().batches(&Projection::All, 9).unwrap().next().unwrap().unwrap();
        let last = batch.slice(3, 1);
        assert!(last.column_by_name("embedding").unwrap().is_null(0));
        assert!(format!("{:?}", last.column_by_name("n_tokens").unwrap()).contains("0,"));
    }

    #[test]
    fn vectors_that_overflow_16_bit_floats_are_refused() {
        let info = FileInfo { output_dtype: OutputDtype::F16, normalized: false, ..info(4) };
        let dir = tempfile::tempdir().unwrap();
        let mut writer = VectorWriter::create(&dir.path().join("f"), &kept_schema(), &info).unwrap();
        let mut bad = chunk(&info, 0, 2);
        bad.vectors[5] = 1e6;
        let error = writer.write(bad).unwrap_err().to_string();
        assert!(error.contains("row 1") && error.contains("--output-dtype f32"), "{error}");
    }

    #[test]
    fn vectors_are_split_by_bytes_and_compressed_without_dictionary_or_statistics() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.parquet");
        write(&path, &info(8), 0, &[500]);
        let reader = VectorReader::open(&path).unwrap();
        let group = reader.parquet().row_group(0);
        let column = group.columns().iter().find(|c| c.column_path().string() == "embedding.list.element").unwrap();
        assert!(matches!(column.compression(), Compression::ZSTD(_)));
        assert!(column.encodings().any(|encoding| encoding == Encoding::BYTE_STREAM_SPLIT));
        assert!(column.dictionary_page_offset().is_none() && column.statistics().is_none());
        assert!(group.column(0).statistics().is_some() && reader.parquet().page_index().is_some());
    }

    #[test]
    fn quantized_vectors_take_a_byte_an_element_before_compression() {
        let dir = tempfile::tempdir().unwrap();
        for (output_dtype, bytes) in [(OutputDtype::Int8, 384), (OutputDtype::Binary, 48)] {
            let path = dir.path().join(output_dtype.to_string());
            let info = FileInfo { output_dtype, ..info(384) };
            write(&path, &info, 0, &[2000]);
            let reader = VectorReader::open(&path).unwrap();
            let group = reader.parquet().row_group(0);
            let column = group.columns().iter().find(|c| c.column_path().string() == "embedding.list.element").unwrap();
            let rows = 2000 - reader.totals().totals.rejected();
            let of_row = column.uncompressed_size() as u64 / rows;
            // Where lists begin takes some bytes of its own.
            assert!(of_row < bytes + 8, "{output_dtype}: {of_row} bytes");
        }
    }

    #[test]
    fn row_groups_are_bounded_by_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.parquet");
        write(&path, &info(2048), 0, &[4000, 4000, 4000, 1000]);
        let reader = VectorReader::open(&path).unwrap();
        let sizes: Vec<i64> = reader.parquet().row_groups().iter().map(|group| group.compressed_size()).collect();
        assert!(sizes.len() >= 2, "{sizes:?}");
        let bound = (ROW_GROUP_BYTES_MAX + (16 << 20)) as i64;
        assert!(sizes.iter().all(|size| *size <= bound), "{sizes:?}");
    }

    #[test]
    fn kept_columns_of_any_type_come_back_as_they_were() {
        let list = |kind| DataType::List(Arc::new(Field::new("item", kind, true)));
        let entries =
            Fields::from(vec![Field::new("keys", DataType::Utf8, false), Field::new("values", DataType::Int8, true)]);
        let kinds = vec![
            DataType::Utf8View,
            DataType::LargeUtf8,
            DataType::Binary,
            DataType::BinaryView,
            DataType::FixedSizeBinary(3),
            DataType::UInt8,
            DataType::UInt64,
            DataType::Float16,
            DataType::Boolean,
            DataType::Date32,
            DataType::Date64,
            DataType::Null,
            DataType::Time32(TimeUnit::Second),
            DataType::Timestamp(TimeUnit::Second, None),
            DataType::Timestamp(TimeUnit::Nanosecond, Some("Europe/Madrid".into())),
            DataType::Duration(TimeUnit::Millisecond),
            DataType::Decimal128(20, 3),
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            list(DataType::Utf8),
            DataType::LargeList(Arc::new(Field::new("element", DataType::Int16, false))),
            DataType::Struct(Fields::from(vec![Field::new("a", list(DataType::Float64), true)])),
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false),
        ];
        let fields: Vec<_> =
            kinds.into_iter().enumerate().map(|(place, kind)| Field::new(format!("c{place}"), kind, true)).collect();
        let kept = Schema::new(fields).with_metadata([("pandas".to_owned(), "{}".to_owned())]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.parquet");
        let mut rows = chunk(&info(4), 0, 5);
        let columns = kept.fields().iter().map(|field| new_null_array(field.data_type(), 5)).collect();
        rows.kept = RecordBatch::try_new(Arc::new(kept.clone()), columns).unwrap();
        let mut writer = VectorWriter::create(&path, &kept, &info(4)).unwrap();
        writer.write(rows.clone()).unwrap();
        writer.finish().unwrap();
        let reader = VectorReader::open(&path).unwrap();
        assert_eq!(reader.kept_schema().fields(), kept.fields());
        let read = reader.batches(&Projection::All, 9).unwrap().next().unwrap().unwrap();
        for (field, column) in kept.fields().iter().zip(rows.kept.columns()) {
            assert_eq!(read.column_by_name(field.name()).unwrap(), column, "{field}");
        }
        assert!(reader.footer_value("pandas").is_none(), "metadata of the input describes another file");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn what_is_written_is_read_back(
            dimensions in 1u32..40,
            sizes in proptest::collection::vec(0usize..60, 0..6),
            first_row in 0u64..1000,
            output_dtype in proptest::sample::select(OutputDtype::ALL),
            batch_rows in 1usize..100,
        ) {
            let info = FileInfo { output_dtype, ..info(dimensions) };
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("f.parquet");
            write(&path, &info, first_row, &sizes);
            let reader = VectorReader::open(&path).unwrap();
            let read: Vec<_> = reader.batches(&Projection::All, batch_rows).unwrap().map(|b| b.unwrap()).collect();
            let rows: usize = sizes.iter().sum();
            let whole = encode_chunk(reader.schema(), &info, chunk(&info, first_row, rows)).unwrap();
            prop_assert_eq!(row_texts(&read), row_texts(&[whole]));
        }
    }
}
