//! The module `encaje._encaje`: what the Python package has of Rust. Its interface is private; `python/encaje` is the public one.

mod arrow;
mod errors;
mod interrupt;
mod model;
mod texts;
mod umap;
mod vectors;

use std::ffi::OsString;

use pyo3::prelude::*;

/// Runs the program `encaje` with these arguments and returns its exit code. `program` starts it: `[python, "-m", "encaje"]`.
#[pyfunction]
fn main(py: Python<'_>, program: Vec<OsString>, words: Vec<OsString>) -> u8 {
    py.detach(|| encaje::main(program, words))
}

#[pymodule]
fn _encaje(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(main, module)?)?;
    module.add_function(wrap_pyfunction!(umap::umap, module)?)?;
    module.add_function(wrap_pyfunction!(texts::first_invalid, module)?)?;
    module.add_class::<model::Model>()?;
    module.add_class::<model::Encoding>()?;
    module.add_class::<model::MaskFiller>()?;
    module.add_class::<texts::ArrowTexts>()?;
    module.add_class::<vectors::VectorSet>()
}
