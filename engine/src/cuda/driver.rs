//! A real NVIDIA GPU: one context with kernels per process and GPU, and streams with their workspaces.

#![expect(unsafe_code, reason = "calls of a C library")]

use std::collections::HashMap;
use std::ffi::{CString, c_int, c_void};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::device::{Arg, Device, Fault, Launch, Product, Step, Timed};
use super::library::{self, Driver, Handle};
use super::products::Products;
use crate::GpuError;

const OUT_OF_MEMORY: c_int = 2;
/// `CUresult`s that break the context: invalid addresses, corrupted memory, lost devices.
const STICKY: [c_int; 20] =
    [4, 46, 201, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 810, 911, 999];

const COMPUTE_MAJOR: c_int = 75;
const COMPUTE_MINOR: c_int = 76;
const MEMORY_POOLS_SUPPORTED: c_int = 115;
const POOL_RELEASE_THRESHOLD: c_int = 4;
const POOL_RESERVED: c_int = 5;
const POOL_USED: c_int = 7;
const STREAM_NON_BLOCKING: u32 = 1;
/// With timing.
const EVENT_DEFAULT: u32 = 0;
/// Waiting threads sleep, so that their core can tokenize.
const SCHEDULE_BLOCKING: u32 = 4;
/// Minimum compute capability that the kernels are compiled for.
const COMPUTE_MAJOR_MIN: c_int = 8;
const MAX_DYNAMIC_SHARED_BYTES: c_int = 8;
/// Shared memory that a kernel may use without an attribute.
const SHARED_BYTES_FREE: u32 = 48 * 1024;

/// The kernels, compiled for several architectures by scripts/cuda.sh.
#[cfg(feature = "cuda")]
static KERNELS: Option<&Aligned<[u8]>> = Some(&Aligned(*include_bytes!(env!(
    "ENCAJE_CUDA_KERNELS",
    "the feature `cuda` takes kernels that nvcc has compiled: build with `make cuda`"
))));
#[cfg(not(feature = "cuda"))]
static KERNELS: Option<&Aligned<[u8]>> = None;

/// Aligned so that the driver may read numbers of any size.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

/// A GPU of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuInfo {
    /// Its number, as in `cuda:0`.
    pub ordinal: usize,
    /// NVIDIA's name of it.
    pub name: String,
    /// Its compute capability, such as (9, 0).
    pub compute: (i32, i32),
    /// Total memory.
    pub memory_bytes: usize,
    /// Why it cannot be used, in words for users; `None` if it can.
    pub unusable: Option<String>,
}

/// Returns the GPUs of this machine that the environment makes visible.
///
/// # Errors
/// Why GPUs cannot be used, in words for users.
pub fn gpus() -> Result<Vec<GpuInfo>, GpuError> {
    if KERNELS.is_none() {
        return Err(GpuError("this binary has no CUDA: build one with `make cuda`".to_owned()));
    }
    let failed = |fault: Fault| GpuError(fault.to_string());
    let driver = library::driver().map_err(GpuError)?;
    let mut count = 0;
    // SAFETY: the driver is initialised; it writes one number.
    check(driver, "cuDeviceGetCount", unsafe { (driver.cuDeviceGetCount)(&raw mut count) }).map_err(failed)?;
    (0..count).map(|ordinal| info(driver, ordinal).map_err(failed)).collect()
}

