//! `encaje repair`: finds the output files of a job that are damaged or missing, and has them made again. Intact files are
//! kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use common::error_chain;
use coordinator::{Clock, Store, SystemClock};
use dataset::vectors::{layout, place};
use dataset::{DatasetError, ErrorKind, Manifest, Storage};
use proto::JobId;
use proto::job::JobState;
use proto::relay::connect_storage;
use serde::Serialize;
use spec::Source;

use crate::args::ClusterArgs;
use crate::cluster::{self, Cluster};
use crate::exit::{Advice, Exit};
use crate::fetch::{self, ExpectedFile};
use crate::job_spec;
use crate::outdir::{self, JobRecord, OutDir};
use crate::ui::{self, Amount, Ui};

/// Checks the output files of a job, and has those that are damaged or missing made again.
///
/// A cluster's job runs again by itself. The directory of a finished run becomes that of an unfinished one: intact files are kept
/// aside, `manifest.json` is removed, and the same `encaje run` makes the others again and puts all in place.
#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    /// A job of a cluster by its id, or the directory of an `encaje run`, which may be at a URL.
    #[arg(value_name = "JOB|DIR|URL")]
    pub(crate) target: String,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Reports damage and changes nothing; exits with 1 if there is any.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Prints the report on stdout as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Said of a file that is not what was written.
const DAMAGED: &str = "it is missing, or its size or BLAKE3 is another";

/// Winners read from the database at once.
const PAGE: u32 = 1_000;

/// The report.
#[derive(Serialize)]
struct Report {
    target: String,
    files: usize,
    damaged: Vec<Damage>,
    /// Whether the damaged ones are being made again.
    requeued: bool,
}

/// A file that is not what it should be.
#[derive(Serialize)]
struct Damage {
    shard: u64,
    file: String,
    problem: String,
}

/// Checks a job's files and has the damaged ones made again.
pub(crate) fn run(ui: &Ui, args: &RepairArgs) -> anyhow::Result<Exit> {
    let path = Path::new(&args.target);
    let report = match args.target.parse::<JobId>() {
        Ok(job) if !path.exists() => cluster::runtime()?.block_on(repair_job(ui, args, job))?,
        Ok(_) | Err(_) => {
            place::check_readable(path).map_err(|error| Advice::usage(error.to_string()))?;
            let out = OutDir::new(path.to_owned());
            let runtime = cluster::runtime()?;
            if out.is_remote() {
                runtime.block_on(repair_remote(ui, args, &out))?
            } else {
                runtime.block_on(repair_output(ui, args, &out))?
            }
        }
    };
    if args.json {
        ui.json(&report)?;
    } else {
        for damage in &report.damaged {
            ui.data(format!("damaged: `{}`: {}", damage.file, damage.problem))?;
        }
        let (files, damaged) = (ui::counted(report.files as u64, "file"), ui::thousands(report.damaged.len() as u64));
        ui.data(format!("{}: {files}, {damaged} damaged", report.target))?;
    }
    Ok(if report.requeued || report.damaged.is_empty() { Exit::Done } else { Exit::Failed })
}

async fn repair_job(ui: &Ui, args: &RepairArgs, job: JobId) -> anyhow::Result<Report> {
    let cluster = Cluster::open(&args.cluster)?;
    let status = cluster.job(job).await?;
    let mut page = cluster.jobs.results(job, None).await.map_err(|error| cluster.explain(error))?;
    let storage = connect_storage(cluster.connection.clone(), &page.storage_url).await;
    let mut progress = ui.progress("checking", Amount::default());
    let (mut files, mut rows, mut damaged) = (0, 0, Vec::new());
    let first = page.shards.first().cloned();
    loop {
        for shard in &page.shards {
            if let Some(problem) = fetch::problem_in_storage(&storage, &ExpectedFile::of_shard(shard)).await? {
                damaged.push(Damage { shard: shard.index, file: shard.key.clone(), problem });
            }
            (files, rows) = (files + 1, rows + shard.counts.rows);
            progress.update(Amount { rows, tokens: 0 }, status.rows_planned, Some(status.rows_planned));
        }
        let Some(last) = page.shards.last().filter(|_| page.more) else { break };
        page = cluster.jobs.results(job, Some(last.index)).await.map_err(|error| cluster.explain(error))?;
    }
    progress.finish();
    if let (true, JobState::Succeeded, Some(first)) = (damaged.is_empty(), status.state, first)
        && let Err(error) = cluster::manifest_of(&status, &storage).await
    {
        // A manifest is only ever written for a job that runs: one shard is made again, and the manifest with it.
        let file = status.manifest_key.clone().unwrap_or_default();
        damaged.push(Damage { shard: first.index, file, problem: format!("{error:#}") });
    }
    if let Some(missing) = cluster::missing(&status) {
        ui.warn(missing);
    }
    let requeue = !args.dry_run && !damaged.is_empty();
    if requeue {
        let shards: Vec<u64> = damaged.iter().map(|damage| damage.shard).collect();
        cluster.jobs.repair(job, &shards).await.map_err(|error| cluster.explain(error))?;
        ui.note(format!("they are being made again; follow it: encaje status {job} --watch"));
    }
    Ok(Report { target: job.to_string(), files, damaged, requeued: requeue })
}

