//! Reading vector files: version, schema and dimension are checked before the first row; batches stream.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::file::metadata::{KeyValue, PageIndexPolicy, ParquetMetaData};
use parquet::file::reader::{ChunkReader, Length};

use super::error::VectorsError;
use super::info::{FileInfo, FileTotals, Footer, HOLES_KEY, REUSE_KEY, SOURCES_KEY, TEXT_COLUMN_KEY, TOTALS_KEY};
use super::layout::MANIFEST_NAME;
use super::manifest::Manifest;
use super::manifest_entries::{ManifestFile, ManifestHole, ManifestReuse, ManifestSource, missing_in};
use super::place;
use super::schema::kept_schema;
use super::seal::{check_seal, open_listed};
use crate::guarded::guarded;
use crate::{DatasetError, RowCounts};

/// Rows of a batch unless the caller asks for other.
pub const BATCH_ROWS: usize = 4096;

/// Which columns to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Projection {
    /// All.
    All,
    /// These, in the order of the file. A name that is not there is an error.
    Columns(Vec<String>),
}

/// What the footer of a vector file says of it.
#[derive(Debug, Clone)]
pub struct Outline {
    /// How the vectors were made.
    pub info: FileInfo,
    /// First row and counts.
    pub totals: FileTotals,
    /// What is missing between the rows of a merged file, in order.
    pub holes: Vec<ManifestHole>,
    /// The sources of a merged file, as far as it tells them.
    pub sources: Vec<ManifestSource>,
    kept: Schema,
}

impl Outline {
    /// Reads the footer of a file; of one at a URL, no more than that is fetched.
    ///
    /// # Errors
    /// As [`VectorReader::open`].
    pub fn read(path: &Path) -> Result<Outline, DatasetError> {
        let read = || match place::url_of(path) {
            Some(_) => {
                let options = ArrowReaderOptions::new();
                let metadata = ArrowReaderMetadata::try_new(Arc::new(place::read_footer(path)?), options);
                Self::of(path, &metadata.map_err(VectorsError::decode(path, None))?)
            }
            None => {
                let reader = VectorReader::open(path)?;
                Self::of(path, &reader.metadata)
            }
        };
        guarded(read).map_err(|said| VectorsError::panicked(path, &said))?
    }

    fn of(path: &Path, metadata: &ArrowReaderMetadata) -> Result<Outline, DatasetError> {
        let none = Vec::new();
        let pairs = metadata.metadata().file_metadata().key_value_metadata().unwrap_or(&none);
        let info = FileInfo::from_key_values(path, pairs)?;
        let kept = kept_schema(path, metadata.schema(), &info)?;
        let footer = Footer { path, pairs };
        let json = footer.get(TOTALS_KEY).ok_or_else(|| VectorsError::damaged(path, "its footer holds no counts"))?;
        let totals: FileTotals = serde_json::from_str(json)
            .map_err(|error| VectorsError::damaged(path, format!("the counts in its footer do not parse: {error}")))?;
        let holes = footer.get(HOLES_KEY).map_or(Ok(Vec::new()), serde_json::from_str);
        let holes: Vec<ManifestHole> = holes
            .map_err(|error| VectorsError::damaged(path, format!("the holes in its footer do not parse: {error}")))?;
        let rows = metadata.metadata().file_metadata().num_rows();
        if !totals.is_sound() {
            return Err(
                VectorsError::damaged(path, "its footer counts more rejected or truncated rows than rows").into()
            );
        }
        if u64::try_from(rows) != Ok(totals.totals.rows) {
            let detail = format!("its footer counts {} rows and {rows} rows", totals.totals.rows);
            return Err(VectorsError::damaged(path, detail).into());
        }
        let sources = footer.get(SOURCES_KEY).and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        Ok(Outline { info, totals, holes, sources, kept })
    }

    /// Returns the number of rows that are missing between those of a merged file.
    pub fn missing(&self) -> u64 {
        missing_in(&self.holes)
    }
}

/// One vector file, open: its footer is read and checked, its rows are not yet.
#[derive(Debug, Clone)]
pub struct VectorReader {
    path: PathBuf,
    file: Arc<File>,
    metadata: ArrowReaderMetadata,
    info: FileInfo,
    totals: FileTotals,
    holes: Vec<ManifestHole>,
    kept: Schema,
}

impl VectorReader {
    /// Opens a file; one at a URL is fetched. Refuses what is not ours, what is of a newer format, and a schema that does not
    /// fit the footer.
    pub fn open(path: &Path) -> Result<VectorReader, DatasetError> {
        Self::of(path, place::open(path)?)
    }

