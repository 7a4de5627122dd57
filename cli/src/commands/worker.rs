//! `encaje worker`: works for a cluster until it is told to stop.

use std::path::PathBuf;

use serde::Serialize;
use worker::{HubOptions, WorkerConfig};

use crate::args::WorkerArgs;
use crate::cluster;
use crate::devices;
use crate::exit::{Advice, Exit};
use crate::restart;
use crate::signals;
use crate::ui::{self, Ui};

/// What a script is told.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    /// It asks for work.
    Started { name: &'a str },
    /// It has given everything back and ended.
    Stopped { shards: u64, rows: u64, rejected: u64, tokens: u64 },
}

/// Runs a worker.
pub(crate) fn run(ui: &Ui, args: &WorkerArgs) -> anyhow::Result<Exit> {
    if args.self_test {
        return super::self_test::run(ui, args);
    }
    let config = config(args)?;
    cluster::runtime()?.block_on(work(ui, args, config))
}

async fn work(ui: &Ui, args: &WorkerArgs, config: WorkerConfig) -> anyhow::Result<Exit> {
    let connection = cluster::connect(&args.cluster)?;
    let name = config.name.clone();
    let devices = config.device_names();
    ui.note(format!("worker {name} on {}, for {}", devices.join(", "), args.cluster.coordinator.join(", ")));
    if args.json {
        ui.json(&Event::Started { name: &name })?;
    }
    let stop = signals::stop_on_interrupt(*ui, "stopping; unfinished shards are given back");
    if args.stop_with_stdin {
        restart::stop_with_stdin(stop.clone());
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
