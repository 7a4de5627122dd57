//! A model on one GPU: weights uploaded once, and concurrent batches, each on its own stream.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use ::kernels::Heads;

use super::backend::{DeviceMatrix, Gpu, bytes_per_token};
use super::device::{Device, Fault, FloatFormat, Timed};
use super::kernels::{PoolCode, check_shapes};
use super::memory::BatchBudget;
use crate::config::Config;
use crate::families::Forward;
use crate::forward::bert::{Bert, Source, TokenSelection};
use crate::forward::decoder;
use crate::forward::kept_tokens::KeptTokens;
use crate::forward::pre_norm::PreNorm;
use crate::forward::rotary::Rotary;
use crate::pooling::{Pool, PoolingMode};
use crate::{Batch, LoadError, Pooling};

/// A model on one GPU.
pub(crate) struct GpuModel<D: Device> {
    weights: Weights<D>,
    streams: StreamPool<D>,
    format: FloatFormat,
    heads: Heads,
    budget: BatchBudget,
}

/// The weights of a model, by its forward pass.
enum Weights<D: Device> {
    Bert(Box<Bert<Gpu<D>>>),
    Rotary(Box<Rotary<Gpu<D>>>),
    Decoder(Box<PreNorm<Gpu<D>>>),
}

/// The streams of one GPU, each lent to one batch at a time.
struct StreamPool<D: Device> {
    free: Mutex<Vec<Arc<D>>>,
    returned: Condvar,
}

impl<D: Device> StreamPool<D> {
    fn with<R>(&self, work: impl FnOnce(&Arc<D>) -> R) -> R {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = loop {
            match free.pop() {
                Some(stream) => break stream,
                None => free = self.returned.wait(free).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(free);
        let guard = StreamGuard { streams: self, stream };
        work(&guard.stream)
    }
}

/// Returns a stream to the pool on drop, even after a panic.
struct StreamGuard<'a, D: Device> {
    streams: &'a StreamPool<D>,
    stream: Arc<D>,
}

impl<D: Device> Drop for StreamGuard<'_, D> {
    fn drop(&mut self) {
        self.streams.free.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&self.stream));
        self.streams.returned.notify_one();
    }
}

impl<D: Device> Drop for GpuModel<D> {
    fn drop(&mut self) {
        // Weights are freed in the order of the first stream; after a fault the others may still read them.
        for stream in self.streams.free.get_mut().unwrap_or_else(PoisonError::into_inner) {
            stream.wait().ok();
        }
    }
}

impl<D: Device> GpuModel<D> {
    /// Uploads the weights, and determines the batch size by measurement and a trial.
    ///
    /// # Errors
    /// When no kernel supports the model's shapes, the GPU fails, or the model does not fit.
    pub(crate) fn load(
        config: &Config,
        source: Source<'_>,
        format: FloatFormat,
        streams: Vec<Arc<D>>,
    ) -> Result<GpuModel<D>, LoadError> {
        let heads = Heads { count: config.heads, size: config.forward.head_size(config.hidden_size, config.heads) };
        let (width, by_distance) = match &config.forward {
            Forward::Bert(settings) => {
                (config.hidden_size.max(settings.embedding_size(config.hidden_size)), settings.distances.is_some())
            }
            Forward::Rotary(_) | Forward::Deberta(_) | Forward::Decoder(_) => (config.hidden_size, false),
        };
        check_shapes(width, heads, by_distance).map_err(|what| LoadError::Unsupported { what })?;
        let first = Arc::clone(streams.first().expect("a GPU has at least one stream"));
        let weights = Weights::load(config, source, &Gpu::for_weights(&first, format))?;
        let placed = |source| LoadError::Device { path: config.path.clone(), source: Box::new(source) };
        // Also waits for the weights, so that every stream may read them.
        let free = first.free_bytes().map_err(placed)?;
        let budget = BatchBudget::measured(free, bytes_per_token(format, width, config), streams.len());
        let model = GpuModel {
            weights,
            streams: StreamPool { free: Mutex::new(streams), returned: Condvar::new() },
            format,
            heads,
            budget,
        };
        model.warm_up(config.positions_used()).map_err(placed)?;
        Ok(model)
    }

    /// Returns the maximum tokens of a batch. It falls when memory runs out.
    pub(crate) fn batch_tokens(&self) -> usize {
        self.budget.tokens()
    }

