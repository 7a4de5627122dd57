//! The records of a corpus as one stream, for readers of the whole corpus or its beginning.

use spec::{ReadOptions, Source};
use tempfile::TempDir;

use super::{Cursor, CutLimits, Cutter, PlannedSource, RecordChunk, RecordReader, Slice, inspect, read};
use crate::DatasetError;
use crate::storage::Storage;

/// Limits of re-cut pieces, which are deleted after use.
const LIMITS: CutLimits = CutLimits { rows_max: 100_000, bytes_max: 8 << 20 };

/// The records of a corpus, streamed in order.
pub struct Records {
    planned: Vec<PlannedSource>,
    options: ReadOptions,
    cutter: Cutter,
    recut: Storage,
    reader: Option<(Slice, RecordReader)>,
    /// Holds the pieces of `recut`; deleted on drop.
    _folder: TempDir,
}

/// Opens a corpus for reading from its first record to its last.
///
/// A source cannot be read with `options`, or there is no folder for temporary files.
/// A source cannot be read as `options` say, or there is no folder for temporary files.
pub async fn records(sources: &[Source], options: &ReadOptions) -> Result<Records, DatasetError> {
    let planned = inspect(sources, options).await?;
    let folder = tempfile::Builder::new().prefix("encaje-").tempdir();
    let folder = folder.map_err(|error| DatasetError::from_io(std::env::temp_dir().display().to_string(), error))?;
    let recut = Storage::open(&folder.path().to_string_lossy())?;
    let (sources, prefix) = (planned.clone(), "recut".to_owned());
    let cutter = Cutter::new(sources, options.clone(), LIMITS, recut.clone(), prefix, Cursor::default())
        .await?
        .without_digests_of_rows();
    Ok(Records { planned, options: options.clone(), cutter, recut, reader: None, _folder: folder })
}

impl Records {
    /// Returns the sources as they were when the corpus was opened.
    pub fn planned(&self) -> &[PlannedSource] {
        &self.planned
    }

    /// Returns the next records, at least one; `None` at the end of the corpus.
    ///
    /// # Errors
    /// A source cannot be read, or has changed since the corpus was opened.
    pub async fn next_chunk(&mut self) -> Result<Option<RecordChunk>, DatasetError> {
        loop {
            if let Some((_, reader)) = &mut self.reader {
                match reader.next_chunk().await? {
                    Some(chunk) if chunk.texts.is_empty() => continue,
                    Some(chunk) => return Ok(Some(chunk)),
                    None => self.end_slice().await,
                }
            }
            let Some(slice) = Box::pin(self.cutter.next()).await? else { return Ok(None) };
            let index = slice.source_index as usize;
            let source = self.planned.get(index).expect("a slice belongs to a source of its corpus");
            let reader = read(source, &slice, &self.options, &self.recut).await?;
            self.reader = Some((slice, reader));
        }
    }

    async fn end_slice(&mut self) {
        if let Some((slice, _)) = self.reader.take()
            && let Some(key) = slice.recut_key
        {
            // Only saves space; the folder is deleted on drop.
            drop(self.recut.delete(&key).await);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;
    use crate::expand;

    #[tokio::test]
    async fn records_are_in_order_and_pieces_are_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
        write("a.csv", b"text\nuno\n\"dos,\ntres\"\n");
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"text\ncuatro\n").unwrap();
        write("b.csv.gz", &packed.finish().unwrap());
        let pattern = dir.path().join("*").to_str().unwrap().to_owned();
        let sources = expand(&[pattern], None).await.unwrap();
        let mut records = records(&sources, &ReadOptions::default()).await.unwrap();
        let folder = records._folder.path().to_owned();
        let mut texts = Vec::new();
        while let Some(chunk) = records.next_chunk().await.unwrap() {
            texts.extend(chunk.texts.into_iter().map(Result::unwrap));
        }
        assert_eq!(texts, ["uno", "dos,\ntres", "cuatro"]);
        assert_eq!(records.planned().len(), 2);
        assert!(folder.exists());
        drop(records);
        assert!(!folder.exists());
    }
}
