//! UMAP of any array.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use atlas::umap::{Metric, Options, fit};
use numpy::ndarray::Array2;
use numpy::{IntoPyArray, PyArray2, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::errors::Class;
use crate::interrupt::interruptible;

/// The end of a projection that was stopped.
struct Stopped;

/// Projects the rows of an array to the plane.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "keywords of Python")]
#[pyo3(signature = (array, *, n_neighbors, min_dist, metric, n_epochs, random_state))]
pub(crate) fn umap<'py>(
    py: Python<'py>,
    array: PyReadonlyArray2<'py, f32>,
    n_neighbors: usize,
    min_dist: f32,
    metric: &str,
    n_epochs: Option<usize>,
    random_state: u64,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let metric = match metric {
        "cosine" => Metric::Cosine,
        "euclidean" => Metric::Euclidean,
        other => return Err(Class::Usage.message(format!("metric `{other}`: `cosine` and `euclidean` are known"))),
    };
    let options = Options {
        neighbors: n_neighbors,
        min_dist,
        metric,
        epochs: n_epochs,
        seed: random_state,
        ..Options::default()
    };
    let dim = array.shape()[1];
    let numbers = array.as_slice().map_err(|error| Class::Usage.of(&error))?;
    let stop = AtomicBool::new(false);
    let project = || {
        // The projection has no way out but by its reports.
        let mut report = |_, _| {
            if stop.load(Ordering::Relaxed) {
                resume_unwind(Box::new(Stopped));
            }
        };
        catch_unwind(AssertUnwindSafe(|| fit(numbers, dim, &options, &mut report)))
    };
    let placed = interruptible(py, project, || stop.store(true, Ordering::Relaxed), |_| Ok(()))?;
    let placed = placed.unwrap_or_else(|panic| resume_unwind(panic)).map_err(|error| Class::Usage.of(&error))?;
    let plane = Array2::from_shape_vec((placed.len(), 2), placed.into_flattened());
    Ok(plane.map_err(|error| Class::Error.of(&error))?.into_pyarray(py))
}
