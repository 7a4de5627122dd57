//! The state machine of jobs, shards and attempts.

use proto::job::JobState;

/// Returns the word for a job's state, as stored and shown.
pub const fn job_state_name(state: JobState) -> &'static str {
    match state {
        JobState::Planning => "planning",
        JobState::Running => "running",
        JobState::Finalizing => "finalizing",
        JobState::Succeeded => "succeeded",
        JobState::Failed => "failed",
        JobState::Cancelling => "cancelling",
        JobState::Cancelled => "cancelled",
    }
}
