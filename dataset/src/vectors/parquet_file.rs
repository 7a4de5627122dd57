//! One Parquet file being written: encoding, row groups of bounded size, copying of ready row groups, the seal.
//!
//! The same rows in the same chunks give the same bytes: everything that Parquet leaves open is pinned here.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use super::column_names::{EMBEDDING, EMBEDDING_SCALE, ROW};
use super::element::Element;
use super::error::VectorsError;
use super::info::{FileInfo, SEAL_KEY};
use super::seal::{HashingFile, SEAL_PLACEHOLDER, Written};
use crate::guarded::{guarded, memory_error};

/// A row group ends when its encoded columns reach so many bytes: what a writer holds in memory.
pub(super) const ROW_GROUP_BYTES_MAX: usize = 16 << 20;
/// A row group ends at so many rows, however small they are.
pub(super) const ROW_GROUP_ROWS_MAX: usize = 1 << 18;
/// Rows are encoded in pieces of about so many bytes of vectors, so that a row group ends near its limit.
const PIECE_BYTES: usize = 4 << 20;
/// Size of a data page of vectors, before compression.
const VECTOR_PAGE_BYTES: usize = 1 << 20;
/// The writer as Parquet names it. Pinned: a new release of ours does not change the bytes of the same rows.
const CREATED_BY: &str = "encaje version 1.0.0 (build format-1)";

pub(super) struct ParquetFile {
    path: PathBuf,
    schema: SchemaRef,
    writer: SerializedFileWriter<HashingFile>,
    factory: ArrowRowGroupWriterFactory,
    /// The row group being encoded.
    columns: Vec<ArrowColumnWriter>,
    rows: usize,
    piece_rows: usize,
}

impl ParquetFile {
    /// Creates the file, or empties it.
    pub(super) fn create(path: &Path, schema: &SchemaRef, info: &FileInfo) -> Result<ParquetFile, VectorsError> {
        let sink = HashingFile::create(path)?;
        let writer = ArrowWriter::try_new(sink, Arc::clone(schema), Some(properties(info)));
        let writer = writer.and_then(ArrowWriter::into_serialized_writer);
        // Nothing is written yet: what fails here is a column type that Parquet has no place for.
        let (writer, factory) = writer.map_err(|error| {
            VectorsError::bad_rows(format!(
                "a kept column cannot be stored in Parquet; leave it out with --keep: {error}"
            ))
        })?;
        let row_bytes = Element::of(info.output_dtype).vector_bytes(info.dimensions);
        let piece_rows = (PIECE_BYTES / row_bytes.max(1)).max(1);
        let schema = Arc::clone(schema);
        Ok(ParquetFile { path: path.to_owned(), schema, writer, factory, columns: Vec::new(), rows: 0, piece_rows })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Encodes rows. Row groups are written out as they fill up.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), VectorsError> {
        let mut start = 0;
        while start < batch.num_rows() {
            let count = self.piece_rows.min(batch.num_rows() - start).min(ROW_GROUP_ROWS_MAX - self.rows);
            self.encode(&batch.slice(start, count)).map_err(VectorsError::encode(&self.path))?;
            start += count;
        }
        Ok(())
    }

    fn encode(&mut self, piece: &RecordBatch) -> Result<(), ParquetError> {
        if self.columns.is_empty() {
            let index = self.writer.flushed_row_groups().len();
            // Each column has its own compressor.
            let made = guarded(|| self.factory.create_column_writers(index));
            self.columns = made.map_err(|said| match memory_error(&said) {
                Some(error) => ParquetError::External(error.into()),
                None => ParquetError::General(said),
            })??;
        }
        let mut writers = self.columns.iter_mut();
        for (field, array) in self.schema.fields().iter().zip(piece.columns()) {
            for leaf in compute_leaves(field, array)? {
                writers.next().expect("a schema has a writer per leaf").write(&leaf)?;
            }
        }
        self.rows += piece.num_rows();
        let bytes: usize = self.columns.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum();
        if self.rows >= ROW_GROUP_ROWS_MAX || bytes >= ROW_GROUP_BYTES_MAX {
            self.end_row_group()?;
        }
        Ok(())
    }

