//! A GPU for tests: the kernels of this folder compiled for the host by the C++ compiler, with a fiber per thread
//! (`kernels/emulate.hpp`). Out-of-bounds accesses fault, memory begins as NaN, and its size can be limited.

#![expect(unsafe_code, reason = "calls of a C library")]

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

use super::device::{Arg, Device, Fault, FloatFormat, Launch, Product, Step, Timed};

unsafe extern "C" {
    fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

const RTLD_NOW: c_int = 2;

/// Enough for a few of the longest texts of the tiny models.
const REPORTED_FREE_MAX: usize = 128 << 10;

type Allocate = unsafe extern "C" fn(usize) -> *mut c_void;
type Free = unsafe extern "C" fn(*mut c_void, usize);
type Start = unsafe extern "C" fn(
    *const c_char,
    *const c_uint,
    *const c_uint,
    c_uint,
    *mut *mut c_void,
    *const c_uint,
    c_uint,
    c_uint,
    c_uint,
) -> c_int;
type Multiply =
    unsafe extern "C" fn(c_uint, *const c_void, *const c_void, *const c_void, *mut c_void, usize, usize, usize);

#[derive(Clone, Copy)]
struct Library {
    allocate: Allocate,
    free: Free,
    start: Start,
    multiply: Multiply,
}

/// The order in which the threads of a block run, and when asynchronous copies complete.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    /// 0 ascending, 1 descending, else the seed of a shuffle.
    pub(crate) order: u32,
    /// Copies complete at once instead of as late as allowed.
    pub(crate) copies_at_once: bool,
}

pub(crate) struct Emulated {
    library: Library,
    schedule: Schedule,
    capacity: usize,
    /// Upper bound of the reported free memory: a trial batch of the real amount takes minutes on fibers.
    reported_free: usize,
    used: AtomicUsize,
    /// Launches so far; the context breaks at this one.
    launches: AtomicUsize,
    breaks_at: usize,
    /// Start of timing, and the steps since.
    timed: Mutex<Option<(Instant, Vec<Step>)>>,
}

impl Emulated {
    pub(crate) fn new(schedule: Schedule, capacity: usize) -> Emulated {
        let (used, launches) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (reported_free, breaks_at, timed) = (REPORTED_FREE_MAX, usize::MAX, Mutex::new(None));
        Emulated { library: library(), schedule, capacity, reported_free, used, launches, breaks_at, timed }
    }

    /// As [`new`](Emulated::new), with the reported memory taken by other processes.
    pub(crate) fn shared_with_others(capacity: usize) -> Emulated {
        Emulated { reported_free: usize::MAX, ..Emulated::new(Schedule { order: 0, copies_at_once: false }, capacity) }
    }

    /// As [`new`](Emulated::new), with a context that breaks at the given launch.
    pub(crate) fn breaking(at: usize) -> Emulated {
        let schedule = Schedule { order: 0, copies_at_once: true };
        Emulated { breaks_at: at, ..Emulated::new(schedule, usize::MAX) }
    }

    pub(crate) fn launched(&self) -> usize {
        self.launches.load(Ordering::Relaxed)
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn record(&self, name: &str, since: Instant) {
        if let Some((_, steps)) = self.timed.lock().expect("no test panics while it holds this").as_mut() {
            steps.push(Step { name: name.to_owned(), milliseconds: since.elapsed().as_secs_f64() * 1e3 });
        }
    }
}

/// Compiles the kernels if their sources changed, and loads them.
fn library() -> Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    *LIBRARY.get_or_init(|| {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cuda/kernels");
        let mut digest = blake3::Hasher::new();
        for name in ["attention.cuh", "emulate.cpp", "emulate.hpp", "kernels.cu", "platform.cuh", "rows.cuh"] {
            digest.update(&std::fs::read(sources.join(name)).expect("the kernels' sources are there"));
        }
        let name = format!("encaje-emulated-gpu-{}.so", &digest.finalize().to_hex()[..16]);
        let cache = std::env::current_exe().expect("a test knows where it is");
        let cache = cache.parent().expect("a file is in a folder");
        let library = cache.join(&name);
        if !library.exists() {
            let made = cache.join(format!("{name}.{}", std::process::id()));
            let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
            let flags = "-x c++ -std=c++20 -O2 -march=native -fPIC -shared -w -fcf-protection=none -U_FORTIFY_SOURCE";
            let output = Command::new(&compiler)
                .args(flags.split(' '))
                .arg(sources.join("emulate.cpp"))
                .arg("-o")
                .arg(&made)
                .output()
                .unwrap_or_else(|error| panic!("the kernels are tested with a C++ compiler, `{compiler}`: {error}"));
            assert!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
            std::fs::rename(&made, &library).expect("a library is put where it belongs");
        }
        let path = CString::new(library.to_str().expect("paths of tests are UTF-8")).expect("a path has no NUL");
        // SAFETY: the library was compiled from the sources beside this file, and its functions have these types.
        unsafe {
            let library = dlopen(path.as_ptr(), RTLD_NOW);
            assert!(!library.is_null(), "{path:?} cannot be loaded");
            let find = |name: &std::ffi::CStr| {
                let found = dlsym(library, name.as_ptr());
                assert!(!found.is_null(), "{name:?} is missing");
                found
            };
            Library {
                allocate: std::mem::transmute::<*mut c_void, Allocate>(find(c"encaje_alloc")),
                free: std::mem::transmute::<*mut c_void, Free>(find(c"encaje_free")),
                start: std::mem::transmute::<*mut c_void, Start>(find(c"encaje_launch")),
                multiply: std::mem::transmute::<*mut c_void, Multiply>(find(c"encaje_multiply")),
            }
        }
    })
}

