//! Bugs that are planted on purpose: the simulation must find each of them, or it would not find real ones either. They
//! are compiled in with the feature `planted` alone (tests turn it on), and even then sleep until a test picks one for
//! its thread.

/// A mistake that could have been made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say what goes wrong; each is explained where it is planted")]
pub enum Bug {
    CommitIgnoresEpoch,
    CommitIgnoresJobState,
    RetryResetsEpoch,
    ExpireIgnoresState,
    ReleaseIgnoresSession,
    LeaseIgnoresLiveAttempt,
    LeaseIgnoresPause,
    LeaseRequestNotRemembered,
    ExpiredSessionLeaks,
    RevokeForgetsShards,
    SettleTooEarly,
    FinalizeTooEarly,
    GarbageIncludesWinner,
    GarbageBeforeMark,
    GarbageMarkedNotDeleted,
    GarbageReportedBeforeDelete,
    ManifestWithTime,
    ManifestNotFound,
    PlannerForgetsCursor,
    PlanPageNotGuarded,
    CommitBeforePut,
    CommitNotRepeated,
    CommitWithoutHead,
    LostReplyIsFailure,
    FailureNotReported,
    SessionNotReopened,
    HeartbeatForgotten,
    CancelForgetsRevoke,
    FailedJobStillCommits,
    WinnersSkipLast,
}

impl Bug {
    /// Every bug.
    pub const ALL: [Bug; 30] = [
        Bug::CommitIgnoresEpoch,
        Bug::CommitIgnoresJobState,
        Bug::RetryResetsEpoch,
        Bug::ExpireIgnoresState,
        Bug::ReleaseIgnoresSession,
        Bug::LeaseIgnoresLiveAttempt,
        Bug::LeaseIgnoresPause,
        Bug::LeaseRequestNotRemembered,
        Bug::ExpiredSessionLeaks,
        Bug::RevokeForgetsShards,
        Bug::SettleTooEarly,
        Bug::FinalizeTooEarly,
        Bug::GarbageIncludesWinner,
        Bug::GarbageBeforeMark,
        Bug::GarbageMarkedNotDeleted,
        Bug::GarbageReportedBeforeDelete,
        Bug::ManifestWithTime,
        Bug::ManifestNotFound,
        Bug::PlannerForgetsCursor,
        Bug::PlanPageNotGuarded,
        Bug::CommitBeforePut,
        Bug::CommitNotRepeated,
        Bug::CommitWithoutHead,
        Bug::LostReplyIsFailure,
        Bug::FailureNotReported,
        Bug::SessionNotReopened,
        Bug::HeartbeatForgotten,
        Bug::CancelForgetsRevoke,
        Bug::FailedJobStillCommits,
        Bug::WinnersSkipLast,
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
