//! PURE: our own columns of a batch, typed; and the vectors of a batch in another number format.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Int32Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, FixedSizeListArray, Float16Array, Float32Array, Int32Array, Int64Array, RecordBatch,
    StringArray,
};
use arrow_buffer::ScalarBuffer;
use arrow_schema::SchemaRef;
use half::f16;
use half::slice::HalfFloatSliceExt;
use spec::{OutputDtype, RowCounts};

use super::error::VectorsError;
use super::read::Projection;
use super::schema::{EMBEDDING, ERROR, N_TOKENS, ROW, TRUNCATED, component_field};

/// The columns of ours but the vectors. The reader has checked their types when it opened the file.
pub(super) struct StatusColumns<'a> {
    pub(super) row: &'a Int64Array,
    pub(super) n_tokens: &'a Int32Array,
    pub(super) truncated: &'a BooleanArray,
    pub(super) error: &'a StringArray,
}

const CHECKED: &str = "the reader checked the columns and their types";

impl<'a> StatusColumns<'a> {
    pub(super) fn of(batch: &'a RecordBatch) -> StatusColumns<'a> {
        StatusColumns {
            row: batch.column_by_name(ROW).expect(CHECKED).as_primitive::<Int64Type>(),
            n_tokens: batch.column_by_name(N_TOKENS).expect(CHECKED).as_primitive::<Int32Type>(),
            truncated: batch.column_by_name(TRUNCATED).expect(CHECKED).as_boolean(),
            error: batch.column_by_name(ERROR).expect(CHECKED).as_string::<i32>(),
        }
    }

    /// Returns the projection that reads these columns and no vector.
    pub(super) fn projection() -> Projection {
        Projection::Columns([ROW, N_TOKENS, TRUNCATED, ERROR].map(str::to_owned).to_vec())
    }

    /// Adds the counts of the rows. Reasons that are not in the closed list are left out.
    pub(super) fn count(&self, totals: &mut RowCounts) {
        totals.rows += self.row.len() as u64;
        for index in 0..self.row.len() {
            if self.error.is_valid(index) {
                if let Ok(reason) = self.error.value(index).parse() {
                    *totals.rejects.entry(reason).or_default() += 1;
                }
            } else {
                totals.truncated += u64::from(self.truncated.value(index));
                totals.tokens += u64::from(self.n_tokens.value(index).unsigned_abs());
            }
        }
    }
}

/// The components of all vectors of a batch, row-major; those of null vectors are undefined.
pub(super) enum Components<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
}

/// Returns the vectors of a batch and their components.
pub(super) fn vectors(batch: &RecordBatch) -> (&FixedSizeListArray, Components<'_>) {
    let list = batch.column_by_name(EMBEDDING).expect(CHECKED).as_fixed_size_list();
    let dimensions = usize::try_from(list.value_length()).expect(CHECKED);
    let start = list.offset() * dimensions;
    let range = start..start + list.len() * dimensions;
    let values = list.values();
    if let Some(values) = values.as_primitive_opt::<Float32Type>() {
        return (list, Components::F32(&values.values()[range]));
    }
    (list, Components::F16(&values.as_primitive::<Float16Type>().values()[range]))
}

/// Returns the batch with its vectors in another number format, or the row whose vector does not fit.
pub(super) fn recode(batch: &RecordBatch, schema: &SchemaRef, dtype: OutputDtype) -> Result<RecordBatch, VectorsError> {
    let (list, components) = vectors(batch);
    let values: ArrayRef = match (components, dtype) {
        (Components::F32(_), OutputDtype::F32) | (Components::F16(_), OutputDtype::F16) => return Ok(batch.clone()),
        (Components::F16(halves), OutputDtype::F32) => {
            let mut floats = vec![0.0; halves.len()];
            halves.convert_to_f32_slice(&mut floats);
            Arc::new(Float32Array::new(ScalarBuffer::from(floats), None))
        }
        (Components::F32(floats), OutputDtype::F16) => {
            let mut halves = vec![f16::ZERO; floats.len()];
            halves.convert_from_f32_slice(floats);
            check_halves(batch, list, &halves)?;
            Arc::new(Float16Array::new(ScalarBuffer::from(halves), None))
        }
    };
    let field = Arc::new(component_field(dtype));
    let recoded = FixedSizeListArray::new(field, list.value_length(), values, list.nulls().cloned());
    let place = batch.schema().index_of(EMBEDDING).expect(CHECKED);
    let mut columns = batch.columns().to_vec();
    columns[place] = Arc::new(recoded);
    Ok(RecordBatch::try_new(Arc::clone(schema), columns).expect("only the vectors changed, and as the schema says"))
}

fn check_halves(batch: &RecordBatch, list: &FixedSizeListArray, halves: &[f16]) -> Result<(), VectorsError> {
    let dimensions = halves.len() / list.len().max(1);
    let bad = (0..list.len()).find(|&row| {
        list.is_valid(row) && halves[row * dimensions..][..dimensions].iter().any(|half| !half.is_finite())
    });
    match bad {
        None => Ok(()),
        Some(index) => {
            let row = StatusColumns::of(batch).row.value(index).unsigned_abs();
            Err(VectorsError::bad_row(row, "its vector does not fit into 16-bit floats; merge as f32"))
        }
    }
}
