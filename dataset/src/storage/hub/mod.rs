//! Data sets of the Hugging Face Hub as a read-only store: one repository at one commit, whose files never change.
//!
//! A file's first request tells its size and content hash, and where its bytes are: often at another host, by a signed URL
//! that expires. Reads go there by ranges, and ask the Hub again when the URL is refused.

mod api;
mod client;
mod error;
mod place;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path as StorePath;
use object_store::{
    Attributes, CopyOptions, Extensions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use reqwest::header::{self, HeaderMap};
use reqwest::{Method, Response, StatusCode};
use url::Url;

pub(crate) use client::HubClient;
use client::{About, Failure, Patience, Reply, passing, unexpected, unreachable};
pub use error::HubError;
pub(crate) use place::{HUB_DATASETS, HubPlace, parse_hub_place};

/// What this store is called among others.
pub(crate) const STORE: &str = "Hub";

type Result<T, E = object_store::Error> = std::result::Result<T, E>;

/// A data set at a commit.
#[derive(Debug)]
pub(crate) struct HubStore {
    client: Arc<HubClient>,
    repo: String,
    commit: String,
    files: Mutex<HashMap<String, File>>,
}

/// What is known of a file.
#[derive(Debug, Clone)]
struct File {
    size: u64,
    /// SHA-256 of a large file's content, or the git hash of a small one.
    etag: String,
    /// Where its bytes are, if not at the Hub.
    target: Option<Url>,
}

/// Returns the store of a data set at a commit, one per process.
///
/// # Errors
/// The operator's settings are invalid, or forbid requests.
pub(crate) fn hub_store(repo: &str, commit: &str) -> Result<Arc<HubStore>, HubError> {
    type Stores = Mutex<HashMap<(String, String), Arc<HubStore>>>;
    static STORES: OnceLock<Stores> = OnceLock::new();
    let client = HubClient::of_process()?;
    let mut stores = STORES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let store = stores.entry((repo.to_owned(), commit.to_owned()));
    Ok(Arc::clone(store.or_insert_with(|| Arc::new(HubStore::new(client, repo, commit)))))
}

impl HubStore {
    pub(crate) fn new(client: Arc<HubClient>, repo: &str, commit: &str) -> HubStore {
        HubStore { client, repo: repo.to_owned(), commit: commit.to_owned(), files: Mutex::default() }
    }

    /// Returns what a file is. The Hub is asked once, since a commit's files do not change.
    async fn file(&self, path: &str) -> Result<File, HubError> {
        if let Some(file) = self.files().get(path) {
            return Ok(file.clone());
        }
        let mut patience = Patience::default();
        let file = loop {
            match self.look_up(path).await {
                Ok(file) => break file,
                Err(failure) => patience.wait(failure).await?,
            }
        };
        self.files().insert(path.to_owned(), file.clone());
        Ok(file)
    }

    async fn look_up(&self, path: &str) -> Result<File, Failure> {
        let url = self.url(path);
        let (headers, target) = match self.client.ask(Method::HEAD, &url, None, self.about(path)).await? {
            Reply::Here(response, linked) => (linked.unwrap_or_else(|| response.headers().clone()), None),
            Reply::Elsewhere(headers, target) => (headers, Some(target)),
        };
        let either = |first, second| text_of(&headers, first).or_else(|| text_of(&headers, second));
        let etag = either("x-linked-etag", "etag").map(|tag| tag.trim_start_matches("W/").trim_matches('"'));
        // A redirect has a length of its own.
        let is_linked = headers.contains_key(header::LOCATION);
        let size = if is_linked { text_of(&headers, "x-linked-size") } else { text_of(&headers, "content-length") };
        match (size.and_then(|size| size.parse().ok()), etag.filter(|etag| !etag.is_empty())) {
            (Some(size), Some(etag)) => Ok(File { size, etag: etag.to_owned(), target }),
            _ => Err(Failure::Final(unexpected(&url, "the answer has no size or no ETag"))),
        }
    }

    /// Reads exactly these bytes of a file, going on where a connection broke.
    async fn read(&self, path: &str, range: Range<u64>) -> Result<Bytes, HubError> {
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let mut read = Vec::with_capacity(length);
        let (mut patience, mut is_renewed) = (Patience::default(), false);
        while read.len() < length {
            let before = read.len();
            let file = self.file(path).await?;
            let rest = range.start + before as u64..range.end;
            let failure = match self.read_some(path, &file, rest, &mut read).await {
                Ok(Some(())) => continue,
                // The signed URL has expired.
                Ok(None) if !is_renewed => {
                    is_renewed = true;
                    self.files().remove(path);
                    continue;
                }
                Ok(None) => Failure::Final(unexpected(&self.url(path), "the address of its bytes is refused there")),
                Err(failure) => failure,
            };
            if read.len() > before {
                patience.renew();
            }
            patience.wait(failure).await?;
        }
        Ok(read.into())
    }

    /// Appends what arrives of these bytes. `None` means that the host of the bytes refuses the URL.
    async fn read_some(
        &self,
        path: &str,
        file: &File,
        range: Range<u64>,
        read: &mut Vec<u8>,
    ) -> Result<Option<()>, Failure> {
        let header = format!("bytes={}-{}", range.start, range.end - 1);
        let response = match &file.target {
            None => match self.client.ask(Method::GET, &self.url(path), Some(&header), self.about(path)).await? {
                Reply::Here(response, _) => response,
                // Since it was looked up, the Hub has moved it.
                Reply::Elsewhere(..) => return Ok(None),
            },
            Some(target) => {
                let response = self.client.ask_elsewhere(target, &header).await?;
                if let Some(failure) = passing(&response, true) {
                    return Err(failure);
                }
                if !response.status().is_success() {
                    return Ok(None);
                }
                response
            }
        };
        self.append(response, file, range, read).await.map(Some)
    }

    async fn append(
        &self,
        mut response: Response,
        file: &File,
        range: Range<u64>,
        read: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let url = response.url().clone();
        // A server that ignores ranges sends the file from its start.
        let mut skip = range.start;
        if response.status() == StatusCode::PARTIAL_CONTENT {
            let expected = format!("bytes {}-{}/{}", range.start, range.end - 1, file.size);
            if text_of(response.headers(), "content-range") != Some(expected.as_str()) {
                return Err(Failure::Final(unexpected(&url, "other bytes came than asked for")));
            }
            skip = 0;
        }
        let mut missing = range.end - range.start;
        while missing > 0 {
            let Some(piece) = response.chunk().await.map_err(|error| unreachable(&url, &error))? else {
                let reason = "the answer ended early".to_owned();
                return Err(Failure::MayPass(HubError::Unreachable { url: client::shown(&url), reason }, None));
            };
            let skipped = skip.min(piece.len() as u64);
            skip -= skipped;
            let piece = &piece[usize::try_from(skipped).unwrap_or(usize::MAX)..];
            let taken = missing.min(piece.len() as u64);
            read.extend_from_slice(&piece[..usize::try_from(taken).unwrap_or(usize::MAX)]);
            missing -= taken;
        }
        Ok(())
    }

    fn url(&self, path: &str) -> Url {
        let parts = ["datasets"].into_iter().chain(self.repo.split('/'));
        self.client.url(parts.chain(["resolve", &self.commit]).chain(path.split('/')))
    }

    fn about<'a>(&'a self, path: &'a str) -> About<'a> {
        About { repo: &self.repo, revision: &self.commit, path: Some(path) }
    }

    fn files(&self) -> MutexGuard<'_, HashMap<String, File>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

impl fmt::Display for HubStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repo, self.commit)
    }
}

