//! A coordinator in a process of its own, so that its memory is its own too: this program again, with other arguments.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use coordinator::{Config, Roots, Store, SystemClock};
use dataset::Storage;
use tokio_util::sync::CancellationToken;

/// The argument that makes this program a coordinator.
pub(crate) const SERVE: &str = "serve";

/// Serves until standard input ends. Prints its address first, and that of its metrics.
pub(crate) async fn serve(database: &str, storage: &str) {
    let store = Store::open(database, Arc::new(SystemClock::new())).await.unwrap();
    let storage = Storage::open(storage).unwrap();
    let incoming = proto::listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let pages = proto::listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    println!("{} {}", incoming.local_addr().unwrap(), pages.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    let end = shutdown.clone();
    std::thread::spawn(move || {
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        end.cancel();
    });
    let config = Config { roots: Roots::anywhere(), ..Config::default() };
    let (metrics, source, until) = (config.metrics.clone(), store.clone(), shutdown.clone());
    tokio::spawn(async move { metrics.serve(source, pages, until).await });
    coordinator::run(config, store.clone(), storage, incoming, shutdown).await.unwrap();
    store.close().await.unwrap();
}

/// A coordinator that runs.
pub(crate) struct Coordinator {
    process: Child,
    pub(crate) url: String,
    pub(crate) metrics: String,
}

impl Coordinator {
    pub(crate) fn start(database: &str, storage: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([SERVE, database, storage]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (mut address, mut byte) = (String::new(), [0]);
        let stdout = process.stdout.as_mut().unwrap();
        while stdout.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            address.push(char::from(byte[0]));
        }
        let (address, metrics) = address.split_once(' ').unwrap();
        Self { process, url: format!("http://{address}"), metrics: metrics.to_owned() }
    }

    pub(crate) fn stop(mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success());
    }

    /// The most memory that it ever had, in MB.
    pub(crate) fn peak_mb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
    }

    /// Processor seconds so far.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
        (ticks(11) + ticks(12)) / 100.0
    }
}