    /// Returns the pooled vectors of a batch, computed in parts if memory requires it.
    pub(crate) fn embed(&self, batch: &Batch, pool: &Pool) -> Result<Vec<f32>, Fault> {
        self.budget.run_in_parts(batch, |part| self.streams.with(|stream| self.forward(stream, part, pool)))
    }

    /// Computes a batch that fits in one part, and returns the time of each step.
    pub(crate) fn time(&self, batch: &Batch, pool: &Pool) -> Result<Timed, Fault> {
        self.streams.with(|stream| {
            stream.start_timing()?;
            let computed = self.forward(stream, batch, pool);
            let timed = stream.stop_timing()?;
            computed.map(|_| timed)
        })
    }

    fn forward(&self, stream: &Arc<D>, batch: &Batch, pool: &Pool) -> Result<Vec<f32>, Fault> {
        let gpu = Gpu::for_batch(stream, self.format, batch, self.heads)?;
        let (rows, kept) = self.weights.forward(&gpu, batch, KeptTokens::of(pool))?;
        if kept != KeptTokens::Every {
            return gpu.pool(&rows, PoolCode::Only, 0);
        }
        let pooled: Vec<Vec<f32>> = pool
            .pooling
            .modes()
            .iter()
            .map(|mode| gpu.pool(&rows, pool_code(*mode), pool.excluded))
            .collect::<Result<_, _>>()?;
        Ok(side_by_side(pooled, batch.rows()))
    }

    /// Computes a full batch of the longest texts, so that a lack of memory shows before the first real one.
    fn warm_up(&self, longest: usize) -> Result<(), Fault> {
        // Longer texts than a batch should have are tried when they come.
        let longest = longest.min(self.budget.tokens());
        let texts = self.budget.tokens() / longest;
        let batch: Batch = std::iter::repeat_n(vec![0; longest], texts).collect();
        self.embed(&batch, &Pooling::Mean.into()).map(drop)
    }
}

impl<D: Device> Weights<D> {
    fn load(config: &Config, source: Source<'_>, gpu: &Gpu<D>) -> Result<Weights<D>, LoadError> {
        match &config.forward {
            Forward::Bert(settings) => {
                Bert::load(config, *settings, source, gpu).map(|model| Weights::Bert(Box::new(model)))
            }
            Forward::Rotary(settings) => {
                Rotary::load(config, settings, source, gpu).map(|model| Weights::Rotary(Box::new(model)))
            }
            Forward::Decoder(settings) => {
                decoder::load(config, settings, source, gpu).map(|model| Weights::Decoder(Box::new(model)))
            }
            Forward::Deberta(_) => {
                let what = format!("the architecture `{}` on a GPU", config.family.model_type);
                Err(LoadError::Unsupported { what })
            }
        }
    }

    /// Returns token vectors, at least those that are to be kept, and which they are.
    fn forward(&self, gpu: &Gpu<D>, batch: &Batch, kept: KeptTokens) -> Result<(DeviceMatrix<D>, KeptTokens), Fault> {
        match (self, kept) {
            (Weights::Bert(model), KeptTokens::First) => {
                Ok((model.forward(gpu, batch, TokenSelection::FirstToken)?, kept))
            }
            (Weights::Bert(model), KeptTokens::Every | KeptTokens::Last) => {
                Ok((model.forward(gpu, batch, TokenSelection::EveryToken)?, KeptTokens::Every))
            }
            (Weights::Rotary(model), _) => Ok((model.forward(gpu, batch, kept)?, kept)),
            (Weights::Decoder(model), _) => Ok((model.forward(gpu, batch, kept)?, kept)),
        }
    }
}

fn pool_code(mode: PoolingMode) -> PoolCode {
    match mode {
        PoolingMode::Common(Pooling::Cls) => PoolCode::First,
        PoolingMode::Common(Pooling::Mean) => PoolCode::Mean,
        PoolingMode::Common(Pooling::Max) => PoolCode::Max,
        PoolingMode::Common(Pooling::Last) => PoolCode::Last,
        PoolingMode::MeanSqrtLen => PoolCode::MeanSqrtLen,
        PoolingMode::WeightedMean => PoolCode::WeightedMean,
    }
}

/// Concatenates matrices of `rows` rows row by row.
fn side_by_side(mut parts: Vec<Vec<f32>>, rows: usize) -> Vec<f32> {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    (0..rows)
        .flat_map(|row| parts.iter().flat_map(move |part| &part[row * (part.len() / rows)..][..part.len() / rows]))
        .copied()
        .collect()
}
