//! The service that relays objects, for workers and clients that cannot reach the storage or a job's sources. What can be
//! named is closed: a job's own prefix, uploads under the name of their content, planned sources of jobs by their index.
//! Callers never name a path or a URL.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use blake3::Hasher;
use bytes::Bytes;
use common::error_chain;
use dataset::vectors::layout;
use dataset::{DatasetError, ErrorKind, NewObject, SourceObject, Storage};
use proto::JobId;
use proto::convert::id;
use proto::generated as wire;
use proto::generated::storage_server::Storage as StorageService;
use proto::relay::{CHUNK_BYTES_MAX, STORAGE_ID_KEY};
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::{debug, warn};

use super::{Priority, RpcResult, Service, caller_of, refused, sees, status_of};
use crate::access::{Identity, Role};
use crate::context::Context;
use crate::roots::RootError;
use crate::store::StoreError;

/// Chunks read ahead of the network.
const CHUNKS_AHEAD_MAX: usize = 2;
/// A client that sends or takes nothing for so long is gone.
const CHUNK_WITHIN: Duration = Duration::from_secs(60);
/// An upload is acknowledged every so many bytes.
const REPLY_BYTES: u64 = 8 << 20;
/// Objects in one page of a list.
const PAGE_OBJECTS_MAX: usize = 1_000;

/// What a key names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    /// What tells this storage from another.
    StorageId,
    /// Something of a job, in storage.
    OfJob { job: JobId },
    /// An uploaded file, by the BLAKE3 of its content.
    Upload { blake3: String },
    /// A planned source.
    Source { job: JobId, index: usize },
}

/// What a caller asks to do with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

type Chunks = ReceiverStream<Result<wire::ReadChunk, Status>>;
type Replies = ReceiverStream<Result<wire::WriteReply, Status>>;

#[tonic::async_trait]
impl StorageService for Service {
    type ReadStream = Chunks;
    type WriteStream = Replies;

    async fn head(&self, request: Request<wire::HeadRequest>) -> RpcResult<wire::ObjectInfo> {
        let caller = caller_of(&request);
        let key = request.into_inner().key;
        let name = may(caller.as_ref(), &key, Access::Read)?;
        let service = self.clone();
        let work = async move {
            of_own_job(&service.context, caller.as_ref(), &name).await?;
            Ok(open(&service.context, &key).await?.info)
        };
        let info = self.detached(Priority::Other, work).await?;
        Ok(Response::new(info))
    }

