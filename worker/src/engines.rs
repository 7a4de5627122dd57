//! Loaded models: found, checked against the digest that the job pins, placed on every device, and kept for the next shard.

use std::path::Path;
use std::sync::Arc;

use dataset::FileInfo;
use dataset::vectors::Resolved;
use engine::{DeviceSpec, Engine, EngineOptions, LoadError, ModelDir, TextEncoder};
use proto::job::{ComputeDtype, EmbedSpec, ModelSpec};
use proto::work::Grant;
use tokio::sync::Mutex;

use crate::error::ShardError;
use crate::failpoint;
use crate::model_store::{self, HubOptions};

/// Models kept in memory, of which the one used longest ago makes room for a new one.
const MODELS_KEPT_MAX: usize = 2;

/// A model as one job uses it.
pub(crate) struct Loaded {
    pub(crate) encoder: TextEncoder,
    /// One engine per device, in the order of the worker's devices.
    pub(crate) engines: Vec<Engine>,
    pub(crate) dimensions: usize,
    pub(crate) batch_tokens: usize,
    model: ModelSpec,
    embed: EmbedSpec,
    /// As a file's footer says it.
    pooling: String,
}

/// The models that are in memory.
pub(crate) struct EngineCache {
    devices: Vec<DeviceSpec>,
    hub: HubOptions,
    /// Used longest ago first. Held while loading: two shards of one model load it once.
    loaded: Mutex<Vec<Arc<Loaded>>>,
}

impl EngineCache {
    pub(crate) fn new(devices: Vec<DeviceSpec>, hub: HubOptions) -> Self {
        Self { devices, hub, loaded: Mutex::new(Vec::new()) }
    }

    /// Returns the model, loading it on a thread that may wait.
    pub(crate) async fn get(&self, model: &ModelSpec, embed: &EmbedSpec) -> Result<Arc<Loaded>, ShardError> {
        let mut loaded = self.loaded.lock().await;
        if let Some(at) = loaded.iter().position(|entry| entry.model == *model && entry.embed == *embed) {
            let entry = loaded.remove(at);
            loaded.push(Arc::clone(&entry));
            return Ok(entry);
        }
        if loaded.len() >= MODELS_KEPT_MAX {
            drop(loaded.remove(0));
        }
        let (devices, hub, model, embed) = (self.devices.clone(), self.hub.clone(), model.clone(), embed.clone());
        let entry = tokio::task::spawn_blocking(move || load(&devices, &hub, model, embed))
            .await
            .map_err(|_| ShardError::Panicked { stage: "load" })??;
        let entry = Arc::new(entry);
        loaded.push(Arc::clone(&entry));
        Ok(entry)
    }
}

fn load(devices: &[DeviceSpec], hub: &HubOptions, model: ModelSpec, embed: EmbedSpec) -> Result<Loaded, ShardError> {
    if model.revision.is_none() && Path::new(&model.name).is_absolute() && !Path::new(&model.name).is_dir() {
        return Err(ShardError::ModelElsewhere { dir: model.name });
    }
    let resolved = model_store::resolve(&model.name, model.revision.as_deref(), hub, &mut |_| {})?;
    let dir = ModelDir::open(&resolved.dir)?;
    let max_length = embed.max_length.map(|length| length as usize);
    let gpus = dir.summary().gpus;
    if failpoint::loses_device("load") {
        let device = devices.first().map(DeviceSpec::to_string).unwrap_or_default();
        return Err(LoadError::DeviceLost { device, reason: "by order of a test".into() }.into());
    }
    // Nothing comes of what was loaded before its digest is known to be the job's.
    let (checked, encoder, engines) = std::thread::scope(|scope| {
        let checking = scope.spawn(|| check_digest(&model, &dir, &resolved.dir));
        let encoder = scope.spawn(|| TextEncoder::load(&dir, max_length, &embed.prefix));
        let engines: Result<Vec<Engine>, _> =
            devices.iter().map(|device| Engine::load(&dir, &options(&embed, device, gpus))).collect();
        (checking.join(), encoder.join(), engines)
    });
    let panicked = |_| ShardError::Panicked { stage: "load" };
    checked.map_err(panicked)??;
    let encoder = encoder.map_err(panicked)??;
    let engines: Vec<Engine> =
        engines?.into_iter().map(|engine| engine.with_excluded_prefix(encoder.excluded_prefix_tokens())).collect();
    let first = engines.first().expect("a worker has at least one device");
    let (dimensions, pooling) = (first.dimensions(), first.pooling().to_string());
    let batch_tokens = embed.batch_tokens.map_or_else(|| first.default_batch_tokens(), |tokens| tokens as usize);
    tracing::info!(model = model.name, digest = model.digest, dimensions, pooling, batch_tokens, "model loaded");
    Ok(Loaded { encoder, engines, dimensions, batch_tokens, model, embed, pooling })
}

fn check_digest(model: &ModelSpec, dir: &ModelDir, path: &Path) -> Result<(), ShardError> {
    let found = dir.digests()?;
    // A job of release 0.1 pins fewer files, and says itself what the others would decide.
    if found.now == model.digest || found.of_0_1.as_ref() == Some(&model.digest) {
        return Ok(());
    }
    Err(ShardError::ModelMismatch {
        model: model.name.clone(),
        dir: path.to_owned(),
        expected: model.digest.clone(),
        found: found.now,
    })
}

/// Workers of all kinds serve one job: where a device does not compute in the job's number format it takes the next that is
/// at least as exact, and a model that no GPU runs is computed on the CPU.
fn options(embed: &EmbedSpec, device: &DeviceSpec, gpus: bool) -> EngineOptions {
    let device = if gpus { device.clone() } else { DeviceSpec::Cpu };
    let dtype = match (&device, embed.dtype) {
        (DeviceSpec::Cpu, ComputeDtype::F16) => ComputeDtype::F32,
        (DeviceSpec::Cuda(_), ComputeDtype::Int8) => ComputeDtype::F16,
        (_, dtype) => dtype,
    };
    EngineOptions {
        device,
        dtype,
        pooling: embed.pooling,
        normalize: embed.normalize,
        dimensions: embed.dimensions.map(|dimensions| dimensions as usize),
    }
}

impl Loaded {
    /// Returns how vectors are made, without what differs between jobs of the same vectors.
    pub(crate) fn file_info_of_any_job(&self, grant: &Grant) -> FileInfo {
        FileInfo { job_id: String::new(), spec_digest: String::new(), ..self.file_info(grant) }
    }

    /// Returns what the output of a shard says about how it was made.
    pub(crate) fn file_info(&self, grant: &Grant) -> FileInfo {
        let resolved = Resolved {
            pooling: self.pooling.clone(),
            max_length: u32::try_from(self.encoder.max_length()).expect("models take far fewer than 2^32 tokens"),
            dimensions: u32::try_from(self.dimensions).expect("vectors have far fewer than 2^32 components"),
        };
        FileInfo {
            job_id: grant.shard.job.to_string(),
            spec_digest: grant.spec_digest.clone(),
            ..FileInfo::of(&self.model, &self.embed, &grant.read, Some(resolved))
        }
    }
}