impl Device for Emulated {
    fn allocate(&self, bytes: usize) -> Result<u64, Fault> {
        if self.used().saturating_add(bytes) > self.capacity {
            return Err(Fault::OutOfMemory { bytes });
        }
        self.used.fetch_add(bytes, Ordering::Relaxed);
        // SAFETY: any size is allowed.
        let address = unsafe { (self.library.allocate)(bytes) };
        assert!(!address.is_null(), "the host has memory");
        Ok(address as u64)
    }

    fn free(&self, address: u64, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        // SAFETY: it came from `allocate` with the same size, and there are no pending operations.
        unsafe { (self.library.free)(address as *mut c_void, bytes) };
    }

    fn upload(&self, address: u64, bytes: &[u8]) -> Result<(), Fault> {
        // SAFETY: device memory is host memory, at least as long.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, bytes.len()) };
        Ok(())
    }

    fn wait(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn download(&self, address: u64, out: &mut [u8]) -> Result<(), Fault> {
        // SAFETY: as for `upload`.
        unsafe { std::ptr::copy_nonoverlapping(address as *const u8, out.as_mut_ptr(), out.len()) };
        Ok(())
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<(), Fault> {
        if self.launches.fetch_add(1, Ordering::Relaxed) >= self.breaks_at {
            return Err(Fault::Lost { reason: "an illegal address, by order of a test".to_owned() });
        }
        let mut values: Vec<u64> = launch
            .args
            .iter()
            .map(|arg| match *arg {
                Arg::Address(address) => address,
                Arg::Number(number) => u64::from(number),
                Arg::Float(float) => u64::from(float.to_bits()),
            })
            .collect();
        let sizes: Vec<c_uint> =
            launch.args.iter().map(|arg| if matches!(arg, Arg::Address(_)) { 8 } else { 4 }).collect();
        let mut pointers: Vec<*mut c_void> = values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        let kernel = CString::new(launch.kernel).expect("a kernel's name has no NUL");
        let since = Instant::now();
        // SAFETY: the arguments are checked against those of the kernel; its addresses are buffers of this device.
        let status = unsafe {
            (self.library.start)(
                kernel.as_ptr(),
                launch.grid.as_ptr(),
                launch.block.as_ptr(),
                launch.shared_bytes,
                pointers.as_mut_ptr(),
                sizes.as_ptr(),
                u32::try_from(sizes.len()).expect("a kernel has few arguments"),
                self.schedule.order,
                u32::from(self.schedule.copies_at_once),
            )
        };
        assert_eq!(
            status, 0,
            "`{}`: 1 is an unknown kernel, 2 are other arguments, 3 is too large a block",
            launch.kernel
        );
        self.record(launch.kernel, since);
        Ok(())
    }

    fn multiply(&self, product: &Product) -> Result<(), Fault> {
        let Product { format, rows, inputs, outputs, x, weights, bias, out } = *product;
        assert!(bias.is_none_or(|bias| bias.is_multiple_of(16)), "cuBLASLt may read a bias by 16 bytes");
        let code = match format {
            FloatFormat::F32 => 0,
            FloatFormat::F16 => 1,
            FloatFormat::Bf16 => 2,
        };
        let (x, weights, bias) = (x as *const c_void, weights as *const c_void, bias.unwrap_or(0) as *const c_void);
        let since = Instant::now();
        // SAFETY: all of them are buffers of this device with the sizes of the product.
        unsafe { (self.library.multiply)(code, x, weights, bias, out as *mut c_void, rows, inputs, outputs) };
        self.record(&product.name(), since);
        Ok(())
    }

    fn free_bytes(&self) -> Result<usize, Fault> {
        match self.reported_free {
            usize::MAX => Ok(2 * REPORTED_FREE_MAX),
            reported_free => Ok(self.capacity.saturating_sub(self.used()).min(reported_free)),
        }
    }

    fn start_timing(&self) -> Result<(), Fault> {
        *self.timed.lock().expect("no test panics while it holds this") = Some((Instant::now(), Vec::new()));
        Ok(())
    }

    fn stop_timing(&self) -> Result<Timed, Fault> {
        let timed = self.timed.lock().expect("no test panics while it holds this").take();
        let (since, steps) = timed.expect("timing was started");
        Ok(Timed { steps, whole_milliseconds: since.elapsed().as_secs_f64() * 1e3 })
    }
}
