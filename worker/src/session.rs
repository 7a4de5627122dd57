//! A worker's life with its coordinator: open a session, lease shards, see each to its end, and on shutdown give back what is
//! not finished. A lost session costs its leases and nothing else: the next one starts over.

use std::sync::Arc;
use std::time::Duration;

use proto::revision::REVISION;
use proto::work::{Session, WorkerInfo};
use proto::{RequestId, RpcErrorKind, WorkClient};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::WorkerConfig;
use crate::context::{Retries, SessionContext};
use crate::error::WorkerError;
use crate::heartbeat::{Heartbeat, Leases};
use crate::host::WorkerHost;
use crate::lease::{Ended, Lease};
use crate::meter::Meter;
use crate::source_tasks::SourceTasks;

/// The longest wait between two lease requests that brought nothing, whatever the coordinator says.
const LEASE_PAUSE_MS_MAX: u64 = 30_000;

/// What a worker has done so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) shards: u64,
    pub(crate) rows: u64,
    pub(crate) rejected: u64,
    pub(crate) tokens: u64,
    pub(crate) meter: Meter,
}

/// Why a session ended.
enum End {
    Lost,
    Drained,
}

/// A worker, ready to lease.
pub(crate) struct Worker {
    pub(crate) config: WorkerConfig,
    pub(crate) client: WorkClient,
    pub(crate) host: Arc<dyn WorkerHost>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) tally: Tally,
    pub(crate) begun: Instant,
    /// When it last had a shard, or no coordinator to tell it that there is none.
    pub(crate) last_busy: Instant,
}

impl Worker {
    /// Works through one session after another until shutdown.
    pub(crate) async fn serve(&mut self) -> Result<(), WorkerError> {
        while let Some(session) = self.open_session().await? {
            tracing::debug!(session.id = %session.id, session.ttl_ms, session.heartbeat_ms, "session opened");
            match self.work(&session).await? {
                End::Lost => tracing::info!(session.id = %session.id, "the session is over, opening another"),
                End::Drained => break,
            }
        }
        Ok(())
    }

    /// Returns a session, or `None` where shutdown came first.
    async fn open_session(&self) -> Result<Option<Session>, WorkerError> {
        let info = WorkerInfo {
            name: self.config.name.clone(),
            devices: self.config.device_names(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: REVISION,
        };
        let mut retries = Retries::new(self.offline_max());
        loop {
            let opened = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Ok(None),
                opened = self.client.open_session(&info) => opened,
            };
            match opened {
                Ok(session) => return Ok(Some(session)),
                Err(error) if ends_worker(error.kind) => return Err(WorkerError::Refused(error)),
                Err(error) => retries.wait_or(error, &self.shutdown).await?,
            }
        }
    }

    fn offline_max(&self) -> Duration {
        Duration::from_millis(self.config.offline_ms_max)
    }

    async fn work(&mut self, session: &Session) -> Result<End, WorkerError> {
        let context = Arc::new(SessionContext {
            client: self.client.clone(),
            session: session.id,
            storage: self.host.storage(&session.storage_url).await.map_err(WorkerError::Storage)?,
            host: Arc::clone(&self.host),
            leases: Leases::default(),
            tasks: SourceTasks::default(),
            offline_max: self.offline_max(),
            lost: CancellationToken::new(),
            drain: CancellationToken::new(),
            trouble: Arc::clone(&self.config.trouble),
        });
        let (client, leases, lost) = (self.client.clone(), context.leases.clone(), context.lost.clone());
        let heartbeat = Heartbeat::start(&*self.host, client, session, self.offline_max(), leases, lost)?;
        let mut running = JoinSet::new();
        let end = self.lease_until_end(&context, &mut running).await;
        // Each lease sees for itself why it must stop: gives its shard back, or just drops it.
        context.drain.cancel();
        let deadline = Instant::now() + Duration::from_millis(self.config.drain_ms_max);
        self.finish(running, deadline).await;
        // Not before: a commit may still be under way, and needs the session alive.
        heartbeat.stop().await;
        if !context.lost.is_cancelled() {
            close(&context, deadline).await;
        }
        end
    }

