//! A store whose objects a coordinator relays.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use blake3::Hasher;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::CHUNK_BYTES_MAX;
use crate::generated as wire;
use crate::generated::storage_client::StorageClient;
use crate::retry::RetryPolicy;
use crate::wire::Wire;

const NAME: &str = "relay";
/// Room for a message's fields beside its data.
const MESSAGE_BYTES_MAX: usize = CHUNK_BYTES_MAX + 64 * 1024;
/// Chunks of an upload that wait to be sent.
const CHUNKS_WAITING_MAX: usize = 2;

/// The objects that a coordinator relays: its storage, and the sources of its jobs. Write-once: every write is
/// create-only, whatever the mode says, and nothing is deleted or copied.
#[derive(Clone)]
pub struct RelayStore {
    stub: StorageClient<Wire>,
    policy: RetryPolicy,
}

impl fmt::Debug for RelayStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RelayStore")
    }
}

impl fmt::Display for RelayStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the coordinator's storage")
    }
}

impl RelayStore {
    /// Makes a store that asks over `wire`.
    pub fn new(wire: impl Into<Wire>) -> RelayStore {
        let stub = StorageClient::new(wire.into()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        RelayStore { stub, policy: RetryPolicy::default() }
    }

    /// Makes a call, and makes it again where no coordinator was reached.
    async fn call<T, F>(&self, location: &str, mut call: impl FnMut(StorageClient<Wire>) -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<tonic::Response<T>, Status>>,
    {
        let mut attempt = 1;
        loop {
            let status = match call(self.stub.clone()).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => status,
            };
            let again = matches!(status.code(), Code::Unavailable | Code::ResourceExhausted);
            if !again || attempt >= self.policy.attempts_max {
                return Err(error_of(location, status));
            }
            tokio::time::sleep(self.policy.backoff.pause(attempt - 1)).await;
            attempt += 1;
        }
    }

    pub(super) async fn info(&self, key: &str) -> Result<wire::ObjectInfo> {
        let request = wire::HeadRequest { key: key.to_owned() };
        self.call(key, |mut stub| {
            let request = request.clone();
            async move { stub.head(request).await }
        })
        .await
    }

    async fn read(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (start, end) = match &options.range {
            None => (0, None),
            Some(GetRange::Bounded(range)) => (range.start, Some(range.end)),
            Some(GetRange::Offset(start)) => (*start, None),
            Some(GetRange::Suffix(length)) => {
                let size = self.info(location.as_ref()).await?.size_bytes;
                (size.saturating_sub(*length), Some(size))
            }
        };
        let request = wire::ReadRequest { key: location.to_string(), start, end, if_match: options.if_match.clone() };
        let mut chunks = self
            .call(location.as_ref(), |mut stub| {
                let request = request.clone();
                async move { stub.read(request).await }
            })
            .await?;
        let name = location.to_string();
        let first = chunks.message().await.map_err(|status| error_of(&name, status))?;
        let first = first.ok_or_else(|| generic("the coordinator sent no answer"))?;
        let object = first.object.ok_or_else(|| generic("the coordinator did not say what it sends"))?;
        let meta = meta_of(location.clone(), &object);
        let range = start.min(meta.size)..end.unwrap_or(meta.size).min(meta.size);
        let rest = chunks.map(|chunk| chunk.map(|chunk| Bytes::from(chunk.data)));
        let front = futures::stream::iter([Ok(Bytes::from(first.data))]);
        let stream = front.chain(rest).map_err(move |status| error_of(&name, status)).boxed();
        Ok(GetResult {
            payload: GetResultPayload::Stream(exactly(stream, &range)),
            meta,
            range,
            attributes: object_store::Attributes::default(),
            extensions: Default::default(),
        })
    }

    fn begin(&self, location: &Path) -> Upload {
        let (chunks, waiting) = mpsc::channel(CHUNKS_WAITING_MAX);
        let mut stub = self.stub.clone();
        let name = location.to_string();
        let sent = tokio::spawn(async move {
            let failed = |status| error_of(&name, status);
            let mut replies = stub.write(ReceiverStream::new(waiting)).await.map_err(failed)?.into_inner();
            let mut stored = None;
            while let Some(reply) = replies.message().await.map_err(failed)? {
                stored = reply.object.or(stored);
            }
            stored.ok_or_else(|| generic("the coordinator did not say what it stored"))
        });
        let (turn, _) = watch::channel(Turn::Part(0));
        let stream = Arc::new(PartStream { key: location.to_string(), chunks, turn, hasher: Mutex::default() });
        Upload { stream, parts: 0, sent: Some(sent) }
    }
}

#[async_trait]
impl ObjectStore for RelayStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if let PutMode::Update(_) = opts.mode {
            return Err(not_implemented("an update"));
        }
        let mut upload = self.begin(location);
        if let Err(error) = upload.put_part(payload).await {
            // What the coordinator said is worth more than that it hung up.
            return Err(upload.outcome().await.err().unwrap_or(error));
        }
        upload.complete().await
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(self.begin(location)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if !options.head {
            return self.read(location, options).await;
        }
        let object = self.info(location.as_ref()).await?;
        let meta = meta_of(location.clone(), &object);
        let range = 0..meta.size;
        Ok(GetResult {
            payload: GetResultPayload::Stream(futures::stream::empty().boxed()),
            meta,
            range,
            attributes: object_store::Attributes::default(),
            extensions: Default::default(),
        })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        locations.map(|location| location.and_then(|_| Err(not_implemented("a deletion")))).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.map(ToString::to_string).unwrap_or_default());
        let pages = futures::stream::try_unfold(Some(None::<String>), move |at| {
            let (store, prefix) = (store.clone(), prefix.clone());
            async move {
                let Some(after_key) = at else { return Ok(None) };
                let request = wire::ListObjectsRequest { prefix: prefix.clone(), after_key };
                let page = store
                    .call(&prefix, |mut stub| {
                        let request = request.clone();
                        async move { stub.list_objects(request).await }
                    })
                    .await?;
                let last = page.objects.last().map(|object| object.key.clone());
                let next = if page.more && last.is_some() { Some(last) } else { None };
                let objects = page.objects.into_iter().map(|object| {
                    let location = Path::parse(&object.key).map_err(|source| Error::InvalidPath { source })?;
                    Ok(meta_of(location, &object))
                });
                Ok::<_, Error>(Some((futures::stream::iter(objects.collect::<Vec<_>>()), next)))
            }
        });
        pages.try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(not_implemented("a list of folders"))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(not_implemented("a copy"))
    }
}

