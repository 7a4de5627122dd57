//! `encaje status`: the status of a job of a cluster, or of an output directory.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use proto::JobId;
use proto::job::JobStatus;

use crate::args::ClusterArgs;
use crate::cluster::{self, Cluster, JobReport};
use crate::exit::{Advice, Exit};
use crate::outdir::{OutState, OutStatus};
use crate::ui::{self, Ui};

/// Shows the status of a job: one of a cluster by its id, or the one in an output directory.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// A job of a cluster by its id, or the output of `encaje run`: a directory, or the `.parquet` file, maybe at a URL. Without one: all
    /// jobs of the cluster, or the current directory where no coordinator is named.
    #[arg(value_name = "JOB|DIR|FILE.parquet|URL")]
    pub(crate) target: Option<String>,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Follows a job of a cluster until it has ended.
    #[arg(long)]
    pub(crate) watch: bool,
    /// Prints one JSON object on stdout; with --watch, one whenever something has changed.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Shows one output, one job, or all jobs.
pub(crate) fn run(ui: &Ui, args: &StatusArgs) -> anyhow::Result<Exit> {
    let job = args.target.as_deref().and_then(job_named);
    match (job, &args.target) {
        (Some(job), _) => cluster::runtime()?.block_on(show_job(ui, args, job)),
        (None, Some(path)) => show_output(ui, args, Path::new(path)),
        (None, None) if args.watch => Err(Advice::usage("--watch follows one job: give its id").into()),
        (None, None) if args.cluster.coordinator.is_empty() => show_output(ui, args, Path::new(".")),
        (None, None) => cluster::list_jobs(ui, &args.cluster, args.json, cluster::JOBS_SHOWN),
    }
}

/// A job's id does not look like a path; an existing path of that name takes precedence.
fn job_named(target: &str) -> Option<JobId> {
    target.parse().ok().filter(|_| !Path::new(target).exists())
}

async fn show_job(ui: &Ui, args: &StatusArgs, job: JobId) -> anyhow::Result<Exit> {
    let cluster = Cluster::open(&args.cluster)?;
    let status = match (args.watch, args.json) {
        (false, _) => cluster.job(job).await?,
        (true, false) => cluster.wait(ui, job).await?,
        (true, true) => {
            let mut shown: Option<JobReport> = None;
            let change = |status: &JobStatus| {
                let report = JobReport::of(status);
                if shown.as_ref() != Some(&report) {
                    ui.json(&report)?;
                    shown = Some(report);
                }
                Ok(())
            };
            cluster.follow(ui, job, change).await?;
            return Ok(Exit::Done);
        }
    };
    print_job(ui, &JobReport::of(&status), args.json)?;
    for problem in [cluster::obstacle(&status), cluster::missing(&status)].into_iter().flatten() {
        ui.warn(problem);
    }
    Ok(Exit::Done)
}

fn print_job(ui: &Ui, report: &JobReport, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return ui.json(report);
    }
    let shards = report.shards;
    let (committed, running, pending) = (shards.committed, shards.running, shards.pending);
    let mut lines = vec![
        ("job", report.job.to_string()),
        ("state", report.state_text()),
        ("model", report.model.clone()),
        ("rows", report.rows_text()),
        ("reused", ui::thousands(report.reused)),
        ("rejected", ui::thousands(report.rejected.values().sum())),
        ("missing", ui::thousands(report.rows_missing)),
        ("truncated", ui::thousands(report.truncated)),
        ("tokens", ui::thousands(report.tokens)),
        ("shards", format!("{committed} done, {running} running, {pending} waiting, {} dead", shards.dead)),
        ("workers", workers_text(report)),
    ];
    if let Some(reason) = &report.reason {
        lines.insert(2, ("reason", reason.clone()));
    }
    print_lines(ui, &lines)
}

fn workers_text(report: &JobReport) -> String {
    let mut text = ui::thousands(report.workers);
    for (some, what) in
        [(report.workers_quarantined, "in quarantine"), (report.workers_outdated, "too old for this job")]
    {
        if some > 0 {
            text.push_str(&format!(", {} of them {what}", ui::thousands(some)));
        }
    }
    text
}

fn print_lines(ui: &Ui, lines: &[(&str, String)]) -> anyhow::Result<()> {
    lines.iter().try_for_each(|(name, value)| ui.data(format!("{name:<11}{value}")))
}

fn show_output(ui: &Ui, args: &StatusArgs, out: &Path) -> anyhow::Result<Exit> {
    if args.watch {
        return Err(Advice::usage("--watch follows a job of a cluster: give its id").into());
    }
    let Some(status) = OutStatus::of(out)? else {
        let what = format!("`{}` is neither a job id nor an output of encaje, finished or not", out.display());
        return Err(Advice::failed(what).hint("see what is below a directory: encaje list DIR").into());
    };
    if args.json {
        ui.json(&status)?;
        return Ok(Exit::Done);
    }
    let left = status.seconds_left.map(|left| ("left", ui::duration(Duration::from_secs(left))));
    let mut lines = vec![
        ("output", status.out.clone()),
        ("state", state_text(&status)),
        ("model", status.model.clone()),
        ("rows", status.rows_text()),
        ("reused", ui::thousands(status.reused)),
        ("rejected", ui::thousands(status.rejected)),
        ("missing", ui::thousands(status.missing)),
        ("truncated", ui::thousands(status.truncated)),
        ("tokens", ui::thousands(status.tokens)),
    ];
    if let Some(shards) = status.shards {
        let (committed, running, pending) = (shards.committed, shards.running, shards.pending);
        lines.push(("shards", format!("{committed} done, {running} running, {pending} waiting, {} dead", shards.dead)));
    }
    lines.extend(left);
    lines.push(("job", status.job.clone()));
    print_lines(ui, &lines)?;
    Ok(Exit::Done)
}

fn state_text(status: &OutStatus) -> String {
    match (status.state, &status.reason) {
        (OutState::Interrupted, _) => "interrupted (run again to resume)".to_owned(),
        (OutState::Elsewhere, _) => {
            "not done (begun on another machine, which may be working on it; the same run here goes on with its parts)"
                .to_owned()
        }
        (OutState::Failed, Some(reason)) => format!("failed: {reason}"),
        (OutState::Done, _) if status.missing > 0 => {
            format!("done, {} missing", ui::counted(status.missing, "row"))
        }
        (state, _) => state.to_string(),
    }
}
