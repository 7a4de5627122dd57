//! Planted bugs that are too long to be planted in place; see [`super::planted`].

use std::collections::BTreeSet;

use proto::job::ShardCounts;
use proto::work::Output;
use proto::{Epoch, SessionId};
use uuid::Uuid;

use super::job::{ModelJob, at};
use super::model::Model;
use super::planted::{Bug, is};
use crate::shard::{AttemptState, ShardState};

impl ModelJob {
    /// The shards as they decide whether the job is exhausted.
    pub(super) fn counts_at_end(&self) -> ShardCounts {
        let counts = self.counts();
        let committed = counts.committed.max(u64::from(is(Bug::HolesAreAll)));
        ShardCounts { committed, ..counts }
    }

    /// The shards as they decide whether the job can be finalized.
    pub(super) fn counts_to_finalize(&self) -> ShardCounts {
        if is(Bug::FinalizeTooEarly) { ShardCounts::default() } else { self.counts_at_end() }
    }

    /// The mistake of not asking whether the attempt is live.
    pub(super) fn commit_blindly(&mut self, key: (u64, Epoch), id: Uuid, output: &Output) -> bool {
        let (attempt, shard) = (self.attempts.get_mut(&key), &mut self.shards[at(key.0)].1);
        let Some(attempt) = attempt.filter(|one| one.id == id && one.state != AttemptState::Live) else { return false };
        if matches!(shard.state, ShardState::Committed { .. }) {
            return false;
        }
        attempt.state = AttemptState::Committed;
        shard.state = ShardState::Committed { winner: key.1, output: Box::new(output.clone()) };
        true
    }
}

impl Model {
    /// The mistake of taking back what is committed.
    pub(super) fn reap_blindly(&mut self) -> u64 {
        let dead: BTreeSet<SessionId> = self.sessions.iter().filter(|(_, one)| !one.live).map(|(id, _)| *id).collect();
        let mut lost = 0;
        for job in self.jobs.values_mut().filter(|job| job.job.is_active()) {
            for ((index, _), attempt) in &mut job.attempts {
                if attempt.state == AttemptState::Committed && dead.contains(&attempt.session) {
                    attempt.state = AttemptState::Expired;
                    job.shards[at(*index)].1.state = ShardState::Pending { not_before: self.now };
                    lost += 1;
                }
            }
        }
        lost
    }
}
