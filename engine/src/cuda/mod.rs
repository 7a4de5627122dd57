//! NVIDIA GPUs: the forward pass with own kernels and cuBLASLt products. The driver's libraries are loaded when a GPU
//! is requested, so the same binary runs without them. Everything above [`device::Device`] is tested on an emulated
//! GPU.

mod backend;
mod device;
mod driver;
mod kernels;
mod library;
mod memory;
mod model;
mod products;

#[cfg(all(test, target_os = "linux"))]
mod emulated;
#[cfg(all(test, target_os = "linux"))]
mod tests;

use std::sync::Arc;

#[cfg(test)]
pub(crate) use self::device::Step;
pub(crate) use self::device::{Fault, FloatFormat, Timed};
use self::driver::Stream;
pub use self::driver::{GpuInfo, gpus};
use crate::config::Config;
use crate::forward::bert::Source;
use crate::{ComputeDtype, GpuError, LoadError};

/// Concurrent batches per GPU: while one computes, the next is prepared and the last is downloaded.
pub const STREAMS: usize = 2;

pub(crate) type Model = model::GpuModel<Stream>;

/// Loads a model onto the GPU of this ordinal.
///
/// # Errors
/// When there is no such GPU, it cannot be used, or the model does not fit.
pub(crate) fn load(
    config: &Config,
    source: Source<'_>,
    dtype: ComputeDtype,
    ordinal: usize,
) -> Result<Model, LoadError> {
    let format = FloatFormat::of(dtype)?;
    let streams = std::iter::repeat_with(|| stream(ordinal)).take(STREAMS).collect::<Result<Vec<_>, _>>()?;
    Model::load(config, source, format, streams).map_err(|error| name_device(ordinal, error))
}

/// Opens a GPU as a backend for weights in this number format.
///
/// # Errors
/// When there is no such GPU, or it cannot be used.
pub(crate) fn open(ordinal: usize, dtype: ComputeDtype) -> Result<backend::Gpu<Stream>, LoadError> {
    Ok(backend::Gpu::for_weights(&stream(ordinal)?, FloatFormat::of(dtype)?))
}

fn stream(ordinal: usize) -> Result<Arc<Stream>, LoadError> {
    if let Err(GpuError(problem)) = gpus() {
        return Err(LoadError::DeviceUnusable { device: format!("cuda:{ordinal}"), problem });
    }
    Stream::open(ordinal).map(Arc::new).map_err(|fault| of_fault(ordinal, fault))
}

fn of_fault(ordinal: usize, fault: Fault) -> LoadError {
    let device = format!("cuda:{ordinal}");
    match fault {
        Fault::OutOfMemory { .. } => LoadError::DeviceFull { device },
        Fault::Lost { reason } => LoadError::DeviceLost { device, reason },
        Fault::Failed { .. } => LoadError::DeviceUnusable { device, problem: fault.to_string() },
    }
}

/// Adds the GPU and the meaning of a fault to an error of loading.
pub(crate) fn name_device(ordinal: usize, error: LoadError) -> LoadError {
    let LoadError::Device { path, source } = error else { return error };
    match source.downcast::<Fault>() {
        Ok(fault) => of_fault(ordinal, *fault),
        Err(source) => LoadError::Device { path, source },
    }
}
