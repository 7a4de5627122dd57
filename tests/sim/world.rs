//! What all parts of a simulation share: faults, time, the history, and the processes that may die.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coordinator::store::memory::Memory;
use object_store::memory::InMemory;
use proto::chance;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::fault::Faults;

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

/// What all parts share.
pub(crate) struct World {
    pub(crate) begin: Instant,
    pub(crate) memory: Memory,
    pub(crate) disk: Arc<InMemory>,
    faults: Mutex<Faults>,
    /// Directions in which nothing gets through.
    cuts: Mutex<BTreeSet<(Node, Node)>>,
    healed: Notify,
    trace: Mutex<blake3::Hasher>,
    told: bool,
    /// Processes that died of a fault, for the driver to start again.
    died: mpsc::UnboundedSender<Node>,
}

impl World {
    pub(crate) fn new(begin: Instant, memory: Memory, faults: Faults, died: mpsc::UnboundedSender<Node>) -> Arc<Self> {
        Arc::new(Self {
            begin,
            memory,
            disk: Arc::new(InMemory::new()),
            faults: Mutex::new(faults),
            cuts: Mutex::default(),
            healed: Notify::new(),
            trace: Mutex::default(),
            told: std::env::var_os("ENCAJE_SIM_TRACE").is_some(),
            died,
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
        *self.faults.lock().unwrap() = Faults::none();
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
        self.died.send(node).ok();
    }
}

/// Waits for a time between the two, in milliseconds.
pub(crate) async fn some_time(least_ms: u64, most_ms: u64) {
    tokio::time::sleep(Duration::from_millis(least_ms + chance::up_to(most_ms - least_ms))).await;
}
