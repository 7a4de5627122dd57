//! How patient the control plane is: lease and heartbeat lengths, retry budgets, backoff. Plain values, plain functions.
//!
//! Every duration is in milliseconds. Randomness comes in as an argument, so that a test can repeat a run.

use proto::work::FailureClass;

/// The numbers behind leases, retries and sweeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Without a heartbeat for so long, a session is dead and its shards go to others.
    pub ttl_ms: i64,
    /// How often a worker sends a heartbeat: at least three chances within the TTL.
    pub heartbeat_ms: i64,
    /// Heartbeats are gathered for so long before they are written down together; far below the TTL.
    pub heartbeat_gather_ms: u64,
    /// Leases that a session may hold per device: one running, one prefetched.
    pub leases_per_device: u32,
    /// Counted failures after which a shard is dead.
    pub failures_max: u32,
    /// Lost workers after which a shard is split, and after which a single row is taken for poison.
    pub workers_lost_max: u32,
    /// Longest pause after the first failure; it doubles with each further one.
    pub backoff_first_ms: i64,
    /// Longest pause after any failure.
    pub backoff_max_ms: i64,
    /// Longest pause after the store or network replied to slow down.
    pub throttle_ms: i64,
    /// A session without row progress for so long is stuck, although its heartbeats arrive.
    pub stall_floor_ms: i64,
    /// Or for so many times the mean duration of the job's shards, where that is longer.
    pub stall_factor: i64,
    /// Sessions that one sweep may expire, however few are alive.
    pub expire_floor: u32,
    /// Or so many per cent of the live sessions, where that is more.
    pub expire_percent: u32,
    /// A shard that runs for so long is slow, and may be copied to an idle worker once little else is left.
    pub copy_floor_ms: i64,
    /// Or for so many times the mean duration of the job's shards, where that is longer.
    pub copy_factor: i64,
    /// So many per cent of a job's shards, rounded down, are over before any is copied: of a small job, all but one.
    pub copy_done_percent: u32,
    /// Copies of a job, in per cent of its shards; one is always allowed.
    pub copies_percent: u32,
    /// How often one coordinator looks for slow shards in vain.
    pub copy_look_ms: i64,
    /// Attempts that the breaker looks back on; 0 turns it off.
    pub breaker_attempts: u32,
    /// More of them than so many per cent that failed in the same way pause the job.
    pub breaker_percent: u32,
    /// Shards that a worker fails and others complete before it gets no more.
    pub quarantine_shards: u32,
    /// Without a live worker for so long, a job is shown as starved.
    pub starved_ms: i64,
    /// A database that does not answer the hot path for so long has lost the request, which is repeated over another
    /// connection: well before anybody's lease is over.
    pub silence_ms: u64,
    /// How long a coordinator leads the upkeep without saying so again.
    pub leader_ms: i64,
    /// An attempt's object is garbage only so long after the attempt ended: its worker may still be writing it.
    pub garbage_grace_ms: i64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            ttl_ms: 60_000,
            heartbeat_ms: 15_000,
            heartbeat_gather_ms: 250,
            leases_per_device: 2,
            failures_max: 5,
            workers_lost_max: 3,
            backoff_first_ms: 1_000,
            backoff_max_ms: 300_000,
            throttle_ms: 30_000,
            stall_floor_ms: 600_000,
            stall_factor: 10,
            expire_floor: 10,
            expire_percent: 10,
            copy_floor_ms: 60_000,
            copy_factor: 3,
            copy_done_percent: 90,
            copies_percent: 5,
            copy_look_ms: 1_000,
            breaker_attempts: 50,
            breaker_percent: 20,
            quarantine_shards: 5,
            starved_ms: 600_000,
            silence_ms: 20_000,
            leader_ms: 6_000,
            garbage_grace_ms: 900_000,
        }
    }
}

/// What an attempt's failure means for its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Counted against the budget, tried again after a growing pause.
    Counted,
    /// Tried again after a pause, not counted.
    Throttled,
    /// No attempt can succeed: the job fails.
    JobFatal,
    /// No attempt can succeed until somebody has mended something: the job pauses.
    JobPaused,
    /// Counted as a lost worker.
    WorkerLost,
    /// Tried again at once, not counted.
    Free,
}

impl Policy {
    /// Returns what a failure of this class means.
    pub const fn verdict(class: FailureClass) -> Verdict {
        match class {
            FailureClass::Transient | FailureClass::Resource => Verdict::Counted,
            FailureClass::Throttled => Verdict::Throttled,
            FailureClass::WorkerLost => Verdict::WorkerLost,
            FailureClass::Auth => Verdict::JobPaused,
            FailureClass::Drained => Verdict::Free,
            FailureClass::InputChanged | FailureClass::Config | FailureClass::ModelMismatch | FailureClass::BadRow => {
                Verdict::JobFatal
            }
        }
    }

