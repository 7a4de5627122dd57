//! `encaje cancel`, `pause`, `resume` and `retry`: what is done to a job by its id alone.

use crate::args::SteerArgs;
use crate::cluster::{self, Cluster, JobReport};
use crate::exit::Exit;
use crate::ui::Ui;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// End it without a result.
    Cancel,
    /// Hand out no more shards.
    Pause,
    /// Hand out shards again.
    Resume,
    /// Give what failed another chance.
    Retry,
}

/// Does it. Doing it twice is doing it once.
pub(crate) fn run(ui: &Ui, args: &SteerArgs, action: Action) -> anyhow::Result<Exit> {
    cluster::runtime()?.block_on(async {
        let cluster = Cluster::open(&args.cluster)?;
        let (jobs, job) = (&cluster.jobs, args.job);
        let done = match action {
            Action::Cancel => jobs.cancel(job).await,
            Action::Pause => jobs.pause(job).await,
            Action::Resume => jobs.resume(job).await,
            Action::Retry => jobs.retry(job).await,
        };
        let status = done.map_err(|error| cluster.explain(error))?;
        let report = JobReport::of(&status);
        if args.json {
            ui.json(&report)?;
        } else {
            ui.data(format!("{job}: {}", report.state_text()))?;
        }
        Ok(Exit::Done)
    })
}
