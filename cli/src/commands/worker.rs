//! `encaje worker`: runs a worker until it is stopped.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use worker::{HubOptions, WorkerConfig};

use super::self_test::{self, SelfTestArgs};
use crate::args::{ClusterArgs, DeviceArg, parse_device, parse_duration};
use crate::exit::{Advice, Exit};
use crate::ui::{self, Ui};
use crate::{cluster, devices, signals};

/// Works for a cluster: leases shards, embeds them, writes the results to its storage.
///
/// Workers may join and leave at any time. At SIGTERM or ctrl-C one gives its shards back at once; the
/// shards of one that dies go to others when its time is over.
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
    /// The older spelling of `encaje self-test`.
    #[arg(long, hide = true)]
    pub(crate) self_test: bool,
    /// As `encaje self-test --model`.
    #[arg(long, value_name = "MODEL", requires = "self_test", hide = true)]
    pub(crate) model: Option<String>,
    /// As `encaje self-test --quick`.
    #[arg(long, requires = "self_test", hide = true)]
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
    /// Ends the worker, with exit code 0, after so long without a shard: for clusters that add workers as jobs come.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) exit_when_idle: Option<Duration>,
    /// Takes no new shards after so long, and ends with the last one: for machines that are lent for a time. Leave a minute
    /// for that.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) max_runtime: Option<Duration>,
    /// Prints one JSON object on stdout when it begins, and one when it stops.
    #[arg(long)]
    pub(crate) json: bool,
}

/// An event for scripts.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    /// It requests leases.
    Started { name: &'a str },
    /// It has released its leases and ended.
    Stopped { shards: u64, rows: u64, rejected: u64, tokens: u64 },
}

/// Runs a worker.
pub(crate) fn run(ui: &Ui, args: &WorkerArgs) -> anyhow::Result<Exit> {
    if args.self_test {
        let (device, model) = (args.device.clone(), args.model.clone());
        let (quick, offline, json) = (args.quick, args.offline, args.json);
        return self_test::run(ui, &SelfTestArgs { device, model, quick, offline, json });
    }
    let config = config(args)?;
    cluster::runtime()?.block_on(work(ui, args, config))
}

async fn work(ui: &Ui, args: &WorkerArgs, config: WorkerConfig) -> anyhow::Result<Exit> {
    let connection = cluster::connect(&args.cluster)?;
    let name = config.name.clone();
    let devices = config.device_names();
    let stop = signals::stop_on_interrupt(*ui, "stopping; unfinished shards are given back");
    ui.note(format!("worker {name} on {}, for {}", devices.join(", "), args.cluster.coordinator.join(", ")));
    if args.json {
        ui.json(&Event::Started { name: &name })?;
    }
    let summary = worker::run(config, connection, stop).await?;
    let (shards, rows) = (ui::counted(summary.shards, "shard"), ui::counted(summary.rows, "row"));
    ui.note(format!("worker {name} ended: {shards}, {rows}"));
    if args.json {
        let (shards, rows, rejected, tokens) = (summary.shards, summary.rows, summary.rejected, summary.tokens);
        ui.json(&Event::Stopped { shards, rows, rejected, tokens })?;
    }
    Ok(Exit::Done)
}

fn config(args: &WorkerArgs) -> anyhow::Result<WorkerConfig> {
    let name = args.name.clone().unwrap_or_else(|| format!("{}-{}", host(), std::process::id()));
    let spool = match &args.spool {
        Some(spool) => spool.clone(),
        None => default_spool().ok_or_else(|| Advice::usage("no cache directory is known: give --spool DIR"))?,
    };
    let mut config = WorkerConfig::new(name, spool);
    config.use_devices(devices::resolve(&args.device, true)?);
    if let Some(threads) = args.threads {
        config.threads = threads as usize;
    }
    let hub = HubOptions::from_env();
    config.hub = HubOptions { offline: hub.offline || args.offline, ..hub };
    config.offline_ms_max = u64::try_from(args.max_offline.as_millis()).unwrap_or(u64::MAX);
    (config.idle_max, config.runtime_max) = (args.exit_when_idle, args.max_runtime);
    Ok(config)
}

/// The machine's name, for people.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::env::var("HOSTNAME"));
    name.ok().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "worker".to_owned())
}

/// A folder that is this user's, and on a disk.
fn default_spool() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("encaje").join("spool"))
}
