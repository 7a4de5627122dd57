//! Earlier outputs as a source of vectors: an index from texts to rows, and reading these rows.
//!
//! The index holds 24 bytes for each distinct text of the earlier outputs, sorted in memory: 128 bits of its BLAKE3, its file and
//! its row. Ten million take 240 MB, [`REUSE_ROWS_MAX`] 2.4 GB.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, LargeStringArray, RecordBatch};
use arrow_cast::cast;
use arrow_schema::{DataType, Schema};
use arrow_select::concat::concat_batches;
use parquet::arrow::arrow_reader::RowSelection;
use spec::{RejectReason, ReuseSource};

use super::column_names::ERROR;
use super::element::Element;
use super::error::VectorsError;
use super::info::{FileInfo, SEAL_KEY};
use super::layout::MANIFEST_NAME;
use super::place::{self, url_of};
use super::read::{BATCH_ROWS, Projection, VectorReader, VectorSet};
use super::reused_rows::ReusedRows;
use super::seal::hash;
use crate::DatasetError;

/// Most rows with a vector that earlier outputs may have together.
pub const REUSE_ROWS_MAX: u64 = 100_000_000;
/// Bits of a place that number the row within its file.
const ROW_BITS: u32 = 40;
/// Files that stay open between lookups; remote ones are local copies.
const FILES_OPEN_MAX: usize = 64;

/// A finished output that vectors may be taken from.
#[derive(Debug, Clone)]
pub struct EarlierOutput {
    set: VectorSet,
    source: ReuseSource,
}

impl EarlierOutput {
    /// Opens a folder or file by its absolute path or URL. The column of its texts is the one that its footers name; outputs of before
    /// footers did are taken to have them in `text_column`.
    ///
    /// # Errors
    /// It is no finished output, or did not keep its texts.
    pub fn open(uri: &str, text_column: &str) -> Result<EarlierOutput, DatasetError> {
        let path = Path::new(uri);
        let set = VectorSet::open(path)?;
        let first = set.first()?;
        let blake3 = match (&set.manifest, &first) {
            // Of its bytes: another release may know other fields.
            (Some(_), _) => {
                hash(&mut place::open(&path.join(MANIFEST_NAME))?).map_err(VectorsError::io("read", path))?.blake3
            }
            (None, Some(reader)) => reader.footer_value(SEAL_KEY).unwrap_or_default().to_owned(),
            (None, None) => String::new(),
        };
        let named = first.as_ref().and_then(VectorReader::text_column).unwrap_or(text_column).to_owned();
        check_texts(path, set.kept_schema(), &named)?;
        let source = ReuseSource { uri: uri.to_owned(), blake3, text_column: named, retired: false };
        Ok(EarlierOutput { set, source })
    }

    /// Opens what a job names, if it is still what the job was given.
    fn reopen(source: &ReuseSource) -> Result<EarlierOutput, DatasetError> {
        let opened = Self::open(&source.uri, &source.text_column)?;
        if opened.source.blake3 != source.blake3 {
            let detail =
                "it is not the output any more that the job was given with --reuse; submit or run again with it";
            return Err(VectorsError::unusable(Path::new(&source.uri), detail).into());
        }
        Ok(EarlierOutput { source: source.clone(), ..opened })
    }

    /// Returns what a job says of it.
    pub fn source(&self) -> &ReuseSource {
        &self.source
    }

    /// Returns how its vectors were made.
    pub fn info(&self) -> &FileInfo {
        self.set.info()
    }

    /// Returns the number of its rows with a vector.
    ///
    /// # Errors
    /// It cannot be read any more.
    pub fn vectors(&self) -> Result<u64, DatasetError> {
        let totals = self.set.totals()?;
        Ok(totals.rows.saturating_sub(totals.rejected()))
    }

