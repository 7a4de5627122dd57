//! Where bytes rest: a folder or (later) a bucket, addressed by keys. Owns the one match on URL scheme and every rule
//! about keys. Objects are written once and never changed; a write is invisible until complete, then durable.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use object_store::{GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use tokio::io::AsyncReadExt;

use crate::error::DatasetError;

/// Size of one part of a streamed write: above the 5 MiB that S3 demands.
const PART_BYTES: usize = 8 << 20;

/// Most bytes of a key; a file name on most disks ends at 255 bytes per segment.
const KEY_BYTES_MAX: usize = 1024;

/// What a store says about an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectInfo {
    /// Size in bytes.
    pub size: u64,
    /// The store's entity tag; on local disk it names inode, mtime and size.
    pub etag: Option<String>,
}

/// A place for objects: cheap to clone, safe to share.
#[derive(Clone)]
pub struct Storage {
    store: Arc<dyn ObjectStore>,
    url: String,
    local_root: Option<PathBuf>,
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").field("url", &self.url).finish_non_exhaustive()
    }
}

/// A location as the user wrote it, by scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// A path on this machine, not yet made absolute.
    Local(PathBuf),
}

/// Tells what kind of place `text` names. The one match on URL scheme.
///
/// # Errors
/// `UnsupportedScheme` for any scheme but `file`; `BadInput` for a `file://` URL with a host or a NUL byte.
pub(crate) fn locate(text: &str) -> Result<Location, DatasetError> {
    if text.contains('\0') {
        return Err(DatasetError::bad_input(text.escape_debug().to_string(), "a path cannot contain a NUL byte"));
    }
    if text.is_empty() {
        return Err(DatasetError::bad_input(text, "the path is empty"));
    }
    let Some((scheme, _)) = text.split_once("://") else {
        return Ok(Location::Local(PathBuf::from(text)));
    };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    if !is_scheme {
        return Ok(Location::Local(PathBuf::from(text)));
    }
    match scheme.to_ascii_lowercase().as_str() {
        "file" => {
            url::Url::parse(text).ok().and_then(|url| url.to_file_path().ok()).map(Location::Local).ok_or_else(|| {
                DatasetError::bad_input(text, "not a file URL of this machine: write file:///absolute/path")
            })
        }
        other => Err(DatasetError::UnsupportedScheme { url: text.to_owned(), scheme: other.to_owned() }),
    }
}

impl Storage {
    /// Opens the storage at a path or `file://` URL and creates its folder.
    ///
    /// # Errors
    /// `UnsupportedScheme`, or the folder cannot be created.
    pub fn open(url: &str) -> Result<Storage, DatasetError> {
        let Location::Local(path) = locate(url)?;
        std::fs::create_dir_all(&path).map_err(|error| DatasetError::from_io(url, error))?;
        let root = std::fs::canonicalize(&path).map_err(|error| DatasetError::from_io(url, error))?;
        let text = root
            .to_str()
            .ok_or_else(|| DatasetError::bad_input(url, "the path is not UTF-8: rename the folder"))?
            .to_owned();
        let store = LocalFileSystem::new_with_prefix(&root)
            .map_err(|error| DatasetError::from_store(url, error))?
            .with_fsync(true);
        Ok(Storage { store: Arc::new(store), url: text, local_root: Some(root) })
    }

    /// Returns the absolute path or URL, which opens the same storage again.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns size and entity tag of an object.
    ///
    /// # Errors
    /// `NotFound`, a bad key, or the store fails.
    pub async fn head(&self, key: &str) -> Result<ObjectInfo, DatasetError> {
        let path = self.path(key)?;
        let meta = self.store.head(&path).await.map_err(|error| self.failed(key, error))?;
        Ok(ObjectInfo { size: meta.size, etag: meta.e_tag })
    }

    /// Reads a whole object into memory: for small ones.
    ///
    /// # Errors
    /// `NotFound`, a bad key, or the store fails.
    pub async fn get(&self, key: &str) -> Result<Bytes, DatasetError> {
        let path = self.path(key)?;
        let found = self.store.get(&path).await.map_err(|error| self.failed(key, error))?;
        found.bytes().await.map_err(|error| self.failed(key, error))
    }

