//! Reads what the program made.

use std::collections::BTreeMap;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use dataset::vectors::column_names::OUTPUT_COLUMNS;
use dataset::vectors::{Projection, Vectors};
use dataset::{FileInfo, VectorSet};

/// One output row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) row: i64,
    pub(crate) embedding: Option<Vec<f32>>,
    pub(crate) n_tokens: i32,
    pub(crate) truncated: bool,
    pub(crate) error: Option<String>,
    /// The kept text columns.
    pub(crate) kept: BTreeMap<String, Option<String>>,
}

/// Reads a directory of parts or one file.
pub(crate) fn rows(target: &Path) -> Vec<Row> {
    let set = VectorSet::open(target).unwrap();
    let mut rows = Vec::new();
    for batch in set.batches(&Projection::All, 1024) {
        append(&mut rows, &batch.unwrap(), set.info());
    }
    rows
}

fn append(rows: &mut Vec<Row>, batch: &RecordBatch, info: &FileInfo) {
    let column = |name: &str| batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"));
    let numbers = column("row").as_primitive::<Int64Type>();
    let vectors = Vectors::of(batch, info);
    let tokens = column("n_tokens").as_primitive::<Int32Type>();
    let truncated = column("truncated").as_boolean();
    let errors = column("error").as_string::<i32>();
    for index in 0..batch.num_rows() {
        let embedding = vectors.has(index).then(|| {
            let mut floats = Vec::new();
            vectors.append(index, &mut floats);
            floats
        });
        rows.push(Row {
            row: numbers.value(index),
            embedding,
            n_tokens: tokens.value(index),
            truncated: truncated.value(index),
            error: errors.is_valid(index).then(|| errors.value(index).to_owned()),
            kept: kept(batch, index),
        });
    }
}

fn kept(batch: &RecordBatch, index: usize) -> BTreeMap<String, Option<String>> {
    let schema = batch.schema();
    let names = schema.fields().iter().map(|field| field.name().clone());
    let names = names.filter(|name| !OUTPUT_COLUMNS.contains(&name.as_str()));
    names
        .map(|name| {
            let column = batch.column_by_name(&name).unwrap();
            let text = column.as_string_opt::<i32>().map_or_else(
                || arrow_cast::display::array_value_to_string(column, index).unwrap(),
                |texts| texts.value(index).to_owned(),
            );
            (name, column.is_valid(index).then_some(text))
        })
        .collect()
}

/// Checks that two outputs have the same rows; vectors may differ by the last bits that another batch costs.
pub(crate) fn assert_same(actual: &[Row], expected: &[Row]) {
    assert_eq!(actual.len(), expected.len(), "as many rows");
    for (actual, expected) in actual.iter().zip(expected) {
        let bare = |row: &Row| Row { embedding: None, ..row.clone() };
        assert_eq!(bare(actual), bare(expected));
        match (&actual.embedding, &expected.embedding) {
            (Some(actual), Some(expected)) => assert_close(actual, expected),
            (None, None) => {}
            _ => panic!("row {} has a vector in one output only", actual.row),
        }
    }
}

/// Checks two vectors against the bound that the engine promises for a row in any batch.
pub(crate) fn assert_close(actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len());
    let worst = actual.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= 1e-5, "vectors differ by {worst}");
}
