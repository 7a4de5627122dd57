//! Arguments of the commands that make up a cluster and talk to it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use proto::JobId;

use super::values::{parse_device, parse_duration};
use super::{DeviceArg, IdentityArgs, JobArgs, ServerArgs};

/// How to reach a cluster.
#[derive(Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterArgs {
    /// The coordinators: URLs such as `http://host:7600`, separated by commas. One that does not answer is passed over.
    #[arg(long, value_name = "URL,...", value_delimiter = ',')]
    pub(crate) coordinator: Vec<String>,
    #[command(flatten)]
    pub(crate) identity: IdentityArgs,
}

/// `encaje coordinator`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  encaje coordinator --database cluster/state.db --storage cluster/storage")]
pub(crate) struct CoordinatorArgs {
    /// Listens on this address; port 0 lets the system choose one, and the start-up line says which.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7600")]
    pub(crate) listen: SocketAddr,
    /// Keeps the books here: a file for SQLite, which one coordinator uses alone, or `postgres://...` for any number.
    #[arg(long, value_name = "URL")]
    pub(crate) database: String,
    /// Keeps outputs here: a directory or a bucket (`s3://`, `gs://`, `az://`). Who cannot reach it is served by the
    /// coordinator.
    #[arg(long, value_name = "URL")]
    pub(crate) storage: String,
    /// Reads corpora below this place for those who submit jobs: a directory, a bucket or prefix (`s3://bucket/prefix`),
    /// or a web server (`https://host`). May be given several times. Without it only uploaded files are read.
    #[arg(long, value_name = "DIR|URL", value_delimiter = ',')]
    pub(crate) corpus_root: Vec<String>,
    /// Serves Prometheus metrics at `http://ADDR/metrics`, and `/healthz` for probes, to whoever can reach this address.
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) security: ServerArgs,
    /// Prints one JSON object on stdout once it listens, and one when it stops.
    #[arg(long)]
    pub(crate) json: bool,
    /// Takes a worker for dead after so long without a heartbeat.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "60s", hide = true)]
    pub(crate) lease_ttl: Duration,
    /// Looks for dead workers and the like so often; the default is a twelfth of the lease's time.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, hide = true)]
    pub(crate) sweep_every: Option<Duration>,
}

/// `encaje worker`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  encaje worker --coordinator http://127.0.0.1:7600")]
pub(crate) struct WorkerArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Computes on these devices: `auto`, `cpu`, `cuda:0,1` or `cuda:all`. `auto` is every GPU that can be used, else the
    /// CPU.
    #[arg(long, value_name = "DEVICE", value_parser = parse_device, default_value = "auto")]
    pub(crate) device: DeviceArg,
    /// Starts the worker again when its device is lost (exit code 4) or it dies.
    #[arg(long)]
    pub(crate) restart: bool,
    /// Stops when standard input ends: how --restart stops what it started.
    #[arg(long, hide = true)]
    pub(crate) stop_with_stdin: bool,
    /// Instead of working, checks every operation of the device against a reference and measures it; exits with 1 if
    /// anything is wrong.
    #[arg(long)]
    pub(crate) self_test: bool,
    /// Tests this model too, a Hub id or a directory: against the CPU in f32, and its speed.
    #[arg(long, value_name = "MODEL", requires = "self_test")]
    pub(crate) model: Option<String>,
    /// Tests a few sizes only.
    #[arg(long, requires = "self_test")]
    pub(crate) quick: bool,
    /// Runs this many forward passes at a time on a CPU. The default is one per core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) threads: Option<u32>,
    /// Keeps unfinished output files in this directory. The default is `encaje/spool` in the user's cache directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) spool: Option<PathBuf>,
    /// Shows this name in logs and lists. The default is the host's name and the process number.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Uses only models that are in the local cache, and never asks the Hub.
    #[arg(long)]
    pub(crate) offline: bool,
    /// Gives up after so long without a coordinator.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "15m")]
    pub(crate) max_offline: Duration,
    /// Prints one JSON object on stdout when it begins, and one when it stops.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `encaje submit`.
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

/// `encaje cancel`, `pause`, `resume` and `retry`.
#[derive(Debug, Args)]
pub(crate) struct SteerArgs {
    /// The job, as `submit` printed it.
    #[arg(value_name = "JOB")]
    pub(crate) job: JobId,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Prints the job on stdout as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `encaje download`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  encaje download JOB --out vectors/ --wait --coordinator http://127.0.0.1:7600")]
pub(crate) struct DownloadArgs {
    /// The job, as `submit` printed it.
    #[arg(value_name = "JOB")]
    pub(crate) job: JobId,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Writes to this directory (part-00000.parquet ..., manifest.json), or into one file if it ends in `.parquet`.
    #[arg(long, value_name = "DIR|FILE.parquet", env = "ENCAJE_DOWNLOAD_OUT")]
    pub(crate) out: PathBuf,
    /// Waits until the job is done.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Fetches what is there of an unfinished job. The files are whole, but not all, and there is no manifest; the same
    /// command later fetches the rest.
    #[arg(long, conflicts_with = "wait")]
    pub(crate) partial: bool,
    /// Prints the summary on stdout as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `encaje repair`.
#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    /// A job of a cluster by its id, or the directory of an `encaje run`.
    #[arg(value_name = "JOB|DIR")]
    pub(crate) target: String,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Says what is damaged and changes nothing; exits with 1 if anything is.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Prints the report on stdout as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}