fn info(driver: &Driver, ordinal: c_int) -> Result<GpuInfo, Fault> {
    let (mut device, mut memory_bytes, mut name) = (0, 0, [0u8; 128]);
    // SAFETY: every call writes to a place of the size passed.
    unsafe {
        check(driver, "cuDeviceGet", (driver.cuDeviceGet)(&raw mut device, ordinal))?;
        check(driver, "cuDeviceGetName", (driver.cuDeviceGetName)(name.as_mut_ptr().cast(), 128, device))?;
        check(driver, "cuDeviceTotalMem", (driver.cuDeviceTotalMem_v2)(&raw mut memory_bytes, device))?;
    }
    let name = String::from_utf8_lossy(name.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned();
    let compute = (attribute(driver, device, COMPUTE_MAJOR)?, attribute(driver, device, COMPUTE_MINOR)?);
    let unusable = match compute.0 < COMPUTE_MAJOR_MIN {
        true => Some(format!("{name} has compute capability {}.{}, at least 8.0 is needed", compute.0, compute.1)),
        false => library::cublas_lt().err(),
    };
    Ok(GpuInfo { ordinal: usize::try_from(ordinal).unwrap_or_default(), name, compute, memory_bytes, unusable })
}

fn attribute(driver: &Driver, device: c_int, which: c_int) -> Result<c_int, Fault> {
    let mut value = 0;
    // SAFETY: it writes one number.
    check(driver, "cuDeviceGetAttribute", unsafe { (driver.cuDeviceGetAttribute)(&raw mut value, which, device) })?;
    Ok(value)
}

fn check(driver: &Driver, call: &str, code: c_int) -> Result<(), Fault> {
    match code {
        0 => Ok(()),
        OUT_OF_MEMORY => Err(Fault::OutOfMemory { bytes: 0 }),
        code if STICKY.contains(&code) => Err(Fault::Lost { reason: format!("{call}: {}", driver.describe(code)) }),
        code => Err(Fault::Failed { call: call.to_owned(), reason: driver.describe(code) }),
    }
}

/// A GPU's primary context with the kernels loaded. Lives as long as the process.
struct Context {
    driver: &'static Driver,
    context: Handle,
    /// 0 if the GPU has no memory pools: memory is then allocated and freed directly.
    pool: Handle,
    module: Handle,
    functions: Mutex<HashMap<String, Handle>>,
}

impl Context {
    fn open(ordinal: usize) -> Result<Context, Fault> {
        let unusable = |reason: String| Fault::Failed { call: format!("opening cuda:{ordinal}"), reason };
        let gpus = gpus().map_err(|problem| unusable(problem.to_string()))?;
        let Some(gpu) = gpus.get(ordinal) else {
            return Err(unusable(format!("there are {} GPUs, counted from 0", gpus.len())));
        };
        if let Some(reason) = &gpu.unusable {
            return Err(unusable(reason.clone()));
        }
        let driver = library::driver().map_err(unusable)?;
        let (mut device, mut context, mut module, mut pool) = (0, 0, 0, 0);
        let kernels = KERNELS.expect("GPUs are listed where there are kernels");
        let pools = {
            // SAFETY: the ordinal is valid, and each call writes one handle or number.
            unsafe {
                check(
                    driver,
                    "cuDeviceGet",
                    (driver.cuDeviceGet)(&raw mut device, c_int::try_from(ordinal).unwrap_or(-1)),
                )?;
                let flags = (driver.cuDevicePrimaryCtxSetFlags_v2)(device, SCHEDULE_BLOCKING);
                check(driver, "cuDevicePrimaryCtxSetFlags", flags)?;
                check(driver, "cuDevicePrimaryCtxRetain", (driver.cuDevicePrimaryCtxRetain)(&raw mut context, device))?;
                check(driver, "cuCtxSetCurrent", (driver.cuCtxSetCurrent)(context))?;
            }
            attribute(driver, device, MEMORY_POOLS_SUPPORTED)? != 0
        };
        // SAFETY: the image is a fat binary from nvcc; it outlives the module, whose kernels may load lazily.
        let loaded = unsafe { (driver.cuModuleLoadData)(&raw mut module, kernels.0.as_ptr().cast()) };
        check(driver, "loading the kernels", loaded).map_err(|fault| too_old(driver, fault))?;
        if pools {
            // Freed memory stays in the process's pool, so that the next batch allocates without a system call.
            let mut threshold = u64::MAX;
            // SAFETY: the pool is the device's own, and the threshold is a 64-bit number.
            unsafe {
                check(driver, "cuDeviceGetDefaultMemPool", (driver.cuDeviceGetDefaultMemPool)(&raw mut pool, device))?;
                let set = (driver.cuMemPoolSetAttribute)(pool, POOL_RELEASE_THRESHOLD, (&raw mut threshold).cast());
                check(driver, "cuMemPoolSetAttribute", set)?;
            }
        }
        Ok(Context { driver, context, pool, module, functions: Mutex::new(HashMap::new()) })
    }

    fn enter(&self) -> Result<(), Fault> {
        // SAFETY: the context is retained until the process exits.
        check(self.driver, "cuCtxSetCurrent", unsafe { (self.driver.cuCtxSetCurrent)(self.context) })
    }

    /// Returns a kernel, configured for the shared memory it is launched with.
    fn function(&self, name: &str, shared_bytes: u32) -> Result<Handle, Fault> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get(name) {
            return Ok(*function);
        }
        let (mut function, c_name) = (0, CString::new(name).expect("a kernel's name has no NUL"));
        // SAFETY: the module is loaded, and the name ends with NUL.
        let found = unsafe { (self.driver.cuModuleGetFunction)(&raw mut function, self.module, c_name.as_ptr()) };
        check(self.driver, name, found)?;
        if shared_bytes > SHARED_BYTES_FREE {
            let bytes = c_int::try_from(shared_bytes).expect("shared memory is small");
            // SAFETY: the function belongs to a module that stays loaded.
            let set = unsafe { (self.driver.cuFuncSetAttribute)(function, MAX_DYNAMIC_SHARED_BYTES, bytes) };
            check(self.driver, name, set)?;
        }
        functions.insert(name.to_owned(), function);
        Ok(function)
    }
}

