//! `encaje submit`: submits a job to a cluster, after checking corpus and model here.

use std::path::Path;

use clap::Args;
use dataset::PlannedSource;
use proto::job::{JobSpec, JobState, JobStatus};
use proto::{JobId, RpcErrorKind, relay};

use crate::args::{ClusterArgs, JobArgs};
use crate::cluster::{self, Cluster, JobReport};
use crate::exit::{Advice, Exit};
use crate::job_spec::{self, Capacity};
use crate::stream::Corpora;
use crate::ui::{self, Ui};
use crate::{model, notices, pins, reuse};

/// Submits a corpus to a cluster and prints the job's id.
///
/// The same command again is the same job, so that repeating it is harmless. Files of this machine are uploaded, unless the
/// coordinator is on it too and may read them; URLs are read by coordinators and workers. A model that is a directory must be
/// at the same path on every worker.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  encaje submit tweets.csv --model owner/name --coordinator http://127.0.0.1:7600")]
pub(crate) struct SubmitArgs {
    #[command(flatten)]
    pub(crate) job: JobArgs,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Submits under this id (a UUID). The default follows from corpus, model and options, so that the same command
    /// again is the same job.
    #[arg(long, value_name = "UUID", env = "ENCAJE_SUBMIT_JOB_ID")]
    pub(crate) job_id: Option<JobId>,
    /// Submits under a new id even if the same job was submitted before.
    #[arg(long, conflicts_with = "job_id")]
    pub(crate) again: bool,
    /// Lets the job succeed without shards that are out of attempts, if any other is done. Their rows are missing from
    /// the result, which lists them; `encaje retry` tries them again.
    #[arg(long)]
    pub(crate) allow_partial: bool,
    /// Waits until the job has ended, and fails if it fails. Exits with 3 if it succeeded without some of its rows.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Prints the job on stdout as one JSON object instead of its id.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Shards are cut for a worker with so many cores, independent of this machine, so that the job id is too.
const WORKER_CORES: u64 = 4;

/// Submits a job.
pub(crate) fn run(ui: &Ui, args: &SubmitArgs) -> anyhow::Result<Exit> {
    cluster::runtime()?.block_on(submit(ui, args))
}

async fn submit(ui: &Ui, args: &SubmitArgs) -> anyhow::Result<Exit> {
    let corpus = &args.job.corpus;
    pins::refuse_offline(&corpus.corpus, args.job.model.hub.offline)?;
    let cluster = Cluster::open(&args.cluster)?;
    let corpora = tokio::task::block_in_place(|| Corpora::save_streams_temporarily(ui, &corpus.corpus, corpus.format))?;
    let (spec, sources) = preflight(ui, args, &corpora).await?;
    let reuses = !spec.reuse.is_empty();
    refuse_unreachable(ui, &cluster, &spec).await?;
    let (job, mut status) = submit_job(ui, args, &cluster, spec, &sources, corpora.has_streams()).await?;
    drop(corpora);
    report_status(ui, &status, reuses);
    if !args.json {
        ui.data(job.to_string())?;
    }
    if args.wait {
        status = cluster.wait(ui, job).await?;
    }
    if args.json {
        ui.json(&JobReport::of(&status))?;
    }
    match cluster::no_result_error(&status) {
        Some(error) if args.wait => Err(error),
        Some(_) | None => {
            let exit = cluster::exit_code(ui, &status);
            Ok(if args.wait { exit } else { Exit::Done })
        }
    }
}

/// Submits the job. Files of this machine are uploaded first, unless the coordinator is on it and may read them itself, and
/// they stay where they are.
async fn submit_job(
    ui: &Ui,
    args: &SubmitArgs,
    cluster: &Cluster,
    mut spec: JobSpec,
    sources: &[PlannedSource],
    must_upload: bool,
) -> anyhow::Result<(JobId, JobStatus)> {
    let id_of = |spec: &JobSpec| match (args.job_id, args.again) {
        (Some(job), _) => job,
        (None, true) => JobId::generate(),
        (None, false) => JobId::of(spec, sources),
    };
    let has_files = spec.sources.iter().any(|source| is_file(&source.uri));
    if !has_files || (!must_upload && relay::shares_files(cluster.connection.clone()).await) {
        let job = id_of(&spec);
        match cluster.jobs.submit(job, &spec).await {
            Ok(status) => return Ok((job, status)),
            Err(error) if has_files && error.kind == RpcErrorKind::PermissionDenied => {}
            Err(error) => return Err(cluster.explain(error)),
        }
    }
    for source in spec.sources.iter_mut().filter(|source| is_file(&source.uri)) {
        let file = Path::new(&source.uri);
        let sent = relay::upload_source(cluster.connection.clone(), file, &mut |_| {}).await?;
        let name = file.display();
        if sent.was_there {
            ui.note(format!("`{name}` was uploaded before"));
        } else {
            ui.note(format!("uploaded `{name}`: {} bytes", ui::thousands(sent.bytes)));
        }
        source.uri = sent.uri;
    }
    let job = id_of(&spec);
    let status = cluster.jobs.submit(job, &spec).await.map_err(|error| cluster.explain(error))?;
    Ok((job, status))
}

fn is_file(uri: &str) -> bool {
    !uri.contains("://")
}

/// Checks corpus and model, and returns the job.
async fn preflight(ui: &Ui, args: &SubmitArgs, corpora: &Corpora) -> anyhow::Result<(JobSpec, Vec<PlannedSource>)> {
    let format = args.job.corpus.format;
    let sources = pins::expand(ui, &corpora.patterns, format, &[]).await?.sources;
    let (mut planned, notices) = dataset::inspect_with_notices(&sources, &job_spec::read_options(&args.job)).await?;
    notices::warn_all(ui, &notices);
    for source in &mut planned {
        // A stream has no time of change: the job's id follows from its content.
        if let Some(digest) = corpora.digest_of(&source.source.uri) {
            source.fingerprint.etag = Some(digest.to_owned());
        }
    }
    job_spec::check_parts(&args.job, &planned)?;
    let model = tokio::task::block_in_place(|| model::open(ui, &args.job.model.model, &args.job.model.hub, None))?;
    job_spec::check(&args.job, &model, Capacity::Workers(WORKER_CORES))?;
    let digest = tokio::task::block_in_place(|| model.dir.digest())?;
    let spec = job_spec::spec(&args.job, sources, &model, digest, Capacity::Workers(WORKER_CORES))?;
    model::report(ui, &args.job, &model.summary, &spec.embed);
    if model.found.revision.is_none() {
        ui.note(format!("note: the model is the directory `{}`; every worker needs it there", model.name));
    }
    let info = job_spec::file_info(&spec, &model)?;
    let reuse = tokio::task::block_in_place(|| reuse::open(ui, &args.job, &info))?;
    let spec = JobSpec { allow_partial: args.allow_partial, reuse, ..spec };
    job_spec::check_size(&spec)?;
    Ok((spec, planned))
}

/// Refuses earlier outputs on this machine where the cluster is on others. Corpora are uploaded instead; an earlier output is
/// read by every worker, and so belongs where they all reach it.
async fn refuse_unreachable(ui: &Ui, cluster: &Cluster, spec: &JobSpec) -> anyhow::Result<()> {
    let Some(local) = spec.reuse.iter().find(|source| reuse::is_local(source)) else { return Ok(()) };
    let uri = &local.uri;
    if relay::shares_files(cluster.connection.clone()).await {
        ui.note(format!("note: the earlier output is `{uri}`; every worker needs it there"));
        return Ok(());
    }
    let what = format!("--reuse `{uri}` is on this machine, and the coordinator is on another");
    let hint = format!("copy it into a bucket, and give that URL: encaje merge {uri} --out s3://BUCKET/NAME.parquet");
    Err(Advice::usage(what).hint(hint).into())
}

/// Reports a job that was submitted before, or a cluster without workers.
fn report_status(ui: &Ui, status: &JobStatus, reuses: bool) {
    let job = status.id;
    match status.state {
        JobState::Planning | JobState::Running | JobState::Finalizing => {
            if reuses && status.spec.reuse.is_empty() {
                ui.warn("the coordinator does not know --reuse: every text is embedded; upgrade the coordinators");
            }
            if status.workers == 0 {
                ui.note("note: the cluster has no workers now; the job waits for one");
            } else if let Some(unknown) = cluster::outdated(status) {
                ui.warn(format!("the job waits: {unknown}"));
            }
        }
        JobState::Succeeded => ui.note(format!("this job was submitted before and is done: encaje download {job}")),
        JobState::Failed => {
            let reason = status.reason.as_deref().unwrap_or("no reason was given");
            ui.warn(format!("this job was submitted before and failed: {reason}"));
            ui.note(format!("to try again what failed: encaje retry {job}; to submit it as a new job: --again"));
        }
        JobState::Cancelling | JobState::Cancelled => {
            ui.warn("this job was submitted before and was cancelled; to submit it as a new job: --again");
        }
    }
}
