//! One object with its fingerprint: every read is conditional on it, so that a slice never mixes two versions of a
//! source.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::corpus::{Fingerprint, PlannedSource};
use crate::error::{DatasetError, ErrorKind};
use crate::storage::{Location, Storage, bucket_store, hub_store, parse_location, web_store};
use crate::store_failure::StoreFailure;

/// Attempts at reading a range, since connections may break in the middle of a body.
const READ_ATTEMPTS_MAX: u32 = 3;
const READ_PAUSE: Duration = Duration::from_millis(200);

/// Timeout for opening a source with a fallback, and how long its bucket is then skipped.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
const UNREACHABLE_CACHE_TTL: Duration = Duration::from_secs(300);

/// Prefix of the modification time used where a store has no entity tags.
const MODIFIED: &str = "modified ";

/// An object with the same bytes in another storage, for a source that is not reachable.
#[derive(Debug, Clone)]
pub struct FallbackSource {
    /// The storage.
    pub storage: Storage,
    /// The source's key in it.
    pub key: String,
}

/// An object and its expected version.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    store: Arc<dyn ObjectStore>,
    path: StorePath,
    name: String,
    fingerprint: Fingerprint,
}

impl Object {
    /// Opens a source before planning, and takes its fingerprint.
    pub(crate) async fn open(uri: &str) -> Result<Object, DatasetError> {
        let (store, path) = store_of(uri)?;
        Self::open_in(store, path, uri.to_owned()).await
    }

    /// Opens a planned source.
    ///
    /// # Errors
    /// `SourceChanged` if it differs from the plan.
    pub(crate) async fn open_planned(source: &PlannedSource) -> Result<Object, DatasetError> {
        let (store, path) = store_of(&source.source.uri)?;
        Self::open_as_planned(store, path, source).await
    }

    /// Opens a planned source, or its fallback if it is not reachable (no credentials, another machine) or a local
    /// path names another file here.
    ///
    /// # Errors
    /// As [`Object::open_planned`].
    pub(crate) async fn open_with_fallback(
        source: &PlannedSource,
        fallback: &FallbackSource,
    ) -> Result<Object, DatasetError> {
        let error = match Self::open_with_timeout(source).await {
            Ok(object) => return Ok(object),
            Err(error) => error,
        };
        let (store, path) = fallback.storage.raw(&fallback.key)?;
        match Self::open_as_planned(store, path, source).await {
            // An older coordinator offers no fallback, so the first error counts.
            Err(no_fallback) if no_fallback.kind() == ErrorKind::Unsupported => Err(error),
            opened => opened,
        }
    }

    /// Opens a planned source with a timeout. Unreachable buckets are skipped for a while: without credentials, every
    /// attempt would last until the store's client has tried all providers.
    async fn open_with_timeout(source: &PlannedSource) -> Result<Object, DatasetError> {
        let uri = source.source.uri.as_str();
        let bucket = match parse_location(uri)? {
            Location::Bucket(place) => Some(place.bucket_url()),
            Location::Hub(place) => Some(place.repo_url()),
            Location::Local(_) | Location::Web(_) => None,
        };
        let timed_out = |problem: &str| {
            let source = StoreFailure::new(problem.to_owned());
            DatasetError::Io { object: uri.to_owned(), source: source.into() }
        };
        if bucket.as_deref().is_some_and(is_unreachable) {
            return Err(timed_out("this bucket was out of reach a moment ago"));
        }
        let opened = match tokio::time::timeout(OPEN_TIMEOUT, Self::open_planned(source)).await {
            Ok(opened) => opened,
            Err(_) => Err(timed_out("no answer in time")),
        };
        if let (Err(error), Some(bucket)) = (&opened, bucket)
            && matches!(error.kind(), ErrorKind::Io | ErrorKind::Auth)
        {
            mark_unreachable(bucket);
        }
        opened
    }

    async fn open_as_planned(
        store: Arc<dyn ObjectStore>,
        path: StorePath,
        source: &PlannedSource,
    ) -> Result<Object, DatasetError> {
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
        let fingerprint = Fingerprint { size: meta.size, etag: tag_of(&meta) };
        Ok(Object { store, path, name, fingerprint })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    pub(crate) fn size(&self) -> u64 {
        self.fingerprint.size
    }

    /// Whether the entity tag depends on the content, so that reads cannot return other bytes than planned. The tag of
    /// a local file depends on size, time and inode, which can be restored after a change in place.
    pub(crate) fn is_tagged_by_content(&self) -> bool {
        let is_local = matches!(parse_location(&self.name), Ok(Location::Local(_)));
        !is_local && self.fingerprint.etag.as_deref().is_some_and(is_strong)
    }

    /// Reads exactly the bytes of `range`.
    ///
    /// # Errors
    /// `SourceChanged` if the object changed, `Corrupt` if it ends before the range.
    pub(crate) async fn read(&self, range: Range<u64>) -> Result<Bytes, DatasetError> {
        if range.end > self.size() || range.start > range.end {
            let problem =
                format!("it has {} bytes, but bytes {}..{} are asked for", self.size(), range.start, range.end);
            return Err(DatasetError::corrupt(self.name.as_str(), None, problem));
        }
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let mut attempt = 1;
        loop {
            match self.read_once(range.clone()).await {
                // The store's client has retried everything but a body that broke off; the Hub's, that too.
                Err(error) if error.kind() == ErrorKind::Io && attempt < READ_ATTEMPTS_MAX && !error.is_of_hub() => {
                    tokio::time::sleep(READ_PAUSE * attempt).await;
                    attempt += 1;
                }
                ended => return ended,
            }
        }
    }

    async fn read_once(&self, range: Range<u64>) -> Result<Bytes, DatasetError> {
        let length = range.end - range.start;
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            if_match: self.fingerprint.etag.clone().filter(|etag| is_strong(etag)),
            ..GetOptions::default()
        };
        let found = self.store.get_opts(&self.path, options).await.map_err(|error| self.failed(error))?;
        // Some stores ignore the condition.
        self.compare(&found.meta)?;
        let bytes = found.bytes().await.map_err(|error| self.failed(error))?;
        if bytes.len() as u64 != length {
            let source = StoreFailure::new(format!("the store sent {} of {length} bytes", bytes.len()));
            return Err(DatasetError::Io { object: self.name.clone(), source: source.into() });
        }
        Ok(bytes)
    }

