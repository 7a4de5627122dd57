//! What all shards of one source of a job have in common, fetched once for the session where it is too large to travel with
//! every grant.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::work::SourceTask;
use proto::{JobId, RpcError, SessionId, WorkClient};
use tokio::sync::OnceCell;

/// Tasks that are kept: those of the shards that are worked on, and of those before them. Each may take megabytes.
const KEPT_MAX: usize = 4;

/// Which task: of a job's source.
type Key = (JobId, u32);
/// A task, or a place for it that is being filled.
type Place = Arc<OnceCell<Arc<SourceTask>>>;

/// The tasks that were needed last.
#[derive(Default)]
pub(crate) struct SourceTasks(Mutex<VecDeque<(Key, Place)>>);

impl SourceTasks {
    /// Returns a task, and fetches it where it is not here; shards that need it at the same time fetch it once.
    pub(crate) async fn get(
        &self,
        client: &WorkClient,
        session: SessionId,
        job: JobId,
        source_index: u32,
    ) -> Result<Arc<SourceTask>, RpcError> {
        let place = self.place((job, source_index));
        let fetch = || async { client.source_task(session, job, source_index).await.map(Arc::new) };
        place.get_or_try_init(fetch).await.cloned()
    }

    fn place(&self, key: Key) -> Place {
        let mut kept = self.lock();
        let at = kept.iter().position(|(other, _)| *other == key);
        let (_, place) = at.and_then(|at| kept.remove(at)).unwrap_or_else(|| (key, Place::default()));
        kept.push_back((key, Arc::clone(&place)));
        if kept.len() > KEPT_MAX {
            kept.pop_front();
        }
        place
    }

    /// A panic cannot leave the list half changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, VecDeque<(Key, Place)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
