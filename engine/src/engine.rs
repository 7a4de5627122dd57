//! A loaded model: token ids in, vectors out.

use std::fmt;
use std::sync::Arc;

use kernels::WeightFormat;

use crate::after_pooling::AfterPooling;
use crate::backend::Cpu;
use crate::config::Config;
use crate::cuda::{self, Fault, Timed};
use crate::families::Forward;
use crate::forward::bert::{self, Bert, Source, TokenSelection};
use crate::forward::deberta::{self, Deberta};
use crate::forward::decoder;
use crate::forward::kept_tokens::KeptTokens;
use crate::forward::pre_norm::PreNorm;
use crate::forward::rotary::{self, Rotary};
use crate::model_dir::Body;
use crate::options::{dtype_on_cpu, weight_format};
use crate::pooling::{self, Pool};
use crate::static_embedding::StaticTable;
use crate::weights::{WeightFiles, Weights};
use crate::{
    Batch, ComputeDtype, DeviceSpec, EmbedError, EngineOptions, LoadError, ModelDir, ModelPooling, ModelSummary,
};

/// Tokens per batch on a CPU: kernels run block by block, so larger batches gain nothing, and smaller ones let the
/// cores finish closer together.
const CPU_BATCH_TOKENS: usize = 512;

/// Tokens per batch of static embeddings, which cost so little that the handling of a batch counts.
const STATIC_BATCH_TOKENS: usize = 16_384;

/// A model with its weights in memory, shared by threads: each [`embed`](Engine::embed) runs on the calling thread. Clones
/// share the weights.
#[derive(Clone)]
pub struct Engine {
    model: Arc<Model>,
    device: DeviceSpec,
    pool: Pool,
    /// The model's own modules after pooling, before the dimensions are truncated.
    after: Arc<AfterPooling>,
    normalize: bool,
    dimensions: usize,
    hidden_size: usize,
    vocab_size: usize,
    /// Maximum tokens of a row.
    row_tokens_max: usize,
}

enum Model {
    Bert(Box<Bert<Cpu>>, Cpu),
    Gpu(Box<cuda::Model>),
    Rotary(Box<Rotary<Cpu>>, Cpu),
    Deberta(Box<Deberta>),
    Decoder(Box<PreNorm<Cpu>>, Cpu),
    Static(StaticTable),
}

impl Engine {
    /// Reads the weights and uploads them to the device.
    ///
    /// # Errors
    /// When the weights cannot be read or do not fit the config, or the device does not support the options.
    pub fn load(model: &ModelDir, options: &EngineOptions) -> Result<Engine, LoadError> {
        if options.device == DeviceSpec::Cpu {
            weight_format(options.dtype)?;
        }
        let dimensions = truncated(options.dimensions, model.dimensions(options.pooling)?)?;
        check_forward(model, options)?;
        let loaded = match &model.body {
            Body::Transformer(config) => load_transformer(model, config, options)?,
            Body::StaticEmbedding(table) => Model::Static(table.load(&model.weights)?),
        };
        let (pooling, hidden_size) = (model.pooling(options.pooling)?, model.body.hidden_size());
        let after = AfterPooling::load(&model.modules.steps, hidden_size * pooling.modes().len())?;
        Ok(Engine {
            model: Arc::new(loaded),
            device: options.device.clone(),
            pool: pooling.into(),
            after: Arc::new(after),
            normalize: options.normalize,
            dimensions,
            hidden_size,
            vocab_size: model.body.vocab_size(),
            row_tokens_max: model.body.positions_used(),
        })
    }

    /// Returns an engine on the same weights whose vectors are normalised or not, and truncated to other `dimensions` or not.
    ///
    /// # Errors
    /// When there are more `dimensions` than components.
    pub fn with_output(&self, normalize: bool, dimensions: Option<usize>) -> Result<Engine, LoadError> {
        let dimensions = truncated(dimensions, self.after.width())?;
        Ok(Engine { normalize, dimensions, ..self.clone() })
    }