/// Kernels that the driver does not know were built for a newer one.
fn too_old(driver: &Driver, fault: Fault) -> Fault {
    let Fault::Failed { call, reason } = fault else { return fault };
    let of = driver.version().map_or_else(|| "unknown".to_owned(), |(major, minor)| format!("{major}.{minor}"));
    let advice = "update the driver, or build with an nvcc that is not newer than it";
    Fault::Failed { call, reason: format!("{reason}; the driver is of CUDA {of}: {advice}") }
}

fn context(ordinal: usize) -> Result<Arc<Context>, Fault> {
    static CONTEXTS: OnceLock<Mutex<HashMap<usize, Arc<Context>>>> = OnceLock::new();
    let mut contexts =
        CONTEXTS.get_or_init(|| Mutex::new(HashMap::new())).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(context) = contexts.get(&ordinal) {
        return Ok(Arc::clone(context));
    }
    let context = Arc::new(Context::open(ordinal)?);
    contexts.insert(ordinal, Arc::clone(&context));
    Ok(context)
}

/// A CUDA event.
struct Event {
    driver: &'static Driver,
    handle: Handle,
}

impl Event {
    /// Records an event after all earlier operations of the stream. The context must be current.
    fn on(driver: &'static Driver, stream: Handle) -> Result<Event, Fault> {
        let mut handle = 0;
        // SAFETY: it writes one handle.
        check(driver, "cuEventCreate", unsafe { (driver.cuEventCreate)(&raw mut handle, EVENT_DEFAULT) })?;
        let event = Event { driver, handle };
        // SAFETY: event and stream belong to the current context.
        check(driver, "cuEventRecord", unsafe { (driver.cuEventRecord)(handle, stream) })?;
        Ok(event)
    }

    /// Returns the milliseconds since an earlier event; both must have completed.
    fn since(&self, earlier: &Event) -> Result<f64, Fault> {
        let mut milliseconds = 0f32;
        // SAFETY: both events are recorded; it writes one number.
        let read = unsafe { (self.driver.cuEventElapsedTime)(&raw mut milliseconds, earlier.handle, self.handle) };
        check(self.driver, "cuEventElapsedTime", read).map(|()| f64::from(milliseconds))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: it was created once; the driver defers destruction while it is in use.
        unsafe { (self.driver.cuEventDestroy_v2)(self.handle) };
    }
}

/// A timed step between two events.
struct TimedSpan {
    name: String,
    begin: Event,
    end: Event,
}

/// A CUDA stream with its own workspace for products.
pub(crate) struct Stream {
    context: Arc<Context>,
    stream: Handle,
    products: Mutex<Products>,
    /// The steps so far, while timing.
    spans: Mutex<Option<Vec<TimedSpan>>>,
}