    /// Refuses it for a job whose vectors are made otherwise, and names what differs.
    ///
    /// # Errors
    /// The model or an option that decides vectors differs.
    pub fn check(&self, job: &FileInfo) -> Result<(), DatasetError> {
        let differences = differences(self.info(), job);
        if differences.is_empty() {
            return Ok(());
        }
        let detail = format!(
            "its vectors were made otherwise than this job makes them: {}; give the same options, or leave --reuse out",
            differences.join("; ")
        );
        Err(VectorsError::unusable(Path::new(&self.source.uri), detail).into())
    }

    /// Reads the digests of the texts of a file that have vectors, with their places, into `entries`; checks the file first.
    fn index(&self, file: &IndexedFile, number: usize, entries: &mut [Entry]) -> Result<VectorReader, DatasetError> {
        let reader = self.set.open_checked(file.index)?;
        let columns = Projection::Columns(vec![self.source.text_column.clone(), ERROR.to_owned()]);
        let (mut row, mut slots) = (0, entries.iter_mut());
        for batch in reader.batches(&columns, BATCH_ROWS)? {
            let batch = batch?;
            let texts = strings(reader.path(), batch.column_by_name(&self.source.text_column))?;
            let errors = batch.column_by_name(ERROR).expect("the reader checked the columns");
            for at in 0..batch.num_rows() {
                if errors.is_null(at) && texts.is_valid(at) {
                    let slot = slots.next().ok_or_else(|| {
                        VectorsError::damaged(reader.path(), "it has more rows with a vector than its footer counts")
                    })?;
                    *slot = Entry { digest: digest(texts.value(at)), place: place_of(number, row) };
                }
                row += 1;
            }
        }
        Ok(reader)
    }
}

/// Refuses an output without its texts.
pub(super) fn check_texts(path: &Path, kept: &Schema, text_column: &str) -> Result<(), VectorsError> {
    let Ok(field) = kept.field_with_name(text_column) else {
        let kept: Vec<&str> = kept.fields().iter().map(|field| field.name().as_str()).collect();
        let kept = if kept.is_empty() { "none".to_owned() } else { kept.join(", ") };
        let detail = format!(
            "it does not have its texts: the column `{text_column}` is not among its kept columns ({kept}); --reuse takes outputs that \
             were made with --keep all, or with this column in --keep"
        );
        return Err(VectorsError::unusable(path, detail));
    };
    let is_text = |kind: &DataType| matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    match field.data_type() {
        DataType::Dictionary(_, value) if is_text(value) => Ok(()),
        kind if is_text(kind) => Ok(()),
        kind => Err(VectorsError::unusable(path, format!("its column `{text_column}` is {kind}, and not of texts"))),
    }
}

/// Lists what decides vectors and is not the same.
fn differences(was: &FileInfo, now: &FileInfo) -> Vec<String> {
    // Taken apart in whole, so that whatever is added is compared, or is known not to matter.
    let FileInfo {
        model,
        revision: _,
        model_digest,
        pooling,
        normalized,
        max_length,
        dtype,
        output_dtype,
        prefix,
        prompt: _,
        similarity: _,
        delimiter: _,
        quote: _,
        encoding: _,
        dimensions,
        job_id: _,
        spec_digest: _,
    } = was;
    let mut found = Vec::new();
    let mut compare = |what: &str, was: String, now: String| {
        if was != now {
            found.push(format!("{what} was `{was}`, is `{now}`"));
        }
    };
    if *model_digest != now.model_digest {
        match *model == now.model {
            true => compare("the files of the model (BLAKE3)", model_digest.clone(), now.model_digest.clone()),
            false => compare("--model", model.clone(), now.model.clone()),
        }
    }
    compare("--pooling", pooling.clone(), now.pooling.clone());
    compare("--no-normalize", (!normalized).to_string(), (!now.normalized).to_string());
    compare("--max-length", max_length.to_string(), now.max_length.to_string());
    compare("--dtype", dtype.clone(), now.dtype.clone());
    compare("--output-dtype", output_dtype.to_string(), now.output_dtype.to_string());
    compare("--prefix (or the text of --prompt)", prefix.clone(), now.prefix.clone());
    compare("--dimensions", dimensions.to_string(), now.dimensions.to_string());
    found
}

