//! Where outputs are: paths of this machine, and URLs in a bucket or on a web server, which travel as the text of a [`Path`].
//!
//! A remote file is copied into an unnamed local one (in `TMPDIR`) before it is used: every byte of it is checked anyway,
//! and Parquet is read from the end.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::mpsc;

use futures::stream::{StreamExt, TryStreamExt, iter};
use parquet::file::metadata::ParquetMetaData;
use tokio::runtime::Runtime;

use super::error::VectorsError;
use super::remote::parse_footer;
use crate::corpus::Object;
use crate::storage::{Location, parse_location, scheme_of};
use crate::{DatasetError, ErrorKind, Storage};

/// Bytes fetched by a request, and requests at a time.
const PIECE_BYTES: u64 = 8 << 20;
const PIECES_AT_A_TIME: usize = 4;

/// Returns the URL that a path is, if it is one.
pub fn url_of(path: &Path) -> Option<&str> {
    path.to_str().filter(|text| scheme_of(text).is_some())
}

/// Tells whether a path is one to write an output to: on this machine, or in a bucket.
///
/// # Errors
/// It is a URL that cannot be written to, or that is not one of an output; the message says why.
pub fn check_writable(path: &Path) -> Result<(), DatasetError> {
    check_readable(path)?;
    let Some(url) = url_of(path) else { return Ok(()) };
    match parse_location(url)? {
        Location::Bucket(place) if place.key.is_empty() => {
            Err(DatasetError::bad_input(url, "this is the whole bucket: add a name, as in s3://bucket/vectors"))
        }
        Location::Local(_) | Location::Bucket(_) => Ok(()),
        Location::Web(_) | Location::Hub(_) => {
            Err(DatasetError::bad_input(url, "this is read only: name a bucket or a path"))
        }
    }
}

/// Tells whether a path is one to read an output from.
///
/// # Errors
/// It is a URL that is not one of an output; the message says why.
pub fn check_readable(path: &Path) -> Result<(), DatasetError> {
    let Some(text) = path.to_str() else { return Ok(()) };
    let is_url = scheme_of(text).is_some();
    match parse_location(text)? {
        Location::Local(_) if is_url => Err(DatasetError::bad_input(text, "write it as a path, without file://")),
        Location::Bucket(place) if place.key.contains(['?', '#', '*', '[']) => {
            let problem = "the name of an output has no `?`, `#`, `*` or `[`; options come from the environment";
            Err(DatasetError::bad_input(place.bucket_url(), problem))
        }
        Location::Local(_) | Location::Bucket(_) | Location::Web(_) => Ok(()),
        Location::Hub(_) => Err(DatasetError::bad_input(
            text,
            "the Hub's data sets are read only, and as corpora: name a bucket or a path",
        )),
    }
}

/// Tells whether a name ends in this extension, in letters of either case.
pub fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

/// Tells whether a path leads to a folder. A URL does unless it ends in `.parquet`.
pub fn is_folder(path: &Path) -> bool {
    match url_of(path) {
        Some(_) => !has_extension(path, "parquet"),
        None => path.is_dir(),
    }
}