impl From<HubError> for object_store::Error {
    fn from(error: HubError) -> Self {
        object_store::Error::Generic { store: STORE, source: Box::new(error) }
    }
}

#[async_trait::async_trait]
impl ObjectStore for HubStore {
    async fn get_opts(&self, path: &StorePath, options: GetOptions) -> Result<GetResult> {
        let file = self.file(path.as_ref()).await?;
        if options.if_match.as_ref().is_some_and(|etag| *etag != file.etag) {
            let source = format!("its hash is {}", file.etag).into();
            return Err(object_store::Error::Precondition { path: path.to_string(), source });
        }
        let (range, bytes) = match options.range {
            _ if options.head => (0..file.size, Bytes::new()),
            Some(GetRange::Bounded(range)) if range.start < range.end.min(file.size) => {
                let range = range.start..range.end.min(file.size);
                (range.clone(), self.read(path.as_ref(), range).await?)
            }
            Some(GetRange::Bounded(_) | GetRange::Offset(_) | GetRange::Suffix(_)) | None => {
                return Err(read_only("reading without a range"));
            }
        };
        let meta = ObjectMeta {
            location: path.clone(),
            last_modified: Default::default(),
            size: file.size,
            e_tag: Some(file.etag),
            version: None,
        };
        let payload = GetResultPayload::Stream(stream::once(async { Ok(bytes) }).boxed());
        Ok(GetResult { payload, meta, range, attributes: Attributes::new(), extensions: Extensions::default() })
    }

    async fn put_opts(&self, _: &StorePath, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(read_only("writing"))
    }

    async fn put_multipart_opts(&self, _: &StorePath, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(read_only("writing"))
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<StorePath>>) -> BoxStream<'static, Result<StorePath>> {
        stream::once(async { Err(read_only("deleting")) }).boxed()
    }

    fn list(&self, _: Option<&StorePath>) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::once(async { Err(read_only("listing")) }).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&StorePath>) -> Result<ListResult> {
        Err(read_only("listing"))
    }

    async fn copy_opts(&self, _: &StorePath, _: &StorePath, _: CopyOptions) -> Result<()> {
        Err(read_only("copying"))
    }
}

fn read_only(what: &str) -> object_store::Error {
    object_store::Error::NotImplemented { operation: what.to_owned(), implementer: STORE.to_owned() }
}
