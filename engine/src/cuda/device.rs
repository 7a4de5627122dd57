//! The device operations that the forward pass needs: memory, kernels, matrix products. Implemented by
//! [`super::driver`], and in tests by an emulator that runs the same kernels on the host.

use std::sync::Arc;

use half::{bf16, f16};

use crate::{ComputeDtype, LoadError};

/// An error of a GPU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// Out of memory; a smaller batch may succeed.
    #[error("out of GPU memory: cannot allocate {bytes} bytes")]
    OutOfMemory { bytes: usize },
    /// The context is broken: every later call in this process fails.
    #[error("the GPU is lost to this process: {reason}")]
    Lost {
        /// The driver's message.
        reason: String,
    },
    /// A call failed and left the context intact.
    #[error("{call} failed: {reason}")]
    Failed {
        call: String,
        /// The driver's message.
        reason: String,
    },
}

/// The number format of weights and activations. All sums are f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FloatFormat {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
}

impl FloatFormat {
    /// Returns the format of a [`ComputeDtype`], if GPUs support it.
    pub(crate) fn of(dtype: ComputeDtype) -> Result<FloatFormat, LoadError> {
        match dtype {
            ComputeDtype::F32 => Ok(FloatFormat::F32),
            ComputeDtype::F16 => Ok(FloatFormat::F16),
            ComputeDtype::Bf16 => Ok(FloatFormat::Bf16),
            ComputeDtype::Int8 => {
                let what = format!("dtype `{dtype}` on a GPU; supported there: `f16`, `bf16`, `f32`");
                Err(LoadError::Unsupported { what })
            }
        }
    }

    pub(crate) fn bytes(self) -> usize {
        match self {
            FloatFormat::F32 => 4,
            FloatFormat::F16 | FloatFormat::Bf16 => 2,
        }
    }

    /// Returns the suffix of kernel names.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            FloatFormat::F32 => "f32",
            FloatFormat::F16 => "f16",
            FloatFormat::Bf16 => "bf16",
        }
    }

    /// Converts to the device's format, rounding to nearest.
    pub(crate) fn encode(self, numbers: &[f32]) -> Vec<u8> {
        match self {
            FloatFormat::F32 => numbers.iter().flat_map(|x| x.to_ne_bytes()).collect(),
            FloatFormat::F16 => numbers.iter().flat_map(|x| f16::from_f32(*x).to_ne_bytes()).collect(),
            FloatFormat::Bf16 => numbers.iter().flat_map(|x| bf16::from_f32(*x).to_ne_bytes()).collect(),
        }
    }

    /// Converts from the device's format.
    pub(crate) fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let halves = || bytes.chunks_exact(2).map(|pair| u16::from_ne_bytes([pair[0], pair[1]]));
        match self {
            FloatFormat::F32 => bytes.chunks_exact(4).map(|x| f32::from_ne_bytes([x[0], x[1], x[2], x[3]])).collect(),
            FloatFormat::F16 => halves().map(|bits| f16::from_bits(bits).to_f32()).collect(),
            FloatFormat::Bf16 => halves().map(|bits| bf16::from_bits(bits).to_f32()).collect(),
        }
    }
}

/// A kernel argument, with the size that the kernel declares.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Arg {
    /// An address on the device.
    Address(u64),
    /// An `unsigned`.
    Number(u32),
    /// A `float`.
    Float(f32),
}

/// A kernel launch.
#[derive(Debug, Clone)]
pub(crate) struct Launch<'a> {
    /// Its name in kernels.cu.
    pub(crate) kernel: &'a str,
    /// Blocks, in x and y. No launch if either is 0.
    pub(crate) grid: [u32; 2],
    /// Threads per block, in x and y.
    pub(crate) block: [u32; 2],
    /// Dynamic shared memory per block.
    pub(crate) shared_bytes: u32,
    pub(crate) args: &'a [Arg],
}

