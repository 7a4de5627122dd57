//! The identity of a storage: the content of a small object, which distinguishes it from an empty mount point or
//! another storage at the same URL.

use std::fmt;
use std::io;

use bytes::Bytes;
use futures::TryStreamExt;

use super::{READS_MAX, Storage};
use crate::error::{DatasetError, ErrorKind};

/// The key of the object with the id.
pub const STORAGE_ID_KEY: &str = "storage-id";

/// Maximum bytes of an id.
const ID_BYTES_MAX: usize = 200;

/// The unique id of a storage: the content of the object [`STORAGE_ID_KEY`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageId(String);

impl StorageId {
    /// Wraps a stored id.
    pub fn new(id: impl Into<String>) -> StorageId {
        StorageId(id.into())
    }

    /// Returns the stored form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StorageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Storage {
    /// Reads the id; `None` if the storage has none. Two reads must be equal, since a read error would look like
    /// another storage.
    ///
    /// # Errors
    /// The store fails, no two reads are equal, or the object is not text.
    pub async fn read_id(&self) -> Result<Option<StorageId>, DatasetError> {
        let mut before = self.read_once().await?;
        for _ in 1..READS_MAX {
            let found = self.read_once().await?;
            if found == before {
                return found.map(|bytes| self.id_of(&bytes)).transpose();
            }
            before = found;
        }
        let problem = io::Error::other("every read gives other bytes");
        Err(DatasetError::Io { object: self.name(STORAGE_ID_KEY), source: problem.into() })
    }

    async fn read_once(&self) -> Result<Option<Bytes>, DatasetError> {
        match self.get(STORAGE_ID_KEY).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            found => found.map(Some),
        }
    }

    fn id_of(&self, bytes: &[u8]) -> Result<StorageId, DatasetError> {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| DatasetError::corrupt(self.name(STORAGE_ID_KEY), None, "it is not UTF-8"))?;
        if text.is_empty() || text.len() > ID_BYTES_MAX || text.contains(char::is_control) {
            return Err(DatasetError::corrupt(
                self.name(STORAGE_ID_KEY),
                None,
                "it is no id: a line of text is expected",
            ));
        }
        Ok(StorageId::new(text))
    }

    /// Gives the storage this id unless it has one, and returns its id. Concurrent callers get the same one.
    ///
    /// # Errors
    /// The store fails.
    pub async fn ensure_id(&self, id: &StorageId) -> Result<StorageId, DatasetError> {
        match self.put_new(STORAGE_ID_KEY, Bytes::from(id.as_str().to_owned())).await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            written => drop(written?),
        }
        self.read_id().await?.ok_or_else(|| self.swapped("the object just written to it is missing"))
    }

    /// Returns the same storage with an expected id: see [`Storage::confirm`].
    #[must_use]
    pub fn with_id(self, id: StorageId) -> Storage {
        Storage { id: Some(id), ..self }
    }

    /// Returns the expected id, if any.
    pub fn id(&self) -> Option<&StorageId> {
        self.id.as_ref()
    }

    /// Checks with one small read that the storage still has the expected id, if any.
    ///
    /// # Errors
    /// `StorageSwapped`, or the store fails.
    pub async fn confirm(&self) -> Result<(), DatasetError> {
        let Some(expected) = &self.id else { return Ok(()) };
        if self.read_once().await?.is_some_and(|found| found == expected.as_str()) {
            return Ok(());
        }
        match self.read_id().await? {
            Some(found) if found == *expected => Ok(()),
            Some(_) => Err(self.swapped("another storage is in its place")),
            None => Err(self.swapped("its object `storage-id` is missing")),
        }
    }

    /// Returns whether there is any object below a prefix.
    ///
    /// # Errors
    /// A bad prefix, or the store fails.
    pub async fn has_any(&self, prefix: &str) -> Result<bool, DatasetError> {
        let path = self.path(prefix)?;
        let first = self.store.list(Some(&path)).try_next().await.map_err(|error| self.failed(prefix, error))?;
        Ok(first.is_some())
    }

    /// Refuses to write to a missing folder, which the store would create again.
    pub(super) async fn check_folder(&self) -> Result<(), DatasetError> {
        let Some(root) = &self.local_root else { return Ok(()) };
        match tokio::fs::metadata(root).await {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) | Err(_) => Err(self.swapped("the folder is gone")),
        }
    }

    fn swapped(&self, problem: &str) -> DatasetError {
        DatasetError::StorageSwapped { url: self.url.clone(), problem: problem.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage(folder: &std::path::Path) -> Storage {
        Storage::open(folder.to_str().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn the_first_storage_id_wins() {
        let dir = tempfile::tempdir().unwrap();
        let storage = storage(dir.path());
        assert_eq!(storage.read_id().await.unwrap(), None);
        let (first, second) = (StorageId::new("first"), StorageId::new("second"));
        assert_eq!(storage.ensure_id(&first).await.unwrap(), first);
        assert_eq!(storage.ensure_id(&second).await.unwrap(), first);
        assert_eq!(storage.read_id().await.unwrap(), Some(first));
    }

    #[tokio::test]
    async fn a_replaced_or_missing_folder_is_not_confirmed_until_restored() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, away) = (dir.path().join("storage"), dir.path().join("away"));
        let storage = storage(&folder);
        storage.confirm().await.unwrap();
        let id = storage.ensure_id(&StorageId::new("first")).await.unwrap();
        let storage = storage.with_id(id);
        storage.confirm().await.unwrap();

        std::fs::rename(&folder, &away).unwrap();
        assert_eq!(storage.confirm().await.unwrap_err().kind(), ErrorKind::StorageSwapped);
        let refused = storage.put_new("jobs/x", Bytes::from_static(b"x")).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::StorageSwapped);
        assert!(!folder.exists(), "no write makes the folder again");

        std::fs::create_dir(&folder).unwrap();
        let error = storage.confirm().await.unwrap_err();
        assert!(error.to_string().contains("`storage-id` is missing"), "{error}");
        std::fs::write(folder.join(STORAGE_ID_KEY), "second").unwrap();
        let error = storage.confirm().await.unwrap_err();
        assert!(error.to_string().contains("another storage is in its place"), "{error}");

        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::rename(&away, &folder).unwrap();
        storage.confirm().await.unwrap();
    }

    #[tokio::test]
    async fn a_prefix_is_nonempty_with_an_object_below_it() {
        let dir = tempfile::tempdir().unwrap();
        let storage = storage(dir.path());
        assert!(!storage.has_any("jobs").await.unwrap());
        storage.put_new("jobs/a/b", Bytes::from_static(b"x")).await.unwrap();
        assert!(storage.has_any("jobs").await.unwrap());
        assert!(!storage.has_any("job").await.unwrap());
    }
}
