//! `encaje download`: the results of a cluster's job, as `encaje run` would have left them. Everything is checked on the
//! way: the manifest against the job, each file against the manifest.

use std::time::Instant;

use anyhow::Context;
use clap::Args;
use dataset::vectors::{Outline, layout, place};
use dataset::{Manifest, ManifestFile, MergeOptions};
use proto::JobId;
use proto::job::{JobState, JobStatus};
use proto::relay::connect_storage;

use crate::args::{ClusterArgs, Place};
use crate::cluster::{self, Cluster};
use crate::exit::{Advice, Exit};
use crate::fetch::{self, ExpectedFile};
use crate::outdir::{OutDir, Target};
use crate::summary::RunSummary;
use crate::ui::{self, Amount, Ui};
use crate::{merging, outfile, signals};

/// Fetches the results of a job, checks every file, and puts them where `run` would.
///
/// Interrupted, it goes on where it was: files that are there with the right checksum are kept.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  encaje download JOB --out vectors/ --wait --coordinator http://127.0.0.1:7600")]
pub(crate) struct DownloadArgs {
    /// The job, as `submit` printed it.
    #[arg(value_name = "JOB")]
    pub(crate) job: JobId,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Writes to this directory (part-00000.parquet ..., manifest.json), or into one file if it ends in `.parquet`; either may
    /// be in a bucket.
    #[arg(long, value_name = "DIR|FILE.parquet|URL", env = "ENCAJE_DOWNLOAD_OUT")]
    pub(crate) out: Place,
    /// Waits until the job is done.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Fetches the finished files of an unfinished job. Each is whole, but some are missing, and there is no manifest; the same
    /// command later fetches the rest.
    #[arg(long, conflicts_with = "wait")]
    pub(crate) partial: bool,
    /// Prints the summary on stdout as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Fetches the results of a job.
pub(crate) fn run(ui: &Ui, args: &DownloadArgs) -> anyhow::Result<Exit> {
    cluster::runtime()?.block_on(async {
        tokio::select! {
            done = download(ui, args) => done,
            signal = signals::interrupted() => {
                signal?;
                ui.note("interrupted; the same command again goes on where this one was");
                Ok(Exit::Interrupted)
            }
        }
    })
}

async fn download(ui: &Ui, args: &DownloadArgs) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let target = target(args)?;
    let out = target.work_dir();
    let cluster = Cluster::open(&args.cluster)?;
    let mut status = cluster.job(args.job).await?;
    if args.wait {
        status = cluster.wait(ui, args.job).await?;
    }
    let done = status.state == JobState::Succeeded;
    if !done && !args.partial {
        return Err(unfinished(&status));
    }
    let found = finished_file(&target, args.job)?;
    if let Some(summary) = found.as_ref().filter(|found| found.missing == status.rows_missing()) {
        ui.note(format!("`{}` is here already: nothing to do", target.path().display()));
        return report(ui, args, summary);
    }
    let lock = out.lock()?;
    fetch::claim(&out, args.job)?;
    if !done {
        return partial(ui, args, &out, &cluster).await;
    }
    let url = cluster.jobs.storage_url(args.job).await.map_err(|error| cluster.explain(error))?;
    let storage = connect_storage(cluster.connection.clone(), &url).await;
    let winners = cluster::manifest_of(&status, &storage).await?;
    let expected = expected(&winners.files);
    let files = winners.files.into_iter().zip(&expected);
    let files = files.map(|(file, expected)| ManifestFile { name: expected.name.clone(), ..file }).collect();
    let manifest = Manifest::with_holes(winners.info, winners.sources, files, winners.holes)?.with_reuse(winners.reuse);
    fetch::remove_outdated_manifest(&out, &manifest)?;
    let mut progress = ui.progress("fetching", Amount::default());
    fetch::fetch_all(&storage, out.root(), &expected, &mut progress).await?;
    progress.finish();
    fetch::remove_stray_parts(out.root(), &expected)?;
    out.write_manifest(&manifest)?;
    if let Target::File(file) = &target {
        // One that is there is this job's, and lacks rows that it has now.
        let options = MergeOptions { overwrite: found.is_some(), ..MergeOptions::default() };
        tokio::task::block_in_place(|| merging::merge(ui, out.root(), file, &options))?;
        drop(lock);
        out.remove()?;
    }
    out.remove_local_state()?;
    let before = Amount { rows: manifest.totals.rows, tokens: manifest.totals.tokens };
    let summary = RunSummary::new(target.path(), &manifest.totals, started.elapsed(), before);
    report(ui, args, &summary.missing(manifest.missing()))
}