/// `out = x * weights^T + bias`, in one format, row-major and contiguous: `x` is `[rows, inputs]`, `weights`
/// `[outputs, inputs]`, `out` `[rows, outputs]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product {
    pub(crate) format: FloatFormat,
    pub(crate) rows: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) x: u64,
    pub(crate) weights: u64,
    /// `[outputs]`
    pub(crate) bias: Option<u64>,
    pub(crate) out: u64,
}

/// GPU time of a kernel or product.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    /// The kernel's name, or the shape of the product.
    pub(crate) name: String,
    pub(crate) milliseconds: f64,
}

/// The timed steps of a stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Timed {
    /// In execution order.
    pub(crate) steps: Vec<Step>,
    /// From the start of the first step to the end of the last.
    pub(crate) whole_milliseconds: f64,
}

impl Product {
    /// Returns a name of the shape without the number of rows.
    pub(crate) fn name(&self) -> String {
        format!("product {} to {}", self.inputs, self.outputs)
    }
}

/// A stream of a GPU: operations run in the order of the calls. Used by one thread at a time.
pub(crate) trait Device: Send + Sync + Sized + 'static {
    /// Allocates memory aligned to at least 16 bytes, with undefined content.
    fn allocate(&self, bytes: usize) -> Result<u64, Fault>;

    /// Frees memory after all earlier operations.
    fn free(&self, address: u64, bytes: usize);

    /// Copies to the device; `bytes` may be reused on return.
    fn upload(&self, address: u64, bytes: &[u8]) -> Result<(), Fault>;

    /// Waits for all earlier operations.
    fn wait(&self) -> Result<(), Fault>;

    /// Waits for all earlier operations, then copies from the device.
    fn download(&self, address: u64, out: &mut [u8]) -> Result<(), Fault>;

    fn launch(&self, launch: &Launch<'_>) -> Result<(), Fault>;

    fn multiply(&self, product: &Product) -> Result<(), Fault>;

    /// Waits for all earlier operations and returns the allocatable bytes.
    fn free_bytes(&self) -> Result<usize, Fault>;

    /// Starts timing every kernel and product, at a small cost each, until [`stop_timing`](Device::stop_timing).
    fn start_timing(&self) -> Result<(), Fault>;

    /// Waits for all earlier operations and returns the timings.
    fn stop_timing(&self) -> Result<Timed, Fault>;
}

/// Device memory, freed on drop.
#[derive(Debug)]
pub(crate) struct Buffer<D: Device> {
    device: Arc<D>,
    address: u64,
    bytes: usize,
}

impl<D: Device> Buffer<D> {
    /// Allocates at least 16 bytes.
    pub(crate) fn new(device: &Arc<D>, bytes: usize) -> Result<Buffer<D>, Fault> {
        let bytes = bytes.max(16);
        Ok(Buffer { address: device.allocate(bytes)?, device: Arc::clone(device), bytes })
    }

    /// Uploads `bytes`.
    pub(crate) fn of(device: &Arc<D>, bytes: &[u8]) -> Result<Buffer<D>, Fault> {
        let buffer = Buffer::new(device, bytes.len())?;
        device.upload(buffer.address, bytes)?;
        Ok(buffer)
    }

    /// Uploads `numbers`.
    pub(crate) fn of_u32(device: &Arc<D>, numbers: &[u32]) -> Result<Buffer<D>, Fault> {
        Buffer::of(device, &numbers.iter().flat_map(|x| x.to_ne_bytes()).collect::<Vec<u8>>())
    }

    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    /// Waits for earlier operations and returns the first `count` numbers.
    pub(crate) fn read(&self, device: &D, format: FloatFormat, count: usize) -> Result<Vec<f32>, Fault> {
        let mut bytes = vec![0; count * format.bytes()];
        assert!(bytes.len() <= self.bytes, "a buffer is read within its bounds");
        device.download(self.address, &mut bytes)?;
        Ok(format.decode(&bytes))
    }
}

impl<D: Device> Drop for Buffer<D> {
    fn drop(&mut self) {
        self.device.free(self.address, self.bytes);
    }
}