    fn end_row_group(&mut self) -> Result<(), ParquetError> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        for column in self.columns.drain(..) {
            column.close()?.append_to_row_group(&mut group)?;
        }
        group.close()?;
        self.rows = 0;
        Ok(())
    }

    /// Copies a row group of a file of the same schema as it is, without decoding. Rows before it end their row group.
    pub(super) fn copy_row_group(
        &mut self,
        source: &File,
        metadata: &ParquetMetaData,
        index: usize,
    ) -> Result<(), VectorsError> {
        self.copy(source, metadata, index).map_err(VectorsError::encode(&self.path))
    }

    fn copy(&mut self, source: &File, metadata: &ParquetMetaData, index: usize) -> Result<(), ParquetError> {
        self.end_row_group()?;
        let from = metadata.row_group(index);
        let pages = metadata.page_index();
        let mut group = self.writer.next_row_group()?;
        for (column_index, column) in from.columns().iter().enumerate() {
            let rows_written = u64::try_from(from.num_rows())
                .map_err(|_| ParquetError::General("a row group with a negative number of rows".to_owned()))?;
            let close = ColumnCloseResult {
                bytes_written: u64::try_from(column.compressed_size()).unwrap_or_default(),
                rows_written,
                metadata: column.clone(),
                bloom_filter: None,
                column_index: pages.and_then(|pages| pages.column_index(index, column_index)).cloned(),
                offset_index: pages.and_then(|pages| pages.offset_index(index, column_index)).cloned(),
            };
            group.append_column(source, close)?;
        }
        group.close()?;
        Ok(())
    }

    /// Writes the footer with these key-values added and the seal, and makes the file durable.
    pub(super) fn finish(mut self, pairs: Vec<KeyValue>) -> Result<Written, VectorsError> {
        self.end_row_group().map_err(VectorsError::encode(&self.path))?;
        self.writer.flush().map_err(VectorsError::io("write", &self.path))?;
        self.writer.inner_mut().begin_tail()?;
        for pair in pairs {
            self.writer.append_key_value_metadata(pair);
        }
        self.writer.append_key_value_metadata(KeyValue::new(SEAL_KEY.to_owned(), SEAL_PLACEHOLDER.to_owned()));
        self.writer.into_inner().map_err(VectorsError::encode(&self.path))?.seal()
    }
}

fn properties(info: &FileInfo) -> WriterProperties {
    let vectors = ColumnPath::new(vec![EMBEDDING.to_owned(), "list".to_owned(), "element".to_owned()]);
    let row = ColumnPath::from(ROW);
    let zstd = Compression::ZSTD(ZstdLevel::try_new(1).expect("level 1 is a level of zstd"));
    let properties = WriterProperties::builder()
        .set_created_by(CREATED_BY.to_owned())
        .set_key_value_metadata(Some(info.to_key_values()))
        .set_compression(zstd)
        .set_column_dictionary_enabled(row.clone(), false)
        .set_column_encoding(row, Encoding::DELTA_BINARY_PACKED)
        .set_column_statistics_enabled(vectors.clone(), EnabledStatistics::None)
        .set_column_data_page_size_limit(vectors.clone(), VECTOR_PAGE_BYTES);
    let Element { encoding, is_scaled, .. } = Element::of(info.output_dtype);
    // Floats have no repeats worth a dictionary and no order worth statistics; bytes of like weight compress.
    let plain = |properties: WriterPropertiesBuilder, column: ColumnPath, encoding| {
        properties.set_column_dictionary_enabled(column.clone(), false).set_column_encoding(column, encoding)
    };
    let properties = match encoding {
        Some(encoding) => plain(properties, vectors, encoding),
        None => properties,
    };
    let properties = match is_scaled {
        true => plain(properties, ColumnPath::from(EMBEDDING_SCALE), Encoding::BYTE_STREAM_SPLIT),
        false => properties,
    };
    properties.build()
}
