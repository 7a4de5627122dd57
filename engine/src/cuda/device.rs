//! What the forward pass asks of a GPU: memory, kernels, matrix products. [`super::driver`] is a real one; tests have one
//! that runs the same kernels on the host.

use std::sync::Arc;

use half::{bf16, f16};

use crate::{ComputeDtype, LoadError};

/// Why a GPU did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// There is not enough memory left; less at a time may work.
    #[error("out of GPU memory: {bytes} bytes more are not there")]
    OutOfMemory {
        /// What was asked for.
        bytes: usize,
    },
    /// The context is broken for good, and every later call in this process fails as well.
    #[error("the GPU is lost to this process: {reason}")]
    Lost {
        /// What the driver said.
        reason: String,
    },
    /// A call failed and left the context whole.
    #[error("{call} failed: {reason}")]
    Failed {
        /// The call.
        call: String,
        /// What the driver said.
        reason: String,
    },
}

/// The number format of weights and activations on the device. All sums are in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FloatFormat {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// Brain floating point.
    Bf16,
}

impl FloatFormat {
    /// Returns the format of a [`ComputeDtype`].
    ///
    /// # Errors
    /// For a format that GPUs are not asked to compute in.
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

    /// Returns the bytes of a number.
    pub(crate) fn bytes(self) -> usize {
        match self {
            FloatFormat::F32 => 4,
            FloatFormat::F16 | FloatFormat::Bf16 => 2,
        }
    }

    /// Returns what kernels have behind their names.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            FloatFormat::F32 => "f32",
            FloatFormat::F16 => "f16",
            FloatFormat::Bf16 => "bf16",
        }
    }

    /// Returns numbers as they lie on the device, rounded to nearest.
    pub(crate) fn encode(self, numbers: &[f32]) -> Vec<u8> {
        match self {
            FloatFormat::F32 => numbers.iter().flat_map(|x| x.to_ne_bytes()).collect(),
            FloatFormat::F16 => numbers.iter().flat_map(|x| f16::from_f32(*x).to_ne_bytes()).collect(),
            FloatFormat::Bf16 => numbers.iter().flat_map(|x| bf16::from_f32(*x).to_ne_bytes()).collect(),
        }
    }

    /// Returns numbers as they lay on the device.
    pub(crate) fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let halves = || bytes.chunks_exact(2).map(|pair| u16::from_ne_bytes([pair[0], pair[1]]));
        match self {
            FloatFormat::F32 => bytes.chunks_exact(4).map(|x| f32::from_ne_bytes([x[0], x[1], x[2], x[3]])).collect(),
            FloatFormat::F16 => halves().map(|bits| f16::from_bits(bits).to_f32()).collect(),
            FloatFormat::Bf16 => halves().map(|bits| bf16::from_bits(bits).to_f32()).collect(),
        }
    }
}

/// An argument of a kernel, of exactly the size that the kernel declares.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Arg {
    /// An address on the device.
    Address(u64),
    /// An `unsigned`.
    Number(u32),
    /// A `float`.
    Float(f32),
}

/// One start of a kernel.
#[derive(Debug, Clone)]
pub(crate) struct Launch<'a> {
    /// Its name in kernels.cu.
    pub(crate) kernel: &'a str,
    /// Blocks, in x and y. Nothing is launched where one is 0.
    pub(crate) grid: [u32; 2],
    /// Threads of a block, in x and y.
    pub(crate) block: [u32; 2],
    /// Dynamic shared memory of a block.
    pub(crate) shared_bytes: u32,
    /// What it is called with.
    pub(crate) args: &'a [Arg],
}

/// `out = x * weights^T + bias`, all in one format, row-major without gaps: `x` is `[rows, inputs]`, `weights`
/// `[outputs, inputs]`, `out` `[rows, outputs]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product {
    pub(crate) format: FloatFormat,
    pub(crate) rows: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) x: u64,
    pub(crate) weights: u64,
    /// `[outputs]`; `None` adds nothing.
    pub(crate) bias: Option<u64>,
    pub(crate) out: u64,
}

/// How long a kernel or a product kept the GPU busy.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    /// The kernel's name, or the shape of the product.
    pub(crate) name: String,
    pub(crate) milliseconds: f64,
}

/// What a stream did while its steps were timed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Timed {
    /// In the order in which they ran.
    pub(crate) steps: Vec<Step>,
    /// From the start of the first step to the end of the last one.
    pub(crate) whole_milliseconds: f64,
}

impl Product {
    /// Returns what steps of this shape are called, whatever the number of rows.
    pub(crate) fn name(&self) -> String {
        format!("product {} to {}", self.inputs, self.outputs)
    }
}

/// A queue of work on a GPU: what is asked for happens in the order in which it was asked. One thread at a time.
pub(crate) trait Device: Send + Sync + Sized + 'static {
    /// Returns memory aligned to 16 bytes at least. Its content is undefined.
    fn allocate(&self, bytes: usize) -> Result<u64, Fault>;

    /// Gives memory back once all that was asked before is done.
    fn free(&self, address: u64, bytes: usize);

    /// Copies to the device; returns when `bytes` may change again.
    fn upload(&self, address: u64, bytes: &[u8]) -> Result<(), Fault>;

    /// Waits for all that was asked before.
    fn wait(&self) -> Result<(), Fault>;

    /// Waits for all that was asked before, then copies from the device.
    fn download(&self, address: u64, out: &mut [u8]) -> Result<(), Fault>;

    /// Starts a kernel.
    fn launch(&self, launch: &Launch<'_>) -> Result<(), Fault>;

    /// Starts a matrix product.
    fn multiply(&self, product: &Product) -> Result<(), Fault>;

    /// Waits for all that was asked before, and returns how much memory could still be allocated.
    fn free_bytes(&self) -> Result<usize, Fault>;

    /// Times kernels and products from here on, until [`stop_timing`](Device::stop_timing). Each costs a little more then.
    fn start_timing(&self) -> Result<(), Fault>;

    /// Waits for all that was asked before, and returns what was timed.
    fn stop_timing(&self) -> Result<Timed, Fault>;
}

/// Memory on a device, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Buffer<D: Device> {
    device: Arc<D>,
    address: u64,
    bytes: usize,
}

impl<D: Device> Buffer<D> {
    /// Returns room for `bytes`, 16 at least.
    pub(crate) fn new(device: &Arc<D>, bytes: usize) -> Result<Buffer<D>, Fault> {
        let bytes = bytes.max(16);
        Ok(Buffer { address: device.allocate(bytes)?, device: Arc::clone(device), bytes })
    }

    /// Returns a copy of `bytes` on the device.
    pub(crate) fn of(device: &Arc<D>, bytes: &[u8]) -> Result<Buffer<D>, Fault> {
        let buffer = Buffer::new(device, bytes.len())?;
        device.upload(buffer.address, bytes)?;
        Ok(buffer)
    }

    /// Returns a copy of `numbers` on the device.
    pub(crate) fn of_u32(device: &Arc<D>, numbers: &[u32]) -> Result<Buffer<D>, Fault> {
        Buffer::of(device, &numbers.iter().flat_map(|x| x.to_ne_bytes()).collect::<Vec<u8>>())
    }

    /// Returns where it is.
    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    /// Waits for what was asked, and returns the first `count` numbers.
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
