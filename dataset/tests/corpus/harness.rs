//! Runs a corpus through expand, inspect, cut and read, and holds every promise of these on the way.

use std::io::Write;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_schema::DataType;
use dataset::{
    CHUNK_BYTES_MAX, CHUNK_ROWS_MAX, Compression, Cursor, CutLimits, Cutter, DatasetError, Format, Keep, PlannedSource,
    ReadOptions, RejectReason, Slice, SliceRange, Storage, expand, inspect, kept_schema_of, read,
};
use tempfile::TempDir;

pub(crate) type Text = Result<String, RejectReason>;

/// One record as read: its row number, its text, its kept columns as text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) row: u64,
    pub(crate) text: Text,
    pub(crate) kept: Vec<Option<String>>,
}

/// Some files in a folder, and how to read them.
pub(crate) struct Corpus {
    pub(crate) dir: TempDir,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) options: ReadOptions,
    pub(crate) limits: CutLimits,
    pub(crate) format: Option<Format>,
}

pub(crate) struct Outcome {
    pub(crate) planned: Vec<PlannedSource>,
    pub(crate) slices: Vec<Slice>,
    pub(crate) rows: Vec<Row>,
    pub(crate) hashes: Vec<String>,
}

pub(crate) fn options(keep: Keep) -> ReadOptions {
    ReadOptions { keep, ..ReadOptions::default() }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(crate) fn compress(compression: Compression, text: &[u8]) -> Vec<u8> {
    match compression {
        Compression::None => text.to_vec(),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => zstd::stream::encode_all(text, 1).unwrap(),
    }
}

impl Corpus {
    pub(crate) fn new() -> Corpus {
        Corpus {
            dir: tempfile::tempdir().unwrap(),
            files: Vec::new(),
            options: options(Keep::All),
            limits: CutLimits { rows_max: 1000, bytes_max: 1 << 20 },
            format: None,
        }
    }

    /// A corpus of one file.
    pub(crate) fn of(name: &str, bytes: &[u8]) -> Corpus {
        let mut corpus = Corpus::new();
        corpus.add(name, bytes);
        corpus
    }

    pub(crate) fn add(&mut self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        self.files.push(path.clone());
        path
    }

    pub(crate) fn keep(mut self, columns: &[&str]) -> Corpus {
        self.options.keep = Keep::Columns(columns.iter().map(|name| (*name).to_owned()).collect());
        self
    }

    pub(crate) fn limits(mut self, rows_max: u64, bytes_max: u64) -> Corpus {
        self.limits = CutLimits { rows_max, bytes_max };
        self
    }

    pub(crate) fn storage(&self, name: &str) -> Storage {
        Storage::open(self.dir.path().join(name).to_str().unwrap()).unwrap()
    }

    pub(crate) async fn plan(&self) -> Result<Vec<PlannedSource>, DatasetError> {
        let patterns: Vec<String> = self.files.iter().map(|path| path.to_str().unwrap().to_owned()).collect();
        inspect(&expand(&patterns, self.format).await?, &self.options).await
    }

    pub(crate) async fn cutter(&self, planned: &[PlannedSource], storage: &Storage, cursor: Cursor) -> Cutter {
        let prefix = "jobs/1/recut".to_owned();
        Cutter::new(planned.to_vec(), self.options.clone(), self.limits, storage.clone(), prefix, cursor).await.unwrap()
    }

    pub(crate) async fn read_slice(
        &self,
        planned: &[PlannedSource],
        slice: &Slice,
        storage: &Storage,
    ) -> Result<(Vec<Row>, String), DatasetError> {
        let source = &planned[slice.source_index as usize];
        let mut reader = read(source, slice, &self.options, storage).await?;
        let mut rows: Vec<Row> = Vec::new();
        while let Some(chunk) = reader.next_chunk().await? {
            assert_eq!(chunk.first_row, slice.first_row + rows.len() as u64);
            assert_eq!(chunk.kept.schema_ref().as_ref(), &kept_schema_of(source).unwrap());
            assert_eq!(chunk.kept.num_rows(), chunk.texts.len());
            assert!(!chunk.texts.is_empty() && chunk.texts.len() <= CHUNK_ROWS_MAX);
            let bytes: usize = chunk.texts.iter().flatten().map(String::len).sum();
            let last = chunk.texts.last().unwrap().as_ref().map_or(0, String::len);
            assert!(bytes - last <= CHUNK_BYTES_MAX, "a chunk of {bytes} bytes");
            let columns: Vec<Vec<Option<String>>> = chunk
                .kept
                .columns()
                .iter()
                .map(|column| {
                    let text = arrow_cast::cast(column, &DataType::Utf8).unwrap();
                    text.as_string::<i32>().iter().map(|value| value.map(str::to_owned)).collect()
                })
                .collect();
            for (index, text) in chunk.texts.iter().enumerate() {
                let kept = columns.iter().map(|column| column[index].clone()).collect();
                rows.push(Row { row: chunk.first_row + index as u64, text: text.clone(), kept });
            }
        }
        assert_eq!(slice.blake3, Some(reader.input_blake3()), "what was planned is what is read");
        Ok((rows, reader.input_blake3()))
    }

    /// Cuts and reads all. Panics where slices break a promise.
    pub(crate) async fn try_read(&self) -> Result<Outcome, DatasetError> {
        let planned = self.plan().await?;
        let storage = self.storage("store");
        let mut cutter = self.cutter(&planned, &storage, Cursor::default()).await;
        let (mut slices, mut rows, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(slice) = cutter.next().await? {
            assert_eq!(slice.first_row, rows.len() as u64);
            assert!(slice.rows > 0 && slice.rows <= self.limits.rows_max);
            if let SliceRange::Bytes { start, end } = slice.range {
                assert!(end - start <= self.limits.bytes_max || slice.rows == 1);
            }
            assert_eq!(cutter.cursor().next_row, slice.first_row + slice.rows);
            let (found, hash) = self.read_slice(&planned, &slice, &storage).await?;
            assert_eq!(found.len() as u64, slice.rows);
            rows.extend(found);
            hashes.push(hash);
            slices.push(slice);
        }
        for (row, index) in rows.iter().zip(0..) {
            assert_eq!(row.row, index);
        }
        Ok(Outcome { planned, slices, rows, hashes })
    }

    pub(crate) fn read(&self) -> Outcome {
        block_on(self.try_read()).unwrap()
    }

    pub(crate) fn texts(&self) -> Vec<Text> {
        self.read().rows.into_iter().map(|row| row.text).collect()
    }

    /// Reads, expecting an error whose whole message (causes too) contains the words.
    pub(crate) fn error(&self, words: &[&str]) -> DatasetError {
        let Err(error) = block_on(self.try_read()) else {
            panic!("read without an error");
        };
        let message = error.to_string();
        for word in words {
            assert!(message.contains(word), "`{message}` lacks `{word}`");
        }
        error
    }

    /// Cuts again from every cursor: the slices after it must be the same, with the same pieces or a fresh store.
    pub(crate) fn check_resume(&self, outcome: &Outcome) {
        block_on(async {
            let fresh = self.storage("fresh");
            let mut cursor = Cursor::default();
            for done in 0..=outcome.slices.len() {
                for storage in [&self.storage("store"), &fresh] {
                    let mut cutter = self.cutter(&outcome.planned, storage, cursor.clone()).await;
                    for slice in &outcome.slices[done..] {
                        assert_eq!(cutter.next().await.unwrap().as_ref(), Some(slice));
                    }
                    assert_eq!(cutter.next().await.unwrap(), None);
                }
                let mut cutter = self.cutter(&outcome.planned, &fresh, cursor.clone()).await;
                cutter.next().await.unwrap();
                cursor = cutter.cursor();
            }
        });
    }
}

pub(crate) fn path_text(path: &Path) -> &str {
    path.to_str().unwrap()
}
