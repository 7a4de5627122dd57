//! PURE: a chunk of rows, checked against the promises of the output, as an Arrow batch.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_buffer::NullBuffer;
use arrow_schema::SchemaRef;
use spec::RowCounts;

use super::element::encode;
use super::error::VectorsError;
use super::info::FileInfo;
use super::{RowStatus, VectorChunk};

/// How far from 1 the L2 norm of a normalised vector may be, in any output type, rounding aside.
pub(super) const NORM_TOLERANCE: f64 = 1e-3;

/// Makes the Arrow batch of a chunk, or says which row breaks which promise. Rejected rows get a null vector, no tokens.
pub(super) fn encode_chunk(
    schema: &SchemaRef,
    info: &FileInfo,
    chunk: VectorChunk,
) -> Result<RecordBatch, VectorsError> {
    check_lengths(info, &chunk)?;
    let VectorChunk { first_row, kept, mut vectors, status, reused } = chunk;
    let dimensions = info.dimensions as usize;
    for (index, row) in status.iter().enumerate() {
        let vector = &mut vectors[index * dimensions..][..dimensions];
        match row.error {
            Some(_) => vector.fill(0.0),
            None if reused.as_ref().is_some_and(|reused| reused.has(index)) => {
                check_tokens(info, first_row + index as u64, row)?;
            }
            None => check_row(info, first_row + index as u64, row, vector)?,
        }
    }
    let first = i64::try_from(first_row).map_err(|_| VectorsError::bad_row(first_row, "row numbers end at 2^63-1"))?;
    let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(first..first + status.len() as i64))];
    columns.extend(kept.columns().iter().cloned());
    let nulls = NullBuffer::from_iter(status.iter().map(|row| row.error.is_none()));
    let encoded = encode(info.output_dtype, info.dimensions, vectors, Some(nulls)).map_err(|index| {
        let detail = "its vector does not fit into 16-bit floats; use --output-dtype f32";
        VectorsError::bad_row(first_row + index as u64, detail)
    })?;
    let encoded = match &reused {
        Some(reused) => reused.over(encoded).map_err(|error| VectorsError::bad_row(first_row, error.to_string()))?,
        None => encoded,
    };
    columns.push(Arc::new(encoded.embedding));
    columns.extend(encoded.scale.map(|scale| Arc::new(scale) as ArrayRef));
    let tokens = status.iter().map(|row| if row.error.is_some() { 0 } else { row.n_tokens });
    columns.push(Arc::new(Int32Array::from_iter_values(tokens)));
    columns
        .push(Arc::new(BooleanArray::from_iter(status.iter().map(|row| Some(row.truncated && row.error.is_none())))));
    columns.push(Arc::new(StringArray::from_iter(status.iter().map(|row| row.error.map(|reason| reason.code())))));
    RecordBatch::try_new(Arc::clone(schema), columns)
        .map_err(|error| VectorsError::bad_row(first_row, format!("kept columns do not fit their schema: {error}")))
}

/// Adds the counts of rows that were written.
pub(super) fn count(totals: &mut RowCounts, status: &[RowStatus]) {
    totals.rows += status.len() as u64;
    for row in status {
        match row.error {
            Some(reason) => *totals.rejects.entry(reason).or_default() += 1,
            None => {
                totals.truncated += u64::from(row.truncated);
                totals.tokens += u64::from(row.n_tokens.unsigned_abs());
            }
        }
    }
}

fn check_lengths(info: &FileInfo, chunk: &VectorChunk) -> Result<(), VectorsError> {
    let rows = chunk.status.len();
    let expected = rows * info.dimensions as usize;
    if chunk.kept.num_rows() != rows || chunk.vectors.len() != expected {
        let (kept, found) = (chunk.kept.num_rows(), chunk.vectors.len());
        let detail =
            format!("a chunk of {rows} rows has {kept} rows of kept columns and {found} numbers of {expected}");
        return Err(VectorsError::bad_row(chunk.first_row, detail));
    }
    Ok(())
}

fn check_tokens(info: &FileInfo, row: u64, status: &RowStatus) -> Result<(), VectorsError> {
    if status.n_tokens < 1 || status.n_tokens.unsigned_abs() > info.max_length {
        let detail = format!("it has {} tokens, expected 1 to {}", status.n_tokens, info.max_length);
        return Err(VectorsError::bad_row(row, detail));
    }
    Ok(())
}

fn check_row(info: &FileInfo, row: u64, status: &RowStatus, vector: &[f32]) -> Result<(), VectorsError> {
    check_tokens(info, row, status)?;
    let norm = norm(vector.iter().map(|value| f64::from(*value)));
    if !norm.is_finite() {
        return Err(VectorsError::bad_row(row, "its vector is not finite; it must be rejected as `non_finite`"));
    }
    if info.normalized && (norm - 1.0).abs() > NORM_TOLERANCE {
        return Err(VectorsError::bad_row(row, format!("its vector has norm {norm}, expected 1")));
    }
    Ok(())
}

/// Returns the L2 norm; not finite when any component is not.
pub(super) fn norm(components: impl Iterator<Item = f64>) -> f64 {
    components.map(|value| value * value).sum::<f64>().sqrt()
}
