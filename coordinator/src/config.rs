//! How a coordinator works. Plain values: flags and the environment are read elsewhere. Lease lengths and retry budgets
//! are the store's [`crate::Policy`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::access::Access;
use crate::clock::{Clock, SystemClock};
use crate::corpora::{Corpora, Stored};
use crate::metrics::Metrics;
use crate::roots::Roots;
use crate::tls::Tls;

/// How a coordinator works. Take [`Config::default`] and change what differs.
#[derive(Clone)]
pub struct Config {
    /// Where time comes from. The store must have the same.
    pub clock: Arc<dyn Clock>,
    /// Where corpora come from.
    pub corpora: Arc<dyn Corpora>,
    /// Jobs whose corpora are cut at the same time; further ones wait.
    pub plans_max: usize,
    /// Most shards stored at once while planning.
    pub plan_page: usize,
    /// Shards of one job; a corpus that has more fails it.
    pub shards_max: u64,
    /// Jobs of one owner that have not ended (of all, where callers are not known); more are refused.
    pub jobs_active_max: u64,
    /// Attempts at planning without any progress in between, before a job fails of I/O.
    pub plan_attempts_max: u32,
    /// Pause after a failed attempt at planning; it grows with each further one.
    pub plan_pause: Duration,
    /// How often to look for jobs to plan and to finalize where no notice came (another coordinator accepted them).
    pub poll: Duration,
    /// Least time between two looks for jobs to finalize: a thousand commits a second are one look.
    pub finalize_gap: Duration,
    /// How often to expire sessions, settle cancelled jobs and collect garbage. Far below the TTL.
    pub sweep: Duration,
    /// After how long an idle worker asks again.
    pub idle: Duration,
    /// Calls served at the same time for commits, heartbeats and the like.
    pub calls_critical_max: usize,
    /// Calls served at the same time for everything else, so that it cannot hold up a commit.
    pub calls_other_max: usize,
    /// Who may do what.
    pub access: Access,
    /// The certificate to show and the authorities that clients' certificates come from; `None` serves in the clear.
    pub tls: Option<Arc<Tls>>,
    /// Connections at the same time; more wait to be accepted.
    pub connections_max: usize,
    /// A client that has connected speaks within this time, or loses its place.
    pub greeting_within: Duration,
    /// Calls at the same time on one connection.
    pub streams_max: u32,
    /// Objects relayed at the same time, both ways.
    pub relays_max: usize,
    /// Which corpora are read for those who submit jobs.
    pub roots: Roots,
    /// Where calls are counted.
    pub metrics: Metrics,
    /// A call that takes longer is given up; what it began in the database is finished.
    pub call_timeout: Duration,
    /// How long the end may take: calls under way, then loops.
    pub drain: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            corpora: Arc::new(Stored::default()),
            plans_max: 4,
            plan_page: 256,
            shards_max: 1_000_000,
            jobs_active_max: 1_000,
            plan_attempts_max: 5,
            plan_pause: Duration::from_secs(1),
            poll: Duration::from_secs(1),
            finalize_gap: Duration::from_millis(50),
            sweep: Duration::from_secs(5),
            idle: Duration::from_millis(500),
            calls_critical_max: 1_024,
            calls_other_max: 256,
            access: Access::Open,
            tls: None,
            connections_max: 16_384,
            greeting_within: Duration::from_secs(20),
            streams_max: 256,
            relays_max: 128,
            roots: Roots::uploads_only(),
            metrics: Metrics::default(),
            call_timeout: Duration::from_secs(60),
            drain: Duration::from_secs(10),
        }
    }
}

/// Descriptors that are not for clients of the protocol: of the database, storage, relayed objects, metrics and files.
pub const DESCRIPTORS_RESERVED: usize = 320;
/// Fewest connections, however few descriptors there are.
const CONNECTIONS_MIN: usize = 16;

impl Config {
    /// Allows no more connections than a process with `descriptors` (its limit of open files) can have.
    #[must_use]
    pub fn within_descriptors(self, descriptors: usize) -> Self {
        let most = descriptors.saturating_sub(DESCRIPTORS_RESERVED).max(CONNECTIONS_MIN);
        Self { connections_max: self.connections_max.min(most), ..self }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("plans_max", &self.plans_max)
            .field("plan_page", &self.plan_page)
            .field("access", &self.access)
            .field("tls", &self.tls.is_some())
            .field("poll", &self.poll)
            .field("sweep", &self.sweep)
            .field("idle", &self.idle)
            .field("call_timeout", &self.call_timeout)
            .field("drain", &self.drain)
            .finish_non_exhaustive()
    }
}
