//! `encaje cancel`, `pause`, `resume` and `retry`: what is done to a job by its id alone.

use clap::Args;
use proto::JobId;

use crate::args::ClusterArgs;
use crate::cluster::{self, Cluster, JobReport};
use crate::exit::Exit;
use crate::ui::Ui;

/// Which job, and how it is shown.
#[derive(Debug, Args)]
pub(crate) struct ControlArgs {
    /// The job, as `submit` printed it.
    #[arg(value_name = "JOB")]
    job: JobId,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Prints the job on stdout as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Ends a job without a result.
#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    control: ControlArgs,
}

/// Stops leasing the shards of a job; those that are leased are still finished.
#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    control: ControlArgs,
}

/// Leases the shards of a paused job again.
#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    control: ControlArgs,
}

/// Retries the failed shards of a job.
#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    #[command(flatten)]
    control: ControlArgs,
}

/// Ends a job.
pub(crate) fn cancel(ui: &Ui, args: &CancelArgs) -> anyhow::Result<Exit> {
    control(ui, &args.control, Action::Cancel)
}

/// Pauses a job.
pub(crate) fn pause(ui: &Ui, args: &PauseArgs) -> anyhow::Result<Exit> {
    control(ui, &args.control, Action::Pause)
}

/// Resumes a job.
pub(crate) fn resume(ui: &Ui, args: &ResumeArgs) -> anyhow::Result<Exit> {
    control(ui, &args.control, Action::Resume)
}

/// Retries what failed of a job.
pub(crate) fn retry(ui: &Ui, args: &RetryArgs) -> anyhow::Result<Exit> {
    control(ui, &args.control, Action::Retry)
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// End it without a result.
    Cancel,
    /// Hand out no more shards.
    Pause,
    /// Hand out shards again.
    Resume,
    /// Give what failed another chance.
    Retry,
}

/// Does it. Idempotent.
fn control(ui: &Ui, args: &ControlArgs, action: Action) -> anyhow::Result<Exit> {
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
