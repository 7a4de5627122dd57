//! A loaded model: token ids in, vectors out.

use crate::{Batch, DeviceSpec, EmbedError, EngineOptions, LoadError, ModelDir, Pooling};

/// A model with its weights in memory. Shared by many threads: each [`embed`](Engine::embed) runs on its caller's thread.
#[derive(Debug)]
pub struct Engine {}

impl Engine {
    /// Reads the weights and places them on the device.
    ///
    /// # Errors
    /// When the weights cannot be read, do not fit the config, or the device cannot do what the options ask.
    pub fn load(model: &ModelDir, options: &EngineOptions) -> Result<Engine, LoadError> {
        let _ = (model, options);
        unimplemented!()
    }

    /// Returns the number of components of a vector.
    pub fn dimensions(&self) -> usize {
        unimplemented!()
    }

    /// Returns how token vectors are pooled.
    pub fn pooling(&self) -> Pooling {
        unimplemented!()
    }

    /// Returns where the forward pass runs.
    pub fn device(&self) -> &DeviceSpec {
        unimplemented!()
    }

    /// Returns a batch size, in tokens, that serves this device well.
    pub fn default_batch_tokens(&self) -> usize {
        unimplemented!()
    }

    /// Returns the vectors of a batch: `rows * dimensions` numbers, row-major, in the order of the batch.
    ///
    /// Numbers that are not finite are returned as they are: the caller decides what becomes of such a row.
    ///
    /// # Errors
    /// When the batch breaks its rules (an empty row, a row too long, an id outside the vocabulary) or the device fails.
    pub fn embed(&self, batch: &Batch) -> Result<Vec<f32>, EmbedError> {
        let _ = batch;
        unimplemented!()
    }
}
