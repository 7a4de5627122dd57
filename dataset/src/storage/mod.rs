//! Objects in a folder or bucket, addressed by keys. Owns the rules about keys. Objects are written once and never
//! changed; a write is invisible until complete, then durable.

mod guard;
mod hub;
mod identity;
mod location;
mod probe;
mod remote;
mod write;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use object_store::prefix::PrefixStore;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};

use crate::error::DatasetError;

pub(crate) use guard::check_host;
pub use hub::HubError;
pub(crate) use hub::{HUB_DATASETS, HubClient, HubPlace, hub_store, parse_hub_place};
pub use identity::{STORAGE_ID_KEY, StorageId};
pub(crate) use location::{BucketPlace, Cloud, Location, parse_location, scheme_of};
pub use probe::probe_folder;
pub(crate) use remote::{bucket_store, forget_buckets, web_store};
pub use write::NewObject;

/// Maximum bytes of a key; most disks also limit a segment to 255 bytes.
const KEY_BYTES_MAX: usize = 1024;

/// Reads of an object that does not read as it should, before that is believed: bits also flip on the way.
pub(crate) const READS_MAX: u32 = 5;

/// Metadata of an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectInfo {
    /// Size in bytes.
    pub size: u64,
    /// The store's entity tag; on local disk derived from inode, mtime and size.
    pub etag: Option<String>,
}

/// A store of objects: cheap to clone, safe to share.
#[derive(Clone)]
pub struct Storage {
    store: Arc<dyn ObjectStore>,
    url: String,
    local_root: Option<PathBuf>,
    publish: Publish,
    /// The expected id of the storage.
    id: Option<StorageId>,
}

