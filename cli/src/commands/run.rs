//! `encaje run`: from a corpus to vector files in one process. Run again, it resumes.
//!
//! The process may be killed after any step: check corpus and model; lock the output; write the job record; run the job;
//! move its parts into place; write the manifest; clean up. The next run does the steps that are left.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use dataset::vectors::{Outline, place};
use dataset::{Expanded, HubPin, MergeOptions, PlannedSource, RowCounts, Storage};
use engine::DeviceSpec;
use proto::job::{JobSpec, JobState, JobStatus, ModelSpec};
use spec::Source;

use crate::args::{DeviceArg, JobArgs, Place, parse_device};
use crate::exit::{Advice, Exit};
use crate::job_spec::{self, Capacity};
use crate::local::{self, Ended, LocalJob};
use crate::model::{self, LocalModel};
use crate::outdir::{self, EmptyPart, JobRecord, OutDir, Target};
use crate::stream::{self, Corpora};
use crate::summary::RunSummary;
use crate::ui::{self, Amount, Ui};
use crate::{devices, merging, notices, outfile, pins, reuse};

/// Embeds a corpus on this machine; run it again to resume.
///
/// Each input row becomes one output row: with a vector, or with the reason why it has none. Run the same command
/// again to resume after an interruption, a crash or a failure; after success it does nothing. Other parameters, or
/// a corpus that has changed, are refused in a directory that holds a job already.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  encaje run tweets.csv --model sentence-transformers/all-MiniLM-L6-v2 --out vectors/"
)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) job: JobArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

/// Where the output goes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Writes to this directory (part-00000.parquet ..., manifest.json), or into one file if it ends in `.parquet`; either may
    /// be in a bucket (`s3://`, `gs://`, `az://`), with the state of the run in a folder here.
    #[arg(long, value_name = "DIR|FILE.parquet|URL")]
    pub(crate) out: Place,
    /// Exits with 3 if any row was rejected.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Prints the summary on stdout as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How this machine is used.
#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
pub(crate) struct MachineArgs {
    /// Computes on these devices: `auto`, `cpu`, `cuda:0,1` or `cuda:all`. `auto` is every GPU that can be used, else the
    /// CPU.
    #[arg(long, value_name = "DEVICE", value_parser = parse_device, default_value = "auto")]
    pub(crate) device: DeviceArg,
    /// Runs this many forward passes at a time on a CPU. The default is one per core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) threads: Option<u32>,
}

/// The request, after preflight.
struct Request<'a> {
    args: &'a RunArgs,
    target: Target,
    out: OutDir,
    corpora: Corpora,
    sources: Vec<PlannedSource>,
    pins: Vec<HubPin>,
    model: LocalModel,
    spec: JobSpec,
    devices: Vec<DeviceSpec>,
    cores: usize,
}

