//! Matrix products by cuBLASLt: one plan per shape, looked up again for every batch of that shape.

#![expect(unsafe_code, reason = "calls of a C library")]

use std::collections::HashMap;
use std::ffi::{c_int, c_void};

use super::device::{Fault, Format, Product};
use super::library::{self, Algorithm, CublasLt, Handle, Heuristic};

const COMPUTE_32F: c_int = 68;
const R_32F: c_int = 0;
const R_16F: c_int = 2;
const R_16BF: c_int = 14;
const DESC_TRANSA: c_int = 3;
const DESC_TRANSB: c_int = 4;
const DESC_EPILOGUE: c_int = 7;
const DESC_BIAS_POINTER: c_int = 8;
const PREFERENCE_WORKSPACE: c_int = 1;
const OP_N: c_int = 0;
const OP_T: c_int = 1;
const EPILOGUE_DEFAULT: c_int = 1;
const EPILOGUE_BIAS: c_int = 4;
const STATUS_ALLOC_FAILED: c_int = 3;
const STATUS_EXECUTION_FAILED: c_int = 13;
/// Shapes are few, because rows are rounded up; this many would be a sign that they are not.
const PLANS_MAX: usize = 4096;

/// What a plan depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Shape {
    format: Format,
    rows: usize,
    inputs: usize,
    outputs: usize,
    with_bias: bool,
}

/// The descriptions of a product, and the algorithm that cuBLASLt thinks best for it.
struct Plan {
    library: &'static CublasLt,
    operation: Handle,
    weights: Handle,
    x: Handle,
    out: Handle,
    algorithm: Algorithm,
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: each was created by the library or is 0, which it ignores; nothing uses them any more.
        unsafe {
            (self.library.cublasLtMatmulDescDestroy)(self.operation);
            for layout in [self.weights, self.x, self.out] {
                (self.library.cublasLtMatrixLayoutDestroy)(layout);
            }
        }
    }
}

/// A handle of cuBLASLt with its plans and its workspace.
pub(super) struct Products {
    library: &'static CublasLt,
    handle: Handle,
    plans: HashMap<Shape, Plan>,
    workspace: u64,
}

impl Products {
    /// What NVIDIA recommends for Hopper; older GPUs want less.
    pub(super) const WORKSPACE_BYTES: usize = 32 << 20;

    /// Opens the library; the context must be current.
    ///
    /// # Errors
    /// Why it cannot be used, in words for users.
    pub(super) fn open() -> Result<Products, String> {
        let library = library::cublas_lt()?;
        let mut handle = 0;
        // SAFETY: it writes one handle.
        match unsafe { (library.cublasLtCreate)(&raw mut handle) } {
            0 => Ok(Products { library, handle, plans: HashMap::new(), workspace: 0 }),
            status => Err(library.describe(status)),
        }
    }

    /// Takes memory of [`WORKSPACE_BYTES`](Products::WORKSPACE_BYTES) to work in.
    pub(super) fn set_workspace(&mut self, address: u64) {
        self.workspace = address;
    }

    /// Returns the memory to work in.
    pub(super) fn workspace(&self) -> u64 {
        self.workspace
    }

    /// Starts a product on a stream.
    pub(super) fn multiply(&mut self, product: &Product, stream: Handle) -> Result<(), Fault> {
        let &Product { format, rows, inputs, outputs, .. } = product;
        let shape = Shape { format, rows, inputs, outputs, with_bias: product.bias.is_some() };
        if !self.plans.contains_key(&shape) {
            if self.plans.len() >= PLANS_MAX {
                self.plans.clear();
            }
            let plan = self.plan(shape)?;
            self.plans.insert(shape, plan);
        }
        let plan = &self.plans[&shape];
        let (one, zero) = (1f32, 0f32);
        if let Some(bias) = product.bias {
            self.set(plan.operation, DESC_BIAS_POINTER, &bias)?;
        }
        // SAFETY: the plan's descriptions are those of these buffers, which are freed in the order of this stream; the
        // workspace is this lane's, so that one product at a time uses it.
        let status = unsafe {
            (self.library.cublasLtMatmul)(
                self.handle,
                plan.operation,
                (&raw const one).cast(),
                product.weights as *const c_void,
                plan.weights,
                product.x as *const c_void,
                plan.x,
                (&raw const zero).cast(),
                product.out as *const c_void,
                plan.out,
                product.out as *mut c_void,
                plan.out,
                &raw const plan.algorithm,
                self.workspace as *mut c_void,
                Products::WORKSPACE_BYTES,
                stream,
            )
        };
        self.check("cublasLtMatmul", status)
    }

