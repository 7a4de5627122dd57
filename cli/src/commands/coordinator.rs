//! `encaje coordinator`: runs a coordinator until it is stopped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use coordinator::{Clock, Metrics, Policy, Roots, Store, SystemClock};
use proto::transport;
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

use crate::args::{ServerArgs, parse_duration};
use crate::exit::{Advice, Exit};
use crate::security::{self, ServerSecurity};
use crate::ui::Ui;
use crate::{cluster, descriptors, signals};

/// Coordinates a cluster: accepts jobs, leases shards to workers, decides which output counts.
///
/// Any number of coordinators may share one PostgreSQL; a SQLite database belongs to one. All state is in the
/// database and the storage: it can be killed and started again at any moment.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  encaje coordinator --database cluster/state.db --storage cluster/storage")]
pub(crate) struct CoordinatorArgs {
    /// Listens on this address; port 0 lets the system choose one, and the start-up line says which.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7600")]
    pub(crate) listen: SocketAddr,
    /// Keeps its state here: a file for SQLite, which one coordinator uses alone, or `postgres://...` for any number.
    #[arg(long, value_name = "URL")]
    pub(crate) database: String,
    /// Keeps outputs here: a directory or a bucket (`s3://`, `gs://`, `az://`). Those that cannot reach it are served by the
    /// coordinator.
    #[arg(long, value_name = "URL")]
    pub(crate) storage: String,
    /// Lets jobs read corpora and earlier outputs (`--reuse`) below this place: a directory, a bucket or prefix
    /// (`s3://bucket/prefix`), data sets of the Hub (`hf://datasets/OWNER[/NAME]`), or a web server (`https://host`). May be
    /// given several times. Without it only uploaded files are read.
    #[arg(long, value_name = "DIR|URL", value_delimiter = ',')]
    pub(crate) corpus_root: Vec<String>,
    /// Serves Prometheus metrics at `http://ADDR/metrics`, and `/healthz` for probes, to anyone who can reach this address.
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) security: ServerArgs,
    /// Prints one JSON object on stdout once it listens, and one when it stops.
    #[arg(long)]
    pub(crate) json: bool,
    /// Considers a worker dead after so long without a heartbeat.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "60s", hide = true)]
    pub(crate) lease_ttl: Duration,
    /// Looks for dead workers and the like so often; the default is a twelfth of the lease's time.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, hide = true)]
    pub(crate) sweep_every: Option<Duration>,
}

/// Heartbeats within the time of a lease.
const BEATS_PER_TTL: u32 = 4;
/// Sweeps within the time of a lease.
const SWEEPS_PER_TTL: u32 = 12;

/// An event for scripts.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    /// It accepts connections.
    Listening {
        url: &'a str,
        address: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        metrics: Option<String>,
    },
    /// It has ended well.
    Stopped,
}

/// Runs a coordinator.
pub(crate) fn run(ui: &Ui, args: &CoordinatorArgs) -> anyhow::Result<Exit> {
    refuse_exposure(args)?;
    cluster::runtime()?.block_on(serve(ui, args))
}

/// Refuses to serve other machines without authentication: anyone could read this machine's files.
fn refuse_exposure(args: &CoordinatorArgs) -> anyhow::Result<()> {
    let (listen, security) = (args.listen, &args.security);
    if listen.ip().is_loopback() || security.insecure {
        return Ok(());
    }
    let what = match (security.tls_cert.is_some(), security::requires_authentication(security)) {
        (true, true) => return Ok(()),
        (false, false) => format!("--listen {listen} can be reached from other machines, by anybody"),
        (true, false) => {
            format!("--listen {listen} can be reached from other machines, and callers need not authenticate")
        }
        (false, true) => {
            format!("--listen {listen} can be reached from other machines, and tokens would travel in the clear")
        }
    };
    Err(Advice::usage(what)
        .hint("give --tls-cert and --tls-key, and --tls-client-ca (workers) or --tokens (people); `encaje certs` makes them")
        .hint("or listen on 127.0.0.1, or give --insecure if everybody who can reach this machine may do everything")
        .into())
}

async fn serve(ui: &Ui, args: &CoordinatorArgs) -> anyhow::Result<Exit> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let policy = Policy {
        ttl_ms: millis(args.lease_ttl),
        heartbeat_ms: millis(args.lease_ttl / BEATS_PER_TTL),
        ..Policy::default()
    };
    let sweep = args.sweep_every.unwrap_or(args.lease_ttl / SWEEPS_PER_TTL);
    let security = security::server_security(&args.security, Arc::clone(&clock))?;
    let store = Store::open_with(&args.database, Arc::clone(&clock), policy).await.context("cannot start")?;
    let storage = coordinator::open_storage(&store, &args.storage).await.context("cannot use --storage")?;
    let incoming = transport::listen(args.listen).await.context("cannot start")?;
    let address = incoming.local_addr().context("cannot tell the address")?;
    let url = format!("{}://{address}", if security.tls.is_some() { "https" } else { "http" });
    let stop = signals::stop_on_interrupt(*ui, "stopping; what is under way goes on at the next start");
    ui.note(format!("coordinator listening on {url}, storage {}", storage.url()));
    if args.security.insecure && !args.listen.ip().is_loopback() {
        ui.warn("--insecure: anyone who can reach this address may read and write everything here, or eavesdrop");
    }
    let metrics = match args.metrics {
        Some(address) => Some(transport::listen(address).await.context("cannot serve --metrics")?),
        None => None,
    };
    if args.json {
        let metrics = metrics.as_ref().map(|incoming| incoming.local_addr()).transpose()?;
        let metrics = metrics.map(|address| format!("http://{address}/metrics"));
        ui.json(&Event::Listening { url: &url, address: address.to_string(), metrics })?;
    }
    let ServerSecurity { tls, access } = security;
    let roots = Roots::listed(&args.corpus_root).context("cannot start")?;
    let config = coordinator::Config { clock, sweep, tls, access, roots, ..coordinator::Config::default() };
    let config = config.within_descriptors(descriptors::raise_limit());
    let watched = metrics.map(|incoming| serve_metrics(&config.metrics, &store, incoming, &stop));
    coordinator::run(config, store.clone(), storage, incoming, stop).await?;
    if let Some(watched) = watched {
        watched.abort();
    }
    store.close().await?;
    if args.json {
        ui.json(&Event::Stopped)?;
    }
    Ok(Exit::Done)
}

/// Serves metrics beside the coordinator.
fn serve_metrics(metrics: &Metrics, store: &Store, incoming: TcpIncoming, stop: &CancellationToken) -> JoinHandle<()> {
    let (metrics, store, stop) = (metrics.clone(), store.clone(), stop.clone());
    tokio::spawn(async move { metrics.serve(store, incoming, stop).await })
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).max(1)
}