/// A text of an earlier output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    digest: [u64; 2],
    /// File and row, in the order in which they are looked for.
    place: u64,
}

/// Of a row with a vector whose text is null: the column is not the one that the vectors are of.
const NOWHERE: Entry = Entry { digest: [0; 2], place: u64::MAX };

fn digest(text: &str) -> [u64; 2] {
    let hash = blake3::hash(text.as_bytes());
    let half = |from: usize| {
        let bytes = hash.as_bytes()[from..from + 8].try_into().expect("eight of 32 bytes");
        u64::from_le_bytes(bytes)
    };
    [half(0), half(8)]
}

fn place_of(file: usize, row: u64) -> u64 {
    ((file as u64) << ROW_BITS) | row
}

/// A file of the index.
#[derive(Debug)]
struct IndexedFile {
    /// Which of the earlier outputs it is of, and which of its files.
    output: usize,
    index: usize,
    path: PathBuf,
    /// Rows with a vector.
    vectors: u64,
    /// Size and time of change when it was checked.
    stamp: Mutex<Option<Stamp>>,
}

type Stamp = (u64, Option<SystemTime>);

fn stamp(reader: &VectorReader) -> Result<Stamp, VectorsError> {
    let metadata = reader.file().metadata().map_err(VectorsError::io("open", reader.path()))?;
    Ok((metadata.len(), metadata.modified().ok()))
}

/// Where each text of some earlier outputs is.
#[derive(Debug)]
pub struct ReuseIndex {
    info: FileInfo,
    outputs: Vec<EarlierOutput>,
    files: Vec<IndexedFile>,
    /// Sorted by digest; the first place of each.
    entries: Vec<Entry>,
    /// Used longest ago first.
    open: Mutex<Vec<(usize, VectorReader)>>,
}

impl ReuseIndex {
    /// Indexes the earlier outputs that a job names, in their order: of a text that several have, the first counts. Each file is
    /// checked against the manifest, or its seal, and its texts are read once. Blocks the thread.
    ///
    /// # Errors
    /// One of them is gone, damaged, or another than was named; its vectors are made otherwise than `job` says; they have more
    /// than [`REUSE_ROWS_MAX`] vectors; or there is not enough memory.
    pub fn build(sources: &[ReuseSource], job: &FileInfo) -> Result<ReuseIndex, DatasetError> {
        let outputs: Vec<EarlierOutput> = sources.iter().map(EarlierOutput::reopen).collect::<Result<_, _>>()?;
        let mut files = Vec::new();
        for (output, earlier) in outputs.iter().enumerate() {
            earlier.check(job)?;
            for (index, path) in earlier.set.paths().enumerate() {
                let totals = match &earlier.set.manifest {
                    Some(manifest) => manifest.files[index].totals(),
                    None => earlier.set.totals()?,
                };
                let vectors = totals.rows.saturating_sub(totals.rejected());
                files.push(IndexedFile { output, index, path, vectors, stamp: Mutex::default() });
            }
        }
        let mut entries = room_for(&files, &outputs)?;
        let open = fill(&outputs, &files, &mut entries)?;
        entries.retain(|entry| *entry != NOWHERE);
        entries.sort_unstable();
        entries.dedup_by_key(|entry| entry.digest);
        Ok(ReuseIndex { info: job.clone(), outputs, files, entries, open: Mutex::new(open) })
    }

