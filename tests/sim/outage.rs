//! What befalls many parts at once, or one of them for a while: a database that refuses, power that fails, corpora that
//! change, a storage that is not mounted, reads that flip a bit. Drawn from a stream of their own: a seed that has none of them keeps the history that it
//! has without.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use coordinator::StoreError;
use coordinator::store::memory::planted::{self, Bug};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sqlx::error::{DatabaseError, ErrorKind};
use tokio::time::Instant;

use crate::fault::Faults;
use crate::world::Node;

/// Runs that have any of these.
const STRICKEN: f64 = 0.5;
/// Shards that fail of their own accord more often would trip a breaker that looks back on few attempts.
const OFTEN: f64 = 0.2;
/// The longest that a database refuses, in milliseconds: longer than a lease lives.
const REFUSES_MS: u64 = 90_000;
/// The longest that a corpus is changed.
const CHANGED_MS: u64 = 60_000;
/// The longest that another storage is in the place of the one that there is.
const SWAPPED_MS: u64 = 60_000;

/// Probabilities of one run, and the stream that decides.
#[derive(Debug)]
pub(crate) struct Outages {
    dice: Mutex<StdRng>,
    rates: Mutex<Rates>,
    /// Whose last read flipped a bit.
    misread: Mutex<BTreeSet<Node>>,
    /// Whether many workers may die at once: then there are many.
    pub(crate) power_fails: bool,
    /// Whether the breaker is to look back on few attempts.
    pub(crate) short_breaker: bool,
}

/// How often, or how probable.
#[derive(Debug, Clone, Copy, Default)]
struct Rates {
    refusal: f64,
    power_loss: f64,
    change: f64,
    swap: f64,
    flip_of_source: f64,
    flip_of_output: f64,
    every_ms: u64,
}

/// What happens next.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outage {
    /// The database refuses.
    Refusal(Refusal),
    /// These die at the same instant.
    PowerLoss {
        /// How many workers go on.
        spared: usize,
        /// Whether all coordinators die with them.
        coordinators: bool,
    },
    /// A corpus has other rows for so long.
    Change(Duration),
    /// An empty storage replaces the real one for so long.
    Swap(Duration),
}

impl Outages {
    /// Draws those of a run.
    pub(crate) fn draw(seed: u64, faults: &Faults) -> Self {
        // Any other seed would do that is not the one of the first stream.
        let dice = Mutex::new(StdRng::seed_from_u64(seed ^ 0x6f75_7461_6765_0000));
        let mut outages =
            Self { dice, rates: Mutex::default(), misread: Mutex::default(), power_fails: false, short_breaker: false };
        if faults.is_gentle() || !outages.happens(STRICKEN) {
            return outages;
        }
        let rates = Rates {
            refusal: outages.rate(1.0),
            power_loss: outages.rate(1.0),
            change: outages.rate(0.3),
            swap: outages.rate(0.5),
            flip_of_source: outages.rate(0.4),
            flip_of_output: outages.rate(1.0),
            every_ms: 5_000 + outages.up_to(60_000),
        };
        outages.power_fails = rates.power_loss > 0.0;
        outages.short_breaker = outages.power_fails && faults.shard_fails < OFTEN;
        outages.rates = Mutex::new(rates);
        outages
    }

    /// Ends them.
    pub(crate) fn end(&self) {
        *self.rates.lock().unwrap() = Rates::default();
    }

    fn rates(&self) -> Rates {
        *self.rates.lock().unwrap()
    }

    fn rate(&self, most: f64) -> f64 {
        if self.happens(0.5) { 0.0 } else { self.unit() * most }
    }

    fn unit(&self) -> f64 {
        self.dice.lock().unwrap().random()
    }

    fn happens(&self, probability: f64) -> bool {
        probability > 0.0 && self.unit() < probability
    }

    /// Returns a number from 0 to `most`.
    pub(crate) fn up_to(&self, most: u64) -> u64 {
        self.dice.lock().unwrap().random_range(0..=most)
    }

    fn some_time(&self, most_ms: u64) -> Duration {
        Duration::from_millis(1_000 + self.up_to(most_ms - 1_000))
    }