impl Stream {
    /// Opens a stream on the GPU of this ordinal.
    ///
    /// # Errors
    /// When there is no such GPU, or it cannot be used.
    pub(crate) fn open(ordinal: usize) -> Result<Stream, Fault> {
        let context = context(ordinal)?;
        let driver = context.driver;
        context.enter()?;
        let products = Products::open()?;
        let mut stream = 0;
        // SAFETY: it writes one handle.
        let created = unsafe { (driver.cuStreamCreate)(&raw mut stream, STREAM_NON_BLOCKING) };
        check(driver, "cuStreamCreate", created)?;
        let stream = Stream { context, stream, products: Mutex::new(products), spans: Mutex::new(None) };
        let workspace = stream.allocate(Products::WORKSPACE_BYTES)?;
        stream.products.lock().unwrap_or_else(PoisonError::into_inner).set_workspace(workspace);
        Ok(stream)
    }

    fn driver(&self) -> &'static Driver {
        self.context.driver
    }

    /// Waits, and returns pooled memory to the system: the driver and cuBLASLt do not allocate from the pool.
    fn trim(&self) -> Result<(), Fault> {
        self.wait()?;
        match self.context.pool {
            0 => Ok(()),
            // SAFETY: the pool is the device's own.
            pool => check(self.driver(), "cuMemPoolTrimTo", unsafe { (self.driver().cuMemPoolTrimTo)(pool, 0) }),
        }
    }

    /// Runs a step, between two events while timing. The context must be current.
    fn step(&self, name: impl FnOnce() -> String, run: impl FnOnce() -> Result<(), Fault>) -> Result<(), Fault> {
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(spans) = spans.as_mut() else { return run() };
        let begin = Event::on(self.driver(), self.stream)?;
        run()?;
        spans.push(TimedSpan { name: name(), begin, end: Event::on(self.driver(), self.stream)? });
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.context.enter().is_err() {
            return;
        }
        let workspace = self.products.get_mut().unwrap_or_else(PoisonError::into_inner).workspace();
        self.free(workspace, Products::WORKSPACE_BYTES);
        // An error here means that the context is lost, and with it everything that could leak.
        let _lost = self.wait();
        // SAFETY: the stream has no more users.
        unsafe { (self.driver().cuStreamDestroy_v2)(self.stream) };
    }
}

impl Device for Stream {
    fn allocate(&self, bytes: usize) -> Result<u64, Fault> {
        self.context.enter()?;
        let allocate = || {
            let mut address = 0;
            // SAFETY: it writes one address.
            let code = unsafe {
                match self.context.pool {
                    0 => (self.driver().cuMemAlloc_v2)(&raw mut address, bytes),
                    _ => (self.driver().cuMemAllocAsync)(&raw mut address, bytes, self.stream),
                }
            };
            match code {
                OUT_OF_MEMORY => Err(Fault::OutOfMemory { bytes }),
                code => check(self.driver(), "allocating", code).map(|()| address),
            }
        };
        allocate().or_else(|fault| match fault {
            Fault::OutOfMemory { .. } => self.trim().and_then(|()| allocate()),
            Fault::Lost { .. } | Fault::Failed { .. } => Err(fault),
        })
    }

    fn free(&self, address: u64, _: usize) {
        if self.context.enter().is_err() {
            return;
        }
        // SAFETY: the address came from `allocate` of this stream, or of one that has been synchronised.
        unsafe {
            match self.context.pool {
                0 => (self.driver().cuMemFree_v2)(address),
                _ => (self.driver().cuMemFreeAsync)(address, self.stream),
            }
        };
    }

    fn upload(&self, address: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.context.enter()?;
        // SAFETY: the buffer is at least as long; pageable memory is staged before the call returns.
        let code =
            unsafe { (self.driver().cuMemcpyHtoDAsync_v2)(address, bytes.as_ptr().cast(), bytes.len(), self.stream) };
        check(self.driver(), "copying to the GPU", code)
    }

    fn wait(&self) -> Result<(), Fault> {
        self.context.enter()?;
        // SAFETY: the stream is this stream's own.
        check(self.driver(), "cuStreamSynchronize", unsafe { (self.driver().cuStreamSynchronize)(self.stream) })
    }

