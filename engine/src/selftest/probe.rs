//! What a self-test needs of a backend beside its operations.

use kernels::Heads;

use crate::Batch;
use crate::backend::Backend;

/// A backend whose matrices can be written and read by a test.
pub(crate) trait Probe: Backend {
    fn for_batch(&self, batch: &Batch, heads: Heads) -> Result<Self, Self::Error>
    where
        Self: Sized;

    /// Uploads a matrix, and returns its numbers after rounding.
    fn place(&self, numbers: &[f32], rows: usize) -> Result<(Self::Matrix, Vec<f64>), Self::Error>;

    /// Returns numbers rounded to the weights' format.
    fn rounded(&self, numbers: &[f32]) -> Vec<f32>;

    /// Waits, and returns a whole matrix.
    fn read(&self, rows: &Self::Matrix) -> Result<Vec<f32>, Self::Error>;

    /// Whether the error makes the device unusable.
    fn is_lost(error: &Self::Error) -> bool;

    /// Waits until a matrix is computed.
    fn wait(&self, rows: &Self::Matrix) -> Result<(), Self::Error>;
}
