//! What the status of a job means to a user: how far it got, what blocks it, what its result lacks.

use std::time::Duration;

use proto::job::{JobState, JobStatus};

use crate::exit::{Advice, Exit};
use crate::ui::{self, Amount, Reading, Ui};

/// Returns how far a job got. The length of its texts is unknown until its first shard is committed.
pub(crate) fn reading(status: &JobStatus) -> Reading {
    let done = Amount {
        rows: status.counts.rows + status.rows_in_flight,
        tokens: status.counts.tokens + status.tokens_in_flight,
    };
    let total = (status.state != JobState::Planning).then_some(status.rows_planned);
    let sample = Some(&status.counts).filter(|counts| counts.rows > 0 && counts.tokens > 0);
    let expected = sample.zip(total).map(|(sample, total)| sample.tokens as f64 / sample.rows as f64 * total as f64);
    Reading {
        done,
        planned: status.rows_planned,
        total,
        tokens_expected: expected.map(|tokens| tokens as u64),
        reused: status.counts.reused,
        paused: status.paused,
    }
}

/// Returns why a job that has ended has no result, if it has none.
pub(crate) fn no_result_error(status: &JobStatus) -> Option<anyhow::Error> {
    let job = status.id;
    match status.state {
        JobState::Failed => {
            let reason = status.reason.as_deref().unwrap_or("no reason was given");
            let advice = Advice::failed(format!("job {job} failed: {reason}"));
            Some(advice.hint(format!("to try again what failed: encaje retry {job}")).into())
        }
        JobState::Cancelled | JobState::Cancelling => Some(Advice::failed(format!("job {job} was cancelled")).into()),
        JobState::Planning | JobState::Running | JobState::Finalizing | JobState::Succeeded => None,
    }
}

/// Warns of the missing rows of a finished job, and returns the exit code.
pub(crate) fn exit_code(ui: &Ui, status: &JobStatus) -> Exit {
    let missing = missing(status);
    missing.iter().for_each(|missing| ui.warn(missing));
    if missing.is_some() { Exit::Incomplete } else { Exit::Done }
}

/// Describes the missing rows of a finished job and how to retry them, if there are any.
pub(crate) fn missing(status: &JobStatus) -> Option<String> {
    let (rows, shards) = (ui::counted(status.rows_missing(), "row"), ui::counted(status.shards.dead, "shard"));
    let verb = if status.rows_missing() == 1 { "is" } else { "are" };
    (status.rows_missing() > 0).then(|| {
        let job = status.id;
        format!("{rows} {verb} missing: {shards} out of attempts; to try again: encaje retry {job}")
    })
}

/// Describes what blocks a job, if anything does.
pub(crate) fn obstacle(status: &JobStatus) -> Option<String> {
    if status.state.is_terminal() {
        return None;
    }
    if let Some(reason) = &status.pause_reason {
        return Some(format!("the coordinator paused the job: {reason}; to go on: encaje resume {}", status.id));
    }
    let starved = ui::duration(Duration::from_millis(status.starved_ms));
    match (status.starved_ms, outdated(status)) {
        (0, _) => None,
        (_, None) => Some(format!("STARVED: no worker for {starved}; start one with `encaje worker`")),
        (_, Some(unknown)) => Some(format!("STARVED for {starved}: {unknown}")),
    }
}

/// Describes the features of a job that no worker of the cluster supports.
pub(crate) fn outdated(status: &JobStatus) -> Option<String> {
    let others = status.workers.saturating_sub(status.workers_quarantined);
    if status.workers_outdated == 0 || status.workers_outdated < others {
        return None;
    }
    let asked: Vec<&str> = proto::revision::needs(&status.spec).iter().map(|need| need.what).collect();
    Some(format!("no worker knows {}; upgrade the workers", asked.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::super::report::JobReport;
    use super::*;

    use proto::JobId;
    use proto::job::{JobBrief, JobSpec, RowCounts, ShardCounts};

    fn running() -> JobStatus {
        let spec = JobSpec { sources: vec![], ..testkit::job_spec() };
        let brief = JobBrief {
            id: JobId::generate(),
            model: spec.model.name.clone(),
            sources: 0,
            state: JobState::Running,
            paused: false,
            reason: None,
            shards: ShardCounts::default(),
            rows_planned: 10,
            counts: RowCounts::default(),
            rows_in_flight: 0,
            tokens_in_flight: 0,
            workers: 0,
            manifest_key: None,
            age_ms: 0,
            pause_reason: None,
            starved_ms: 0,
            copies: 0,
            workers_quarantined: 0,
            workers_outdated: 0,
            generation: 1,
            owner: None,
        };
        JobStatus { spec, brief }
    }

    /// A running job, but for a change.
    fn changed(change: impl FnOnce(&mut JobBrief)) -> JobStatus {
        let mut status = running();
        change(&mut status.brief);
        status
    }

    #[test]
    fn what_keeps_a_job_from_going_on_is_said() {
        let well = running();
        assert_eq!((obstacle(&well), JobReport::of(&well).state_text()), (None, "running".to_owned()));
        let starved = changed(|job| job.starved_ms = 720_000);
        assert_eq!(JobReport::of(&starved).state_text(), "running, STARVED");
        assert!(obstacle(&starved).unwrap().contains("no worker for 12 min"));
        let mut outdated = starved;
        (outdated.brief.workers, outdated.brief.workers_quarantined, outdated.brief.workers_outdated) = (3, 1, 2);
        outdated.spec.read.delimiter = Some(';');
        let worry = obstacle(&outdated).unwrap();
        assert!(worry.contains("no worker knows --delimiter; upgrade the workers"), "{worry}");
        outdated.brief.workers = 4;
        assert_eq!(super::outdated(&outdated), None, "one does");
        let paused = changed(|job| (job.paused, job.pause_reason) = (true, Some("too many failures".into())));
        assert_eq!(JobReport::of(&paused).state_text(), "running, paused");
        assert!(obstacle(&paused).unwrap().contains("too many failures"));
        let shards = ShardCounts { committed: 3, dead: 1, ..ShardCounts::default() };
        let counts = RowCounts { rows: 8, ..RowCounts::default() };
        let holes = changed(|job| (job.state, job.shards, job.counts) = (JobState::Succeeded, shards, counts));
        assert_eq!(JobReport::of(&holes).state_text(), "succeeded, 2 rows missing");
        assert!(missing(&holes).unwrap().starts_with("2 rows are missing: 1 shard out of attempts"));
        let mut failed = holes;
        failed.brief.state = JobState::Failed;
        assert_eq!(missing(&failed), None);
        let ended = changed(|job| (job.state, job.starved_ms) = (JobState::Failed, 1));
        assert_eq!((obstacle(&ended), JobReport::of(&ended).state_text()), (None, "failed".to_owned()));
    }
}
