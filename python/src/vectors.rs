//! The output of a job, read.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_schema::{ArrowError, Fields, Schema, SchemaRef};
use dataset::vectors::{BATCH_ROWS, Batches, Projection, Vectors, place};
use dataset::{DatasetError, VectorSet as Set};
use numpy::ndarray::Array2;
use numpy::{IntoPyArray, PyArray2};
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::arrow;
use crate::errors::Class;

/// The vectors of a finished job: a folder with a manifest, or one file.
#[pyclass(frozen, module = "encaje._encaje")]
pub(crate) struct VectorSet {
    set: Arc<Set>,
}

#[pymethods]
impl VectorSet {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let open = || {
            place::check_readable(&path)?;
            encaje::take_environment();
            Set::open(&path)
        };
        let set = py.detach(open).map_err(|error| dataset_error(&error))?;
        Ok(Self { set: Arc::new(set) })
    }

    fn __len__(&self) -> usize {
        usize::try_from(self.set.rows()).unwrap_or(usize::MAX)
    }

    /// Rows of the corpus that the output does not have.
    #[getter]
    fn missing(&self) -> u64 {
        self.set.missing()
    }

    /// The paths of the files, in row order.
    #[getter]
    fn paths(&self) -> Vec<PathBuf> {
        self.set.paths().collect()
    }

    /// How the vectors were made, as JSON.
    #[getter]
    fn info(&self) -> PyResult<String> {
        serde_json::to_string(self.set.info()).map_err(|error| Class::Error.of(&error))
    }

    /// Counts of the rows, as JSON.
    #[getter]
    fn totals(&self) -> PyResult<String> {
        let totals = self.set.totals().map_err(|error| dataset_error(&error))?;
        serde_json::to_string(&totals).map_err(|error| Class::Error.of(&error))
    }

    /// The vectors as floats, `[rows, dimensions]`; NaN where a row has none.
    fn numpy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let dimensions = self.set.info().dimensions as usize;
        let vectors = py.detach(|| self.floats(dimensions))?;
        let array = Array2::from_shape_vec((vectors.len() / dimensions.max(1), dimensions), vectors);
        Ok(array.map_err(|error| Class::Error.of(&error))?.into_pyarray(py))
    }

    /// A stream of all rows, or of some columns, with the bytes of each file checked before its first row.
    #[pyo3(signature = (columns=None))]
    fn stream<'py>(&self, py: Python<'py>, columns: Option<Vec<String>>) -> PyResult<Bound<'py, PyCapsule>> {
        let projection = columns.map_or(Projection::All, Projection::Columns);
        let rows =
            py.detach(|| Rows::open(Arc::clone(&self.set), projection)).map_err(|error| dataset_error(&error))?;
        arrow::export(py, Box::new(rows))
    }
}

impl VectorSet {
    fn floats(&self, dimensions: usize) -> PyResult<Vec<f32>> {
        let mut floats = Vec::new();
        let numbers = self.__len__().saturating_mul(dimensions);
        floats.try_reserve_exact(numbers).map_err(|_| {
            PyMemoryError::new_err("the vectors do not fit into memory at once: read them as a stream, .batches()")
        })?;
        for batch in self.set.batches(&Vectors::projection(self.set.info()), BATCH_ROWS) {
            let batch = batch.map_err(|error| dataset_error(&error))?;
            let vectors = Vectors::of(&batch, self.set.info());
            for row in 0..vectors.len() {
                match vectors.has(row) {
                    true => vectors.append(row, &mut floats),
                    false => floats.resize(floats.len() + dimensions, f32::NAN),
                }
            }
        }
        Ok(floats)
    }
}

/// The rows of all files, one after the other.
struct Rows {
    set: Arc<Set>,
    projection: Projection,
    schema: SchemaRef,
    file: usize,
    open: Option<Batches>,
}

impl Rows {
    fn open(set: Arc<Set>, projection: Projection) -> Result<Self, DatasetError> {
        let reader = set.open_checked(0)?;
        let schema = match &projection {
            Projection::All => reader.schema().clone(),
            Projection::Columns(columns) => {
                let fields = reader.schema().fields().iter().filter(|field| columns.contains(field.name()));
                Arc::new(Schema::new(fields.cloned().collect::<Fields>()))
            }
        };
        let open = Some(reader.batches(&projection, BATCH_ROWS)?);
        Ok(Self { set, projection, schema, file: 1, open })
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, DatasetError> {
        loop {
            if let Some(batch) = self.open.as_mut().and_then(Iterator::next) {
                return batch.map(Some);
            }
            if self.file == self.set.files() {
                return Ok(None);
            }
            self.open = Some(self.set.open_checked(self.file)?.batches(&self.projection, BATCH_ROWS)?);
            self.file += 1;
        }
    }
}

impl Iterator for Rows {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_batch().map_err(|error| ArrowError::ExternalError(Box::new(error))).transpose()
    }
}

impl RecordBatchReader for Rows {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

fn dataset_error(error: &DatasetError) -> PyErr {
    let class = if error.is_of_vectors() { Class::Vectors } else { Class::Corpus };
    class.of(error)
}