    /// Returns the number of distinct texts.
    pub fn texts(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Returns the size of a vector in bytes, as it is stored.
    pub fn vector_bytes(&self) -> usize {
        Element::of(self.info.output_dtype).vector_bytes(self.info.dimensions)
    }

    /// Looks the texts of some chunks up, and reads what is there in the order of the files. Returns the reused rows of each
    /// chunk that has any. Blocks the thread.
    ///
    /// # Errors
    /// A file has changed since it was checked, or cannot be read.
    pub fn look_up(&self, chunks: &[&[Result<String, RejectReason>]]) -> Result<Vec<Option<ReusedRows>>, DatasetError> {
        let find = |text: &Result<String, RejectReason>| text.as_ref().ok().and_then(|text| self.find(text));
        let places: Vec<Vec<Option<u64>>> = chunks.iter().map(|texts| texts.iter().map(find).collect()).collect();
        let mut wanted: Vec<u64> = places.iter().flatten().flatten().copied().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let Some(rows) = self.read(&wanted)? else { return Ok(vec![None; chunks.len()]) };
        let reused = places.into_iter().map(|places| {
            let place = |place: Option<u64>| place.and_then(|place| wanted.binary_search(&place).ok());
            let places: Vec<Option<usize>> = places.into_iter().map(place).collect();
            places.iter().any(Option::is_some).then(|| ReusedRows::new(rows.clone(), places))
        });
        Ok(reused.collect())
    }

    fn find(&self, text: &str) -> Option<u64> {
        let digest = digest(text);
        let at = self.entries.binary_search_by_key(&digest, |entry| entry.digest).ok()?;
        Some(self.entries[at].place)
    }

    /// Reads rows of all files, by their sorted places.
    fn read(&self, places: &[u64]) -> Result<Option<RecordBatch>, DatasetError> {
        let mut batches = Vec::new();
        for of_file in places.chunk_by(|left, right| left >> ROW_BITS == right >> ROW_BITS) {
            let file = usize::try_from(of_file[0] >> ROW_BITS).expect("files are numbered in memory");
            let rows = of_file.iter().map(|place| place & ((1 << ROW_BITS) - 1));
            let rows: Vec<usize> = rows.filter_map(|row| usize::try_from(row).ok()).collect();
            let reader = self.reader(file)?;
            batches.extend(read_rows(&reader, &self.columns(), &rows)?);
        }
        let Some(first) = batches.first() else { return Ok(None) };
        let schema = first.schema();
        let all = concat_batches(&schema, &batches).map_err(|error| VectorsError::bad_rows(error.to_string()))?;
        Ok(Some(all))
    }

    fn columns(&self) -> Projection {
        ReusedRows::columns(Element::of(self.info.output_dtype).is_scaled)
    }

    /// Opens a file, or takes one that is open. It must be as it was when it was checked.
    fn reader(&self, number: usize) -> Result<VectorReader, DatasetError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let file = &self.files[number];
        let reader = match open.iter().position(|(other, _)| *other == number) {
            Some(at) => open.remove(at).1,
            // A remote one is fetched again, and so is checked again.
            None if url_of(&file.path).is_some() => self.outputs[file.output].set.open_checked(file.index)?,
            None => VectorReader::open(&file.path)?,
        };
        let checked = *file.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        if url_of(&file.path).is_none() && checked != Some(stamp(&reader)?) {
            return Err(VectorsError::damaged(&file.path, "it has changed since it was checked").into());
        }
        if open.len() >= FILES_OPEN_MAX {
            open.remove(0);
        }
        open.push((number, reader.clone()));
        Ok(reader)
    }
}

/// Allocates the index, or refuses it.
fn room_for(files: &[IndexedFile], outputs: &[EarlierOutput]) -> Result<Vec<Entry>, DatasetError> {
    let total = files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.vectors));
    let path = outputs.first().map_or("", |output| output.source.uri.as_str());
    if total > REUSE_ROWS_MAX {
        let detail = format!(
            "the outputs given with --reuse have {total} vectors, at most {REUSE_ROWS_MAX} are possible: each takes {} bytes of memory",
            size_of::<Entry>()
        );
        return Err(VectorsError::unusable(Path::new(path), detail).into());
    }
    let total = usize::try_from(total).expect("at most REUSE_ROWS_MAX");
    let mut entries = Vec::new();
    entries.try_reserve_exact(total).map_err(|_| {
        let detail = format!("not enough memory for --reuse: {total} vectors of {} bytes", size_of::<Entry>());
        VectorsError::unusable(Path::new(path), detail)
    })?;
    entries.resize(total, NOWHERE);
    Ok(entries)
}

