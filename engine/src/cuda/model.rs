//! A model on one GPU: weights uploaded once, and concurrent batches, each on its own stream.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use ::kernels::Heads;

use super::backend::{Gpu, bytes_per_token};
use super::device::{Device, Fault, FloatFormat, Timed};
use super::kernels::{PoolCode, check_shapes};
use super::memory::BatchBudget;
use crate::config::Config;
use crate::families::BertConfig;
use crate::forward::bert::{Bert, Source, TokenSelection};
use crate::pooling::{Pool, PoolingMode};
use crate::{Batch, LoadError, Pooling};

/// A model of the BERT family on one GPU.
pub(crate) struct GpuModel<D: Device> {
    bert: Bert<Gpu<D>>,
    streams: StreamPool<D>,
    format: FloatFormat,
    heads: Heads,
    budget: BatchBudget,
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
        (config, settings): (&Config, BertConfig),
        source: Source<'_>,
        format: FloatFormat,
        streams: Vec<Arc<D>>,
    ) -> Result<GpuModel<D>, LoadError> {
        let heads = Heads { count: config.heads, size: config.hidden_size / config.heads };
        let width = config.hidden_size.max(settings.embedding_size(config.hidden_size));
        check_shapes(width, heads).map_err(|what| LoadError::Unsupported { what })?;
        let first = Arc::clone(streams.first().expect("a GPU has at least one stream"));
        let bert = Bert::load(config, settings, source, &Gpu::for_weights(&first, format))?;
        let placed = |source| LoadError::Device { path: config.path.clone(), source: Box::new(source) };
        // Also waits for the weights, so that every stream may read them.
        let free = first.free_bytes().map_err(placed)?;
        let per_token = bytes_per_token(format, width, config.intermediate);
        let budget = BatchBudget::measured(free, per_token, streams.len());
        let model = GpuModel {
            bert,
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
        if *pool == Pooling::Cls.into() {
            let rows = self.bert.forward(&gpu, batch, TokenSelection::FirstToken)?;
            return gpu.pool(&rows, PoolCode::Only, 0);
        }
        let rows = self.bert.forward(&gpu, batch, TokenSelection::EveryToken)?;
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
        let texts = (self.budget.tokens() / longest).max(1);
        let batch: Batch = std::iter::repeat_n(vec![0; longest], texts).collect();
        self.embed(&batch, &Pooling::Mean.into()).map(drop)
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
