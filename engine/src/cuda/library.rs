//! NVIDIA's driver and cuBLASLt, loaded on first use, with the functions needed here. Types and numbers are those of
//! `cuda.h` and `cublasLt.h`; handles are addresses.

#![expect(unsafe_code, reason = "functions of a C library")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

use libloading::Library;

/// An opaque pointer, or null.
pub(super) type Handle = usize;

/// Declares a table of functions of one library.
macro_rules! functions {
    ($(#[$doc:meta])* $table:ident { $($name:ident: fn($($arg:ty),*) -> $result:ty;)* }) => {
        $(#[$doc])*
        #[allow(non_snake_case, reason = "the names of the library")]
        pub(super) struct $table {
            $(pub(super) $name: unsafe extern "C" fn($($arg),*) -> $result,)*
        }

        impl $table {
            /// Opens the first of `files` that exists, and never closes it.
            fn open(files: &[&str]) -> Result<$table, String> {
                let (library, file) = first_of(files)?;
                let too_old = |name: &str| format!("`{file}` has no {name}: it is too old");
                let table = $table { $(
                    // SAFETY: this is the type of the function in the headers of CUDA 12 and 13.
                    $name: unsafe { library.get::<unsafe extern "C" fn($($arg),*) -> $result>(stringify!($name)) }
                        .map(|symbol| *symbol)
                        .map_err(|_| too_old(stringify!($name)))?,
                )* };
                std::mem::forget(library);
                Ok(table)
            }
        }
    };
}

functions! {
    /// The driver's functions. All return a `CUresult`.
    Driver {
        cuInit: fn(u32) -> c_int;
        cuDriverGetVersion: fn(*mut c_int) -> c_int;
        cuGetErrorName: fn(c_int, *mut *const c_char) -> c_int;
        cuGetErrorString: fn(c_int, *mut *const c_char) -> c_int;
        cuDeviceGetCount: fn(*mut c_int) -> c_int;
        cuDeviceGet: fn(*mut c_int, c_int) -> c_int;
        cuDeviceGetName: fn(*mut c_char, c_int, c_int) -> c_int;
        cuDeviceGetAttribute: fn(*mut c_int, c_int, c_int) -> c_int;
        cuDeviceTotalMem_v2: fn(*mut usize, c_int) -> c_int;
        cuDeviceGetDefaultMemPool: fn(*mut Handle, c_int) -> c_int;
        cuDevicePrimaryCtxSetFlags_v2: fn(c_int, u32) -> c_int;
        cuDevicePrimaryCtxRetain: fn(*mut Handle, c_int) -> c_int;
        cuCtxSetCurrent: fn(Handle) -> c_int;
        cuMemPoolSetAttribute: fn(Handle, c_int, *mut c_void) -> c_int;
        cuMemPoolGetAttribute: fn(Handle, c_int, *mut c_void) -> c_int;
        cuMemPoolTrimTo: fn(Handle, usize) -> c_int;
        cuMemGetInfo_v2: fn(*mut usize, *mut usize) -> c_int;
        cuMemAlloc_v2: fn(*mut u64, usize) -> c_int;
        cuMemFree_v2: fn(u64) -> c_int;
        cuMemAllocAsync: fn(*mut u64, usize, Handle) -> c_int;
        cuMemFreeAsync: fn(u64, Handle) -> c_int;
        cuMemcpyHtoDAsync_v2: fn(u64, *const c_void, usize, Handle) -> c_int;
        cuMemcpyDtoHAsync_v2: fn(*mut c_void, u64, usize, Handle) -> c_int;
        cuStreamCreate: fn(*mut Handle, u32) -> c_int;
        cuStreamDestroy_v2: fn(Handle) -> c_int;
        cuStreamSynchronize: fn(Handle) -> c_int;
        cuEventCreate: fn(*mut Handle, u32) -> c_int;
        cuEventDestroy_v2: fn(Handle) -> c_int;
        cuEventRecord: fn(Handle, Handle) -> c_int;
        cuEventElapsedTime: fn(*mut f32, Handle, Handle) -> c_int;
        cuModuleLoadData: fn(*mut Handle, *const c_void) -> c_int;
        cuModuleGetFunction: fn(*mut Handle, Handle, *const c_char) -> c_int;
        cuFuncSetAttribute: fn(Handle, c_int, c_int) -> c_int;
        cuLaunchKernel: fn(Handle, u32, u32, u32, u32, u32, u32, u32, Handle, *mut *mut c_void, *mut *mut c_void) -> c_int;
    }
}

functions! {
    /// The functions of cuBLASLt. All but the last return a `cublasStatus_t`.
    CublasLt {
        cublasLtCreate: fn(*mut Handle) -> c_int;
        cublasLtDestroy: fn(Handle) -> c_int;
        cublasLtMatmulDescCreate: fn(*mut Handle, c_int, c_int) -> c_int;
        cublasLtMatmulDescDestroy: fn(Handle) -> c_int;
        cublasLtMatmulDescSetAttribute: fn(Handle, c_int, *const c_void, usize) -> c_int;
        cublasLtMatrixLayoutCreate: fn(*mut Handle, c_int, u64, u64, i64) -> c_int;
        cublasLtMatrixLayoutDestroy: fn(Handle) -> c_int;
        cublasLtMatmulPreferenceCreate: fn(*mut Handle) -> c_int;
        cublasLtMatmulPreferenceDestroy: fn(Handle) -> c_int;
        cublasLtMatmulPreferenceSetAttribute: fn(Handle, c_int, *const c_void, usize) -> c_int;
        cublasLtMatmulAlgoGetHeuristic:
            fn(Handle, Handle, Handle, Handle, Handle, Handle, Handle, c_int, *mut Heuristic, *mut c_int) -> c_int;
        cublasLtMatmul: fn(
            Handle, Handle, *const c_void, *const c_void, Handle, *const c_void, Handle, *const c_void, *const c_void,
            Handle, *mut c_void, Handle, *const Algorithm, *mut c_void, usize, Handle) -> c_int;
        cublasLtGetStatusString: fn(c_int) -> *const c_char;
    }
}

/// `cublasLtMatmulAlgo_t`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Algorithm {
    data: [u64; 8],
}

/// `cublasLtMatmulHeuristicResult_t`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Heuristic {
    pub(super) algorithm: Algorithm,
    pub(super) workspace_bytes: usize,
    pub(super) state: c_int,
    waves: f32,
    reserved: [c_int; 4],
}

