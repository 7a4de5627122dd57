//! Create-only writes. Small objects take one conditional request; larger ones are uploaded in parts, invisible until
//! a conditional completion. After a lost answer or a conflict, the object's content decides: the same bytes are ours.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use blake3::Hasher;
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use object_store::path::Path as StorePath;
use object_store::{MultipartUpload, ObjectStoreExt, PutMode, PutPayload};
use tokio::io::AsyncReadExt;

use super::{ObjectInfo, Publish, READS_MAX, Storage};
use crate::error::{DatasetError, ErrorKind};

/// Part size of a streamed write: above S3's minimum of 5 MiB. A smaller object takes one request.
pub(super) const PART_BYTES: usize = 8 << 20;

/// Maximum parts of a file of known size: stores accept 10,000.
const PARTS_MAX: u64 = 9_000;

/// An object being written; see [`Storage::create_new`].
pub struct NewObject {
    storage: Storage,
    key: String,
    path: StorePath,
    upload: Option<Upload>,
    part: BytesMut,
    part_bytes: usize,
    size: u64,
    /// Boxed, since its two kilobytes would be moved with every future that holds the writer.
    hasher: Box<Hasher>,
}

/// The parts sent so far.
struct Upload {
    /// Where they are assembled.
    place: StorePath,
    /// Never locked: the mutex only makes the writer `Sync`.
    parts: Mutex<Box<dyn MultipartUpload>>,
}

impl Upload {
    fn parts(&mut self) -> &mut dyn MultipartUpload {
        self.parts.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut()
    }
}

impl fmt::Debug for NewObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewObject").field("key", &self.key).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Storage {
    /// Writes a small object that must not exist yet. Visible only when complete, then durable. In a bucket, an
    /// existing object with the same bytes counts as written, since it may be from a request whose answer was lost.
    ///
    /// # Errors
    /// `AlreadyExists`, a bad key, `NoSpace`, `Throttled`, `Auth`, `StorageSwapped` if a folder is missing, or the
    /// store fails.
    pub async fn put_new(&self, key: &str, bytes: Bytes) -> Result<ObjectInfo, DatasetError> {
        let path = self.path(key)?;
        let (size, digest) = (bytes.len() as u64, blake3::hash(&bytes));
        self.check_folder().await?;
        let put = self.store.put_opts(&path, PutPayload::from_bytes(bytes), PutMode::Create.into()).await;
        match put {
            Ok(put) => Ok(ObjectInfo { size, etag: put.e_tag }),
            Err(error) => Box::pin(self.resolve_failed_write(key, error, size, digest)).await,
        }
    }

    /// Streams a local file into an object that must not exist yet. Visible only when complete, then durable; holds at
    /// most two parts of 8 MiB in memory (larger ones beyond 70 GiB). As with [`Storage::put_new`], an object of a
    /// bucket with the same bytes counts as written.
    ///
    /// # Errors
    /// `AlreadyExists`, a bad key, `NoSpace`, `Throttled`, `Auth`, the file cannot be read, or the store fails.
    pub async fn put_new_file(&self, key: &str, file: &Path) -> Result<ObjectInfo, DatasetError> {
        let name = || file.display().to_string();
        let failed = |error| DatasetError::from_io(name(), error);
        let mut input = tokio::fs::File::open(file).await.map_err(failed)?;
        let size = input.metadata().await.map_err(failed)?.len();
        let mut object = self.create_new(key).await?;
        let least = usize::try_from(size.div_ceil(PARTS_MAX)).unwrap_or(usize::MAX);
        object.part_bytes = PART_BYTES.max(least);
        loop {
            let mut part = BytesMut::with_capacity(PART_BYTES);
            while part.len() < PART_BYTES {
                let read = input.read_buf(&mut part).await.map_err(failed)?;
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

    /// Begins an object that must not exist yet and whose size is unknown. Nothing is visible before
    /// [`NewObject::finish`], nor after dropping the writer.
    ///
    /// # Errors
    /// `AlreadyExists`, a bad key, or the store fails.
    pub async fn create_new(&self, key: &str) -> Result<NewObject, DatasetError> {
        let path = self.path(key)?;
        // Refuses cheaply before any upload; only the conditional completion is reliable.
        match self.store.head(&path).await {
            Ok(_) => return Err(DatasetError::AlreadyExists { object: self.name(key) }),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(self.failed(key, error)),
        }
        Ok(NewObject {
            storage: self.clone(),
            key: key.to_owned(),
            path,
            upload: None,
            part: BytesMut::new(),
            part_bytes: PART_BYTES,
            size: 0,
            hasher: Box::default(),
        })
    }

    /// Determines the result of a failed write, which may have succeeded.
    async fn resolve_failed_write(
        &self,
        key: &str,
        error: object_store::Error,
        size: u64,
        digest: blake3::Hash,
    ) -> Result<ObjectInfo, DatasetError> {
        let may_be_ours = match &error {
            // A folder's answers are reliable.
            _ if self.local_root.is_some() => false,
            object_store::Error::InvalidPath { .. }
            | object_store::Error::NotSupported { .. }
            | object_store::Error::NotImplemented { .. } => false,
            _ => true,
        };
        let exists =
            matches!(error, object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. });
        if !may_be_ours {
            return Err(self.failed(key, error));
        }
        match self.head(key).await {
            Ok(found) if self.has_content(key, &found, size, digest).await => Ok(found),
            Ok(_) if is_denied(&error) => Err(self.failed(key, error)),
            Ok(_) => Err(DatasetError::AlreadyExists { object: self.name(key) }),
            // A conflict without an object (two writers met), or an upload that is gone: temporary.
            Err(missing) if missing.kind() == ErrorKind::NotFound && (exists || is_missing(&error)) => {
                Err(DatasetError::Io {
                    object: self.name(key),
                    source: Box::new(crate::store_failure::explain(&error).1),
                })
            }
            Err(_) => Err(self.failed(key, error)),
        }
    }

    async fn has_content(&self, key: &str, found: &ObjectInfo, size: u64, digest: blake3::Hash) -> bool {
        found.size == size && self.has_digest(key, digest).await.unwrap_or(false)
    }

    /// Reads an object to its end and returns whether its bytes have this BLAKE3.
    ///
    /// # Errors
    /// `NotFound`, a bad key, or the store fails.
    pub async fn has_digest(&self, key: &str, digest: blake3::Hash) -> Result<bool, DatasetError> {
        for _ in 0..READS_MAX {
            if self.digest(key).await? == digest {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn digest(&self, key: &str) -> Result<blake3::Hash, DatasetError> {
        let path = self.path(key)?;
        let object = self.store.get(&path).await.map_err(|error| self.failed(key, error))?;
        let (mut stream, mut hasher) = (object.into_stream(), Hasher::new());
        while let Some(bytes) = stream.try_next().await.map_err(|error| self.failed(key, error))? {
            hasher.update(&bytes);
        }
        Ok(hasher.finalize())
    }
}

fn is_denied(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. })
}

fn is_missing(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. })
}