/// Returns the size of a file in bytes; `None` where there is none.
///
/// # Errors
/// It cannot be looked for.
pub fn size_of(path: &Path) -> Result<Option<u64>, DatasetError> {
    let Some(url) = url_of(path) else {
        return match fs::metadata(path) {
            Ok(found) => Ok(Some(found.len())),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(VectorsError::io("look for", path)(error).into()),
        };
    };
    let url = url.to_owned();
    match wait(async move { Object::open(&url).await })? {
        Ok(object) => Ok(Some(object.size())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Opens a file for reading; a remote one is fetched.
///
/// # Errors
/// It is not there, cannot be read, or there is no room for the copy.
pub fn open(path: &Path) -> Result<File, DatasetError> {
    match url_of(path) {
        Some(url) => {
            let url = url.to_owned();
            wait(async move { fetch(&url).await })?
        }
        None => Ok(File::open(path).map_err(VectorsError::io("open", path))?),
    }
}

/// Copies a file to a path of this machine. Returns whether it was there.
///
/// # Errors
/// It cannot be read, or the copy cannot be written.
pub fn copy(from: &Path, to: &Path) -> Result<bool, DatasetError> {
    let mut source = match open(from) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    let copied = File::create(to).and_then(|mut copy| io::copy(&mut source, &mut copy));
    copied.map_err(VectorsError::io("write", to))?;
    Ok(true)
}

async fn fetch(url: &str) -> Result<File, DatasetError> {
    let object = Object::open(url).await?;
    let cannot = |source| VectorsError::Temporary { folder: std::env::temp_dir(), source };
    let mut file = tempfile::tempfile().map_err(cannot)?;
    let starts = (0..object.size()).step_by(usize::try_from(PIECE_BYTES).unwrap_or(usize::MAX));
    let ranges: Vec<_> = starts.map(|start| start..object.size().min(start + PIECE_BYTES)).collect();
    let pieces = ranges.into_iter().map(|range| object.read(range));
    let mut pieces = iter(pieces).buffered(PIECES_AT_A_TIME);
    while let Some(piece) = pieces.try_next().await.map_err(|error| changed(url, error))? {
        file.write_all(&piece).map_err(cannot)?;
    }
    file.rewind().map_err(cannot)?;
    Ok(file)
}

/// Reads the footer of a Parquet file at a URL.
///
/// # Errors
/// It is not there, is not Parquet, or cannot be read.
pub(super) fn read_footer(path: &Path) -> Result<ParquetMetaData, DatasetError> {
    let path = path.to_owned();
    wait(async move {
        let url = url_of(&path).ok_or_else(|| VectorsError::unusable(&path, "it is no URL"))?;
        let object = Object::open(url).await?;
        let read = parse_footer(&path, object.size(), |range| object.read(range)).await;
        read.map(|(metadata, _)| metadata).map_err(|error| changed(url, error))
    })?
}

/// Says of an output what is otherwise said of a corpus.
fn changed(url: &str, error: DatasetError) -> DatasetError {
    if error.kind() == ErrorKind::SourceChanged {
        return DatasetError::bad_input(url, "it was replaced or removed while it was read: try again");
    }
    error
}

/// Returns the bytes of a small file; `None` where there is none.
///
/// # Errors
/// It cannot be read.
pub fn read_small(path: &Path) -> Result<Option<Vec<u8>>, DatasetError> {
    let Some(url) = url_of(path) else {
        return match fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(VectorsError::io("read", path)(error).into()),
        };
    };
    let url = url.to_owned();
    let read = wait(async move {
        let object = Object::open(&url).await?;
        object.read(0..object.size()).await.map_err(|error| changed(&url, error))
    })?;
    match read {
        Ok(bytes) => Ok(Some(bytes.into())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file or folder in a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The path.
    pub path: PathBuf,
    /// Size in bytes, of a file.
    pub bytes: u64,
}

impl Entry {
    /// Returns the last part of the path.
    pub fn name(&self) -> Cow<'_, str> {
        self.path.file_name().unwrap_or_default().to_string_lossy()
    }
}

/// Returns what is directly in a folder, sorted by path; `None` where that cannot be known, since it is on a web server. A
/// folder that is not there is empty. Folders are not listed in a bucket.
///
/// # Errors
/// It cannot be read.
pub fn list(dir: &Path) -> Result<Option<Vec<Entry>>, DatasetError> {
    let mut entries = Vec::new();
    if let Some(url) = url_of(dir) {
        if let Location::Web(_) = parse_location(url)? {
            return Ok(None);
        }
        let storage = Storage::open(url)?;
        let found = wait(async move { storage.list_top().await })??;
        entries.extend(found.into_iter().map(|(key, info)| Entry { path: dir.join(key), bytes: info.size }));
    } else {
        let found = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(entries)),
            found => found.map_err(VectorsError::io("list", dir))?,
        };
        for entry in found {
            let entry = entry.map_err(VectorsError::io("list", dir))?;
            // One that was removed meanwhile, or a link that leads nowhere.
            let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
            entries.push(Entry { path: entry.path(), bytes });
        }
    }
    entries.sort();
    Ok(Some(entries))
}

/// Removes a file, if it is there.
///
/// # Errors
/// It cannot be removed.
pub fn remove(path: &Path) -> Result<(), DatasetError> {
    let Some(url) = url_of(path) else {
        return match fs::remove_file(path) {
            Err(error) if !is_absent(&error) => Err(VectorsError::io("remove", path)(error).into()),
            Ok(()) | Err(_) => Ok(()),
        };
    };
    let (storage, name) = storage_of(url)?;
    wait(async move { storage.delete(&name).await })?
}

/// Writes a finished local file to a URL, where it appears whole or not at all. One that is replaced is removed just before.
///
/// # Errors
/// The object exists and may not be replaced, or the store fails.
pub fn upload(file: &Path, url: &Path, overwrite: bool) -> Result<(), DatasetError> {
    let text = url_of(url).ok_or_else(|| VectorsError::unusable(url, "it is no URL"))?;
    let (storage, name) = storage_of(text)?;
    let file = file.to_owned();
    wait(async move {
        match storage.put_new_file(&name, &file).await {
            Err(error) if overwrite && error.kind() == ErrorKind::AlreadyExists => {
                storage.delete(&name).await?;
                storage.put_new_file(&name, &file).await
            }
            written => written,
        }
    })?
    .map(drop)
}

/// Returns the storage of the folder that an object is in, and the object's name there.
fn storage_of(url: &str) -> Result<(Storage, String), DatasetError> {
    let problem = "the name of a file must follow the bucket";
    let (folder, name) = url.rsplit_once('/').ok_or_else(|| DatasetError::bad_input(url, problem))?;
    check_writable(Path::new(url))?;
    Ok((Storage::open(folder)?, name.to_owned()))
}

/// Runs a future to its end on threads of its own, from code that waits: inside another runtime or outside.
fn wait<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> Result<T, VectorsError> {
    static RUNTIME: OnceLock<Result<Runtime, io::ErrorKind>> = OnceLock::new();
    let failed = |error| VectorsError::io("start threads for", Path::new("remote files"))(error);
    let made = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = RUNTIME.get_or_init(|| made().map_err(|error| error.kind()));
    let runtime = runtime.as_ref().map_err(|kind| failed((*kind).into()))?;
    let (sender, receiver) = mpsc::sync_channel(1);
    runtime.spawn(async move {
        // A receiver that is gone needs no answer.
        drop(sender.send(future.await));
    });
    receiver.recv().map_err(|_| failed(io::Error::other("the transfer crashed")))
}