/// A file of a finished run: where it is as a part, and where it was as a shard.
struct Placed {
    shard: u64,
    part: PathBuf,
    stored: PathBuf,
    expected: ExpectedFile,
}

/// Moves intact parts back to where shards are stored, and requeues damaged ones: the next run does the rest.
async fn repair_output(ui: &Ui, args: &RepairArgs, out: &OutDir) -> anyhow::Result<Report> {
    let root = out.root().display().to_string();
    let Some(record) = out.record()? else { return Err(no_run(out)?) };
    let _lock = out.lock()?;
    if has_whole_output_of_another(out, &record).await? {
        let what = format!("`{root}` was made by a run, and has the output of another job by now");
        return Err(Advice::failed(what).hint("nothing was changed: a repair would delete these files").into());
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let store = Store::open(&outdir::absolute_text(&out.database())?, clock).await?;
    let storage = Storage::open(&outdir::absolute_text(&out.state_dir())?)?;
    let placed = placed(out, &store, &storage, record.job).await?;
    let (mut damaged, mut whole) = (Vec::new(), Vec::new());
    for file in &placed {
        let (part, stored, expected) = (file.part.clone(), file.stored.clone(), file.expected.clone());
        let found = tokio::task::spawn_blocking(move || {
            Ok::<_, anyhow::Error>(fetch::is_intact(&part, &expected)? || fetch::is_intact(&stored, &expected)?)
        });
        if found.await.context("a check crashed")?? {
            whole.push(file);
        } else {
            let problem = DAMAGED.to_owned();
            damaged.push(Damage { shard: file.shard, file: file.expected.name.clone(), problem });
        }
    }
    if let (true, Some(first)) = (damaged.is_empty(), placed.first())
        && let Some(problem) = manifest_problem(out, &store, &storage, record.job).await?
    {
        // A manifest is only ever written for a job that runs: one shard is made again, and the manifest with it.
        damaged.push(Damage { shard: first.shard, file: layout::MANIFEST_NAME.to_owned(), problem });
    }
    let requeue = !args.dry_run && !damaged.is_empty();
    if requeue {
        check_corpus(out, &record, damaged.len()).await?;
        // First of all: from here on the directory is an unfinished output, whatever happens.
        remove(&out.root().join(layout::MANIFEST_NAME))?;
        for file in &whole {
            put_back(file)?;
        }
        for damage in &damaged {
            remove(&out.root().join(&damage.file))?;
        }
        let shards: Vec<u64> = damaged.iter().map(|damage| damage.shard).collect();
        store.repair(record.job, &shards).await?;
        ui.note("run the same `encaje run` again: it produces them again and keeps the rest");
    }
    store.close().await?;
    Ok(Report { target: root, files: placed.len(), damaged, requeued: requeue })
}

/// Whether the directory holds the complete output of another job, and not only its manifest.
async fn has_whole_output_of_another(out: &OutDir, record: &JobRecord) -> anyhow::Result<bool> {
    let Ok(Some(manifest)) = out.manifest() else { return Ok(false) };
    Ok(manifest.job_id != record.job.to_string() && damaged_parts(out, &manifest).await?.is_empty())
}

/// Returns the parts that are not what the manifest lists.
async fn damaged_parts(out: &OutDir, manifest: &Manifest) -> anyhow::Result<Vec<Damage>> {
    let mut damaged = Vec::new();
    for (shard, file) in (0..).zip(&manifest.files) {
        let (part, expected) = (out.root().join(&file.name), ExpectedFile::of_part(file));
        let is_intact = tokio::task::spawn_blocking(move || fetch::is_intact(&part, &expected));
        if !is_intact.await.context("a check crashed")?? {
            damaged.push(Damage { shard, file: file.name.clone(), problem: DAMAGED.to_owned() });
        }
    }
    Ok(damaged)
}

/// Removes damaged parts at a URL, and the manifest: the next run takes the others as they are, and makes these again.
async fn repair_remote(ui: &Ui, args: &RepairArgs, out: &OutDir) -> anyhow::Result<Report> {
    let Some(record) = out.record()? else { return Err(no_run(out)?) };
    let _lock = out.lock()?;
    let (files, damaged) = match out.manifest() {
        Ok(Some(manifest)) => (manifest.files.len(), damaged_parts(out, &manifest).await?),
        Ok(None) => {
            let what = format!("`{}` is not finished", out.root().display());
            return Err(Advice::failed(what)
                .hint("run the same `encaje run` again: it goes on with the parts there")
                .into());
        }
        // The next run checks the parts that are there, and writes another.
        Err(error) if is_damage(&error) => {
            let (file, problem) = (layout::MANIFEST_NAME.to_owned(), format!("{error:#}"));
            (1, vec![Damage { shard: 0, file, problem }])
        }
        Err(error) => return Err(error),
    };
    let requeue = !args.dry_run && !damaged.is_empty();
    if requeue {
        check_corpus(out, &record, damaged.len()).await?;
        place::remove(&out.root().join(layout::MANIFEST_NAME))?;
        damaged.iter().try_for_each(|damage| place::remove(&out.root().join(&damage.file)))?;
        ui.note("run the same `encaje run` again: it produces them again and keeps the rest");
    }
    out.remove_local_state()?;
    let target = out.root().display().to_string();
    Ok(Report { target, files, damaged, requeued: requeue })
}

fn is_damage(error: &anyhow::Error) -> bool {
    error.downcast_ref::<DatasetError>().is_some_and(|error| error.kind() == ErrorKind::Corrupt)
}

/// Refuses to begin what the next run could not end: it reads the corpus again for the damaged files.
async fn check_corpus(out: &OutDir, record: &JobRecord, damaged: usize) -> anyhow::Result<()> {
    let refused = |why: String| {
        let files = ui::counted(damaged as u64, "file");
        Advice::failed(format!("{why}, and repair needs it to make {files} again"))
            .hint("restore the corpus as it was, its time of modification too, and repair again")
            .hint(format!("nothing was changed: intact files are still in `{}`", out.root().display()))
    };
    // A stream is kept in the state folder, which is gone after a run into a bucket: that run reads it again.
    let input = outdir::absolute_text(&out.input())?;
    let is_gone = |source: &Source| Path::new(&source.uri).starts_with(&input) && !Path::new(&source.uri).exists();
    let was: Vec<_> = record.sources.iter().filter(|planned| !is_gone(&planned.source)).cloned().collect();
    let sources: Vec<Source> = was.iter().map(|planned| planned.source.clone()).collect();
    match dataset::inspect(&sources, &record.spec.read).await {
        Err(error) => Err(refused(error_chain(&error)).into()),
        Ok(now) => match job_spec::changed_sources(&was, &now).next() {
            Some(uri) => Err(refused(format!("corpus source `{uri}` has changed since the job was begun")).into()),
            None => Ok(()),
        },
    }
}

/// Says what is wrong with the manifest of a run, if it is finished and another run would not write it.
async fn manifest_problem(
    out: &OutDir,
    store: &Store,
    storage: &Storage,
    job: JobId,
) -> anyhow::Result<Option<String>> {
    let status = store.job(job).await?.filter(|status| status.state == JobState::Succeeded);
    let Some(status) = status else { return Ok(None) };
    match out.manifest() {
        Ok(Some(manifest)) if manifest.job_id != job.to_string() => Ok(Some("it is of another job".to_owned())),
        Ok(Some(_)) => Ok(None),
        Ok(None) if cluster::manifest_of(&status, storage).await.is_ok() => Ok(None),
        Ok(None) => Ok(Some("it is missing".to_owned())),
        Err(error) => Ok(Some(format!("{error:#}"))),
    }
}

fn no_run(out: &OutDir) -> anyhow::Result<anyhow::Error> {
    let root = out.root().display();
    let advice = Advice::usage(format!("`{root}` is not the directory of an `encaje run`, and no job's id"));
    let hint = if fetch::is_claimed(out)? {
        "it was fetched from a cluster: the same `encaje download` again fetches what is damaged"
    } else {
        "repair mends the files of a run, or those of a cluster's job"
    };
    Ok(advice.hint(hint).into())
}

/// The winners of a job in input order, with the places that their files may have.
async fn placed(out: &OutDir, store: &Store, storage: &Storage, job: JobId) -> anyhow::Result<Vec<Placed>> {
    let mut winners = Vec::new();
    let mut after = None;
    loop {
        let page = store.winners(job, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.index);
        winners.extend(page);
    }
    winners.sort_by_key(|winner| winner.slice.first_row);
    let mut placed = Vec::with_capacity(winners.len());
    for (position, winner) in winners.into_iter().enumerate() {
        let (name, output) = (layout::part_name(position as u64), winner.output);
        placed.push(Placed {
            shard: winner.index,
            part: out.root().join(&name),
            stored: storage.local_path(&output.key).context("a run keeps its files on a local disk")?,
            expected: ExpectedFile {
                key: output.key,
                name,
                bytes: output.bytes,
                blake3: output.blake3,
                rows: output.counts.rows,
            },
        });
    }
    Ok(placed)
}

/// Moves a part back to where the finalizer looks for it, unless it is there.
fn put_back(file: &Placed) -> anyhow::Result<()> {
    if file.part.exists() {
        let folder = file.stored.parent().context("a key has a folder")?;
        fs::create_dir_all(folder)
            .and_then(|()| fs::rename(&file.part, &file.stored))
            .with_context(|| format!("cannot move `{}`", file.part.display()))?;
    }
    Ok(())
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot remove `{}`", path.display())),
    }
}
