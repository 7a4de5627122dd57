//! What travels with a lease: whole grants while they are small, and otherwise the grant without what all shards of its
//! source have in common, which is fetched once, in pieces. So one job cannot make an answer too large for a message.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use proto::generated as wire;
use proto::transport::MESSAGE_BYTES_MAX;
use proto::work::{FailureClass, Granted, LightGrant, SourceTask};
use proto::{JobId, SessionId};
use tokio::sync::Mutex;
use tonic::Status;
use tracing::warn;

use super::status_of;
use crate::context::Context;
use crate::store::StoreError;

/// Most bytes of grants in one answer.
const ANSWER_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 64 * 1024;
/// Most bytes of a piece.
const PIECE_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes that are remembered.
const REMEMBERED_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A source task, encoded once for all its pieces.
struct Encoded {
    bytes: Bytes,
    blake3: String,
}

type Key = (JobId, u32);

/// The encoded source tasks that were requested last. A task never changes, so that nothing here is ever stale; a fleet that
/// begins with a job reads it from the database once.
#[derive(Default)]
pub(super) struct SourceTasks(Mutex<VecDeque<(Key, Arc<Encoded>)>>);

impl SourceTasks {
    /// Returns bytes of an encoded task from `start` on.
    pub(super) async fn piece(&self, context: &Context, key: Key, start: u64) -> Result<wire::SourceTaskPiece, Status> {
        let Some(encoded) = self.get(context, key).await.map_err(status_of)? else {
            let (job, index) = key;
            return Err(Status::not_found(format!("source {index} of job `{job}` is not known")));
        };
        let size = encoded.bytes.len();
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        if start > size {
            return Err(Status::invalid_argument(format!("`start` is {start}, the size is {size}")));
        }
        let data = encoded.bytes.slice(start..size.min(start + PIECE_BYTES_MAX)).to_vec();
        Ok(wire::SourceTaskPiece { data, size_bytes: size as u64, blake3: encoded.blake3.clone() })
    }

    /// Reads one at a time: each may take megabytes.
    async fn get(&self, context: &Context, key: Key) -> Result<Option<Arc<Encoded>>, StoreError> {
        let mut known = self.0.lock().await;
        if let Some(at) = known.iter().position(|(other, _)| *other == key) {
            let found = known.remove(at);
            let encoded = found.as_ref().map(|(_, encoded)| Arc::clone(encoded));
            known.extend(found);
            return Ok(encoded);
        }
        let (job, source_index) = key;
        let Some(task) = context.store.source_task(job, source_index).await? else { return Ok(None) };
        let bytes = Bytes::from(wire::SourceTask::from(&task).encode_to_vec());
        let blake3 = blake3::hash(&bytes).to_hex().to_string();
        let encoded = Arc::new(Encoded { bytes, blake3 });
        known.push_back((key, Arc::clone(&encoded)));
        let size = |known: &VecDeque<(Key, Arc<Encoded>)>| known.iter().map(|(_, one)| one.bytes.len()).sum::<usize>();
        while known.len() > 1 && size(&known) > REMEMBERED_BYTES_MAX {
            known.pop_front();
        }
        Ok(Some(encoded))
    }

    /// Makes the answer to a worker that takes whole grants only. What does not fit goes back: at once where it fits
    /// another answer, and else after a pause, for a worker that fetches source tasks.
    pub(super) async fn whole(
        &self,
        context: &Context,
        session: SessionId,
        granted: Vec<Granted>,
    ) -> Result<Vec<wire::Grant>, Status> {
        let mut answer = Vec::with_capacity(granted.len());
        let mut bytes = 0;
        for one in granted {
            let (shard, epoch) = one.lease();
            let grant = match &one {
                Granted::Whole(_) | Granted::Unreadable { .. } => wire::Grant::from(&one),
                Granted::Light(light) => self.inflated(context, light).await?,
            };
            let size = grant.encoded_len() + 8;
            if bytes + size <= ANSWER_BYTES_MAX {
                bytes += size;
                answer.push(grant);
            } else if size <= ANSWER_BYTES_MAX {
                context.store.release(session, shard, epoch).await.map_err(status_of)?;
            } else {
                let message = format!(
                    "its grant takes {size} bytes, and this worker is of a version that takes {ANSWER_BYTES_MAX} at most: \
                     upgrade the worker"
                );
                warn!(shard.id = %shard, %epoch, session.id = %session, message, "shard not granted");
                let class = FailureClass::Throttled;
                context.store.fail(session, shard, epoch, class, &message).await.map_err(status_of)?;
            }
        }
        Ok(answer)
    }

    async fn inflated(&self, context: &Context, light: &LightGrant) -> Result<wire::Grant, Status> {
        let key = (light.shard.job, light.slice.source_index);
        let unknown = || Status::internal(format!("the source of shard {} is gone", light.shard));
        let encoded = self.get(context, key).await.map_err(status_of)?.ok_or_else(unknown)?;
        let task =
            wire::SourceTask::decode(encoded.bytes.clone()).map_err(|error| Status::internal(error.to_string()))?;
        let task = SourceTask::try_from(task).map_err(|error| Status::internal(error.to_string()))?;
        Ok((&light.with(&task)).into())
    }
}
