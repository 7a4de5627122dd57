//! PURE: the states of a job, and how one becomes the other.

use proto::job::{JobState, ShardCounts};

use super::Illegal;

/// A job as the state machine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its state.
    pub state: JobState,
    /// No new leases while set.
    pub paused: bool,
    /// Why the coordinator itself paused it.
    pub pause_reason: Option<String>,
    /// All shards are cut.
    pub planned: bool,
    /// Why it failed.
    pub reason: Option<String>,
    /// Key and digest of the manifest, once succeeded.
    pub manifest: Option<(String, String)>,
    /// Which manifest it has or will have, from 1.
    pub generation: u64,
    /// Dead shards do not fail it, if something is committed: they are holes of its manifest.
    pub allow_partial: bool,
}

/// What happens to a job.
#[derive(Debug, Clone, PartialEq)]
pub enum JobEvent<'a> {
    /// The last shard is cut.
    Planned,
    /// All shards are committed, or, where holes are allowed, dead: write the manifest.
    Finalize(&'a ShardCounts),
    /// The manifest is written.
    Finish {
        /// Which one.
        generation: u64,
        /// Its key.
        key: &'a str,
        /// Its digest.
        digest: &'a str,
    },
    /// Its manifest cannot be written.
    FailFinalize {
        /// Which one.
        generation: u64,
        /// Why.
        reason: &'a str,
    },
    /// It cannot succeed.
    Fail(&'a str),
    /// Nothing is left but dead shards, and the job does not allow them as holes.
    Exhaust(&'a ShardCounts, &'a str),
    /// Somebody asks for its end.
    Cancel,
    /// No lease is live any more.
    Settle(&'a ShardCounts),
    /// No new leases.
    Pause,
    /// No new leases until somebody has looked at what goes wrong.
    Trip(&'a str),
    /// Leases again.
    Resume,
    /// Somebody asks for another round.
    Retry(&'a ShardCounts),
    /// Files of some of its shards are damaged or missing.
    Repair,
}

impl Job {
    /// Returns a job as it is submitted.
    pub const fn submitted(allow_partial: bool) -> Self {
        Self {
            state: JobState::Planning,
            paused: false,
            pause_reason: None,
            planned: false,
            reason: None,
            manifest: None,
            generation: 1,
            allow_partial,
        }
    }

    /// Whether leases may be granted and outputs committed.
    pub const fn is_active(&self) -> bool {
        is_active(self.state)
    }

    /// Returns the job after `event`, or [`Illegal`] if it does not apply. Repeating an event that has already had its
    /// effect is no error.
    pub fn step(&self, event: &JobEvent<'_>) -> Result<Job, Illegal> {
        use JobState::{Cancelled, Cancelling, Failed, Finalizing, Planning, Running, Succeeded};
        let mut next = self.clone();
        match (event, self.state) {
            (JobEvent::Planned, Planning) => {
                next.planned = true;
                next.state = Running;
            }
            (JobEvent::Finalize(_), Finalizing) => {}
            (JobEvent::Finalize(shards), Running) if self.is_complete(shards) => next.state = Finalizing,
            (JobEvent::Finish { generation, key, digest }, Finalizing) if *generation == self.generation => {
                next.state = Succeeded;
                next.manifest = Some(((*key).to_owned(), (*digest).to_owned()));
            }
            (JobEvent::Finish { digest, .. }, Succeeded)
                if self.manifest.as_ref().is_some_and(|(_, stored)| stored == digest) => {}
            (JobEvent::Exhaust(shards, reason), Running) if self.is_exhausted(shards) => {
                next.state = Failed;
                next.reason = Some((*reason).to_owned());
            }
            (JobEvent::FailFinalize { generation, reason }, Finalizing) if *generation == self.generation => {
                next.state = Failed;
                next.reason = Some((*reason).to_owned());
            }
            (JobEvent::Fail(reason), Planning | Running | Finalizing) => {
                next.state = Failed;
                next.reason = Some((*reason).to_owned());
            }
            (JobEvent::Cancel, Planning | Running | Finalizing) => next.state = Cancelling,
            (JobEvent::Cancel, Cancelling | Cancelled) => {}
            (JobEvent::Settle(shards), Cancelling) if shards.pending + shards.running == 0 => next.state = Cancelled,
            (JobEvent::Pause, Planning | Running | Finalizing) => (next.paused, next.pause_reason) = (true, None),
            (JobEvent::Trip(reason), Planning | Running) if !self.paused => {
                (next.paused, next.pause_reason) = (true, Some((*reason).to_owned()));
            }
            (JobEvent::Resume, Planning | Running | Finalizing) => (next.paused, next.pause_reason) = (false, None),
            (JobEvent::Repair, Planning | Running) => {}
            (JobEvent::Retry(shards), Planning | Running | Failed) => next.run_again(self.has_holes(shards)),
            (JobEvent::Retry(shards), Succeeded) if self.has_holes(shards) => {
                next.run_again(true);
            }
            (JobEvent::Repair, Finalizing | Succeeded | Failed) => next.run_again(true),
            (
                JobEvent::Planned
                | JobEvent::Finalize(_)
                | JobEvent::Finish { .. }
                | JobEvent::FailFinalize { .. }
                | JobEvent::Fail(_)
                | JobEvent::Exhaust(..)
                | JobEvent::Cancel
                | JobEvent::Settle(_)
                | JobEvent::Pause
                | JobEvent::Trip(_)
                | JobEvent::Resume
                | JobEvent::Retry(_)
                | JobEvent::Repair,
                _,
            ) => return Err(Illegal),
        }
        Ok(next)
    }

    /// Runs on, or again after an end. Where a manifest of other shards may be there already, or about to be written, the
    /// next one has another name.
    fn run_again(&mut self, has_manifest: bool) {
        self.state = if self.planned { JobState::Running } else { JobState::Planning };
        self.generation += u64::from(has_manifest);
        (self.reason, self.manifest) = (None, None);
    }

    /// Whether it has dead shards that a manifest may list.
    const fn has_holes(&self, shards: &ShardCounts) -> bool {
        self.allow_partial && shards.dead > 0
    }

    /// Whether the manifest can be written: every shard is committed, or, where holes are allowed, some are and the
    /// others are dead.
    pub fn is_complete(&self, shards: &ShardCounts) -> bool {
        shards.pending + shards.running + shards.cancelled == 0 && (shards.dead == 0 || self.allows_holes(shards))
    }

    /// Whether nothing is left to do, and dead shards keep the manifest from being written.
    pub fn is_exhausted(&self, shards: &ShardCounts) -> bool {
        shards.pending + shards.running == 0 && shards.dead > 0 && !self.allows_holes(shards)
    }

    /// Whether dead shards do not keep the manifest from being written.
    fn allows_holes(&self, shards: &ShardCounts) -> bool {
        self.allow_partial && shards.committed > 0
    }
}

/// Returns whether leases may be granted and outputs committed in this state.
pub const fn is_active(state: JobState) -> bool {
    matches!(state, JobState::Planning | JobState::Running)
}