    /// Waits for the next one.
    pub(crate) async fn next(&self) -> Outage {
        let Rates { refusal, power_loss, change, swap, every_ms, .. } = self.rates();
        let all = refusal + power_loss + change + swap;
        if all == 0.0 {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(self.some_time(every_ms)).await;
        let at = self.unit() * all;
        if at < refusal {
            return Outage::Refusal(self.refusal());
        }
        if at < refusal + power_loss {
            let spared = usize::try_from(self.up_to(2)).unwrap();
            return Outage::PowerLoss { spared, coordinators: self.happens(0.4) };
        }
        if at < refusal + power_loss + change {
            return Outage::Change(self.some_time(CHANGED_MS));
        }
        Outage::Swap(self.some_time(SWAPPED_MS))
    }

    fn refusal(&self) -> Refusal {
        let (code, writes_only, share) = REFUSALS[usize::try_from(self.up_to(REFUSALS.len() as u64 - 1)).unwrap()];
        Refusal { code, writes_only, share, until: Instant::now() + self.some_time(REFUSES_MS) }
    }

    /// Whether a refusal strikes this statement.
    pub(crate) fn strikes(&self, refusal: &Refusal, step: &str) -> bool {
        (!refusal.writes_only || !READS.contains(&step)) && self.happens(refusal.share)
    }

    /// Whether a storage may be another one for a while, or seem so.
    pub(crate) fn hit_storage(&self) -> bool {
        let Rates { swap, flip_of_output, .. } = self.rates();
        swap + flip_of_output > 0.0
    }

    /// Whether reading a slice flips a bit.
    pub(crate) fn flips_source(&self) -> bool {
        self.happens(self.rates().flip_of_source)
    }

    /// Whether reading an object flips a bit: never twice in a row, for a reader that reads again.
    pub(crate) fn flips_output(&self, reader: Node) -> bool {
        let mut misread = self.misread.lock().unwrap();
        let flips = !misread.remove(&reader) && self.happens(self.rates().flip_of_output);
        if flips {
            misread.insert(reader);
        }
        flips
    }

    /// Flips a bit, and returns of which byte. There must be one.
    pub(crate) fn flip(&self, bytes: &mut [u8]) -> usize {
        let at = usize::try_from(self.up_to(bytes.len() as u64 - 1)).unwrap();
        bytes[at] ^= 1 << self.up_to(7);
        at
    }
}

/// SQLSTATE, whether it meets only statements that write, and how many of them.
const REFUSALS: [(&str, bool, f64); 6] = [
    // Read-only, as a standby before it is promoted.
    ("25006", true, 1.0),
    // The role may not log in any more: connections that are open go on.
    ("28000", false, 0.7),
    ("28P01", false, 0.7),
    // Its rights are revoked.
    ("42501", true, 1.0),
    // Too many connections: some get through.
    ("53300", false, 0.5),
    // Starting up.
    ("57P03", false, 1.0),
];

/// Steps of the store that write nothing.
const READS: [&str; 18] = [
    "active",
    "briefs",
    "exhausted",
    "finalizable",
    "holes",
    "job_state",
    "list_garbage",
    "ping",
    "planning",
    "refusal",
    "source_task",
    "sources",
    "spec",
    "tally",
    "tripped",
    "waiting",
    "winners",
    "winners_halves",
];

/// What the database says to statements, for a while.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal {
    code: &'static str,
    writes_only: bool,
    share: f64,
    pub(crate) until: Instant,
}

impl Refusal {
    /// Returns the error that a statement ends with.
    pub(crate) fn error(&self) -> StoreError {
        // A code that the store does not wait for.
        let code = if planted::is(Bug::RefusalIsInternal) { "22000" } else { self.code };
        sqlx::Error::Database(Box::new(Refused { code })).into()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SQLSTATE {}", self.code)
    }
}

/// An error as PostgreSQL sends it.
#[derive(Debug, thiserror::Error)]
#[error("refused with SQLSTATE {code}")]
struct Refused {
    code: &'static str,
}

impl DatabaseError for Refused {
    fn message(&self) -> &str {
        "refused"
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.code.into())
    }

    fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}