    /// Reads bytes `range` of an object; fewer come back where the object ends before `range.end`.
    ///
    /// # Errors
    /// `NotFound`, a bad key, a range that starts past the end, or the store fails.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, DatasetError> {
        let path = self.path(key)?;
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let found = self.store.get_opts(&path, options).await.map_err(|error| self.failed(key, error))?;
        found.bytes().await.map_err(|error| self.failed(key, error))
    }

    /// Writes a small object that must not exist yet. Visible only when complete, then durable.
    ///
    /// # Errors
    /// `AlreadyExists`, a bad key, `NoSpace`, or the store fails.
    pub async fn put_new(&self, key: &str, bytes: Bytes) -> Result<ObjectInfo, DatasetError> {
        let path = self.path(key)?;
        let size = bytes.len() as u64;
        let put = self.store.put_opts(&path, PutPayload::from_bytes(bytes), PutMode::Create.into()).await;
        let put = put.map_err(|error| self.failed(key, error))?;
        Ok(ObjectInfo { size, etag: put.e_tag })
    }

    /// Streams a local file into an object that must not exist yet. Visible only when complete, then durable; holds
    /// two parts of 8 MiB in memory at most. The file stays where it is.
    ///
    /// # Errors
    /// `AlreadyExists`, a bad key, `NoSpace`, the file cannot be read, or the store fails.
    pub async fn put_new_file(&self, key: &str, file: &Path) -> Result<ObjectInfo, DatasetError> {
        let name = || file.display().to_string();
        let mut input = tokio::fs::File::open(file).await.map_err(|error| DatasetError::from_io(name(), error))?;
        let mut object = self.create_new(key).await?;
        loop {
            let mut part = BytesMut::with_capacity(PART_BYTES);
            while part.len() < PART_BYTES {
                let read = input.read_buf(&mut part).await.map_err(|error| DatasetError::from_io(name(), error))?;
                if read == 0 {
                    break;
                }
            }
            if part.is_empty() {
                return object.finish().await;
            }
            object.write(&part).await?;
        }
    }

    /// Begins an object that must not exist yet and whose size is not known. Nothing is visible before
    /// [`NewObject::finish`]; dropping the writer leaves nothing behind.
    ///
    /// # Errors
    /// `AlreadyExists`, a bad key, or the store fails.
    pub async fn create_new(&self, key: &str) -> Result<NewObject, DatasetError> {
        static STAGED: AtomicU64 = AtomicU64::new(0);
        let path = self.path(key)?;
        // A cheap refusal before any byte is sent; the rename at the end is what makes it certain.
        match self.store.head(&path).await {
            Ok(_) => return Err(DatasetError::AlreadyExists { object: self.name(key) }),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(self.failed(key, error)),
        }
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let count = STAGED.fetch_add(1, Ordering::Relaxed);
        let staged = self.path(&format!("{key}.new-{nanos:x}-{:x}-{count:x}", std::process::id()))?;
        let upload = self.store.put_multipart(&staged).await.map_err(|error| self.failed(key, error))?;
        let (storage, key) = (self.clone(), key.to_owned());
        let upload = Mutex::new(upload);
        Ok(NewObject { storage, key, path, staged, upload, part: BytesMut::new(), size: 0 })
    }

    /// Deletes an object; one that is not there is deleted already.
    ///
    /// # Errors
    /// A bad key, or the store fails.
    pub async fn delete(&self, key: &str) -> Result<(), DatasetError> {
        let path = self.path(key)?;
        match self.store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(key, error)),
        }
    }

    /// Lists the objects below `prefix` (a folder; empty for all), sorted by key. Writes under way are not listed.
    ///
    /// # Errors
    /// A bad prefix, or the store fails.
    pub async fn list(&self, prefix: &str) -> Result<Vec<(String, ObjectInfo)>, DatasetError> {
        let folder = prefix.trim_end_matches('/');
        let path = if folder.is_empty() { StorePath::default() } else { self.path(folder)? };
        let found: Vec<object_store::ObjectMeta> =
            self.store.list(Some(&path)).try_collect().await.map_err(|error| self.failed(prefix, error))?;
        let mut objects: Vec<(String, ObjectInfo)> = found
            .into_iter()
            .map(|meta| (meta.location.to_string(), ObjectInfo { size: meta.size, etag: meta.e_tag }))
            .collect();
        objects.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(objects)
    }

    /// Returns the file behind a key where the storage is a local folder: for hard links and renames on one disk.
    pub fn local_path(&self, key: &str) -> Option<PathBuf> {
        self.path(key).ok()?;
        self.local_root.as_ref().map(|root| root.join(key))
    }

    /// Returns a name for messages: the full path or URL of a key.
    pub(crate) fn name(&self, key: &str) -> String {
        format!("{}/{}", self.url.trim_end_matches('/'), key)
    }

    /// Returns the store and path behind a key, for conditional reads.
    pub(crate) fn raw(&self, key: &str) -> Result<(Arc<dyn ObjectStore>, StorePath), DatasetError> {
        Ok((Arc::clone(&self.store), self.path(key)?))
    }

    fn path(&self, key: &str) -> Result<StorePath, DatasetError> {
        check_key(key)
            .and_then(|()| StorePath::parse(key).map_err(|_| "the store does not take this key"))
            .map_err(|problem| DatasetError::bad_input(key.escape_debug().to_string(), problem))
    }

    fn failed(&self, key: &str, error: object_store::Error) -> DatasetError {
        DatasetError::from_store(self.name(key), error)
    }
}

