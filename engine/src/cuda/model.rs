//! A model on one GPU: weights placed once, and a few batches at a time, each on a lane of its own.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use ::kernels::Heads;

use super::backend::{Gpu, bytes_per_token};
use super::device::{Device, Fault, Format, Timed};
use super::kernels::{PoolCode, check_shapes};
use super::memory::Budget;
use crate::bert::{Bert, Source, Wanted};
use crate::config::Config;
use crate::pooling::Pool;
use crate::{Batch, LoadError, Pooling};

/// A model of the BERT family on one GPU.
pub(crate) struct GpuModel<D: Device> {
    bert: Bert<Gpu<D>>,
    lanes: Lanes<D>,
    format: Format,
    heads: Heads,
    budget: Budget,
}

/// Queues of work on one GPU, lent to one batch at a time each: while one computes, the next is prepared.
struct Lanes<D: Device> {
    free: Mutex<Vec<Arc<D>>>,
    returned: Condvar,
}

impl<D: Device> Lanes<D> {
    fn with<R>(&self, work: impl FnOnce(&Arc<D>) -> R) -> R {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = loop {
            match free.pop() {
                Some(lane) => break lane,
                None => free = self.returned.wait(free).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(free);
        let lent = Lent { lanes: self, lane };
        work(&lent.lane)
    }
}

/// A lane that finds its way back, also out of a panic.
struct Lent<'a, D: Device> {
    lanes: &'a Lanes<D>,
    lane: Arc<D>,
}

impl<D: Device> Drop for Lent<'_, D> {
    fn drop(&mut self) {
        self.lanes.free.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&self.lane));
        self.lanes.returned.notify_one();
    }
}

impl<D: Device> Drop for GpuModel<D> {
    fn drop(&mut self) {
        // Weights are freed in the order of the first lane; after a fault the others may still read them.
        for lane in self.lanes.free.get_mut().unwrap_or_else(PoisonError::into_inner) {
            lane.wait().ok();
        }
    }
}

impl<D: Device> GpuModel<D> {
    /// Places the weights, and finds out by measuring and by a trial how many tokens the GPU takes at a time.
    ///
    /// # Errors
    /// When the model has shapes that no kernel serves, or the GPU fails or has no room for it.
    pub(crate) fn load(
        config: &Config,
        source: Source<'_>,
        format: Format,
        lanes: Vec<Arc<D>>,
    ) -> Result<GpuModel<D>, LoadError> {
        let heads = Heads { count: config.heads, size: config.hidden_size / config.heads };
        check_shapes(config.hidden_size, heads).map_err(|what| LoadError::Unsupported { what })?;
        let first = Arc::clone(lanes.first().expect("a GPU has at least one lane"));
        let bert = Bert::load(config, source, &Gpu::for_weights(&first, format))?;
        let placed = |source| LoadError::Device { path: config.path.clone(), source: Box::new(source) };
        // Waits for the weights too: from here on every lane may read them.
        let free = first.free_bytes().map_err(placed)?;
        let per_token = bytes_per_token(format, config.hidden_size, config.intermediate);
        let budget = Budget::measured(free, per_token, lanes.len());
        let model = GpuModel {
            bert,
            lanes: Lanes { free: Mutex::new(lanes), returned: Condvar::new() },
            format,
            heads,
            budget,
        };
        model.try_out(config.positions_used()).map_err(placed)?;
        Ok(model)
    }

    /// Returns the most tokens that a batch should have. It falls where memory ran out.
    pub(crate) fn batch_tokens(&self) -> usize {
        self.budget.tokens()
    }

    /// Returns the pooled vectors of a batch, in parts where memory does not allow it at once.
    pub(crate) fn embed(&self, batch: &Batch, pool: impl Into<Pool>) -> Result<Vec<f32>, Fault> {
        let pool = pool.into();
        self.budget.spend(batch, |part| self.lanes.with(|lane| self.forward(lane, part, pool)))
    }

    /// Computes a batch that fits in one part, and returns how long each step of it took.
    pub(crate) fn time(&self, batch: &Batch, pool: impl Into<Pool>) -> Result<Timed, Fault> {
        let pool = pool.into();
        self.lanes.with(|lane| {
            lane.start_timing()?;
            let computed = self.forward(lane, batch, pool);
            let timed = lane.stop_timing()?;
            computed.map(|_| timed)
        })
    }

    fn forward(&self, lane: &Arc<D>, batch: &Batch, pool: Pool) -> Result<Vec<f32>, Fault> {
        let gpu = Gpu::for_batch(lane, self.format, batch, self.heads)?;
        let (wanted, code) = match pool.pooling {
            Pooling::Cls if pool.left_out == 0 => (Wanted::FirstToken, PoolCode::Only),
            Pooling::Cls => (Wanted::EveryToken, PoolCode::First),
            Pooling::Mean => (Wanted::EveryToken, PoolCode::Mean),
            Pooling::Max => (Wanted::EveryToken, PoolCode::Max),
            Pooling::Last => (Wanted::EveryToken, PoolCode::Last),
        };
        let rows = self.bert.forward(&gpu, batch, wanted)?;
        gpu.pool(&rows, code, pool.left_out)
    }

    /// Computes a full batch of the longest texts, so that memory that is too small shows before the first real one.
    fn try_out(&self, longest: usize) -> Result<(), Fault> {
        let texts = (self.budget.tokens() / longest).max(1);
        let batch: Batch = std::iter::repeat_n(vec![0; longest], texts).collect();
        self.embed(&batch, Pooling::Mean).map(drop)
    }
}
