//! One object under read, held to its fingerprint: every read is conditional on it, so that no slice ever mixes two
//! versions of a source.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};

use crate::corpus::{Fingerprint, PlannedSource};
use crate::error::{DatasetError, ErrorKind};
use crate::storage::{Location, Storage, locate};

/// An object and what it must look like.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    store: Arc<dyn ObjectStore>,
    path: StorePath,
    name: String,
    fingerprint: Fingerprint,
}

impl Object {
    /// Opens a source that has no plan yet and takes its fingerprint.
    pub(crate) async fn open(uri: &str) -> Result<Object, DatasetError> {
        let (store, path) = store_of(uri)?;
        Self::open_in(store, path, uri.to_owned()).await
    }

    /// Opens a planned source.
    ///
    /// # Errors
    /// `SourceChanged` where it is not what was planned.
    pub(crate) async fn open_planned(source: &PlannedSource) -> Result<Object, DatasetError> {
        let (store, path) = store_of(&source.source.uri)?;
        let (name, fingerprint) = (source.source.uri.clone(), source.fingerprint.clone());
        let object = Object { store, path, name, fingerprint };
        object.check().await?;
        Ok(object)
    }

    /// Opens a re-cut piece.
    pub(crate) async fn open_piece(storage: &Storage, key: &str) -> Result<Object, DatasetError> {
        let (store, path) = storage.raw(key)?;
        Self::open_in(store, path, storage.name(key)).await
    }

    /// Opens an object of any store; `name` is for messages.
    pub(crate) async fn open_in(
        store: Arc<dyn ObjectStore>,
        path: StorePath,
        name: String,
    ) -> Result<Object, DatasetError> {
        let meta = store.head(&path).await.map_err(|error| DatasetError::from_store(name.as_str(), error))?;
        let fingerprint = Fingerprint { size: meta.size, etag: meta.e_tag };
        Ok(Object { store, path, name, fingerprint })
    }

    /// Returns the path, URL or key for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns what the object must look like.
    pub(crate) fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Returns the size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.fingerprint.size
    }

    /// Reads exactly the bytes of `range`.
    ///
    /// # Errors
    /// `SourceChanged` where the object is another by now, `Corrupt` where it ends before the range does.
    pub(crate) async fn read(&self, range: Range<u64>) -> Result<Bytes, DatasetError> {
        if range.end > self.size() || range.start > range.end {
            let problem =
                format!("it has {} bytes, but bytes {}..{} are asked for", self.size(), range.start, range.end);
            return Err(DatasetError::corrupt(self.name.as_str(), None, problem));
        }
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let length = range.end - range.start;
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            if_match: self.fingerprint.etag.clone(),
            ..GetOptions::default()
        };
        let found = self.store.get_opts(&self.path, options).await.map_err(|error| self.failed(error))?;
        let bytes = found.bytes().await.map_err(|error| self.failed(error))?;
        if bytes.len() as u64 != length {
            return Err(self.changed("it is shorter"));
        }
        Ok(bytes)
    }

    /// Compares the object with its fingerprint: to be called after the last read, too.
    ///
    /// # Errors
    /// `SourceChanged`, or the store fails.
    pub(crate) async fn check(&self) -> Result<(), DatasetError> {
        let meta = self.store.head(&self.path).await.map_err(|error| self.failed(error))?;
        if meta.size != self.fingerprint.size {
            return Err(self.changed(&format!("it had {} bytes, now {}", self.fingerprint.size, meta.size)));
        }
        match &self.fingerprint.etag {
            Some(planned) if meta.e_tag.as_ref() != Some(planned) => Err(self.changed("another time stamp or content")),
            _ => Ok(()),
        }
    }

    fn changed(&self, change: &str) -> DatasetError {
        DatasetError::SourceChanged { uri: self.name.clone(), change: change.to_owned() }
    }

    fn failed(&self, error: object_store::Error) -> DatasetError {
        let error = DatasetError::from_store(self.name.as_str(), error);
        match error.kind() {
            ErrorKind::NotFound => self.changed("it is gone"),
            _ => error,
        }
    }
}

/// Returns the store and path behind an absolute path or URL.
fn store_of(uri: &str) -> Result<(Arc<dyn ObjectStore>, StorePath), DatasetError> {
    let Location::Local(file) = locate(uri)?;
    let absolute = std::path::absolute(&file).map_err(|error| DatasetError::from_io(uri, error))?;
    let path = StorePath::from_absolute_path(Path::new(&absolute)).map_err(|error| {
        DatasetError::bad_input(uri, format!("this path cannot be read, rename the file or folder: {error}"))
    })?;
    Ok((Arc::new(LocalFileSystem::new()), path))
}