/// Says what is wrong with a key, if anything: keys stay inside their storage and mean the same on every store.
fn check_key(key: &str) -> Result<(), &'static str> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err("a key has 1 to 1024 bytes");
    }
    if key.chars().any(|c| c.is_control() || c == '\\') {
        return Err("a key has no control characters and no backslash");
    }
    if key.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err("a key is relative, and has no empty, `.` or `..` parts");
    }
    let name = key.rsplit('/').next().unwrap_or(key);
    if name.split_once('#').is_some_and(|(_, suffix)| !suffix.is_empty() && suffix.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err("names that end in # and digits are reserved for writes under way");
    }
    Ok(())
}

/// An object being written; see [`Storage::create_new`].
pub struct NewObject {
    storage: Storage,
    key: String,
    path: StorePath,
    staged: StorePath,
    /// Never locked: the mutex only makes the writer, and with it a whole cutter, shareable between threads.
    upload: Mutex<Box<dyn MultipartUpload>>,
    part: BytesMut,
    size: u64,
}

impl fmt::Debug for NewObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewObject").field("key", &self.key).field("size", &self.size).finish_non_exhaustive()
    }
}

impl NewObject {
    /// Appends bytes; sends them on in parts of 8 MiB.
    ///
    /// # Errors
    /// `NoSpace`, or the store fails.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), DatasetError> {
        while !bytes.is_empty() {
            let taken = bytes.len().min(PART_BYTES - self.part.len());
            self.part.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.part.len() == PART_BYTES {
                self.send_part().await?;
            }
        }
        Ok(())
    }

    /// Makes the object visible under its key, durably.
    ///
    /// # Errors
    /// `AlreadyExists` where somebody was faster, `NoSpace`, or the store fails.
    pub async fn finish(mut self) -> Result<ObjectInfo, DatasetError> {
        if !self.part.is_empty() || self.size == 0 {
            self.send_part().await?;
        }
        self.upload().complete().await.map_err(|error| self.storage.failed(&self.key, error))?;
        let store = &self.storage.store;
        if let Err(error) = store.rename_if_not_exists(&self.staged, &self.path).await {
            // Best effort: the staged object has a name that no reader asks for.
            drop(store.delete(&self.staged).await);
            return Err(self.storage.failed(&self.key, error));
        }
        self.storage.head(&self.key).await
    }

    fn upload(&mut self) -> &mut dyn MultipartUpload {
        self.upload.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut()
    }

    async fn send_part(&mut self) -> Result<(), DatasetError> {
        let part = self.part.split().freeze();
        self.size += part.len() as u64;
        self.upload().put_part(part.into()).await.map_err(|error| self.storage.failed(&self.key, error))
    }
}

#[cfg(test)]
#[path = "storage_tests.rs"]
mod tests;