    /// Returns how many workers a shard may lose. A half of a shard that was split costs nothing when it is split again,
    /// so that one is enough; a row is not rejected for the loss of one worker, which may have died of anything.
    pub const fn workers_lost_max(&self, is_half: bool, rows: u64) -> u32 {
        if is_half && rows > 1 { 1 } else { self.workers_lost_max }
    }

    /// Returns the most failures in one way among the last attempts that do not trip the breaker.
    pub const fn breaker_failures_max(&self) -> u32 {
        self.breaker_attempts * self.breaker_percent / 100
    }

    /// Returns after how long a running shard may be copied, given how many of its job are committed and how long they
    /// took together.
    pub fn copy_ms(&self, committed: u64, busy_ms: i64) -> i64 {
        let mean_ms = i64::try_from(committed).ok().filter(|committed| *committed > 0).map_or(0, |n| busy_ms / n);
        self.copy_floor_ms.max(mean_ms.saturating_mul(self.copy_factor))
    }

    /// Returns how many copies a job of so many shards may ever have.
    pub fn copies_max(&self, shards: u64) -> u64 {
        (shards * u64::from(self.copies_percent) / 100).max(1)
    }

    /// Returns the pause before the next attempt after `failures` earlier ones, with full jitter.
    ///
    /// `unit` is a random number in `0.0..1.0`.
    pub fn backoff_ms(&self, failures: u32, unit: f64) -> i64 {
        let doublings = failures.min(30);
        let ceiling = self.backoff_first_ms.saturating_mul(1 << doublings).min(self.backoff_max_ms);
        jitter(ceiling, unit)
    }

    /// Returns the pauses after 0, 1, … earlier failures, as many as the budget has.
    pub fn backoffs_ms(&self, unit: f64) -> Vec<i64> {
        (0..self.failures_max).map(|failures| self.backoff_ms(failures, unit)).collect()
    }

    /// Returns the pause after a request to slow down, with full jitter.
    pub fn throttle_pause_ms(&self, unit: f64) -> i64 {
        jitter(self.throttle_ms, unit)
    }

    /// Returns how many leases a session with so many devices may hold.
    pub fn leases_max(&self, devices: usize) -> u32 {
        let devices = u32::try_from(devices.max(1)).unwrap_or(u32::MAX);
        self.leases_per_device.saturating_mul(devices)
    }

    /// Returns how many of `live` sessions one sweep may expire. A database that was away for two minutes must not
    /// cost the whole cluster its work at once.
    pub fn expire_limit(&self, live: u64) -> u64 {
        u64::from(self.expire_floor).max(live.saturating_mul(u64::from(self.expire_percent)) / 100)
    }

    /// Returns after how long without row progress an attempt is stuck, given how many shards of its job are
    /// committed and how long they took together.
    pub fn stall_ms(&self, committed: u64, busy_ms: i64) -> i64 {
        let mean_ms = i64::try_from(committed).ok().filter(|committed| *committed > 0).map_or(0, |n| busy_ms / n);
        self.stall_floor_ms.max(mean_ms.saturating_mul(self.stall_factor))
    }

    /// Returns whether a gap of so long between two sweeps means that heartbeats could not be heard, so that every
    /// session deserves a fresh TTL before any is expired.
    pub const fn sweep_gap_is_outage(&self, gap_ms: i64) -> bool {
        gap_ms > self.ttl_ms / 2
    }
}

fn jitter(ceiling_ms: i64, unit: f64) -> i64 {
    // Pauses are far below 2^53 ms, so the detour over floats is exact enough and the cast cannot overflow.
    (ceiling_ms as f64 * unit.clamp(0.0, 1.0)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_ceiling() {
        let policy = Policy::default();
        assert_eq!(policy.backoffs_ms(1.0), [1_000, 2_000, 4_000, 8_000, 16_000]);
        assert_eq!(policy.backoff_ms(40, 1.0), policy.backoff_max_ms);
        assert_eq!(policy.backoff_ms(3, 0.5), 4_000);
        assert_eq!(policy.backoff_ms(3, 0.0), 0);
    }

    #[test]
    fn a_sweep_expires_a_tenth_of_a_large_fleet_and_ten_of_a_small_one() {
        let policy = Policy::default();
        assert_eq!(policy.expire_limit(3), 10);
        assert_eq!(policy.expire_limit(1_000), 100);
    }

    #[test]
    fn the_stall_deadline_follows_slow_jobs() {
        let policy = Policy::default();
        assert_eq!(policy.stall_ms(0, 0), 600_000);
        assert_eq!(policy.stall_ms(2, 60_000), 600_000);
        assert_eq!(policy.stall_ms(2, 400_000), 2_000_000);
    }

    #[test]
    fn a_heartbeat_has_three_chances_within_the_ttl() {
        let policy = Policy::default();
        assert!(policy.heartbeat_ms * 4 <= policy.ttl_ms);
    }
}