/// Indexes the files on all cores, each into its part of the entries. Returns some of the files, open.
fn fill(
    outputs: &[EarlierOutput],
    files: &[IndexedFile],
    entries: &mut [Entry],
) -> Result<Vec<(usize, VectorReader)>, DatasetError> {
    let mut rest = entries;
    let mut work = Vec::with_capacity(files.len());
    for (number, file) in files.iter().enumerate() {
        let vectors = usize::try_from(file.vectors).expect("at most REUSE_ROWS_MAX");
        let (own, others) = std::mem::take(&mut rest).split_at_mut(vectors);
        rest = others;
        work.push((number, file, own));
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(work.len());
    // From the last, so that those that stay open are the first.
    let (work, done) = (Mutex::new(work), Mutex::new(Ok(VecDeque::new())));
    let next = || work.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let index = |number: usize, file: &IndexedFile, own: &mut [Entry]| {
        let reader = outputs[file.output].index(file, number, own)?;
        *file.stamp.lock().unwrap_or_else(PoisonError::into_inner) = Some(stamp(&reader)?);
        Ok::<VectorReader, DatasetError>(reader)
    };
    let end = |number: usize, indexed: Result<VectorReader, DatasetError>| {
        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
        match (&mut *done, indexed) {
            (Ok(open), Ok(reader)) => {
                open.push_back((number, reader));
                if open.len() > FILES_OPEN_MAX {
                    open.pop_front();
                }
            }
            (Ok(_), Err(error)) => {
                work.lock().unwrap_or_else(PoisonError::into_inner).clear();
                *done = Err(error);
            }
            (Err(_), _) => {}
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((number, file, own)) = next() {
                    end(number, index(number, file, own));
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).map(Vec::from)
}

/// Returns a column of texts, whatever type of strings it has.
pub(super) fn strings(path: &Path, column: Option<&ArrayRef>) -> Result<LargeStringArray, VectorsError> {
    let missing = || VectorsError::damaged(path, "its column of texts is missing");
    let texts = cast(column.ok_or_else(missing)?, &DataType::LargeUtf8);
    let texts = texts.map_err(|error| VectorsError::damaged(path, format!("its texts cannot be read: {error}")))?;
    Ok(texts.as_string::<i64>().clone())
}

/// Reads rows of a file by their sorted positions. Only the pages that hold them are decoded.
fn read_rows(reader: &VectorReader, columns: &Projection, rows: &[usize]) -> Result<Vec<RecordBatch>, DatasetError> {
    let (mut batches, mut rest, mut first) = (Vec::new(), rows, 0);
    for group in 0..reader.parquet().num_row_groups() {
        let length = usize::try_from(reader.parquet().row_group(group).num_rows()).unwrap_or_default();
        let (own, others) = rest.split_at(rest.partition_point(|row| *row < first + length));
        rest = others;
        if !own.is_empty() {
            let ranges = own.iter().map(|row| row - first..row - first + 1);
            let selection = RowSelection::from_consecutive_ranges(ranges, length);
            for batch in reader.selected(group, selection, columns)? {
                batches.push(batch?);
            }
        }
        first += length;
    }
    let read: usize = batches.iter().map(RecordBatch::num_rows).sum();
    match read == rows.len() {
        true => Ok(batches),
        false => {
            Err(VectorsError::damaged(reader.path(), "rows that were there when it was checked are missing").into())
        }
    }
}

#[cfg(test)]
#[path = "reuse_tests.rs"]
mod tests;
