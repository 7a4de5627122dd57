//! What the database knows of jobs and workers, as metrics. Jobs that have ended are counted together, so that a page does
//! not grow for ever.

use proto::job::{JobBrief, JobState, ShardCounts};

use super::Numbers;
use super::exposition::{Exposition, Kind};

/// A number of each job that has not ended.
type OfJob = (&'static str, Kind, &'static str, fn(&JobBrief) -> f64);

const OF_JOB: [OfJob; 7] = [
    ("encaje_job_rows_planned", Kind::Gauge, "Rows of the corpus, as far as it is cut.", |job| count(job.rows_planned)),
    ("encaje_job_rows_committed", Kind::Gauge, "Rows in committed shards.", |job| count(job.counts.rows)),
    ("encaje_job_rows_in_flight", Kind::Gauge, "Rows done in running shards.", |job| count(job.rows_in_flight)),
    ("encaje_job_rows_rejected", Kind::Gauge, "Committed rows without a vector.", |job| count(job.counts.rejected())),
    ("encaje_job_age_seconds", Kind::Gauge, "Time since it was submitted.", |job| count(job.age_ms) / 1000.0),
    ("encaje_job_starved_seconds", Kind::Gauge, "How long it has had work and no worker.", |job| {
        count(job.starved_ms) / 1000.0
    }),
    ("encaje_job_paused", Kind::Gauge, "1 while it grants no leases.", |job| f64::from(u8::from(job.paused))),
];

/// Writes jobs by state, rows and tokens of all jobs, workers, and the numbers of each unended job.
pub(super) fn write(page: &mut Exposition, numbers: &Numbers) {
    let Numbers { tally, unended } = numbers;
    page.metric("encaje_jobs", Kind::Gauge, "Jobs by state.");
    for state in JobState::ALL {
        let jobs = tally.jobs.iter().filter(|(of, _)| of == state).map(|(_, jobs)| *jobs).sum();
        page.sample(&[("state", state.into())], count(jobs));
    }
    page.metric("encaje_rows_total", Kind::Counter, "Rows in committed shards of all jobs.");
    page.sample(&[("result", "embedded")], count(tally.rows.saturating_sub(tally.rejected)));
    page.sample(&[("result", "rejected")], count(tally.rejected));
    page.metric("encaje_tokens_total", Kind::Counter, "Tokens of rows with a vector in committed shards of all jobs.");
    page.sample(&[], count(tally.tokens));
    page.metric("encaje_workers", Kind::Gauge, "Live workers; quarantined ones get no shards.");
    page.sample(&[("state", "serving")], count(tally.workers.saturating_sub(tally.workers_quarantined)));
    page.sample(&[("state", "quarantined")], count(tally.workers_quarantined));
    let leasable: u64 = unended.iter().filter(|job| !job.paused).map(|job| job.shards.pending).sum();
    page.metric("encaje_shards_pending", Kind::Gauge, "Shards that wait for a worker, without those of paused jobs.");
    page.sample(&[], count(leasable));
    page.metric("encaje_shards_running", Kind::Gauge, "Shards that workers have leased.");
    page.sample(&[], count(unended.iter().map(|job| job.shards.running).sum()));
    let active: Vec<(String, &JobBrief)> = unended.iter().map(|job| (job.id.to_string(), job)).collect();
    page.metric("encaje_job_shards", Kind::Gauge, "Shards of an unended job by state.");
    for (id, job) in &active {
        for (state, shards) in by_state(&job.shards) {
            page.sample(&[("job", id), ("state", state)], count(shards));
        }
    }
    for (name, kind, help, of) in OF_JOB {
        page.metric(name, kind, help);
        for (id, job) in &active {
            page.sample(&[("job", id)], of(job));
        }
    }
}

fn by_state(shards: &ShardCounts) -> [(&'static str, u64); 6] {
    let ShardCounts { pending, running, committed, dead, cancelled, split } = *shards;
    [
        ("pending", pending),
        ("running", running),
        ("committed", committed),
        ("dead", dead),
        ("cancelled", cancelled),
        ("split", split),
    ]
}

/// A count as a sample: exact up to 2^53.
fn count(count: u64) -> f64 {
    count as f64
}
