//! What all parts of a simulation share: faults, time, the history, and the processes that may die.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::rng;
use coordinator::store::memory::Memory;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use proto::JobId;
use proto::generated::HeartbeatRequest;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::fault::Faults;
use crate::hostile::{Strike, strike};
use crate::outage::{Outages, Refusal};

/// A process, or the user at a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node {
    Coordinator(usize),
    Worker(usize),
    User,
}

impl Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Node::Coordinator(number) => write!(f, "coordinator {number}"),
            Node::Worker(number) => write!(f, "worker {number}"),
            Node::User => f.write_str("user"),
        }
    }
}

/// Heartbeats of a session that are remembered.
const BEATS_KEPT: usize = 3;

/// What the driver must do something about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Happening {
    /// A process died of a fault, and is to be started again.
    Died(Node),
    /// Something happens at a bad moment of this process.
    Struck(Node, Strike),
}

/// The latest heartbeats of each session that were answered: when they were sent, and the leases that they named as
/// job, shard and epoch.
type Beats = BTreeMap<String, Vec<(Instant, BTreeSet<(String, u64, u32)>)>>;

/// What all parts share.
pub(crate) struct World {
    pub(crate) begin: Instant,
    pub(crate) memory: Memory,
    pub(crate) disk: Arc<InMemory>,
    faults: Mutex<Faults>,
    pub(crate) outages: Outages,
    /// What the database says to statements now.
    refusal: Mutex<Option<Refusal>>,
    /// The job whose corpus has other rows than were planned, until then.
    changed: Mutex<Option<(JobId, Instant)>>,
    /// An empty storage that replaces the real one, until then.
    swapped: Mutex<Option<(Arc<InMemory>, Instant)>>,
    /// Outputs in which a byte was flipped.
    flipped: Mutex<BTreeSet<String>>,
    /// Directions in which nothing gets through.
    cuts: Mutex<BTreeSet<(Node, Node)>>,
    healed: Notify,
    trace: Mutex<blake3::Hasher>,
    told: bool,
    happenings: mpsc::UnboundedSender<Happening>,
    beats: Mutex<Beats>,
    problems: Mutex<Vec<String>>,
    /// Whether nothing ever goes wrong but what a row does.
    pub(crate) gentle: bool,
    /// The sizes of outputs that workers reported unstored, by their keys: a planted bug.
    reported: Mutex<BTreeMap<String, u64>>,
    /// The row that kills workers.
    poison: Mutex<Option<(JobId, u64)>>,
}

impl World {
    pub(crate) fn new(
        begin: Instant,
        memory: Memory,
        faults: Faults,
        outages: Outages,
        happenings: mpsc::UnboundedSender<Happening>,
    ) -> Arc<Self> {
        let gentle = faults.is_gentle();
        Arc::new(Self {
            begin,
            memory,
            disk: Arc::new(InMemory::new()),
            faults: Mutex::new(faults),
            outages,
            refusal: Mutex::default(),
            changed: Mutex::default(),
            swapped: Mutex::default(),
            flipped: Mutex::default(),
            cuts: Mutex::default(),
            healed: Notify::new(),
            trace: Mutex::default(),
            told: std::env::var_os("ENCAJE_SIM_TRACE").is_some(),
            happenings,
            beats: Mutex::default(),
            problems: Mutex::default(),
            gentle,
            reported: Mutex::default(),
            poison: Mutex::default(),
        })
    }

    /// Adds a line to the history.
    #[expect(clippy::print_stderr, reason = "asked for, by the environment")]
    pub(crate) fn note(&self, what: impl Display) {
        let line = format!("{:>9} {what}\n", self.begin.elapsed().as_millis());
        if self.told {
            eprint!("{line}");
        }
        self.trace.lock().unwrap().update(line.as_bytes());
    }

    /// Returns the digest of the history.
    pub(crate) fn trace(&self) -> String {
        self.trace.lock().unwrap().finalize().to_hex().to_string()
    }

    pub(crate) fn faults(&self) -> Faults {
        self.faults.lock().unwrap().clone()
    }

    /// Ends all faults.
    pub(crate) fn calm(&self) {
        self.note("calm");
        let mut faults = self.faults.lock().unwrap();
        *faults = faults.none();
        drop(faults);
        self.outages.end();
        *self.refusal.lock().unwrap() = None;
        *self.changed.lock().unwrap() = None;
        *self.swapped.lock().unwrap() = None;
        self.heal();
    }

    /// Nothing gets from `from` to `to` any more.
    pub(crate) fn cut(&self, from: Node, to: Node) {
        self.note(format_args!("cut {from} → {to}"));
        self.cuts.lock().unwrap().insert((from, to));
    }

    pub(crate) fn heal(&self) {
        self.cuts.lock().unwrap().clear();
        self.healed.notify_waiters();
    }

    /// Waits until messages get through in this direction.
    pub(crate) async fn through(&self, from: Node, to: Node) {
        loop {
            let healed = self.healed.notified();
            if !self.cuts.lock().unwrap().contains(&(from, to)) {
                return;
            }
            healed.await;
        }
    }

    /// Says that a process has died.
    pub(crate) fn dies(&self, node: Node) {
        self.note(format_args!("{node} dies"));
        self.happenings.send(Happening::Died(node)).ok();
    }

