//! Matrix products by cuBLASLt, with a cached plan per shape.

#![expect(unsafe_code, reason = "calls of a C library")]

use std::collections::HashMap;
use std::ffi::{c_int, c_void};

use super::device::{Fault, FloatFormat, Product};
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
const PREFERENCE_REDUCTIONS: c_int = 3;
/// Of weights, `x`, and twice the output.
const PREFERENCE_ALIGNMENTS: [c_int; 4] = [5, 6, 7, 8];
/// Split sums are accumulated in f32.
const REDUCTION_COMPUTE_TYPE: u32 = 2;
const OP_N: c_int = 0;
const OP_T: c_int = 1;
const EPILOGUE_DEFAULT: c_int = 1;
const EPILOGUE_BIAS: c_int = 4;
const STATUS_ALLOC_FAILED: c_int = 3;
/// Out of memory, perhaps for a lazily loaded kernel.
const STATUS_NO_MEMORY: [c_int; 2] = [1, STATUS_ALLOC_FAILED];
/// The algorithm does not accept the operands: an invalid value, or not supported.
const STATUS_REFUSED: [c_int; 2] = [7, 15];
/// Maximum algorithms kept per shape.
const ALGORITHMS_MAX: usize = 8;
/// The largest alignment that algorithms use, in bytes.
const ALIGNMENT_MAX: u64 = 256;
/// Bound of the cache. Rows are rounded up, so there are far fewer shapes.
const PLANS_MAX: usize = 4096;

/// The key of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Shape {
    format: FloatFormat,
    rows: usize,
    inputs: usize,
    outputs: usize,
    with_bias: bool,
    /// Of weights, `x` and the output, in bytes.
    alignments: [u32; 3],
}

/// The descriptors of a product, and cuBLASLt's proposed algorithms, fastest first.
struct MatmulPlan {
    library: &'static CublasLt,
    operation: Handle,
    weights: Handle,
    x: Handle,
    out: Handle,
    algorithms: Vec<Algorithm>,
}

impl Drop for MatmulPlan {
    fn drop(&mut self) {
        // SAFETY: each was created by the library or is 0, which it ignores, and has no more users.
        unsafe {
            (self.library.cublasLtMatmulDescDestroy)(self.operation);
            for layout in [self.weights, self.x, self.out] {
                (self.library.cublasLtMatrixLayoutDestroy)(layout);
            }
        }
    }
}

/// A cuBLASLt handle with its plans and workspace.
pub(super) struct Products {
    library: &'static CublasLt,
    handle: Handle,
    plans: HashMap<Shape, MatmulPlan>,
    workspace: u64,
}

impl Products {
    /// NVIDIA's recommendation for Hopper; older GPUs need less.
    pub(super) const WORKSPACE_BYTES: usize = 32 << 20;

    /// Opens the library. The context must be current.
    pub(super) fn open() -> Result<Products, Fault> {
        let failed = |reason| Fault::Failed { call: "opening cuBLASLt".to_owned(), reason };
        let library = library::cublas_lt().map_err(failed)?;
        let mut handle = 0;
        // SAFETY: it writes one handle.
        match unsafe { (library.cublasLtCreate)(&raw mut handle) } {
            0 => Ok(Products { library, handle, plans: HashMap::new(), workspace: 0 }),
            STATUS_ALLOC_FAILED => Err(Fault::OutOfMemory { bytes: 0 }),
            status => Err(failed(library.describe(status))),
        }
    }

    pub(super) fn set_workspace(&mut self, address: u64) {
        self.workspace = address;
    }

    pub(super) fn workspace(&self) -> u64 {
        self.workspace
    }

    /// Starts a product on a stream.
    pub(super) fn multiply(&mut self, product: &Product, stream: Handle) -> Result<(), Fault> {
        let &Product { format, rows, inputs, outputs, .. } = product;
        let aligned = |address: u64| 1 << address.trailing_zeros().min(ALIGNMENT_MAX.trailing_zeros());
        let alignments = [product.weights, product.x, product.out].map(aligned);
        let shape = Shape { format, rows, inputs, outputs, with_bias: product.bias.is_some(), alignments };
        if !self.plans.contains_key(&shape) {
            if self.plans.len() >= PLANS_MAX {
                self.plans.clear();
            }
            let plan = self.plan(shape, product.bias)?;
            self.plans.insert(shape, plan);
        }
        let mut plan = self.plans.remove(&shape).expect("a plan is there, or was just made");
        let multiplied = self.multiply_by(&mut plan, product, stream);
        self.plans.insert(shape, plan);
        multiplied
    }

    /// Starts a product with the first algorithm that accepts it, and drops those that do not.
    fn multiply_by(&self, plan: &mut MatmulPlan, product: &Product, stream: Handle) -> Result<(), Fault> {
        if let Some(bias) = product.bias {
            self.set(plan.operation, DESC_BIAS_POINTER, &bias)?;
        }
        loop {
            let status = self.start(plan, product, stream);
            if !STATUS_REFUSED.contains(&status) || plan.algorithms.len() == 1 {
                return self.check("cublasLtMatmul", status);
            }
            plan.algorithms.remove(0);
        }
    }

