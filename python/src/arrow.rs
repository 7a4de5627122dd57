//! Streams of Arrow's C interface, in and out, as capsules of Python.

#![expect(unsafe_code, reason = "a stream comes by a pointer")]

use arrow_array::RecordBatchReader;
use arrow_array::ffi_stream::{FFI_ArrowArrayStream, RecordBatchStreamReader};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::errors::Class;

/// The name of such capsules, by Arrow's interface for Python.
const NAME: &std::ffi::CStr = c"arrow_array_stream";

/// Takes the stream of a table: what has `__arrow_c_stream__`.
pub(crate) fn import(table: &Bound<'_, PyAny>) -> PyResult<RecordBatchStreamReader> {
    let capsule = table.call_method0("__arrow_c_stream__")?.cast_into::<PyCapsule>()?;
    let stream = capsule.pointer_checked(Some(NAME))?.cast::<FFI_ArrowArrayStream>();
    // SAFETY: a capsule of this name holds a valid stream, which is moved out and marked as released; the capsule lives until
    // the end of this function.
    let reader = unsafe { RecordBatchStreamReader::from_raw(stream.as_ptr()) };
    reader.map_err(|error| Class::Usage.of(&error))
}

/// Returns a capsule with a stream.
pub(crate) fn export<'py>(
    py: Python<'py>,
    reader: Box<dyn RecordBatchReader + Send>,
) -> PyResult<Bound<'py, PyCapsule>> {
    PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(reader), NAME)
}