/// How an object written in parts is published without overwriting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Publish {
    /// The parts are assembled under another key, which is renamed.
    ByRename,
    /// The store refuses to complete an upload over an existing object.
    AtCompletion,
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Storage {
    /// Opens the storage at a path or URL: a folder (`file://`), created if missing, or a bucket (`s3://`, `gs://`,
    /// `az://`) with a prefix, with credentials and endpoint from the environment. Does not access a bucket yet.
    ///
    /// # Errors
    /// `UnsupportedScheme`, the folder cannot be created, or the environment has invalid settings.
    pub fn open(url: &str) -> Result<Storage, DatasetError> {
        match parse_location(url)? {
            Location::Local(path) => Self::open_folder(url, &path),
            Location::Bucket(place) => {
                let store = bucket_store(&place)?;
                let publish = match place.cloud {
                    Cloud::S3 => Publish::AtCompletion,
                    Cloud::Gcs | Cloud::Azure => Publish::ByRename,
                };
                let store: Arc<dyn ObjectStore> = if place.key.is_empty() {
                    store
                } else {
                    let prefix = StorePath::parse(&place.key)
                        .map_err(|_| DatasetError::bad_input(url, "the store does not take this prefix"))?;
                    Arc::new(PrefixStore::new(store, prefix))
                };
                let url = place.url_of(&place.key).trim_end_matches('/').to_owned();
                Ok(Storage { store, url, local_root: None, publish, id: None })
            }
            Location::Web(_) | Location::Hub(_) => {
                Err(DatasetError::bad_input(url, "this is read only: name a folder or a bucket"))
            }
        }
    }

    fn open_folder(url: &str, path: &Path) -> Result<Storage, DatasetError> {
        std::fs::create_dir_all(path).map_err(|error| DatasetError::from_io(url, error))?;
        let root = std::fs::canonicalize(path).map_err(|error| DatasetError::from_io(url, error))?;
        let text = root
            .to_str()
            .ok_or_else(|| DatasetError::bad_input(url, "the path is not UTF-8: rename the folder"))?
            .to_owned();
        let store = LocalFileSystem::new_with_prefix(&root)
            .map_err(|error| DatasetError::from_store(url, error))?
            .with_fsync(true);
        let (store, publish) = (Arc::new(store), Publish::ByRename);
        Ok(Storage { store, url: text, local_root: Some(root), publish, id: None })
    }

    /// Wraps any store; `url` names it in messages. Objects in parts are staged under another key and renamed without
    /// overwriting, which the store must support.
    pub fn from_store(store: Arc<dyn ObjectStore>, url: &str) -> Storage {
        Storage { store, url: url.to_owned(), local_root: None, publish: Publish::ByRename, id: None }
    }

    /// As [`Storage::from_store`], for a store that refuses to complete an upload over an existing object, so that
    /// staging is unnecessary.
    pub fn from_create_only_store(store: Arc<dyn ObjectStore>, url: &str) -> Storage {
        Storage { publish: Publish::AtCompletion, ..Self::from_store(store, url) }
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

    /// Reads a whole (small) object into memory.
    ///
    /// # Errors
    /// `NotFound`, a bad key, or the store fails.
    pub async fn get(&self, key: &str) -> Result<Bytes, DatasetError> {
        let path = self.path(key)?;
        let found = self.store.get(&path).await.map_err(|error| self.failed(key, error))?;
        found.bytes().await.map_err(|error| self.failed(key, error))
    }

    /// Reads bytes `range` of an object, fewer if it ends before `range.end`.
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

    /// Deletes an object. Succeeds if there is none.
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

    /// Lists the objects below `prefix` (a folder; empty for all), sorted by key, without incomplete writes.
    ///
    /// # Errors
    /// A bad prefix, or the store fails.
    pub async fn list(&self, prefix: &str) -> Result<Vec<(String, ObjectInfo)>, DatasetError> {
        let folder = prefix.trim_end_matches('/');
        let path = if folder.is_empty() { StorePath::default() } else { self.path(folder)? };
        let found: Vec<object_store::ObjectMeta> =
            self.store.list(Some(&path)).try_collect().await.map_err(|error| self.failed(prefix, error))?;
        Ok(sorted(found))
    }

    /// Lists the objects directly in the storage's own folder, not those below further ones, sorted by key.
    ///
    /// # Errors
    /// The store fails.
    pub async fn list_top(&self) -> Result<Vec<(String, ObjectInfo)>, DatasetError> {
        let found = self.store.list_with_delimiter(None).await.map_err(|error| self.failed("", error))?;
        Ok(sorted(found.objects))
    }

    /// Returns the file of a key if the storage is a local folder, for hard links and renames.
    pub fn local_path(&self, key: &str) -> Option<PathBuf> {
        self.path(key).ok()?;
        self.local_root.as_ref().map(|root| root.join(key))
    }

    /// Returns the folder if the storage is a local one.
    pub fn local_root(&self) -> Option<&Path> {
        self.local_root.as_deref()
    }

    /// Returns the full path or URL of a key for messages.
    pub(crate) fn name(&self, key: &str) -> String {
        format!("{}/{}", self.url.trim_end_matches('/'), key)
    }

    /// Returns store and path of a key, for conditional reads.
    pub(crate) fn raw(&self, key: &str) -> Result<(Arc<dyn ObjectStore>, StorePath), DatasetError> {
        Ok((Arc::clone(&self.store), self.path(key)?))
    }

    pub(crate) fn path(&self, key: &str) -> Result<StorePath, DatasetError> {
        check_key(key)
            .and_then(|()| StorePath::parse(key).map_err(|_| "the store does not take this key"))
            .map_err(|problem| DatasetError::bad_input(key.escape_debug().to_string(), problem))
    }

    /// Classifies a store's error on a key of this storage.
    pub fn failure(&self, key: &str, error: object_store::Error) -> DatasetError {
        self.failed(key, error)
    }

    fn failed(&self, key: &str, error: object_store::Error) -> DatasetError {
        DatasetError::from_store(self.name(key), error)
    }
}

/// Returns keys and metadata of objects, sorted by key.
fn sorted(found: Vec<object_store::ObjectMeta>) -> Vec<(String, ObjectInfo)> {
    let mut objects: Vec<(String, ObjectInfo)> = found
        .into_iter()
        .map(|meta| (meta.location.to_string(), ObjectInfo { size: meta.size, etag: meta.e_tag }))
        .collect();
    objects.sort_by(|a, b| a.0.cmp(&b.0));
    objects
}

/// Returns why a key is invalid, if it is: keys stay inside their storage and mean the same in every store.
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

#[cfg(test)]
mod s3_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod watched;