    /// Row-major `out = x * weights^T` is column-major `out^T = weights * x^T`, where what is row-major is a transpose:
    /// A is `weights` transposed, B is `x` as it lies, and D is `out` as it lies, with one bias per row.
    fn plan(&self, shape: Shape) -> Result<Plan, Fault> {
        let library = self.library;
        let kind = match shape.format {
            Format::F32 => R_32F,
            Format::F16 => R_16F,
            Format::Bf16 => R_16BF,
        };
        let mut plan = Plan { library, operation: 0, weights: 0, x: 0, out: 0, algorithm: Algorithm::default() };
        // SAFETY: it writes one handle.
        let created = unsafe { (library.cublasLtMatmulDescCreate)(&raw mut plan.operation, COMPUTE_32F, R_32F) };
        self.check("cublasLtMatmulDescCreate", created)?;
        self.set(plan.operation, DESC_TRANSA, &OP_T)?;
        self.set(plan.operation, DESC_TRANSB, &OP_N)?;
        let epilogue = if shape.with_bias { EPILOGUE_BIAS } else { EPILOGUE_DEFAULT };
        self.set(plan.operation, DESC_EPILOGUE, &epilogue)?;
        let layouts = [
            (&mut plan.weights, shape.inputs, shape.outputs),
            (&mut plan.x, shape.inputs, shape.rows),
            (&mut plan.out, shape.outputs, shape.rows),
        ];
        for (layout, rows, columns) in layouts {
            let leading = i64::try_from(rows).expect("a matrix has fewer than 2^63 rows");
            // SAFETY: it writes one handle.
            let created =
                unsafe { (library.cublasLtMatrixLayoutCreate)(layout, kind, rows as u64, columns as u64, leading) };
            self.check("cublasLtMatrixLayoutCreate", created)?;
        }
        plan.algorithm = self.best(&plan, shape)?;
        Ok(plan)
    }

    /// Asks for the algorithm that should be fastest.
    fn best(&self, plan: &Plan, shape: Shape) -> Result<Algorithm, Fault> {
        let library = self.library;
        let (mut preference, mut found, mut best) = (0, 0, Heuristic::default());
        // SAFETY: it writes one handle.
        let created = unsafe { (library.cublasLtMatmulPreferenceCreate)(&raw mut preference) };
        self.check("cublasLtMatmulPreferenceCreate", created)?;
        let bytes = Products::WORKSPACE_BYTES;
        // SAFETY: the preference was just created and is destroyed once; the value is a `size_t`; one result has room.
        let status = unsafe {
            let set = (library.cublasLtMatmulPreferenceSetAttribute)(
                preference,
                PREFERENCE_WORKSPACE,
                (&raw const bytes).cast(),
                size_of::<usize>(),
            );
            let asked = (library.cublasLtMatmulAlgoGetHeuristic)(
                self.handle,
                plan.operation,
                plan.weights,
                plan.x,
                plan.out,
                plan.out,
                preference,
                1,
                &raw mut best,
                &raw mut found,
            );
            (library.cublasLtMatmulPreferenceDestroy)(preference);
            if set == 0 { asked } else { set }
        };
        self.check("cublasLtMatmulAlgoGetHeuristic", status)?;
        if found == 0 || best.state != 0 || best.workspace_bytes > bytes {
            let reason = format!("no algorithm for {shape:?}");
            return Err(Fault::Failed { call: "cublasLtMatmulAlgoGetHeuristic".to_owned(), reason });
        }
        Ok(best.algorithm)
    }

    fn set<T>(&self, operation: Handle, which: c_int, value: &T) -> Result<(), Fault> {
        // SAFETY: the operation is alive, and the value has the size that the attribute has: 4 bytes for enums, 8 for a
        // pointer.
        let status = unsafe {
            (self.library.cublasLtMatmulDescSetAttribute)(
                operation,
                which,
                std::ptr::from_ref(value).cast(),
                size_of::<T>(),
            )
        };
        self.check("cublasLtMatmulDescSetAttribute", status)
    }

    fn check(&self, call: &str, status: c_int) -> Result<(), Fault> {
        match status {
            0 => Ok(()),
            STATUS_ALLOC_FAILED => Err(Fault::OutOfMemory { bytes: 0 }),
            // A kernel that failed leaves the context broken; what it was shows at the next call of the driver.
            STATUS_EXECUTION_FAILED => {
                Err(Fault::Lost { reason: format!("{call}: {}", self.library.describe(status)) })
            }
            status => Err(Fault::Failed { call: call.to_owned(), reason: self.library.describe(status) }),
        }
    }
}

impl Drop for Products {
    fn drop(&mut self) {
        self.plans.clear();
        // SAFETY: nothing uses the handle any more.
        unsafe { (self.library.cublasLtDestroy)(self.handle) };
    }
}
