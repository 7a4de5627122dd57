//! PURE: our own columns of a batch, typed; and the vectors of a batch in another output type.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::SchemaRef;
use spec::RowCounts;

use super::column_names::{EMBEDDING, EMBEDDING_SCALE, ERROR, N_TOKENS, ROW, TRUNCATED};
use super::element::{Vectors, encode};
use super::error::VectorsError;
use super::info::FileInfo;
use super::read::Projection;

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

/// Returns a batch of a file that was made so with its vectors in the output type of another description, whose schema it gets.
pub(super) fn recode(
    batch: &RecordBatch,
    from: &FileInfo,
    schema: &SchemaRef,
    into: &FileInfo,
) -> Result<RecordBatch, VectorsError> {
    if from.output_dtype == into.output_dtype {
        return Ok(batch.clone());
    }
    let vectors = Vectors::of(batch, from);
    let width = from.dimensions as usize;
    let mut floats = Vec::with_capacity(vectors.len() * width);
    for row in 0..vectors.len() {
        if vectors.has(row) {
            vectors.append(row, &mut floats);
        } else {
            floats.resize(floats.len() + width, 0.0);
        }
    }
    let encoded = encode(into.output_dtype, into.dimensions, floats, vectors.nulls().cloned()).map_err(|index| {
        let row = StatusColumns::of(batch).row.value(index).unsigned_abs();
        VectorsError::bad_row(row, "its vector does not fit into 16-bit floats; merge as f32")
    })?;
    let columns = schema.fields().iter().map(|field| match field.name().as_str() {
        EMBEDDING => Arc::new(encoded.embedding.clone()) as ArrayRef,
        EMBEDDING_SCALE if let Some(scale) = &encoded.scale => Arc::new(scale.clone()),
        name => Arc::clone(batch.column_by_name(name).expect(CHECKED)),
    });
    let columns = columns.collect();
    Ok(RecordBatch::try_new(Arc::clone(schema), columns).expect("only the vectors changed, and as the schema says"))
}