/// Embeds the corpus.
pub(crate) fn run(ui: &Ui, args: &RunArgs) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let mut request = preflight(ui, args, &runtime)?;
    if let Some(totals) = finished_file(&request)? {
        request.out.remove()?;
        ui.note(format!("`{}` is done already: nothing to do", request.target.path().display()));
        return report(ui, &request, &RunSummary::already_complete(request.target.path(), &totals));
    }
    refuse_foreign_files(&request)?;
    if !request.out.has_manifest()? {
        let info = job_spec::file_info(&request.spec, &request.model)?;
        request.spec.reuse = reuse::open(ui, &args.job, &info)?;
        job_spec::check_size(&request.spec)?;
    }
    if let Some(record) = request.out.record()? {
        // Before anything is made here.
        replaceable(&request, &record)?;
    }
    warn_of_other_files(ui, &request)?;
    let lock = request.out.lock()?;
    let record = load_or_create_record(ui, &request)?;
    request.corpora.keep_files();
    stream::remove_unused(&request.out.input(), record.spec.sources.iter().map(|source| source.uri.as_str()));
    if request.out.is_remote() {
        let (root, state) = (request.out.root().display(), request.out.state_dir());
        ui.note(format!("parts go to `{root}` as they are done; the state of the run is in `{}`", state.display()));
    }
    let parts = produce_parts(ui, &request, &record, &runtime)?;
    let Some(ProducedParts { totals, before, already_complete }) = parts else {
        let root = request.out.state_dir();
        let root = if request.out.is_remote() { root.as_path() } else { request.out.root() }.display();
        ui.note(format!("interrupted: the work so far is kept in `{root}`; run again to resume"));
        return Ok(Exit::Interrupted);
    };
    let mut summary = RunSummary::new(request.target.path(), &totals, started.elapsed(), before);
    match &request.target {
        Target::Dir(dir) if already_complete => {
            ui.note(format!("`{}` is done already: nothing to do", dir.display()));
            request.out.remove_local_state()?;
            return report(ui, &request, &RunSummary::already_complete(dir, &totals));
        }
        Target::Dir(_) if request.out.is_remote() => request.out.remove_local_state()?,
        Target::Dir(_) => request.out.write_speed(&summary)?,
        Target::File(file) => {
            merging::merge(ui, request.out.root(), file, &MergeOptions::default())?;
            drop(lock);
            request.out.remove()?;
            summary = RunSummary::new(request.target.path(), &totals, started.elapsed(), before);
        }
    }
    report(ui, &request, &summary)
}

/// The published parts of a job.
struct ProducedParts {
    totals: RowCounts,
    /// What was done before this run.
    before: Amount,
    /// Whether every part existed already.
    already_complete: bool,
}

/// Produces the parts and the manifest, unless they exist. `None` means that the user interrupted.
fn produce_parts(
    ui: &Ui,
    request: &Request<'_>,
    record: &JobRecord,
    runtime: &tokio::runtime::Runtime,
) -> anyhow::Result<Option<ProducedParts>> {
    if let Some(manifest) = request.out.manifest()? {
        if manifest.job_id != record.job.to_string() && manifest.spec_digest != record.spec.digest() {
            let what = format!("`{}` has the output of another job by now", request.out.root().display());
            let repair =
                format!("or, if only its manifest was replaced: encaje repair {}", request.out.root().display());
            return Err(Advice::usage(what).hint("give another --out").hint(repair).hint(NOTHING_CHANGED).into());
        }
        request.out.check_parts(&manifest)?;
        request.out.clean_up()?;
        let before = Amount { rows: manifest.totals.rows, tokens: manifest.totals.tokens };
        return Ok(Some(ProducedParts { totals: manifest.totals, before, already_complete: true }));
    }
    model::report(ui, &request.args.job, &request.model.summary, &request.spec.embed);
    let dtype = request.spec.embed.dtype;
    if request.devices.contains(&DeviceSpec::Cpu) {
        let computed = request.model.dir.dtype_on_cpu(dtype);
        if computed != dtype {
            ui.note(format!("number format: {computed} on the CPU, since {dtype} is for larger models"));
        } else if !engine::is_fast_on_cpu(dtype) {
            ui.warn(format!(
                "this processor has no instructions for {dtype}: it gives the same vectors, but no faster than f32"
            ));
        }
    }
    let embedded = runtime.block_on(embed(ui, request, record))?;
    Ok(embedded.map(|(totals, before)| ProducedParts { totals, before, already_complete: false }))
}

