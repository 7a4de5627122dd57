//! Bugs that are planted on purpose: the simulation must find each of them, or it would not find real ones either. They
//! are compiled in with the feature `planted` alone (tests turn it on), and even then sleep until a test picks one for
//! its thread.

/// A mistake that could have been made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say what goes wrong; each is explained where it is planted")]
pub enum Bug {
    CommitIgnoresEpoch,
    CommitLeavesAttemptLive,
    CommitBeforePut,
    CommitUnchecked,
    CommitIgnoresJobState,
    LeaseIgnoresLiveAttempt,
    LeaseIgnoresPause,
    LeaseKeepsEpoch,
    SuspectsInCompany,
    ReleaseKeepsShardRunning,
    RevokeKeepsShardRunning,
    ExpireIgnoresState,
    ExpiredSessionKeepsShards,
    BeatIgnoresStrays,
    SessionNotReopened,
    FailureNotCounted,
    RetryResetsEpoch,
    RetryForgetsJob,
    RetryKeepsGeneration,
    ResumeIgnored,
    SubmitResetsJob,
    SettleTooEarly,
    FinalizeTooEarly,
    SucceedBeforeManifest,
    ManifestErrorIgnored,
    ManifestExistsIsFailure,
    ManifestWithTime,
    WinnersSkipFirst,
    HolesSkipFirst,
    HolesAreAll,
    GarbageIncludesWinner,
    GarbageWithoutGrace,
    GarbageFailureIgnored,
    PlannerForgetsCursor,
    PlannerStopsEarly,
    PlanPageNotGuarded,
    RepairKeepsWinner,
    RepairKeepsGeneration,
    RefusalIsInternal,
    BreakerCountsLostWorkers,
    InputUnchecked,
    FlipIsChange,
    StorageUnconfirmed,
}

impl Bug {
    /// Every bug.
    pub const ALL: [Bug; 43] = [
        Bug::CommitIgnoresEpoch,
        Bug::CommitLeavesAttemptLive,
        Bug::CommitBeforePut,
        Bug::CommitUnchecked,
        Bug::CommitIgnoresJobState,
        Bug::LeaseIgnoresLiveAttempt,
        Bug::LeaseIgnoresPause,
        Bug::LeaseKeepsEpoch,
        Bug::SuspectsInCompany,
        Bug::ReleaseKeepsShardRunning,
        Bug::RevokeKeepsShardRunning,
        Bug::ExpireIgnoresState,
        Bug::ExpiredSessionKeepsShards,
        Bug::BeatIgnoresStrays,
        Bug::SessionNotReopened,
        Bug::FailureNotCounted,
        Bug::RetryResetsEpoch,
        Bug::RetryForgetsJob,
        Bug::RetryKeepsGeneration,
        Bug::ResumeIgnored,
        Bug::SubmitResetsJob,
        Bug::SettleTooEarly,
        Bug::FinalizeTooEarly,
        Bug::SucceedBeforeManifest,
        Bug::ManifestErrorIgnored,
        Bug::ManifestExistsIsFailure,
        Bug::ManifestWithTime,
        Bug::WinnersSkipFirst,
        Bug::HolesSkipFirst,
        Bug::HolesAreAll,
        Bug::GarbageIncludesWinner,
        Bug::GarbageWithoutGrace,
        Bug::GarbageFailureIgnored,
        Bug::PlannerForgetsCursor,
        Bug::PlannerStopsEarly,
        Bug::PlanPageNotGuarded,
        Bug::RepairKeepsWinner,
        Bug::RepairKeepsGeneration,
        Bug::RefusalIsInternal,
        Bug::BreakerCountsLostWorkers,
        Bug::InputUnchecked,
        Bug::FlipIsChange,
        Bug::StorageUnconfirmed,
    ];
}

#[cfg(feature = "planted")]
mod chosen {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static CHOSEN: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Picks the bug that this thread has from now on.
    pub fn plant(bug: Option<Bug>) {
        CHOSEN.set(bug);
    }

    /// Whether this thread has the bug.
    pub fn is(bug: Bug) -> bool {
        CHOSEN.get() == Some(bug)
    }
}

#[cfg(feature = "planted")]
pub use chosen::{is, plant};

/// Whether this thread has the bug: never, in production.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn is(_bug: Bug) -> bool {
    false
}