/// Whose turn it is to send: parts go in their order, whichever is polled first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Part(usize),
    Broken,
}

struct PartStream {
    key: String,
    chunks: mpsc::Sender<wire::WriteChunk>,
    turn: watch::Sender<Turn>,
    hasher: Mutex<Hasher>,
}

impl PartStream {
    fn hasher(&self) -> MutexGuard<'_, Hasher> {
        self.hasher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a part in chunks, the first of the object with its key.
    async fn send(&self, part: usize, data: PutPayload) -> Result<()> {
        let mut key = if part == 0 { self.key.clone() } else { String::new() };
        for bytes in &data {
            self.hasher().update(bytes);
            for piece in bytes.chunks(CHUNK_BYTES_MAX) {
                let chunk = wire::WriteChunk { key: std::mem::take(&mut key), data: piece.to_vec(), blake3: None };
                self.chunks.send(chunk).await.map_err(|_| generic("the upload broke off"))?;
            }
        }
        if !key.is_empty() {
            // A part without bytes still names the object.
            let chunk = wire::WriteChunk { key, data: Vec::new(), blake3: None };
            self.chunks.send(chunk).await.map_err(|_| generic("the upload broke off"))?;
        }
        Ok(())
    }
}

/// An object on its way. Dropped before it is completed, it comes to nothing.
struct Upload {
    stream: Arc<PartStream>,
    parts: usize,
    sent: Option<JoinHandle<Result<wire::ObjectInfo>>>,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("key", &self.stream.key).field("parts", &self.parts).finish_non_exhaustive()
    }
}