    fn start(&self, plan: &MatmulPlan, product: &Product, stream: Handle) -> c_int {
        let (one, zero) = (1f32, 0f32);
        // SAFETY: the plan's descriptors match these buffers, which are freed in the order of this stream; only this
        // stream uses the workspace.
        unsafe {
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
                plan.algorithms.as_ptr(),
                self.workspace as *mut c_void,
                Products::WORKSPACE_BYTES,
                stream,
            )
        }
    }

    /// Row-major `out = x * weights^T` is column-major `out^T = weights * x^T`: A is `weights` transposed, B is `x`,
    /// and D is `out` in place, with one bias per row.
    fn plan(&self, shape: Shape, bias: Option<u64>) -> Result<MatmulPlan, Fault> {
        let library = self.library;
        let kind = match shape.format {
            FloatFormat::F32 => R_32F,
            FloatFormat::F16 => R_16F,
            FloatFormat::Bf16 => R_16BF,
        };
        let mut plan = MatmulPlan { library, operation: 0, weights: 0, x: 0, out: 0, algorithms: Vec::new() };
        // SAFETY: it writes one handle.
        let created = unsafe { (library.cublasLtMatmulDescCreate)(&raw mut plan.operation, COMPUTE_32F, R_32F) };
        self.check("cublasLtMatmulDescCreate", created)?;
        self.set(plan.operation, DESC_TRANSA, &OP_T)?;
        self.set(plan.operation, DESC_TRANSB, &OP_N)?;
        let epilogue = if shape.with_bias { EPILOGUE_BIAS } else { EPILOGUE_DEFAULT };
        self.set(plan.operation, DESC_EPILOGUE, &epilogue)?;
        if let Some(bias) = bias {
            // The alignment of the bias also selects the algorithm.
            self.set(plan.operation, DESC_BIAS_POINTER, &bias)?;
        }
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
        plan.algorithms = self.best(&plan, shape)?;
        Ok(plan)
    }

    /// Requests the fastest algorithms, and returns at least one.
    fn best(&self, plan: &MatmulPlan, shape: Shape) -> Result<Vec<Algorithm>, Fault> {
        let library = self.library;
        let (mut preference, mut found, mut best) = (0, 0, [Heuristic::default(); ALGORITHMS_MAX]);
        // SAFETY: it writes one handle.
        let created = unsafe { (library.cublasLtMatmulPreferenceCreate)(&raw mut preference) };
        self.check("cublasLtMatmulPreferenceCreate", created)?;
        let set = self.prefer(preference, shape);
        // SAFETY: the preference was just created and is destroyed once; the array has room for the results.
        let status = unsafe {
            let status = (library.cublasLtMatmulAlgoGetHeuristic)(
                self.handle,
                plan.operation,
                plan.weights,
                plan.x,
                plan.out,
                plan.out,
                preference,
                ALGORITHMS_MAX as c_int,
                best.as_mut_ptr(),
                &raw mut found,
            );
            (library.cublasLtMatmulPreferenceDestroy)(preference);
            status
        };
        set?;
        self.check("cublasLtMatmulAlgoGetHeuristic", status)?;
        let found = best.into_iter().take(usize::try_from(found).unwrap_or_default());
        let fit = found.filter(|found| found.state == 0 && found.workspace_bytes <= Products::WORKSPACE_BYTES);
        let algorithms: Vec<Algorithm> = fit.map(|found| found.algorithm).collect();
        if algorithms.is_empty() {
            let reason = format!("no algorithm for {shape:?}");
            return Err(Fault::Failed { call: "cublasLtMatmulAlgoGetHeuristic".to_owned(), reason });
        }
        Ok(algorithms)
    }

    /// Sets workspace and alignments for the choice of algorithms.
    fn prefer(&self, preference: Handle, shape: Shape) -> Result<(), Fault> {
        self.set_preference(preference, PREFERENCE_WORKSPACE, &Products::WORKSPACE_BYTES)?;
        self.set_preference(preference, PREFERENCE_REDUCTIONS, &REDUCTION_COMPUTE_TYPE)?;
        let [weights, x, out] = shape.alignments;
        for (which, alignment) in PREFERENCE_ALIGNMENTS.into_iter().zip([weights, x, out, out]) {
            self.set_preference(preference, which, &alignment)?;
        }
        Ok(())
    }

    fn set_preference<T>(&self, preference: Handle, which: c_int, value: &T) -> Result<(), Fault> {
        // SAFETY: the preference is alive, and the value has the attribute's size: a `size_t` for the workspace, 4
        // bytes for others.
        let status = unsafe {
            (self.library.cublasLtMatmulPreferenceSetAttribute)(
                preference,
                which,
                std::ptr::from_ref(value).cast(),
                size_of::<T>(),
            )
        };
        self.check("cublasLtMatmulPreferenceSetAttribute", status)
    }

    fn set<T>(&self, operation: Handle, which: c_int, value: &T) -> Result<(), Fault> {
        // SAFETY: the operation is alive, and the value has the attribute's size: 4 bytes for enums, 8 for a pointer.
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
            status if STATUS_NO_MEMORY.contains(&status) => Err(Fault::OutOfMemory { bytes: 0 }),
            status => Err(Fault::Failed { call: call.to_owned(), reason: self.library.describe(status) }),
        }
    }
}

impl Drop for Products {
    fn drop(&mut self) {
        self.plans.clear();
        // SAFETY: the handle has no more users.
        unsafe { (self.library.cublasLtDestroy)(self.handle) };
    }
}