/// Checks everything that can fail before any work is done.
fn preflight<'a>(ui: &Ui, args: &'a RunArgs, runtime: &tokio::runtime::Runtime) -> anyhow::Result<Request<'a>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    outfile::check_place(&args.output.out)?;
    let target = Target::of(&args.output.out);
    let out = target.work_dir();
    if matches!(&target, Target::Dir(dir) if dir.is_file()) {
        let what = format!("--out `{}` is a file", target.path().display());
        return Err(Advice::usage(what).hint("give a directory, or a file name that ends in .parquet").into());
    }
    let corpus = &args.job.corpus;
    pins::refuse_offline(&corpus.corpus, args.job.model.hub.offline)?;
    let corpora = Corpora::save_streams(ui, &corpus.corpus, corpus.format, &out.input())?;
    let before = out.record()?;
    let pins = pins::of_output(&corpora.patterns, target.path(), before.as_ref());
    let expanded = runtime.block_on(pins::expand(ui, &corpora.patterns, corpus.format, &pins))?;
    let Expanded { sources, notes: _, pins } = expanded;
    refuse_own_folder(&out, &corpus.corpus, &sources)?;
    let read = job_spec::read_options(&args.job);
    let (planned, notices) = runtime.block_on(dataset::inspect_with_notices(&sources, &read))?;
    notices::warn_all(ui, &notices);
    job_spec::check_parts(&args.job, &planned)?;
    // A branch moves on; what was begun with one commit is finished with it.
    let pinned = before.as_ref().filter(|record| record.spec.model.name == args.job.model.model);
    let pinned = pinned.and_then(|record| record.spec.model.revision.clone());
    let model = model::open(ui, &args.job.model.model, &args.job.model.hub, pinned.as_deref())?;
    let devices = devices::resolve(&args.machine.device, model.summary.gpus)?;
    let capacity = match devices.contains(&DeviceSpec::Cpu) {
        true => Capacity::Cores(cores as u64),
        false => Capacity::Gpus(devices.len() as u64),
    };
    job_spec::check(&args.job, &model, capacity)?;
    let digests = model.dir.digests()?;
    let spec = job_spec::spec(&args.job, sources, &model, digests.now.clone(), capacity)?;
    let begun_with = begun_with(&target, &out, before.as_ref());
    let digest = begun_with.as_ref().map(|model| model.digest.as_str());
    let spec = job_spec::compatible_with_0_1(spec, digest, &digests);
    let mut spec = job_spec::with_its_earlier_name(spec, begun_with.as_ref());
    if let (None, Some(record)) = (args.job.cut.shard_rows, &before) {
        spec.limits = record.spec.limits;
    }
    job_spec::check_size(&spec)?;
    Ok(Request { args, target, out, corpora, sources: planned, pins, model, spec, devices, cores })
}

/// Refuses a pattern over the folder of the output, which would read files of the output as a corpus the next time.
fn refuse_own_folder(out: &OutDir, patterns: &[String], sources: &[Source]) -> anyhow::Result<()> {
    if !patterns.iter().any(|pattern| pattern.contains(['*', '?', '['])) {
        return Ok(());
    }
    let root = if out.is_remote() { out.root().to_owned() } else { std::path::absolute(out.root())? };
    match sources.iter().find(|source| Path::new(&source.uri).parent() == Some(root.as_path())) {
        None => Ok(()),
        Some(source) => {
            let what = format!("the corpus `{}` is in the folder of the output", source.uri);
            Err(Advice::usage(what)
                .hint(
                    "a pattern would read the files of the output the next time: give another --out, or name each file",
                )
                .into())
        }
    }
}

/// Returns the model that made the existing output, if it can be read.
fn begun_with(target: &Target, out: &OutDir, record: Option<&JobRecord>) -> Option<ModelSpec> {
    if let Some(record) = record {
        return Some(record.spec.model.clone());
    }
    let info = match target {
        Target::File(file) => Outline::read(file).ok()?.info,
        Target::Dir(_) => out.manifest().ok()??.info,
    };
    Some(ModelSpec { name: info.model, revision: info.revision, digest: info.model_digest })
}