    /// As [`VectorReader::open`], of a file that is open; `path` names it.
    pub(super) fn of(path: &Path, file: File) -> Result<VectorReader, DatasetError> {
        guarded(|| Self::of_unguarded(path, file)).map_err(|said| VectorsError::panicked(path, &said))?
    }

    fn of_unguarded(path: &Path, file: File) -> Result<VectorReader, DatasetError> {
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = ArrowReaderMetadata::load(&file, options).map_err(VectorsError::decode(path, None))?;
        let Outline { info, totals, holes, sources: _, kept } = Outline::of(path, &metadata)?;
        Ok(VectorReader { path: path.to_owned(), file: Arc::new(file), metadata, info, totals, holes, kept })
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns how the vectors were made.
    pub fn info(&self) -> &FileInfo {
        &self.info
    }

    /// Returns what the footer says about the rows.
    pub fn totals(&self) -> &FileTotals {
        &self.totals
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> u64 {
        self.totals.totals.rows
    }

    /// Returns what is missing between the rows of a merged file, in order.
    pub fn holes(&self) -> &[ManifestHole] {
        &self.holes
    }

    /// Returns the number of rows that are missing between those of a merged file.
    pub fn missing(&self) -> u64 {
        missing_in(&self.holes)
    }

    /// Returns the schema of the file.
    pub fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    /// Returns the schema of the kept columns.
    pub fn kept_schema(&self) -> &Schema {
        &self.kept
    }

    /// Returns the name of the kept column that holds the texts, where the footer says it.
    pub fn text_column(&self) -> Option<&str> {
        self.footer_value(TEXT_COLUMN_KEY)
    }

    /// Returns a value of the footer.
    pub fn footer_value(&self, key: &str) -> Option<&str> {
        let pairs: &[KeyValue] = self.parquet().file_metadata().key_value_metadata().map_or(&[], Vec::as_slice);
        Footer { path: &self.path, pairs }.get(key)
    }

    /// Streams batches of at most `batch_rows` rows. Batches end at row groups.
    pub fn batches(&self, projection: &Projection, batch_rows: usize) -> Result<Batches, DatasetError> {
        let groups = (0..self.parquet().num_row_groups()).collect();
        self.batches_of(groups, projection, batch_rows)
    }

    /// Streams batches of these row groups.
    pub(super) fn batches_of(
        &self,
        groups: Vec<usize>,
        projection: &Projection,
        batch_rows: usize,
    ) -> Result<Batches, DatasetError> {
        let mask = match projection {
            Projection::All => ProjectionMask::all(),
            Projection::Columns(names) => {
                let unknown = names.iter().find(|name| self.schema().index_of(name).is_err());
                if let Some(name) = unknown {
                    let known: Vec<_> = self.schema().fields().iter().map(|field| field.name().as_str()).collect();
                    let detail = format!("no column `{name}`; its columns are: {}", known.join(", "));
                    return Err(VectorsError::unusable(&self.path, detail).into());
                }
                let roots = names.iter().filter_map(|name| self.schema().index_of(name).ok());
                ProjectionMask::roots(self.parquet().file_metadata().schema_descr(), roots)
            }
        };
        let groups = groups.into_iter();
        Ok(Batches { reader: self.clone(), mask, batch_rows, groups, selection: None, open: None })
    }

    /// Streams some rows of a row group.
    pub(super) fn selected(
        &self,
        group: usize,
        selection: RowSelection,
        projection: &Projection,
    ) -> Result<Batches, DatasetError> {
        let batches = self.batches_of(vec![group], projection, BATCH_ROWS)?;
        Ok(Batches { selection: Some(selection), ..batches })
    }

    pub(super) fn parquet(&self) -> &Arc<ParquetMetaData> {
        self.metadata.metadata()
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

/// A file that several readers may read at a time: each knows its own position, which those of clones of a handle share.
struct Positioned(Arc<File>);

impl Length for Positioned {
    fn len(&self) -> u64 {
        self.0.metadata().map_or(0, |metadata| metadata.len())
    }
}

impl ChunkReader for Positioned {
    type T = BufReader<Tail>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<BufReader<Tail>> {
        Ok(BufReader::new(Tail { file: Arc::clone(&self.0), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let mut bytes = vec![0; length];
        self.0.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}

/// A file from a position on.
struct Tail {
    file: Arc<File>,
    at: u64,
}

impl Read for Tail {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Batches of one file, in order.
pub struct Batches {
    reader: VectorReader,
    mask: ProjectionMask,
    batch_rows: usize,
    groups: std::vec::IntoIter<usize>,
    /// The rows of the only row group that are wanted; `None`: all.
    selection: Option<RowSelection>,
    open: Option<(usize, ParquetRecordBatchReader)>,
}

impl Batches {
    fn open_group(&self, group: usize) -> Result<ParquetRecordBatchReader, VectorsError> {
        let path = &self.reader.path;
        let file = Positioned(Arc::clone(&self.reader.file));
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.reader.metadata.clone());
        let builder = match &self.selection {
            Some(selection) => builder.with_row_selection(selection.clone()),
            None => builder,
        };
        builder
            .with_row_groups(vec![group])
            .with_projection(self.mask.clone())
            .with_batch_size(self.batch_rows)
            .build()
            .map_err(VectorsError::decode(path, Some(group)))
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((group, reader)) = &mut self.open {
                let path = &self.reader.path;
                match guarded(|| reader.next()) {
                    Ok(Some(batch)) => {
                        let batch = batch.map_err(VectorsError::decode_batch(path, *group));
                        return Some(batch.map_err(DatasetError::from));
                    }
                    Ok(None) => self.open = None,
                    Err(said) => {
                        let error = VectorsError::panicked(path, &said);
                        self.open = None;
                        self.groups = Vec::new().into_iter();
                        return Some(Err(error.into()));
                    }
                }
            }
            let group = self.groups.next()?;
            let opened = guarded(|| self.open_group(group));
            match opened.unwrap_or_else(|said| Err(VectorsError::panicked(&self.reader.path, &said))) {
                Ok(reader) => self.open = Some((group, reader)),
                Err(error) => {
                    self.groups = Vec::new().into_iter();
                    return Some(Err(error.into()));
                }
            }
        }
    }
}

/// The vectors of a finished job: a folder with a manifest, or one file.
#[derive(Debug, Clone)]
pub struct VectorSet {
    target: PathBuf,
    /// The manifest of a folder.
    pub manifest: Option<Manifest>,
    info: FileInfo,
    rows: u64,
    /// Of one file: what is missing between its rows.
    holes: Vec<ManifestHole>,
    kept: Schema,
    /// The first file where it was fetched and checked, so that it is not fetched again.
    first: Option<VectorReader>,
}

impl VectorSet {
    /// Tells whether a path leads to one of the files of the set, its manifest among them.
    pub fn has_file(&self, path: &Path) -> bool {
        match &self.manifest {
            None => same_place(&self.target, path),
            Some(manifest) => {
                let mut files = manifest.files.iter().map(|file| Manifest::path_of(&self.target, file));
                files.any(|file| same_place(&file, path)) || same_place(&self.target.join(MANIFEST_NAME), path)
            }
        }
    }

    /// Opens a folder (its manifest must be there and hold, and its first file must be whole) or a file, on this machine or
    /// at a URL.
    pub fn open(target: &Path) -> Result<VectorSet, DatasetError> {
        let is_remote = place::url_of(target).is_some();
        if !place::is_folder(target) {
            let file = place::open(target)?;
            if is_remote {
                check_seal(target, &file)?;
            }
            let reader = VectorReader::of(target, file)?;
            let first = is_remote.then(|| reader.clone());
            let (rows, target, manifest) = (reader.rows(), target.to_owned(), None);
            let VectorReader { info, holes, kept, .. } = reader;
            return Ok(VectorSet { target, manifest, info, rows, holes, kept, first });
        }
        let manifest = Manifest::load_checked(target)?;
        let first = match manifest.files.first() {
            Some(file) => {
                let path = Manifest::path_of(target, file);
                Some(VectorReader::of(&path, open_listed(&path, file.bytes, &file.blake3)?)?)
            }
            None => None,
        };
        let kept = first.as_ref().map_or_else(Schema::empty, |first| first.kept.clone());
        let (info, rows) = (manifest.info.clone(), manifest.totals.rows);
        let (target, manifest, holes) = (target.to_owned(), Some(manifest), Vec::new());
        Ok(VectorSet { target, manifest, info, rows, holes, kept, first: first.filter(|_| is_remote) })
    }

    /// Returns how the vectors were made.
    pub fn info(&self) -> &FileInfo {
        &self.info
    }

    /// Returns the number of rows over all files.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns the counts over all files.
    ///
    /// # Errors
    /// Where the set is one file, and it cannot be read any more.
    pub fn totals(&self) -> Result<RowCounts, DatasetError> {
        match (&self.manifest, &self.first) {
            (Some(manifest), _) => Ok(manifest.totals.clone()),
            (None, Some(first)) => Ok(first.totals.totals.clone()),
            (None, None) => Ok(VectorReader::open(&self.target)?.totals.totals),
        }
    }

    /// Returns what is missing between the rows, in order.
    pub fn holes(&self) -> &[ManifestHole] {
        self.manifest.as_ref().map_or(&self.holes, |manifest| &manifest.holes)
    }

    /// Returns the number of rows that are missing.
    pub fn missing(&self) -> u64 {
        missing_in(self.holes())
    }

    /// Returns the folder or file.
    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    /// Returns the earlier outputs that vectors may have been taken from.
    pub(super) fn reuse(&self) -> Result<Vec<ManifestReuse>, DatasetError> {
        if let Some(manifest) = &self.manifest {
            return Ok(manifest.reuse.clone());
        }
        let first = self.first()?;
        let json = first.as_ref().and_then(|first| first.footer_value(REUSE_KEY));
        let parsed = json.map_or(Ok(Vec::new()), serde_json::from_str);
        Ok(parsed.map_err(|error| {
            VectorsError::damaged(&self.target, format!("the earlier outputs in its footer do not parse: {error}"))
        })?)
    }

    /// Returns the schema of the kept columns.
    pub fn kept_schema(&self) -> &Schema {
        &self.kept
    }

    /// Opens the first file, if there is one, without checking its bytes again.
    pub(super) fn first(&self) -> Result<Option<VectorReader>, DatasetError> {
        match (&self.first, self.paths().next()) {
            (Some(first), _) => Ok(Some(first.clone())),
            (None, Some(path)) => VectorReader::open(&path).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Returns the paths of the files, in row order.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> {
        (0..self.files()).map(|index| self.file(index).0)
    }

    /// The path of the `index`-th file, and what the manifest says of it.
    fn file(&self, index: usize) -> (PathBuf, Option<&ManifestFile>) {
        match &self.manifest {
            None => (self.target.clone(), None),
            Some(manifest) => {
                let file = &manifest.files[index];
                (Manifest::path_of(&self.target, file), Some(file))
            }
        }
    }

    /// Checks the bytes of the `index`-th file against the manifest, or against its own seal, and opens it.
    pub fn open_checked(&self, index: usize) -> Result<VectorReader, DatasetError> {
        let (path, listed) = self.file(index);
        let reader = match (listed, &self.first) {
            (_, Some(first)) if index == 0 => first.clone(),
            (Some(file), _) => VectorReader::of(&path, open_listed(&path, file.bytes, &file.blake3)?)?,
            (None, _) => {
                let file = place::open(&path)?;
                check_seal(&path, &file)?;
                VectorReader::of(&path, file)?
            }
        };
        self.check_like(&reader, listed)?;
        Ok(reader)
    }

    fn check_like(&self, reader: &VectorReader, listed: Option<&ManifestFile>) -> Result<(), VectorsError> {
        let path = reader.path();
        if !self.info.agrees_with(&reader.info) {
            let manifest = self.target.join(MANIFEST_NAME);
            let detail = format!("its footer names another job or model than `{}`", manifest.display());
            return Err(VectorsError::damaged(path, detail));
        }
        if reader.kept != self.kept {
            return Err(VectorsError::damaged(path, "its kept columns are not those of the first file"));
        }
        let Some(file) = listed else { return Ok(()) };
        if reader.totals.totals != file.totals() || (file.rows > 0 && reader.totals.first_row != file.first_row) {
            return Err(VectorsError::damaged(path, "the counts in its footer are not those of the manifest"));
        }
        Ok(())
    }

    /// Returns the number of files.
    pub fn files(&self) -> usize {
        self.manifest.as_ref().map_or(1, |manifest| manifest.files.len())
    }

    /// Streams batches over all files, checking the bytes of each before its first row.
    pub fn batches(
        &self,
        projection: &Projection,
        batch_rows: usize,
    ) -> impl Iterator<Item = Result<RecordBatch, DatasetError>> + '_ {
        let projection = projection.clone();
        (0..self.files()).flat_map(move |index| -> Box<dyn Iterator<Item = _>> {
            let opened = self.open_checked(index).and_then(|reader| reader.batches(&projection, batch_rows));
            match opened {
                Ok(batches) => Box::new(batches),
                Err(error) => Box::new(std::iter::once(Err(error))),
            }
        })
    }
}
pub(super) fn same_place(one: &Path, other: &Path) -> bool {
    one == other || one.canonicalize().ok().zip(other.canonicalize().ok()).is_some_and(|(one, other)| one == other)
}