impl NewObject {
    /// Appends bytes, uploading them in parts of 8 MiB.
    ///
    /// # Errors
    /// `NoSpace`, `Throttled`, `Auth`, or the store fails.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), DatasetError> {
        while !bytes.is_empty() {
            if self.part.len() == self.part_bytes {
                self.send_part().await?;
            }
            let taken = bytes.len().min(self.part_bytes - self.part.len());
            self.part.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Aborts the write, removing its parts as far as the store can.
    pub async fn abort(mut self) {
        if let Some(mut upload) = self.upload.take() {
            // Best effort: it is invisible, and lifecycle rules of a bucket remove the rest.
            drop(upload.parts().abort().await);
        }
    }

    /// Publishes the object under its key, durably.
    ///
    /// # Errors
    /// `AlreadyExists` if another writer was faster, `NoSpace`, `Throttled`, `Auth`, or the store fails.
    pub async fn finish(mut self) -> Result<ObjectInfo, DatasetError> {
        if self.upload.is_none() {
            let bytes = self.part.split().freeze();
            return self.storage.put_new(&self.key, bytes).await;
        }
        if !self.part.is_empty() {
            self.send_part().await?;
        }
        let digest = self.hasher.finalize();
        let mut upload = self.upload.take().expect("checked above");
        let (storage, key) = (self.storage.clone(), self.key.clone());
        if let Err(error) = upload.parts().complete().await {
            let aborted = upload.parts().abort().await;
            // Best effort: lifecycle rules of a bucket remove incomplete uploads.
            drop(aborted);
            return match storage.publish {
                Publish::AtCompletion => Box::pin(storage.resolve_failed_write(&key, error, self.size, digest)).await,
                Publish::ByRename => Err(storage.failed(&key, error)),
            };
        }
        if let Publish::ByRename = storage.publish {
            let renamed = storage.store.rename_if_not_exists(&upload.place, &self.path).await;
            if let Err(error) = renamed {
                // Best effort: readers never request a staged object's name.
                drop(storage.store.delete(&upload.place).await);
                return Box::pin(storage.resolve_failed_write(&key, error, self.size, digest)).await;
            }
        }
        storage.head(&key).await
    }

    async fn send_part(&mut self) -> Result<(), DatasetError> {
        let failed = |storage: &Storage, key: &str, error| storage.failed(key, error);
        if self.upload.is_none() {
            self.storage.check_folder().await?;
            let place = self.place()?;
            let begun = self.storage.store.put_multipart(&place).await;
            let parts = Mutex::new(begun.map_err(|error| failed(&self.storage, &self.key, error))?);
            self.upload = Some(Upload { place, parts });
        }
        let part = self.part.split().freeze();
        self.hasher.update(&part);
        self.size += part.len() as u64;
        let upload = self.upload.as_mut().expect("begun above");
        upload.parts().put_part(part.into()).await.map_err(|error| failed(&self.storage, &self.key, error))
    }

    /// Returns the staging path of the parts.
    fn place(&self) -> Result<StorePath, DatasetError> {
        static STAGED: AtomicU64 = AtomicU64::new(0);
        match self.storage.publish {
            Publish::AtCompletion => Ok(self.path.clone()),
            Publish::ByRename => {
                let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
                let count = STAGED.fetch_add(1, Ordering::Relaxed);
                let name = format!("{}.new-{nanos:x}-{:x}-{count:x}", self.key, std::process::id());
                self.storage.path(&name)
            }
        }
    }
}