    /// Excludes the first `tokens` of every text from pooling, as returned by
    /// [`TextEncoder::excluded_prefix_tokens`](crate::TextEncoder::excluded_prefix_tokens).
    #[must_use]
    pub fn with_excluded_prefix(mut self, tokens: usize) -> Engine {
        self.pool.excluded = tokens;
        self
    }

    /// Returns the number of components of a vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Returns how token vectors are pooled.
    pub fn pooling(&self) -> &ModelPooling {
        &self.pool.pooling
    }

    /// Returns where the forward pass runs.
    pub fn device(&self) -> &DeviceSpec {
        &self.device
    }

    /// Returns a good batch size for this device, in tokens.
    pub fn default_batch_tokens(&self) -> usize {
        match &*self.model {
            Model::Bert(..) | Model::Rotary(..) | Model::Deberta(_) | Model::Decoder(..) => CPU_BATCH_TOKENS,
            Model::Static(_) => STATIC_BATCH_TOKENS,
            Model::Gpu(model) => model.batch_tokens(),
        }
    }

    /// Returns the vectors of a batch: `rows * dimensions` numbers, row-major, in the order of the batch.
    ///
    /// Runs on the calling thread only, so that every core can run its own batch. Non-finite numbers are returned
    /// unchanged; rejecting such rows is up to the caller.
    ///
    /// # Errors
    /// When the batch breaks its rules (an empty row, a row too long, an id outside the vocabulary) or the device fails.
    pub fn embed(&self, batch: &Batch) -> Result<Vec<f32>, EmbedError> {
        self.check(batch)?;
        if batch.rows() == 0 {
            return Ok(Vec::new());
        }
        let pooled = match &*self.model {
            Model::Gpu(model) => model.embed(batch, &self.pool).map_err(|fault| self.gpu_error(batch, fault))?,
            Model::Static(table) => table.means(batch),
            Model::Bert(..) | Model::Rotary(..) | Model::Deberta(_) | Model::Decoder(..) => self.pooled(batch),
        };
        let mut vectors = pooling::cut(self.after.apply(pooled, self.normalize), self.after.width(), self.dimensions);
        if self.normalize {
            pooling::normalize(&mut vectors, self.dimensions);
        }
        Ok(vectors)
    }

    /// Computes a batch of at most [`default_batch_tokens`](Engine::default_batch_tokens) and returns the GPU time of
    /// each step; `None` on a CPU.
    pub(crate) fn time_steps(&self, batch: &Batch) -> Result<Option<Timed>, EmbedError> {
        self.check(batch)?;
        match &*self.model {
            Model::Gpu(model) => model.time(batch, &self.pool).map(Some).map_err(|fault| self.gpu_error(batch, fault)),
            Model::Bert(..) | Model::Rotary(..) | Model::Deberta(_) | Model::Decoder(..) | Model::Static(_) => Ok(None),
        }
    }

    fn pooled(&self, batch: &Batch) -> Vec<f32> {
        let kept = KeptTokens::of(&self.pool);
        let (rows, kept) = match &*self.model {
            Model::Bert(bert, cpu) if kept == KeptTokens::First => {
                (bert.rows(cpu, batch, TokenSelection::FirstToken), kept)
            }
            Model::Bert(bert, cpu) => (bert.rows(cpu, batch, TokenSelection::EveryToken), KeptTokens::Every),
            Model::Rotary(model, cpu) => (model.rows(cpu, batch, kept), kept),
            Model::Deberta(model) => (model.forward(batch), KeptTokens::Every),
            Model::Decoder(model, cpu) => (model.rows(cpu, batch, kept), kept),
            Model::Gpu(_) | Model::Static(_) => unreachable!("a GPU and a table give one vector per text"),
        };
        match kept {
            KeptTokens::Every => pooling::pool(&rows, &batch.offsets, self.hidden_size, &self.pool),
            KeptTokens::First | KeptTokens::Last => rows,
        }
    }