    /// Compares the object with its fingerprint; also called after the last read.
    ///
    /// # Errors
    /// `SourceChanged`, or the store fails.
    pub(crate) async fn check(&self) -> Result<(), DatasetError> {
        let meta = self.store.head(&self.path).await.map_err(|error| self.failed(error))?;
        self.compare(&meta)
    }

    fn compare(&self, meta: &ObjectMeta) -> Result<(), DatasetError> {
        if meta.size != self.fingerprint.size {
            return Err(self.changed(&format!("it had {} bytes, now {}", self.fingerprint.size, meta.size)));
        }
        match &self.fingerprint.etag {
            Some(planned) if tag_of(meta).as_ref() != Some(planned) => {
                Err(self.changed("another time stamp or content"))
            }
            _ => Ok(()),
        }
    }

    fn changed(&self, change: &str) -> DatasetError {
        DatasetError::SourceChanged { uri: self.name.clone(), change: change.to_owned() }
    }

    fn failed(&self, error: object_store::Error) -> DatasetError {
        let error = DatasetError::from_store(self.name.as_str(), error);
        match error.kind() {
            ErrorKind::NotFound => DatasetError::SourceGone { uri: self.name.clone() },
            _ => error,
        }
    }
}

/// Unreachable buckets by URL, with the time of the failure.
fn unreachable_buckets() -> MutexGuard<'static, HashMap<String, Instant>> {
    static BUCKETS: OnceLock<Mutex<HashMap<String, Instant>>> = OnceLock::new();
    BUCKETS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_unreachable(bucket: &str) -> bool {
    unreachable_buckets().get(bucket).is_some_and(|since| since.elapsed() < UNREACHABLE_CACHE_TTL)
}

fn mark_unreachable(bucket: String) {
    unreachable_buckets().insert(bucket, Instant::now());
}

/// Returns the version of an object: its entity tag, or its modification time.
fn tag_of(meta: &ObjectMeta) -> Option<String> {
    let modified = meta.last_modified.timestamp();
    meta.e_tag.clone().or_else(|| (modified > 0).then(|| format!("{MODIFIED}{modified}")))
}

/// Whether a store can compare a tag: a weak one never matches in HTTP.
fn is_strong(etag: &str) -> bool {
    !etag.starts_with("W/") && !etag.starts_with(MODIFIED)
}

/// Returns store and path of an absolute path or URL.
fn store_of(uri: &str) -> Result<(Arc<dyn ObjectStore>, StorePath), DatasetError> {
    match parse_location(uri)? {
        Location::Local(file) => {
            let absolute = std::path::absolute(&file).map_err(|error| DatasetError::from_io(uri, error))?;
            let path = StorePath::from_absolute_path(Path::new(&absolute)).map_err(|error| {
                DatasetError::bad_input(uri, format!("this path cannot be read, rename the file or folder: {error}"))
            })?;
            Ok((Arc::new(LocalFileSystem::new()), path))
        }
        Location::Bucket(place) => {
            let path = StorePath::parse(&place.key)
                .map_err(|_| DatasetError::bad_input(uri, "the store does not take this key"))?;
            Ok((bucket_store(&place)?, path))
        }
        Location::Web(url) => Ok((web_store(&url)?, StorePath::default())),
        Location::Hub(place) => {
            let Some(commit) = place.commit().filter(|_| !place.path.is_empty()) else {
                return Err(DatasetError::bad_input(
                    uri,
                    "name a file at a commit: hf://datasets/OWNER/NAME@COMMIT/FILE",
                ));
            };
            let path = StorePath::parse(&place.path)
                .map_err(|_| DatasetError::bad_input(uri, "the store does not take this path"))?;
            Ok((hub_store(&place.repo, commit)?, path))
        }
    }
}

/// A planned source, for passing on its bytes.
#[derive(Debug, Clone)]
pub struct SourceObject(Object);

impl SourceObject {
    /// Opens a planned source.
    ///
    /// # Errors
    /// `SourceChanged` if it differs from the plan, or it cannot be read.
    pub async fn open(source: &PlannedSource) -> Result<SourceObject, DatasetError> {
        Object::open_planned(source).await.map(SourceObject)
    }

    /// Returns its planned and current fingerprint.
    pub fn fingerprint(&self) -> &Fingerprint {
        self.0.fingerprint()
    }

    /// Reads exactly the bytes of `range`.
    ///
    /// # Errors
    /// `SourceChanged`, `Corrupt` for a range beyond the end, or the store fails.
    pub async fn read(&self, range: Range<u64>) -> Result<Bytes, DatasetError> {
        self.0.read(range).await
    }
}
