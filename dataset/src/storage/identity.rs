//! Which storage this is. A folder that was unmounted, or an empty one in its place, looks like the storage that a job was
//! begun in; the content of one small object tells them apart.

use std::fmt;
use std::io;

use bytes::Bytes;
use futures::TryStreamExt;

use super::Storage;
use crate::error::{DatasetError, ErrorKind};

/// The key of the object that tells one storage from another.
pub const STORAGE_ID_KEY: &str = "storage-id";

/// Most bytes of an id.
const ID_BYTES_MAX: usize = 200;

/// Reads of an id of which two in a row must agree.
const READS_MAX: usize = 5;

/// What tells one storage from another: the content of the object under [`STORAGE_ID_KEY`], which no two storages share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageId(String);

impl StorageId {
    /// Takes an id as it is stored.
    pub fn new(id: impl Into<String>) -> StorageId {
        StorageId(id.into())
    }

    /// Returns the id as it is stored.
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
    /// Reads the id; `None` where the storage has none. What a disk or network got wrong once would be the id of another
    /// storage, so two reads must agree.
    ///
    /// # Errors
    /// The store fails, no two reads agree, or what is under the key is no text.
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

    /// Gives the storage an id unless it has one, and returns the one that it has then: two who do this at once get the
    /// same.
    ///
    /// # Errors
    /// The store fails.
    pub async fn ensure_id(&self, id: &StorageId) -> Result<StorageId, DatasetError> {
        match self.put_new(STORAGE_ID_KEY, Bytes::from(id.as_str().to_owned())).await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            written => drop(written?),
        }
        self.read_id().await?.ok_or_else(|| self.swapped("what was written to it a moment ago is not there"))
    }

    /// Returns the same storage, expected to have this id from now on: see [`Storage::confirm`].
    #[must_use]
    pub fn with_id(self, id: StorageId) -> Storage {
        Storage { id: Some(id), ..self }
    }

    /// Returns the id that this storage is expected to have, if any.
    pub fn id(&self) -> Option<&StorageId> {
        self.id.as_ref()
    }

    /// Checks that what is found under the URL is still the storage that it is expected to be, with one small read. Where
    /// no id is expected, nothing is checked.
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

    /// Whether there is any object below a prefix.
    ///
    /// # Errors
    /// A bad prefix, or the store fails.
    pub async fn has_any(&self, prefix: &str) -> Result<bool, DatasetError> {
        let path = self.path(prefix)?;
        let first = self.store.list(Some(&path)).try_next().await.map_err(|error| self.failed(prefix, error))?;
        Ok(first.is_some())
    }

    /// Refuses to write to a folder that is gone: the store would make another one of the same name.
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
    async fn the_first_who_gives_a_storage_an_id_decides() {
        let dir = tempfile::tempdir().unwrap();
        let storage = storage(dir.path());
        assert_eq!(storage.read_id().await.unwrap(), None);
        let (first, second) = (StorageId::new("first"), StorageId::new("second"));
        assert_eq!(storage.ensure_id(&first).await.unwrap(), first);
        assert_eq!(storage.ensure_id(&second).await.unwrap(), first);
        assert_eq!(storage.read_id().await.unwrap(), Some(first));
    }

    #[tokio::test]
    async fn a_folder_that_was_replaced_or_is_gone_is_not_confirmed_until_it_is_back() {
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
    async fn a_prefix_has_something_once_an_object_is_below_it() {
        let dir = tempfile::tempdir().unwrap();
        let storage = storage(dir.path());
        assert!(!storage.has_any("jobs").await.unwrap());
        storage.put_new("jobs/a/b", Bytes::from_static(b"x")).await.unwrap();
        assert!(storage.has_any("jobs").await.unwrap());
        assert!(!storage.has_any("job").await.unwrap());
    }
}