    async fn read(&self, request: Request<wire::ReadRequest>) -> RpcResult<Chunks> {
        let caller = caller_of(&request);
        let request = request.into_inner();
        let name = may(caller.as_ref(), &request.key, Access::Read)?;
        let permit = self.relay_permit()?;
        let (service, key) = (self.clone(), request.key.clone());
        let work = async move {
            of_own_job(&service.context, caller.as_ref(), &name).await?;
            open(&service.context, &key).await
        };
        let object = self.detached(Priority::Other, work).await?;
        if request.if_match.is_some() && request.if_match != object.info.etag {
            return Err(Status::failed_precondition(format!("`{}` is another by now", request.key)));
        }
        let size = object.info.size_bytes;
        let end = request.end.unwrap_or(size).min(size);
        if request.start > end || (request.start == end && size > 0 && request.start >= size) {
            return Err(Status::out_of_range(format!("`{}` has {size} bytes", request.key)));
        }
        let (chunks, stream) = mpsc::channel(CHUNKS_AHEAD_MAX);
        self.context.calls.spawn(async move {
            relay(object, request.start..end, &chunks).await;
            drop(permit);
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn write(&self, request: Request<Streaming<wire::WriteChunk>>) -> RpcResult<Replies> {
        let caller = caller_of(&request);
        let permit = self.relay_permit()?;
        let context = self.context.clone();
        let (replies, stream) = mpsc::channel(CHUNKS_AHEAD_MAX);
        self.context.calls.spawn(async move {
            let last = match store(&context, caller.as_ref(), request.into_inner(), &replies).await {
                Ok(object) => Ok(wire::WriteReply { received_bytes: object.size_bytes, object: Some(object) }),
                Err(status) => Err(status),
            };
            // A client that is gone does not hear it.
            drop(replies.send(last).await);
            drop(permit);
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn list_objects(&self, request: Request<wire::ListObjectsRequest>) -> RpcResult<wire::ListObjectsResponse> {
        let caller = caller_of(&request);
        let request = request.into_inner();
        let context = self.context.clone();
        let page =
            self.detached(Priority::Other, async move { list(&context, caller.as_ref(), &request).await }).await?;
        Ok(Response::new(page))
    }
}

impl Service {
    /// Takes one of the places for streams; a client without one comes again.
    fn relay_permit(&self) -> Result<tokio::sync::OwnedSemaphorePermit, Status> {
        Arc::clone(&self.limits.relay)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("too many objects are being relayed, ask again later"))
    }
}

/// An object that may be read.
struct Readable {
    info: wire::ObjectInfo,
    content: Content,
}

enum Content {
    Stored { storage: Storage, key: String },
    Source(SourceObject),
}

impl Readable {
    async fn read(&self, range: Range<u64>) -> Result<Bytes, DatasetError> {
        match &self.content {
            Content::Stored { storage, key } => storage.get_range(key, range).await,
            Content::Source(source) => source.read(range).await,
        }
    }
}

/// Opens what a key names. What is not found where the storage is away is away too, and not gone.
async fn open(context: &Context, key: &str) -> Result<Readable, Status> {
    match find(context, key).await {
        Err(status) if status.code() == Code::NotFound && key != STORAGE_ID_KEY => {
            context.storage.confirm().await.map_err(|error| said(&error))?;
            Err(status)
        }
        found => found,
    }
}

async fn find(context: &Context, key: &str) -> Result<Readable, Status> {
    let storage = &context.storage;
    let name = named(key).ok_or_else(|| unnamed(key))?;
    if name == Named::StorageId {
        // The id of another storage is not given away: it would be taken for ours.
        storage.confirm().await.map_err(|error| {
            let is_swapped = error.kind() == ErrorKind::StorageSwapped;
            if is_swapped { Status::not_found(error_chain(&error)) } else { said(&error) }
        })?;
    }
    match name {
        Named::StorageId | Named::OfJob { .. } | Named::Upload { .. } => {
            let found = storage.head(key).await.map_err(|error| said(&error))?;
            let info = info_of(storage, key, found);
            Ok(Readable { info, content: Content::Stored { storage: storage.clone(), key: key.to_owned() } })
        }
        Named::Source { job, index } => {
            let mut sources = context.store.sources(job).await.map_err(status_of)?;
            if index >= sources.len() {
                return Err(Status::not_found(format!("job {job} has no planned source {index}")));
            }
            let planned = sources.swap_remove(index);
            context.config.roots.check(&planned.source.uri, storage.url()).map_err(|error| {
                warn!(job.id = %job, error = error_chain(&error), "a source is not relayed");
                match error {
                    RootError::UploadMissing { .. } | RootError::SourceMissing { .. } => {
                        Status::not_found(error_chain(&error))
                    }
                    RootError::NotAllowed { .. } | RootError::Bad(_) | RootError::BadRoot { .. } => {
                        Status::permission_denied(error.to_string())
                    }
                }
            })?;
            let source = SourceObject::open(&planned).await.map_err(|error| {
                let is_gone = matches!(error, DatasetError::SourceGone { .. });
                if is_gone { Status::not_found(error_chain(&error)) } else { said(&error) }
            })?;
            let found = source.fingerprint();
            let info = wire::ObjectInfo {
                key: key.to_owned(),
                size_bytes: found.size,
                etag: found.etag.clone(),
                uri: planned.source.uri,
            };
            Ok(Readable { info, content: Content::Source(source) })
        }
    }
}

/// Sends the bytes of an object until its end, or the client's.
async fn relay(object: Readable, range: Range<u64>, chunks: &Sender<Result<wire::ReadChunk, Status>>) {
    let mut info = Some(object.info.clone());
    let mut at = range.start;
    loop {
        let end = range.end.min(at + CHUNK_BYTES_MAX as u64);
        let chunk = match object.read(at..end).await {
            Ok(bytes) if bytes.is_empty() && at < end => Err(Status::data_loss("the object is shorter than it was")),
            Ok(bytes) => {
                at += bytes.len() as u64;
                Ok(wire::ReadChunk { object: info.take(), data: bytes.to_vec() })
            }
            Err(error) => Err(said(&error)),
        };
        let ends = chunk.is_err() || at >= range.end;
        let sent = tokio::time::timeout(CHUNK_WITHIN, chunks.send(chunk)).await;
        if ends || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

/// Stores an object as it comes. Whatever goes wrong, nothing of it becomes visible.
async fn store(
    context: &Context,
    caller: Option<&Identity>,
    mut chunks: Streaming<wire::WriteChunk>,
    replies: &Sender<Result<wire::WriteReply, Status>>,
) -> Result<wire::ObjectInfo, Status> {
    let mut first = next(&mut chunks).await?.ok_or_else(|| Status::invalid_argument("nothing was sent"))?;
    let key = std::mem::take(&mut first.key);
    let name = may(caller, &key, Access::Write)?;
    may_write(context, &key, &name).await?;
    let storage = &context.storage;
    storage.confirm().await.map_err(|error| said(&error))?;
    let mut object = storage.create_new(&key).await.map_err(|error| said(&error))?;
    let digest = match receive(&mut object, first, &mut chunks, replies).await {
        Ok(digest) => digest,
        Err(status) => {
            debug!(key, error = status.message(), "an upload broke off");
            object.abort().await;
            return Err(status);
        }
    };
    if let Named::Upload { blake3 } = &name
        && *blake3 != digest
    {
        object.abort().await;
        return Err(Status::invalid_argument(format!("the content of `{key}` is not what its name says")));
    }
    let stored = object.finish().await.map_err(|error| said(&error))?;
    storage.confirm().await.map_err(|error| said(&error))?;
    Ok(info_of(storage, &key, stored))
}

/// Takes chunks until the last, and returns the BLAKE3 of what came, which is what was sent.
async fn receive(
    object: &mut NewObject,
    first: wire::WriteChunk,
    chunks: &mut Streaming<wire::WriteChunk>,
    replies: &Sender<Result<wire::WriteReply, Status>>,
) -> Result<String, Status> {
    let (mut hasher, mut received, mut acknowledged) = (Hasher::new(), 0_u64, 0_u64);
    let mut chunk = first;
    loop {
        if chunk.data.len() > CHUNK_BYTES_MAX {
            return Err(Status::invalid_argument(format!("a chunk has at most {CHUNK_BYTES_MAX} bytes")));
        }
        hasher.update(&chunk.data);
        received += chunk.data.len() as u64;
        object.write(&chunk.data).await.map_err(|error| said(&error))?;
        if let Some(expected) = chunk.blake3 {
            let found = hasher.finalize().to_hex().to_string();
            return if found == expected {
                Ok(found)
            } else {
                Err(Status::data_loss("what arrived is not what was sent: send it again"))
            };
        }
        if received - acknowledged >= REPLY_BYTES {
            acknowledged = received;
            // Progress is a courtesy: a client that does not read it is not waited for.
            drop(replies.try_send(Ok(wire::WriteReply { received_bytes: received, object: None })));
        }
        chunk = next(chunks).await?.ok_or_else(|| Status::aborted("the upload ended before its digest"))?;
    }
}

async fn next(chunks: &mut Streaming<wire::WriteChunk>) -> Result<Option<wire::WriteChunk>, Status> {
    match tokio::time::timeout(CHUNK_WITHIN, chunks.message()).await {
        Ok(chunk) => chunk,
        Err(_) => Err(Status::deadline_exceeded("nothing was sent for too long")),
    }
}

/// Returns what a key names, if the caller may access it so. Workers need sources and write outputs, clients
/// write uploads and read results.
fn may(caller: Option<&Identity>, key: &str, access: Access) -> Result<Named, Status> {
    let name = named(key).ok_or_else(|| unnamed(key))?;
    let Some(caller) = caller else { return Ok(name) };
    let is_allowed = match (&name, access) {
        (Named::StorageId | Named::OfJob { .. }, Access::Read) => true,
        (Named::Source { .. }, Access::Read) | (Named::OfJob { .. }, Access::Write) => caller.role == Role::Worker,
        (Named::Upload { .. }, Access::Read) => caller.role != Role::Reader,
        (Named::Upload { .. }, Access::Write) => matches!(caller.role, Role::Submitter | Role::Admin),
        (Named::StorageId | Named::Source { .. }, Access::Write) => false,
    };
    if is_allowed {
        return Ok(name);
    }
    warn!(identity = caller.name, role = %caller.role, ?access, "an object was refused");
    Err(Status::permission_denied(format!("`{}` may not do this with `{key}`", caller.name)))
}

/// Refuses what belongs to a job that is none of the caller's business.
async fn of_own_job(context: &Context, caller: Option<&Identity>, name: &Named) -> Result<(), Status> {
    let (Named::OfJob { job } | Named::Source { job, .. }, Some(Identity { role: Role::Submitter, .. })) =
        (name, caller)
    else {
        return Ok(());
    };
    match context.store.brief(*job).await.map_err(status_of)? {
        Some(brief) if sees(caller, brief.owner.as_ref()) => Ok(()),
        Some(_) | None => Err(status_of(StoreError::JobUnknown { job: *job })),
    }
}

/// A worker writes outputs of jobs that still run, a client writes uploads; all else is refused.
async fn may_write(context: &Context, key: &str, name: &Named) -> Result<(), Status> {
    match name {
        Named::Upload { .. } => Ok(()),
        Named::StorageId | Named::Source { .. } => Err(Status::permission_denied("this is only read")),
        Named::OfJob { job } => {
            let shards = format!("{}/", layout::shards_prefix(&job.to_string()));
            let is_output = key
                .strip_prefix(&shards)
                .is_some_and(|rest| rest.split('/').count() == 2 && rest.ends_with(".parquet"));
            if !is_output {
                return Err(Status::permission_denied(format!("`{key}` is not the key of an output")));
            }
            match context.store.brief(*job).await.map_err(status_of)? {
                None => Err(Status::not_found(format!("there is no job {job}"))),
                Some(brief) if brief.state.is_terminal() => {
                    Err(Status::failed_precondition(format!("job {job} has ended")))
                }
                Some(_) => Ok(()),
            }
        }
    }
}

async fn list(
    context: &Context,
    caller: Option<&Identity>,
    request: &wire::ListObjectsRequest,
) -> Result<wire::ListObjectsResponse, Status> {
    let prefix = request.prefix.trim_end_matches('/');
    // A probe key below the prefix: what may be read there may be listed.
    match named(&format!("{prefix}/x")) {
        Some(name @ Named::OfJob { .. }) => of_own_job(context, caller, &name).await?,
        Some(Named::StorageId | Named::Upload { .. } | Named::Source { .. }) | None => return Err(unnamed(prefix)),
    }
    let found = context.storage.list(prefix).await.map_err(|error| said(&error))?;
    let after = request.after_key.as_deref().unwrap_or("");
    let mut rest = found.into_iter().filter(|(key, _)| key.as_str() > after);
    let objects: Vec<_> =
        rest.by_ref().take(PAGE_OBJECTS_MAX).map(|(key, found)| info_of(&context.storage, &key, found)).collect();
    Ok(wire::ListObjectsResponse { objects, more: rest.next().is_some() })
}

fn info_of(storage: &Storage, key: &str, found: dataset::ObjectInfo) -> wire::ObjectInfo {
    let uri = format!("{}/{key}", storage.url().trim_end_matches('/'));
    wire::ObjectInfo { key: key.to_owned(), size_bytes: found.size, etag: found.etag, uri }
}

/// Returns what a key names; `None` where it names nothing allowed.
fn named(key: &str) -> Option<Named> {
    if key == STORAGE_ID_KEY {
        return Some(Named::StorageId);
    }
    let mut parts = key.split('/');
    let (kind, owner) = (parts.next()?, parts.next()?);
    let rest: Vec<&str> = parts.collect();
    let is_plain = |part: &&str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    if rest.is_empty() || !rest.iter().all(is_plain) {
        return None;
    }
    match kind {
        "jobs" => Some(Named::OfJob { job: job_of(owner)? }),
        "uploads" => {
            let is_digest =
                owner.len() == 64 && owner.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            (is_digest && rest.len() == 1).then(|| Named::Upload { blake3: owner.to_owned() })
        }
        "sources" => match rest.as_slice() {
            [index] => Some(Named::Source { job: job_of(owner)?, index: index.parse().ok()? }),
            _ => None,
        },
        _ => None,
    }
}

/// Takes a job's id only as it is written in keys.
fn job_of(text: &str) -> Option<JobId> {
    let job: JobId = id("job_id", text).map_err(refused).ok()?;
    (job.to_string() == text).then_some(job)
}

fn unnamed(key: &str) -> Status {
    let shown: String = key.chars().take(200).flat_map(char::escape_debug).collect();
    Status::permission_denied(format!("`{shown}` names nothing that is relayed"))
}

/// Says to a client what storage said.
pub(super) fn said(error: &DatasetError) -> Status {
    let message = error_chain(error);
    match error.kind() {
        ErrorKind::NotFound => Status::not_found(message),
        ErrorKind::AlreadyExists => Status::already_exists(message),
        ErrorKind::SourceChanged => Status::failed_precondition(message),
        ErrorKind::BadInput => Status::invalid_argument(message),
        ErrorKind::Unsupported => Status::failed_precondition(message),
        ErrorKind::Corrupt => Status::data_loss(message),
        ErrorKind::Throttled => Status::resource_exhausted(message),
        ErrorKind::NoSpace | ErrorKind::Auth | ErrorKind::StorageSwapped | ErrorKind::Io => {
            warn!(error = message, "storage failed in a relayed call");
            Status::unavailable(message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_touches_what_it_needs() {
        let job = JobId::generate();
        let keys = [
            "storage-id".to_owned(),
            format!("jobs/{job}/shards/00000000/x.parquet"),
            format!("uploads/{}/a.csv", "ab".repeat(32)),
            format!("sources/{job}/0"),
        ];
        // Which of these each may read, and write.
        let cases = [
            (Role::Worker, [true, true, true, true], [false, true, false, false]),
            (Role::Reader, [true, true, false, false], [false, false, false, false]),
            (Role::Submitter, [true, true, true, false], [false, false, true, false]),
            (Role::Admin, [true, true, true, false], [false, false, true, false]),
        ];
        for (role, read, write) in cases {
            let caller = Identity { name: "x".to_owned(), role };
            let allowed = |access| keys.each_ref().map(|key| may(Some(&caller), key, access).is_ok());
            assert_eq!((allowed(Access::Read), allowed(Access::Write)), (read, write), "{role}");
        }
    }

    #[test]
    fn only_what_is_ours_can_be_named() {
        let job = JobId::generate().to_string();
        let digest = "ab".repeat(32);
        for key in [
            format!("jobs/{job}/shards/00000000/e000001-x.parquet"),
            format!("jobs/{job}/manifest-1.json"),
            format!("uploads/{digest}/a.csv"),
            format!("sources/{job}/0"),
        ] {
            assert!(named(&key).is_some(), "{key}");
        }
        for key in [
            String::new(),
            "storage-id/x".to_owned(),
            "/etc/passwd".to_owned(),
            "jobs".to_owned(),
            format!("jobs/{job}"),
            format!("jobs/{job}/"),
            format!("jobs/{job}/../../etc/passwd"),
            format!("jobs/{job}/%2e%2e/x"),
            format!("jobs/{job}//x"),
            format!("jobs/{job}/a\\b"),
            format!("jobs/{job}/a\0b"),
            format!("jobs/{job}/.hidden"),
            format!("jobs/{}/x", job.to_uppercase()),
            "jobs/not-a-job/x".to_owned(),
            format!("uploads/{digest}/a/b.csv"),
            format!("uploads/{}/a.csv", digest.to_uppercase()),
            "uploads/../jobs/x".to_owned(),
            format!("sources/{job}/-1"),
            format!("sources/{job}/0/x"),
            format!("sources/{job}/file:"),
            "s3://bucket/key".to_owned(),
            "http://169.254.169.254/latest".to_owned(),
        ] {
            assert!(named(&key).is_none(), "{key}");
        }
    }
}