/// Returns the counts of the output file, if it exists and is of this job. Refuses any other file.
fn finished_file(request: &Request<'_>) -> anyhow::Result<Option<RowCounts>> {
    let Target::File(file) = &request.target else { return Ok(None) };
    if place::size_of(file)?.is_none() {
        return Ok(None);
    }
    let refuse = |what: String| {
        Advice::usage(what).hint("give another --out, or remove the file to make it again").hint(NOTHING_CHANGED)
    };
    let outline = Outline::read(file)
        .with_context(|| refuse(format!("`{}` already exists and is not an output of encaje", file.display())))?;
    if outline.info.spec_digest != request.spec.digest() {
        let what = format!("`{}` already exists, made with other parameters or from another corpus", file.display());
        return Err(refuse(what).into());
    }
    Ok(Some(outline.totals.totals))
}

/// The last hint of every refusal.
const NOTHING_CHANGED: &str = "nothing was changed";

/// Refuses a directory with output files that belong to no job of it.
fn refuse_foreign_files(request: &Request<'_>) -> anyhow::Result<()> {
    if request.out.record()?.is_some() {
        return Ok(());
    }
    let Some(foreign) = request.out.foreign_file()? else { return Ok(()) };
    let digest = request.spec.digest();
    if request.out.manifest().ok().flatten().is_some_and(|manifest| manifest.spec_digest == digest) {
        return Ok(());
    }
    let what =
        format!("`{}` holds the output of something else: `{}`", request.out.root().display(), foreign.display());
    Err(Advice::usage(what).hint("give another --out, or remove its files").hint(NOTHING_CHANGED).into())
}

/// Warns before a job is begun in a directory with other files, which starting over must not remove.
fn warn_of_other_files(ui: &Ui, request: &Request<'_>) -> anyhow::Result<()> {
    if request.out.record()?.is_some() || request.out.has_manifest()? {
        return Ok(());
    }
    if let Some(other) = request.out.other_file()? {
        let (root, other) = (request.out.root().display(), other.display());
        ui.warn(format!(
            "`{root}` holds files that are not of this output, such as `{other}`: they are left alone, beside \
             part-*.parquet, manifest.json and .encaje; remove only those to start over, not the folder"
        ));
    }
    Ok(())
}

/// Loads the record of the directory's job and checks that it is the requested one; creates it where there is none.
fn load_or_create_record(ui: &Ui, request: &Request<'_>) -> anyhow::Result<JobRecord> {
    if let Some(record) = request.out.record()? {
        let Some(refusal) = replaceable(request, &record)? else {
            request.out.adopt_state(&record)?;
            return Ok(record);
        };
        ui.note(format!("note: {refusal}; it had made nothing yet, so this one takes its place"));
        request.out.reset()?;
    }
    let record = JobRecord::new(request.spec.clone(), request.sources.clone(), request.pins.clone());
    if !request.out.has_manifest()? {
        request.out.write_record(&record)?;
        request.out.adopt_state(&record)?;
    }
    Ok(record)
}

/// Returns why the directory's job is not the requested one, if it differs and has made nothing that would be lost. Refuses the
/// request if it has.
fn replaceable(request: &Request<'_>, record: &JobRecord) -> anyhow::Result<Option<Advice>> {
    match refusal(request, record) {
        Some(refusal) if request.out.has_work()? => Err(refusal.into()),
        refusal => Ok(refusal),
    }
}

/// Returns why the directory's job is not the requested one, if it differs.
fn refusal(request: &Request<'_>, record: &JobRecord) -> Option<Advice> {
    let root = request.out.root().display();
    let start_over = format!("to start over, remove what was made: {}", request.out.how_to_start_over());
    let differences = job_spec::differences(&record.spec, &request.spec);
    if !differences.is_empty() {
        let what = format!("`{root}` holds a job with other parameters: {}", differences.join("; "));
        let advice = Advice::usage(what).hint("give the same parameters to resume it, or another --out");
        let advice = match request.corpora.has_streams() {
            true if was_begun_elsewhere(request, record) => advice.hint(
                "stdin and pipes are kept in the folder of the run, and it goes on only in the folder where it was begun: \
                 write the corpus to a file, or to a bucket, to go on elsewhere"
            ),
            true => advice
                .hint("a stream (stdin, a pipe) must give the same bytes as before: files of it are named by them"),
            false => advice,
        };
        return Some(advice.hint(start_over));
    }
    // A stream is named by its bytes, and written anew where the state of the run is gone.
    let is_stream = |uri: &str| request.corpora.digest_of(uri).is_some();
    let uri = job_spec::changed_sources(&record.sources, &request.sources).find(|uri| !is_stream(uri))?;
    let what = format!("corpus source `{uri}` has changed since the job in `{root}` was begun");
    Some(Advice::usage(what).hint("restore it to resume, or give another --out").hint(start_over))
}

