//! Vectors, places and labels of files that other programs made, or that a program has changed on purpose.

use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow_cast::cast;
use arrow_schema::DataType;

use crate::exit::Advice;

mod labels;
mod npy;
mod places;
mod vectors;

pub(crate) use labels::LabelFile;
pub(crate) use places::{Places, open_places};
pub(crate) use vectors::load as load_vectors;

/// The column of row numbers, which files of places and labels are joined by.
pub(crate) const ROW: &str = dataset::vectors::column_names::ROW;

/// Returns the row numbers of a batch: whole numbers of a column of that name, none missing, or else their order after the
/// `before` rows of earlier batches.
fn row_numbers(path: &Path, batch: &RecordBatch, before: usize) -> anyhow::Result<Vec<i64>> {
    let Some(column) = batch.column_by_name(ROW) else {
        return Ok((before..before + batch.num_rows()).map(|row| row as i64).collect());
    };
    let refused = |what: String| {
        let shown = path.display();
        Advice::usage(format!("`{shown}`: column `{ROW}` {what}"))
            .hint("it says which row of the corpus each row is: give it whole numbers, or another name")
    };
    let numbers = whole_numbers(column).ok_or_else(|| refused(format!("holds {}", column.data_type())))?;
    match (0..numbers.len()).find(|&index| numbers.is_null(index)) {
        Some(index) => Err(refused(format!("has no whole number in row {index}")).into()),
        None => Ok(numbers.values().to_vec()),
    }
}

/// Returns the values of a column of numbers; null where one is not whole. `None` for a column of another type.
fn whole_numbers(column: &ArrayRef) -> Option<Int64Array> {
    if !column.data_type().is_numeric() {
        return None;
    }
    let whole = cast(column, &DataType::Int64).ok()?;
    if !column.data_type().is_floating() {
        return Some(whole.as_primitive::<Int64Type>().clone());
    }
    let (given, whole) = (cast(column, &DataType::Float64).ok()?, whole.as_primitive::<Int64Type>());
    let given = given.as_primitive::<Float64Type>();
    let is_same = |index: usize| {
        given.is_valid(index) && whole.is_valid(index) && given.value(index) == whole.value(index) as f64
    };
    Some((0..whole.len()).map(|index| is_same(index).then(|| whole.value(index))).collect())
}
