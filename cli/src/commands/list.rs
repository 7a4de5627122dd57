//! `encaje list`: the jobs of a cluster, or the outputs below a directory.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use crate::args::ClusterArgs;
use crate::exit::Exit;
use crate::ui::Ui;
use crate::{cluster, outdir};

/// Lists the jobs of a cluster, or the output directories below a directory.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// The directory whose output directories are listed. Without one: the jobs of the cluster, or the current directory
    /// where no coordinator is named.
    #[arg(value_name = "DIR")]
    pub(crate) parent: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Lists at most so many jobs of the cluster, the newest [default: 100].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,
    /// Lists all jobs of the cluster, however many.
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
    /// Prints a JSON array on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Lists outputs or jobs.
pub(crate) fn run(ui: &Ui, args: &ListArgs) -> anyhow::Result<Exit> {
    let most = if args.all { usize::MAX } else { args.limit.map_or(cluster::JOBS_SHOWN, |limit| limit as usize) };
    match &args.parent {
        None if !args.cluster.coordinator.is_empty() => cluster::list_jobs(ui, &args.cluster, args.json, most),
        None => outputs(ui, Path::new("."), args.json),
        Some(parent) => outputs(ui, parent, args.json),
    }
}

fn outputs(ui: &Ui, parent: &Path, as_json: bool) -> anyhow::Result<Exit> {
    let found =
        outdir::outputs_below(parent).with_context(|| format!("cannot read the directory `{}`", parent.display()))?;
    if as_json {
        ui.json(&found)?;
        return Ok(Exit::Done);
    }
    if found.is_empty() {
        ui.note(format!("no output of encaje in `{}`", parent.display()));
    }
    let width = found.iter().map(|status| status.out.chars().count()).max().unwrap_or_default();
    for status in &found {
        let (out, state, rows, model) = (&status.out, status.state, status.rows_text(), &status.model);
        ui.data(format!("{out:<width$}  {state:<11}  {rows}  {model}"))?;
    }
    Ok(Exit::Done)
}