    /// A process is before or after a step of its database or disk: it may be a bad moment.
    pub(crate) fn moment(&self, node: Node, step: &str, after: bool) {
        if let Some(strike) = strike(&self.faults(), step, after) {
            let when = if after { "after" } else { "before" };
            self.note(format_args!("{strike:?} {when} {step} of {node}"));
            self.happenings.send(Happening::Struck(node, strike)).ok();
        }
    }

    /// Flips a byte of one of the outputs.
    pub(crate) async fn flip(&self) {
        let found: Vec<ObjectMeta> = self.disk.list(None).try_collect().await.unwrap_or_default();
        let outputs: Vec<&ObjectMeta> =
            found.iter().filter(|meta| meta.location.as_ref().contains("/shards/")).collect();
        if outputs.is_empty() {
            return;
        }
        let location = &outputs[usize::try_from(rng::below(outputs.len() as u64)).unwrap()].location;
        let Ok(found) = self.disk.get(location).await else { return };
        let mut bytes = found.bytes().await.unwrap_or_default().to_vec();
        let at = usize::try_from(rng::below(bytes.len() as u64)).unwrap();
        bytes[at] ^= 1 << rng::below(8);
        self.note(format_args!("byte {at} of {location} flips"));
        self.flipped.lock().unwrap().insert(location.to_string());
        self.disk.put(location, bytes.into()).await.ok();
    }

    /// The database says this to statements from now on.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        self.note(format_args!("the database refuses from now on: {refusal}"));
        *self.refusal.lock().unwrap() = Some(refusal);
    }

    /// Returns what the database says to statements now, if it refuses.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.refusal.lock().unwrap().filter(|refusal| Instant::now() < refusal.until)
    }

    /// The corpus of a job has other rows for so long.
    pub(crate) fn change(&self, job: JobId, duration: Duration) {
        self.note(format_args!("the corpus of {job} changes"));
        *self.changed.lock().unwrap() = Some((job, Instant::now() + duration));
    }

    /// Whether the corpus of a job has other rows now.
    pub(crate) fn is_changed(&self, job: JobId) -> bool {
        self.changed.lock().unwrap().is_some_and(|(of, until)| of == job && Instant::now() < until)
    }

    /// An empty storage replaces the real one for so long, as where a disk is not mounted. What is
    /// written to it is lost.
    pub(crate) fn swap(&self, duration: Duration) {
        self.note("the storage is swapped for an empty one");
        *self.swapped.lock().unwrap() = Some((Arc::new(InMemory::new()), Instant::now() + duration));
    }

    /// Returns the storage as processes find it.
    pub(crate) fn storage(&self) -> Arc<InMemory> {
        let swapped = self.swapped.lock().unwrap().clone();
        swapped.filter(|(_, until)| Instant::now() < *until).map_or_else(|| Arc::clone(&self.disk), |(empty, _)| empty)
    }

    /// Whether a text names an output in which a byte was flipped.
    pub(crate) fn names_flipped(&self, text: &str) -> bool {
        self.flipped.lock().unwrap().iter().any(|key| text.contains(key))
    }

    /// Remembers the size of an output that is reported whether it is stored or not.
    pub(crate) fn report_bytes(&self, key: &str, bytes: u64) {
        self.reported.lock().unwrap().insert(key.to_owned(), bytes);
    }

    pub(crate) fn reported_bytes(&self, key: &str) -> Option<u64> {
        self.reported.lock().unwrap().get(key).copied()
    }

    /// Makes a row kill every worker that embeds it.
    pub(crate) fn poison(&self, job: JobId, row: u64) {
        *self.poison.lock().unwrap() = Some((job, row));
    }

    pub(crate) fn is_poison(&self, job: JobId, row: u64) -> bool {
        *self.poison.lock().unwrap() == Some((job, row))
    }

    /// Something is as it must not be.
    pub(crate) fn violated(&self, problem: String) {
        let mut problems = self.problems.lock().unwrap();
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        self.problems.lock().unwrap().clone()
    }

    /// Remembers a heartbeat that was answered.
    pub(crate) fn beaten(&self, sent: Instant, beat: &HeartbeatRequest) {
        let leases = beat.progress.iter().filter_map(|progress| progress.lease.as_ref());
        let named = leases.map(|lease| (lease.job_id.clone(), lease.shard_index, lease.epoch)).collect();
        let mut beats = self.beats.lock().unwrap();
        let of_session = beats.entry(beat.session_id.clone()).or_default();
        of_session.push((sent, named));
        if of_session.len() > BEATS_KEPT {
            of_session.remove(0);
        }
    }

    /// Whether a session has been heard after `since` and then never named this lease.
    pub(crate) fn is_unknown_to(&self, session: &str, lease: &(String, u64, u32), since: Instant) -> bool {
        let beats = self.beats.lock().unwrap();
        let mut later = beats.get(session).into_iter().flatten().filter(|(sent, _)| *sent > since).peekable();
        later.peek().is_some() && later.all(|(_, named)| !named.contains(lease))
    }
}

/// Waits for a time between the two, in milliseconds.
pub(crate) async fn some_time(least_ms: u64, most_ms: u64) {
    tokio::time::sleep(Duration::from_millis(least_ms + rng::below(most_ms - least_ms + 1))).await;
}