    fn download(&self, address: u64, out: &mut [u8]) -> Result<(), Fault> {
        // Synchronises first: a copy to pageable memory may block other streams while it waits.
        self.wait()?;
        // SAFETY: the buffer is at least as long, and `out` stays borrowed until the stream has been synchronised.
        let code =
            unsafe { (self.driver().cuMemcpyDtoHAsync_v2)(out.as_mut_ptr().cast(), address, out.len(), self.stream) };
        let copied = check(self.driver(), "copying from the GPU", code);
        let waited = self.wait();
        copied.and(waited)
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<(), Fault> {
        if launch.grid.contains(&0) {
            return Ok(());
        }
        self.context.enter()?;
        let function = self.context.function(launch.kernel, launch.shared_bytes)?;
        let mut values: Vec<u64> = launch
            .args
            .iter()
            .map(|arg| match *arg {
                Arg::Address(address) => address,
                Arg::Number(number) => u64::from(number),
                Arg::Float(float) => u64::from(float.to_bits()),
            })
            .collect();
        // A kernel reads as many low bytes as it declares; GPU hosts are little-endian.
        let mut pointers: Vec<*mut c_void> = values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        let ([grid_x, grid_y], [block_x, block_y]) = (launch.grid, launch.block);
        let mut start = || {
            // SAFETY: tests compare number and sizes of the arguments with the kernel's declaration; the addresses are
            // of buffers that are freed in the order of this stream.
            let code = unsafe {
                (self.driver().cuLaunchKernel)(
                    function,
                    grid_x,
                    grid_y,
                    1,
                    block_x,
                    block_y,
                    1,
                    launch.shared_bytes,
                    self.stream,
                    pointers.as_mut_ptr(),
                    std::ptr::null_mut(),
                )
            };
            check(self.driver(), launch.kernel, code)
        };
        self.step(|| launch.kernel.to_owned(), &mut start)
    }

    fn multiply(&self, product: &Product) -> Result<(), Fault> {
        self.context.enter()?;
        let multiply = || self.products.lock().unwrap_or_else(PoisonError::into_inner).multiply(product, self.stream);
        let multiplied = self.step(|| product.name(), multiply).or_else(|_| {
            // cuBLASLt reports a broken context without details, and the driver reports why. It gives the same error
            // if it lacks memory for a lazily loaded kernel, which trimming may provide.
            self.trim()?;
            self.step(|| product.name(), multiply)
        });
        if multiplied.is_err() {
            self.wait()?;
        }
        multiplied
    }

    fn free_bytes(&self) -> Result<usize, Fault> {
        self.wait()?;
        let (driver, mut free, mut total) = (self.driver(), 0, 0);
        // SAFETY: they write one number each.
        unsafe {
            check(driver, "cuMemGetInfo", (driver.cuMemGetInfo_v2)(&raw mut free, &raw mut total))?;
            if self.context.pool != 0 {
                let (mut reserved, mut used) = (0u64, 0u64);
                let read = |which, value: &mut u64| {
                    let code =
                        (driver.cuMemPoolGetAttribute)(self.context.pool, which, std::ptr::from_mut(value).cast());
                    check(driver, "cuMemPoolGetAttribute", code)
                };
                read(POOL_RESERVED, &mut reserved)?;
                read(POOL_USED, &mut used)?;
                // Unused pool memory is available to the process.
                free += usize::try_from(reserved.saturating_sub(used)).unwrap_or_default();
            }
        }
        Ok(free)
    }

    fn start_timing(&self) -> Result<(), Fault> {
        self.wait()?;
        *self.spans.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
        Ok(())
    }

    fn stop_timing(&self) -> Result<Timed, Fault> {
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
        self.wait()?;
        let whole_milliseconds = match (spans.first(), spans.last()) {
            (Some(first), Some(last)) => last.end.since(&first.begin)?,
            (None, _) | (_, None) => 0.0,
        };
        let step = |mark: TimedSpan| -> Result<Step, Fault> {
            Ok(Step { milliseconds: mark.end.since(&mark.begin)?, name: mark.name })
        };
        let steps = spans.into_iter().map(step).collect::<Result<Vec<_>, _>>()?;
        Ok(Timed { steps, whole_milliseconds })
    }
}
