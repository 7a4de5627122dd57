//! Bugs that are planted on purpose: the simulation must find each of them, or it would not find real ones either. None
//! of them is in production code: each is an answer of this database, or of the simulation's disk, network or worker, that
//! a faulty program would have caused. A test plants one for its thread.

use std::cell::Cell;

use strum::VariantArray;

/// A mistake that could have been made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, VariantArray)]
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
    PoisonNotIsolated,
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

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants a bug for this thread, or none.
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this thread has the bug.
pub fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}