    async fn lease_until_end(
        &mut self,
        context: &Arc<SessionContext>,
        running: &mut JoinSet<Ended>,
    ) -> Result<End, WorkerError> {
        let mut request = RequestId::generate();
        let mut retries = Retries::new(self.offline_max());
        loop {
            let is_over = self.is_over();
            if !running.is_empty() {
                self.last_busy = Instant::now();
            } else if is_over || self.is_idle() {
                let (idle, uptime) = (self.last_busy.elapsed(), self.begun.elapsed());
                tracing::info!(?idle, ?uptime, "no more shards are taken: the worker ends");
                return Ok(End::Drained);
            }
            let held = u32::try_from(running.len()).unwrap_or(u32::MAX);
            let free = if is_over { 0 } else { self.config.lease_count.max(1).saturating_sub(held) };
            let mut pause = None;
            if free > 0 {
                let leased = tokio::select! {
                    biased;
                    () = self.shutdown.cancelled() => return Ok(End::Drained),
                    () = context.lost.cancelled() => return Ok(End::Lost),
                    leased = context.client.lease(context.session, request, free) => leased,
                };
                match leased {
                    Ok(leased) => {
                        // Only an answered request is over: an unanswered one may have granted shards, and is repeated.
                        request = RequestId::generate();
                        retries.reset();
                        if (leased.grants.len() as u64) < u64::from(free) {
                            pause = Some(Duration::from_millis(leased.retry_after_ms.clamp(1, LEASE_PAUSE_MS_MAX)));
                        }
                        for grant in leased.grants {
                            running.spawn(Lease::new(Arc::clone(context), grant).run());
                        }
                    }
                    Err(error) if error.kind == RpcErrorKind::NotFound => return Ok(End::Lost),
                    Err(error) if error.is_retryable() => {
                        self.last_busy = Instant::now();
                        pause = Some(retries.next(error)?);
                    }
                    Err(error) if ends_worker(error.kind) => return Err(WorkerError::Refused(error)),
                    Err(error) => {
                        // Whatever it was about, other shards may go well: what this request was granted goes back once a
                        // heartbeat does not report it, and the next request is another one.
                        tracing::warn!(error = error.message, "no lease can be made of the answer, asking again");
                        request = RequestId::generate();
                        pause = Some(retries.pause());
                    }
                }
            }
            if let Some(end) = self.wait(context, running, pause).await {
                return Ok(end);
            }
        }
    }

    /// Whether its time is over.
    fn is_over(&self) -> bool {
        self.config.runtime_max.is_some_and(|most| self.begun.elapsed() >= most)
    }

    /// Whether it had no shard for as long as it is to wait for one.
    fn is_idle(&self) -> bool {
        self.config.idle_max.is_some_and(|most| self.last_busy.elapsed() >= most)
    }

    /// Waits until there is reason to ask for more: a shard ended, or the pause is over.
    async fn wait(
        &mut self,
        context: &SessionContext,
        running: &mut JoinSet<Ended>,
        pause: Option<Duration>,
    ) -> Option<End> {
        let paused = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        let full = running.len() >= self.config.lease_count.max(1) as usize;
        if pause.is_none() && !full && !self.is_over() {
            return None;
        }
        let until_over = self.config.runtime_max.and_then(|most| self.begun.checked_add(most));
        let until_over = until_over.filter(|end| *end > Instant::now());
        let until_idle = self.config.idle_max.filter(|_| running.is_empty());
        let until_idle = until_idle.and_then(|most| self.last_busy.checked_add(most));
        let ended = async {
            match [until_over, until_idle].into_iter().flatten().min() {
                Some(end) => tokio::time::sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Some(End::Drained),
            () = context.lost.cancelled() => Some(End::Lost),
            Some(ended) = running.join_next() => {
                self.count(ended);
                None
            }
            () = paused => None,
            () = ended => None,
        }
    }

    /// Waits for the leases to end; those that take too long are abandoned.
    async fn finish(&mut self, mut running: JoinSet<Ended>, deadline: Instant) {
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, running.join_next()).await {
            self.count(ended);
        }
        running.abort_all();
    }

    fn count(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        let Ok(Ended { committed, meter }) = ended else { return };
        self.tally.meter.absorb(&meter);
        if let Some(counts) = committed {
            self.tally.shards += 1;
            self.tally.rows += counts.rows;
            self.tally.rejected += counts.rejected();
            self.tally.tokens += counts.tokens;
        }
    }
}

/// Whether an answer to a lease request is about the worker itself, so that no later request can fare better.
fn ends_worker(kind: RpcErrorKind) -> bool {
    match kind {
        RpcErrorKind::Unimplemented | RpcErrorKind::Unauthenticated | RpcErrorKind::PermissionDenied => true,
        RpcErrorKind::Unavailable
        | RpcErrorKind::DeadlineExceeded
        | RpcErrorKind::ResourceExhausted
        | RpcErrorKind::NotFound
        | RpcErrorKind::AlreadyExists
        | RpcErrorKind::InvalidArgument
        | RpcErrorKind::FailedPrecondition
        | RpcErrorKind::Internal
        | RpcErrorKind::BadAnswer => false,
    }
}

async fn close(context: &SessionContext, deadline: Instant) {
    match tokio::time::timeout_at(deadline, context.client.close_session(context.session)).await {
        Ok(Ok(())) => tracing::debug!(session.id = %context.session, "session closed"),
        Ok(Err(error)) => tracing::warn!(error = error.message, "the session could not be closed, it will expire"),
        Err(_) => tracing::warn!("no answer in time, the session will expire"),
    }
}