/// Opens the first library that exists; of none, returns the first problem.
fn first_of<'a>(files: &[&'a str]) -> Result<(Library, &'a str), String> {
    let mut problems = Vec::new();
    for file in files {
        // SAFETY: the initialisers of these libraries may run in any thread.
        match unsafe { Library::new(*file) } {
            Ok(library) => return Ok((library, file)),
            Err(problem) => problems.push(problem.to_string()),
        }
    }
    Err(problems.into_iter().next().unwrap_or_else(|| "it cannot be opened".to_owned()))
}

/// Returns the driver, or why it cannot be used, in words for users.
pub(super) fn driver() -> Result<&'static Driver, String> {
    static DRIVER: OnceLock<Result<Driver, String>> = OnceLock::new();
    let found = DRIVER.get_or_init(|| {
        let driver = Driver::open(&["libcuda.so.1", "libcuda.so"])
            .map_err(|problem| format!("no NVIDIA driver found: {problem}"))?;
        // SAFETY: the first call of the driver, with the required flags.
        match unsafe { (driver.cuInit)(0) } {
            0 => Ok(driver),
            code => Err(format!("the NVIDIA driver does not start: {}", driver.describe(code))),
        }
    });
    found.as_ref().map_err(String::clone)
}

/// Returns the newest cuBLASLt that the driver supports, or why it cannot be used, in words for users.
pub(super) fn cublas_lt() -> Result<&'static CublasLt, String> {
    static CUBLAS_LT: OnceLock<Result<CublasLt, String>> = OnceLock::new();
    let found = CUBLAS_LT.get_or_init(|| {
        let files = match driver()?.version() {
            Some((..13, _)) => ["libcublasLt.so.12", "libcublasLt.so"].as_slice(),
            _ => &["libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"],
        };
        CublasLt::open(files).map_err(|problem| {
            format!(
                "no cuBLASLt found: {problem}; install the CUDA toolkit's libraries or `pip install nvidia-cublas`, and put the folder of libcublasLt on LD_LIBRARY_PATH"
            )
        })
    });
    found.as_ref().map_err(String::clone)
}

impl Driver {
    /// Returns the CUDA version of the driver, such as (13, 0).
    pub(super) fn version(&self) -> Option<(c_int, c_int)> {
        let mut version = 0;
        // SAFETY: it writes one number.
        let status = unsafe { (self.cuDriverGetVersion)(&raw mut version) };
        (status == 0).then_some((version / 1000, version % 1000 / 10))
    }

    /// Returns the name and description of a `CUresult`.
    pub(super) fn describe(&self, code: c_int) -> String {
        let text = |function: unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int| {
            let mut text = std::ptr::null();
            // SAFETY: the function writes a pointer to a static string, or null.
            let status = unsafe { function(code, &raw mut text) };
            // SAFETY: as above.
            (status == 0 && !text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
        };
        match (text(self.cuGetErrorName), text(self.cuGetErrorString)) {
            (Some(name), Some(meaning)) => format!("{name}: {meaning}"),
            (Some(name), None) => name,
            (None, _) => format!("CUDA error {code}"),
        }
    }
}

impl CublasLt {
    /// Returns the description of a `cublasStatus_t`.
    pub(super) fn describe(&self, status: c_int) -> String {
        // SAFETY: the function returns a static string for any number.
        let text = unsafe { (self.cublasLtGetStatusString)(status) };
        match text.is_null() {
            true => format!("cuBLAS status {status}"),
            // SAFETY: as above.
            false => unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned(),
        }
    }
}