/// Whether the same streams were read in another folder.
fn was_begun_elsewhere(request: &Request<'_>, record: &JobRecord) -> bool {
    let name = |uri: &str| Path::new(uri).file_name().map(std::ffi::OsStr::to_owned);
    let pairs = record.sources.iter().zip(&request.sources);
    let mut moved = pairs.filter(|(was, now)| was.source.uri != now.source.uri);
    moved.any(|(was, now)| {
        name(&was.source.uri) == name(&now.source.uri) && request.corpora.digest_of(&now.source.uri).is_some()
    })
}

/// Runs the job and puts its files in place. `None` means that the user interrupted.
async fn embed(ui: &Ui, request: &Request<'_>, record: &JobRecord) -> anyhow::Result<Option<(RowCounts, Amount)>> {
    let storage = Storage::open(&outdir::absolute_text(&request.out.state_dir())?)?;
    let local = LocalJob {
        out: &request.out,
        job: record.job,
        // Vectors are taken from what this command names; what an earlier one named stays listed.
        spec: &JobSpec { reuse: record.spec.reuse_with(&request.spec.reuse), ..record.spec.clone() },
        bytes: request.sources.iter().map(|source| source.fingerprint.size).sum(),
        devices: request.devices.clone(),
        threads: request.args.machine.threads.map_or(request.cores, |threads| threads as usize),
        hub: model::hub_options(&request.args.job.model.hub),
    };
    let (status, before, trouble) = match Box::pin(local::run(ui, local, storage.clone())).await? {
        Ended::Interrupted => return Ok(None),
        Ended::Settled { status, before, trouble } => (status, before, trouble),
    };
    let (JobState::Succeeded, Some(key)) = (status.state, &status.manifest_key) else {
        return Err(failure(request, &status, trouble));
    };
    let schema = match request.sources.first() {
        Some(source) => dataset::kept_schema_of(source)?,
        None => arrow_schema::Schema::empty(),
    };
    let empty = EmptyPart { schema: &schema, info: job_spec::file_info(&request.spec, &request.model)? };
    let manifest = request.out.publish(&storage, key, empty).await?;
    request.out.clean_up()?;
    Ok(Some((manifest.totals, before)))
}

/// Returns why the job has no result, with hints.
fn failure(request: &Request<'_>, status: &JobStatus, trouble: Option<String>) -> anyhow::Error {
    let reason = status.reason.as_deref().or(status.pause_reason.as_deref()).unwrap_or("no reason was given");
    let advice = Advice::failed(format!("the job failed: {reason}"));
    let done = ui::counted(status.shards.committed, "shard");
    let advice = match trouble.filter(|trouble| !reason.contains(trouble.as_str())) {
        Some(trouble) => advice.hint(format!("the last of the failures: {trouble}")),
        None => advice,
    };
    advice
        .hint(format!("the work so far ({done}) is kept; run again to try once more what failed"))
        .hint(format!("to start over instead: {}", request.out.how_to_start_over()))
        .into()
}

/// Prints the summary and decides the exit code.
fn report(ui: &Ui, request: &Request<'_>, summary: &RunSummary) -> anyhow::Result<Exit> {
    summary.print(ui, request.args.output.json)?;
    let strict = request.args.output.strict && summary.rejected() > 0;
    Ok(if strict { Exit::Incomplete } else { Exit::Done })
}