/// Refuses an output that cannot be written, before any call.
fn target(args: &DownloadArgs) -> anyhow::Result<Target> {
    outfile::check_place(&args.out)?;
    let target = Target::of(&args.out);
    match &target {
        Target::Dir(dir) if dir.is_file() => {
            let what = format!("--out `{}` is a file", dir.display());
            Err(Advice::usage(what).hint("give a directory, or a file name that ends in .parquet").into())
        }
        Target::File(_) if args.partial => {
            Err(Advice::usage("--partial fetches files, not one file").hint("give a directory as --out").into())
        }
        Target::Dir(_) | Target::File(_) => Ok(target),
    }
}

/// Returns why there is nothing to fetch.
fn unfinished(status: &JobStatus) -> anyhow::Error {
    if let Some(error) = cluster::no_result_error(status) {
        return error;
    }
    let rows = ui::counted(status.counts.rows, "row");
    Advice::failed(format!("job {} is not done: {rows} so far", status.id))
        .hint("give --wait to wait for it, or --partial to fetch what is there")
        .into()
}

/// Returns what a finished file says of itself, if it is this job's. Refuses any other file.
fn finished_file(target: &Target, job: JobId) -> anyhow::Result<Option<RunSummary>> {
    let Target::File(file) = target else { return Ok(None) };
    if place::size_of(file)?.is_none() {
        return Ok(None);
    }
    let refuse = || {
        let what = format!("`{}` already exists and is not the output of job {job}", file.display());
        Advice::usage(what).hint("give another --out, or remove the file; nothing was changed")
    };
    let outline = Outline::read(file).with_context(refuse)?;
    if outline.info.job_id != job.to_string() {
        return Err(refuse().into());
    }
    Ok(Some(RunSummary::already_complete(file, &outline.totals.totals).missing(outline.missing())))
}

fn expected(files: &[ManifestFile]) -> Vec<ExpectedFile> {
    let expected = files.iter().enumerate().map(|(index, file)| ExpectedFile {
        key: file.name.clone(),
        name: layout::part_name(index as u64),
        bytes: file.bytes,
        blake3: file.blake3.clone(),
        rows: file.rows,
    });
    expected.collect()
}

/// Fetches what is committed of a job that is not done.
async fn partial(ui: &Ui, args: &DownloadArgs, out: &OutDir, cluster: &Cluster) -> anyhow::Result<Exit> {
    let mut page = cluster.jobs.results(args.job, None).await.map_err(|error| cluster.explain(error))?;
    let storage = connect_storage(cluster.connection.clone(), &page.storage_url).await;
    let mut progress = ui.progress("fetching", Amount::default());
    let (mut files, mut rows) = (0, 0);
    loop {
        let expected: Vec<ExpectedFile> = page.shards.iter().map(ExpectedFile::of_shard).collect();
        fetch::fetch_all(&storage, out.root(), &expected, &mut progress).await?;
        files += expected.len();
        rows += expected.iter().map(|file| file.rows).sum::<u64>();
        let Some(last) = page.shards.last().filter(|_| page.more) else { break };
        page = cluster.jobs.results(args.job, Some(last.index)).await.map_err(|error| cluster.explain(error))?;
    }
    progress.finish();
    let text = ui::counted(rows, "row");
    if args.json {
        ui.json(&serde_json::json!({"out": out.root(), "partial": true, "files": files, "rows": rows}))?;
    } else {
        ui.data(format!("{}: {text} in {} so far", out.root().display(), ui::counted(files as u64, "file")))?;
    }
    ui.note("the job is not done: run the same command without --partial later");
    Ok(Exit::Done)
}

fn report(ui: &Ui, args: &DownloadArgs, summary: &RunSummary) -> anyhow::Result<Exit> {
    summary.print(ui, args.json)?;
    Ok(summary.exit())
}