impl Upload {
    async fn outcome(&mut self) -> Result<wire::ObjectInfo> {
        let Some(sent) = self.sent.take() else { return Err(generic("this upload has ended")) };
        sent.await.unwrap_or_else(|_| Err(generic("this upload was given up")))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(sent) = &self.sent {
            sent.abort();
        }
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (stream, part) = (Arc::clone(&self.stream), self.parts);
        self.parts += 1;
        Box::pin(async move {
            let mut turn = stream.turn.subscribe();
            let mine = turn.wait_for(|turn| matches!(turn, Turn::Broken) || *turn == Turn::Part(part)).await;
            let is_broken = mine.map_or(true, |turn| *turn == Turn::Broken);
            if is_broken {
                return Err(generic("the upload broke off"));
            }
            let sent = stream.send(part, data).await;
            stream.turn.send_replace(if sent.is_ok() { Turn::Part(part + 1) } else { Turn::Broken });
            sent
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let key = if self.parts == 0 { self.stream.key.clone() } else { String::new() };
        let blake3 = self.stream.hasher().finalize().to_hex().to_string();
        let last = wire::WriteChunk { key, data: Vec::new(), blake3: Some(blake3) };
        // Where it cannot be sent, the coordinator has said why.
        drop(self.stream.chunks.send(last).await);
        let object = self.outcome().await?;
        Ok(PutResult { e_tag: object.etag, version: None, extensions: Default::default() })
    }

    async fn abort(&mut self) -> Result<()> {
        if let Some(sent) = self.sent.take() {
            sent.abort();
        }
        Ok(())
    }
}

fn meta_of(location: Path, object: &wire::ObjectInfo) -> ObjectMeta {
    ObjectMeta {
        location,
        last_modified: Default::default(),
        size: object.size_bytes,
        e_tag: object.etag.clone(),
        version: None,
    }
}

/// Passes on as many bytes as were promised; fewer are an error, so that a stream that ends early is not taken for the
/// object.
fn exactly(stream: BoxStream<'static, Result<Bytes>>, range: &Range<u64>) -> BoxStream<'static, Result<Bytes>> {
    let promised = range.end.saturating_sub(range.start);
    futures::stream::try_unfold((stream, promised), |(mut stream, left)| async move {
        loop {
            return match stream.try_next().await? {
                Some(bytes) if bytes.is_empty() => continue,
                Some(bytes) if bytes.len() as u64 <= left => {
                    let left = left - bytes.len() as u64;
                    Ok(Some((bytes, (stream, left))))
                }
                Some(_) => Err(generic("the coordinator sent more bytes than it promised")),
                None if left > 0 => Err(generic("the coordinator sent fewer bytes than it promised")),
                None => Ok(None),
            };
        }
    })
    .boxed()
}

fn generic(problem: impl Into<String>) -> Error {
    Error::Generic { store: NAME, source: problem.into().into() }
}

fn not_implemented(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.to_owned(), implementer: NAME.to_owned() }
}

/// Says in a store's words what a coordinator said.
fn error_of(location: &str, status: Status) -> Error {
    let path = location.to_owned();
    let message: Box<dyn std::error::Error + Send + Sync> = status.message().to_owned().into();
    match status.code() {
        Code::NotFound => Error::NotFound { path, source: message },
        Code::AlreadyExists => Error::AlreadyExists { path, source: message },
        Code::FailedPrecondition => Error::Precondition { path, source: message },
        Code::PermissionDenied => Error::PermissionDenied { path, source: message },
        Code::Unauthenticated => Error::Unauthenticated { path, source: message },
        Code::Unimplemented => not_implemented("relaying"),
        // What stores say when they are busy or away for a moment, for those who read the words.
        Code::ResourceExhausted | Code::Unavailable => {
            generic(format!("the coordinator cannot do it now (status code: 503): {}", status.message()))
        }
        code => generic(format!("{code}: {}", status.message())),
    }
}