    fn gpu_error(&self, batch: &Batch, fault: Fault) -> EmbedError {
        let tokens = batch.tokens();
        match fault {
            Fault::OutOfMemory { .. } => EmbedError::OutOfMemory { tokens },
            Fault::Lost { reason } => EmbedError::DeviceLost { device: self.device.to_string(), reason },
            failed @ Fault::Failed { .. } => EmbedError::Forward { tokens, source: Box::new(failed) },
        }
    }

    /// Validates the batch: the forward pass indexes tables with these numbers.
    fn check(&self, batch: &Batch) -> Result<(), EmbedError> {
        let broken = |row: usize, problem: String| Err(EmbedError::Batch { row, problem });
        for (row, span) in batch.offsets.windows(2).enumerate() {
            // A text without tokens has a vector only where none of them is necessary to compute it.
            if span[0] == span[1] && !matches!(*self.model, Model::Static(_)) {
                return broken(row, "it has no tokens".into());
            }
            let tokens = (span[1] - span[0]) as usize;
            if tokens > self.row_tokens_max {
                return broken(row, format!("it has {tokens} tokens, the model takes {}", self.row_tokens_max));
            }
            if let Some(id) = batch.row(row).iter().find(|&&id| id as usize >= self.vocab_size) {
                return broken(row, format!("token id {id} is outside the vocabulary of {}", self.vocab_size));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("device", &self.device)
            .field("pooling", &self.pool)
            .field("normalize", &self.normalize)
            .field("dimensions", &self.dimensions)
            .finish_non_exhaustive()
    }
}

/// Returns how many of `all` components are kept.
fn truncated(dimensions: Option<usize>, all: usize) -> Result<usize, LoadError> {
    match dimensions {
        None => Ok(all),
        Some(dimensions) if (1..=all).contains(&dimensions) => Ok(dimensions),
        Some(dimensions) => {
            Err(LoadError::Unsupported { what: format!("{dimensions} dimensions of vectors that have {all}") })
        }
    }
}

/// Loads a transformer onto the device in the options.
fn load_transformer(model: &ModelDir, config: &Config, options: &EngineOptions) -> Result<Model, LoadError> {
    let weights = Weights::of_family(&model.weights, config.family)?;
    let source = |name: &str, shape: &[usize]| weights.read(name, shape);
    match options.device {
        DeviceSpec::Cuda(ordinal) => Ok(Model::Gpu(Box::new(cuda::load(config, &source, options.dtype, ordinal)?))),
        DeviceSpec::Cpu => {
            load_on_cpu(config, &source, weight_format(dtype_on_cpu(config.hidden_size, options.dtype))?)
        }
    }
}

fn load_on_cpu(config: &Config, source: Source<'_>, format: WeightFormat) -> Result<Model, LoadError> {
    let cpu = Cpu { format };
    Ok(match &config.forward {
        Forward::Bert(settings) => Model::Bert(Box::new(Bert::load(config, *settings, source, &cpu)?), cpu),
        Forward::Rotary(settings) => Model::Rotary(Box::new(Rotary::load(config, settings, source, &cpu)?), cpu),
        Forward::Deberta(settings) => Model::Deberta(Box::new(Deberta::load(config, settings, source)?)),
        Forward::Decoder(settings) => Model::Decoder(Box::new(decoder::load(config, settings, source, &cpu)?), cpu),
    })
}

/// Checks that the weight files list every required tensor with its shape and a supported type, without reading
/// tensors.
pub(crate) fn check_weights(files: &WeightFiles, config: &Config) -> Result<(), LoadError> {
    let weights = Weights::of_family(files, config.family)?;
    let tensors = match &config.forward {
        Forward::Bert(settings) => bert::tensors(config, *settings),
        Forward::Rotary(settings) => rotary::tensors(config, settings),
        Forward::Deberta(settings) => deberta::tensors(config, settings),
        Forward::Decoder(settings) => decoder::tensors(config, settings),
    };
    tensors.iter().try_for_each(|(name, shape)| weights.check(name, shape))
}

/// Refuses a device or number format that the forward pass does not support.
fn check_forward(model: &ModelDir, options: &EngineOptions) -> Result<(), LoadError> {
    let ModelSummary { architecture, native, gpus, .. } = model.summary();
    if options.device != DeviceSpec::Cpu && !gpus {
        let what = format!("the architecture `{architecture}` on device `{}`; it runs on `cpu`", options.device);
        return Err(LoadError::Unsupported { what });
    }
    if options.dtype != ComputeDtype::F32 && !native {
        let what = format!("dtype `{}` of the architecture `{architecture}`; supported: `f32`", options.dtype);
        return Err(LoadError::Unsupported { what });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_dir::tiny_models;
    use crate::{Pooling, TextEncoder};
    use std::cell::RefCell;

    #[test]
    fn checked_tensors_are_exactly_those_read() {
        for ModelDir { body, weights, path, .. } in tiny_models() {
            let Body::Transformer(config) = body else { continue };
            let file = Weights::of_family(&weights, config.family).unwrap();
            let read = RefCell::new(Vec::new());
            let source = |name: &str, shape: &[usize]| {
                read.borrow_mut().push((name.to_owned(), shape.to_vec()));
                file.read(name, shape)
            };
            load_on_cpu(&config, &source, WeightFormat::F32).map(drop).unwrap();
            let mut expected = match &config.forward {
                Forward::Bert(settings) => bert::tensors(&config, *settings),
                Forward::Rotary(settings) => rotary::tensors(&config, settings),
                Forward::Deberta(settings) => deberta::tensors(&config, settings),
                Forward::Decoder(settings) => decoder::tensors(&config, settings),
            };
            let mut read = read.into_inner();
            read.sort();
            // BERT's last layer is read twice in two layouts; DeBERTa's relative positions share the content
            // projections.
            read.dedup();
            expected.sort();
            assert_eq!(read, expected, "{}", path.display());
        }
    }

    /// Returns a narrow model as if it were a wide one, which computes in the format.
    fn in_format(model: &ModelDir, pooling: Pooling, format: WeightFormat) -> Engine {
        let options = EngineOptions { pooling: Some(pooling), ..EngineOptions::default() };
        let engine = Engine::load(model, &options).unwrap();
        let Body::Transformer(config) = &model.body else { return engine };
        let weights = Weights::of_family(&model.weights, config.family).unwrap();
        let source = |name: &str, shape: &[usize]| weights.read(name, shape);
        Engine { model: Arc::new(load_on_cpu(config, &source, format).unwrap()), ..engine }
    }

    #[test]
    fn the_layers_of_every_family_run_in_bf16_and_int8() {
        let texts = include_bytes!("../testdata/texts.json");
        let texts: Vec<String> = serde_json::from_slice(texts).unwrap();
        for model in tiny_models().into_iter().filter(|model| model.summary().native) {
            let encoder = TextEncoder::load(&model, Some(200), "").unwrap();
            let batch: Batch = texts.iter().map(|text| encoder.encode_for_model(text).unwrap().ids).collect();
            for pooling in [Pooling::Cls, Pooling::Mean] {
                let [exact, half, int8] = [WeightFormat::F32, WeightFormat::Bf16, WeightFormat::Int8]
                    .map(|format| in_format(&model, pooling, format).embed(&batch).unwrap());
                for (found, cosine_min) in [(half, 0.999), (int8, 0.99)] {
                    assert_ne!(found, exact, "{}", model.path.display());
                    let width = model.dimensions(Some(pooling)).unwrap();
                    for (found, exact) in found.chunks_exact(width).zip(exact.chunks_exact(width)) {
                        let cosine: f32 = found.iter().zip(exact).map(|(x, y)| x * y).sum();
                        assert!(cosine >= cosine_min, "{}, {pooling}: cosine {cosine}", model.path.display());
                    }
                }
            }
        }
    }
}
