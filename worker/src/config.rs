//! The configuration of a worker, and its summary at the end. Plain values: the environment is read elsewhere.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::DeviceSpec;
use proto::job::{EmbedSpec, ModelSpec};

use crate::model_store::HubOptions;
use crate::sample::Sample;
use crate::trouble::Trouble;

/// Shards held at once: one running, one prefetched.
pub const LEASE_COUNT_DEFAULT: u32 = 2;
/// How long a worker goes on without a coordinator before it gives up: 15 minutes.
pub const OFFLINE_MS_MAX_DEFAULT: u64 = 15 * 60 * 1000;
/// How long a drain may take before the worker leaves without having given everything back: 8 seconds.
pub const DRAIN_MS_MAX_DEFAULT: u64 = 8 * 1000;

/// A model to load before the first lease, so that the first shard does not wait for it.
#[derive(Debug, Clone)]
pub struct Preload {
    /// The model.
    pub model: ModelSpec,
    /// How it will be used.
    pub embed: EmbedSpec,
}

/// How a worker works. Make one with [`WorkerConfig::new`] and change what differs.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// A name for people: host and process.
    pub name: String,
    /// Where the forward pass runs: at least one. All of them work on the same shards.
    pub devices: Vec<DeviceSpec>,
    /// Forward threads on the CPU, each running whole batches alone: one per core.
    pub threads: usize,
    /// Threads that turn texts into tokens.
    pub tokenizer_threads: usize,
    /// Local folder for output files before they are stored. Made if absent; must be this process's own.
    pub spool_dir: PathBuf,
    /// Whether the storage is a folder of this machine that only this process fills: if its disk cannot be written, the
    /// worker ends as it does for its spool.
    pub own_storage: bool,
    /// The output folder of the only job, where parts may be that an earlier run made: they are not made again.
    pub parts: Option<PathBuf>,
    /// Where models are looked for.
    pub hub: HubOptions,
    /// A model to load before the first lease.
    pub preload: Option<Preload>,
    /// Shards held at once.
    pub lease_count: u32,
    /// How long to go on without a coordinator, in milliseconds.
    pub offline_ms_max: u64,
    /// Ends the worker after so long without a shard, while a coordinator answers.
    pub idle_max: Option<Duration>,
    /// Takes no new shards after so long, and ends the worker with its last one.
    pub runtime_max: Option<Duration>,
    /// How long a drain may take, in milliseconds.
    pub drain_ms_max: u64,
    /// Counts of what was tokenized so far, for estimates of the time left.
    pub sample: Arc<Sample>,
    /// What went wrong last.
    pub trouble: Arc<Trouble>,
}

impl WorkerConfig {
    /// Returns the settings for this host: one forward thread per core, models from the usual cache.
    pub fn new(name: impl Into<String>, spool_dir: impl Into<PathBuf>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            name: name.into(),
            devices: vec![DeviceSpec::Cpu],
            threads: cores,
            // Forward threads wait for the first tokens, and hardly ever after.
            tokenizer_threads: cores,
            spool_dir: spool_dir.into(),
            own_storage: false,
            parts: None,
            hub: HubOptions::from_env(),
            preload: None,
            lease_count: LEASE_COUNT_DEFAULT,
            offline_ms_max: OFFLINE_MS_MAX_DEFAULT,
            idle_max: None,
            runtime_max: None,
            drain_ms_max: DRAIN_MS_MAX_DEFAULT,
            sample: Arc::default(),
            trouble: Arc::default(),
        }
    }

    /// Computes on these devices. With GPUs all other cores tokenize, and there is a shard more to take from for each GPU.
    pub fn use_devices(&mut self, devices: Vec<DeviceSpec>) {
        let gpus = devices.iter().filter(|device| matches!(device, DeviceSpec::Cuda(_))).count();
        if gpus > 0 {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            self.tokenizer_threads = cores.saturating_sub(gpus).max(1);
            self.lease_count = LEASE_COUNT_DEFAULT + u32::try_from(gpus).unwrap_or(u32::MAX / 2);
        }
        self.devices = devices;
    }

    /// Returns the devices with what their makers call them, for people.
    pub fn device_names(&self) -> Vec<String> {
        let gpus = match self.devices.iter().any(|device| matches!(device, DeviceSpec::Cuda(_))) {
            true => engine::gpus().unwrap_or_default(),
            false => Vec::new(),
        };
        let name = |device: &DeviceSpec| match device {
            DeviceSpec::Cuda(ordinal) => {
                let gpu = gpus.iter().find(|gpu| gpu.ordinal == *ordinal);
                gpu.map_or_else(|| device.to_string(), |gpu| format!("{device} ({})", gpu.name))
            }
            DeviceSpec::Cpu => device.to_string(),
        };
        self.devices.iter().map(name).collect()
    }
}

/// Busy time per stage in seconds, summed over the threads of the stage.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StageSeconds {
    /// Reading records, waiting for the disk or network included.
    pub read: f64,
    /// Texts to tokens.
    pub tokenize: f64,
    /// Dropping repeats and packing batches.
    pub plan: f64,
    /// The forward pass.
    pub forward: f64,
    /// Spreading results over rows and writing Parquet.
    pub write: f64,
    /// Putting finished files into storage.
    pub store: f64,
}

/// What a worker did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct WorkerSummary {
    /// Shards committed.
    pub shards: u64,
    /// Rows in them.
    pub rows: u64,
    /// Rows in them that got a reason instead of a vector.
    pub rejected: u64,
    /// Tokens in them.
    pub tokens: u64,
    /// Rows that were exact repeats of another row of their chunk, and were not computed again.
    pub repeats: u64,
    /// Busy time per stage, over all shards begun.
    pub busy: StageSeconds,
}
