//! Keeps the session alive: a thread with its own small runtime (see [`crate::host`]) tells the coordinator how far each lease got, and passes
//! on what the coordinator says. It decides nothing: what a revoked lease means is its holder's business.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use proto::work::{Directive, HeartbeatReply, Progress, Session};
use proto::{Epoch, RpcErrorKind, SessionId, ShardId, WorkClient};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::WorkerError;
use crate::host::WorkerHost;
use crate::meter::Meter;

/// The leases of a session, as the heartbeat sees them.
#[derive(Clone, Default)]
pub(crate) struct Leases(Arc<Mutex<Vec<Entry>>>);

struct Entry {
    shard: ShardId,
    epoch: Epoch,
    meter: Arc<Meter>,
    revoked: CancellationToken,
}

/// A lease that is held; dropping it takes it off the heartbeat.
pub(crate) struct HeldLease {
    leases: Leases,
    shard: ShardId,
    epoch: Epoch,
    pub(crate) revoked: CancellationToken,
}

impl Leases {
    pub(crate) fn hold(&self, shard: ShardId, epoch: Epoch, meter: &Arc<Meter>) -> HeldLease {
        let revoked = CancellationToken::new();
        self.lock().push(Entry { shard, epoch, meter: Arc::clone(meter), revoked: revoked.clone() });
        HeldLease { leases: self.clone(), shard, epoch, revoked }
    }

    fn progress(&self) -> Vec<Progress> {
        let progress = |entry: &Entry| Progress {
            shard: entry.shard,
            epoch: entry.epoch,
            rows_done: entry.meter.rows(),
            tokens_done: entry.meter.tokens(),
        };
        self.lock().iter().map(progress).collect()
    }

    /// Does what the coordinator says about each lease that was reported; some may have ended since.
    fn apply(&self, reported: &[Progress], directives: &[Directive]) {
        let entries = self.lock();
        for (report, directive) in reported.iter().zip(directives) {
            match directive {
                Directive::Continue => {}
                Directive::Stop => entries
                    .iter()
                    .filter(|entry| entry.shard == report.shard && entry.epoch == report.epoch)
                    .for_each(|entry| entry.revoked.cancel()),
            }
        }
    }

    /// A panic cannot leave the list half changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.leases.lock().retain(|entry| (entry.shard, entry.epoch) != (self.shard, self.epoch));
    }
}

/// The heartbeat thread of one session.
pub(crate) struct Heartbeat {
    stop: CancellationToken,
    ended: BoxFuture<'static, ()>,
}

struct HeartbeatLoop {
    client: WorkClient,
    session: SessionId,
    interval: Duration,
    offline_max: Duration,
    leases: Leases,
    lost: CancellationToken,
    stop: CancellationToken,
}

impl Heartbeat {
    /// Starts the heartbeat. `lost` is cancelled once the session is dead, or no beat got through for `offline_max`.
    pub(crate) fn start(
        host: &dyn WorkerHost,
        client: WorkClient,
        session: &Session,
        offline_max: Duration,
        leases: Leases,
        lost: CancellationToken,
    ) -> Result<Self, WorkerError> {
        let stop = CancellationToken::new();
        let interval = Duration::from_millis(session.heartbeat_ms.max(1));
        // What a heartbeat does not report and is old goes back. So it is not repeated until it is old itself.
        let client = client.within(interval * 2);
        let heartbeat =
            HeartbeatLoop { client, session: session.id, interval, offline_max, leases, lost, stop: stop.clone() };
        let ended = host.spawn_heartbeat(Box::pin(heartbeat.run()));
        let ended = ended.map_err(|source| WorkerError::Thread { what: "heartbeat", source })?;
        Ok(Self { stop, ended })
    }

    /// Stops the heartbeat and waits for its end.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.ended.await;
    }
}

impl HeartbeatLoop {
    async fn run(self) {
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.send_until_lost() => {}
        }
    }

    async fn send_until_lost(&self) {
        let mut heard = Instant::now();
        loop {
            tokio::time::sleep(self.interval).await;
            let progress = self.leases.progress();
            match self.client.heartbeat(self.session, &progress).await {
                Ok(HeartbeatReply { session_lost: true, .. }) => {
                    return self.lose("the coordinator does not know it any more");
                }
                Ok(beat) => {
                    heard = Instant::now();
                    self.leases.apply(&progress, &beat.directives);
                }
                Err(error) if error.kind == RpcErrorKind::NotFound => return self.lose(&error.message),
                Err(error) => {
                    tracing::debug!(error = error.message, "no heartbeat got through");
                    if heard.elapsed() > self.offline_max {
                        return self.lose("no coordinator for too long");
                    }
                }
            }
        }
    }

    fn lose(&self, reason: &str) {
        tracing::warn!(session.id = %self.session, reason, "session lost");
        self.lost.cancel();
    }
}
