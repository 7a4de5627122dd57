//! Places in the plane as a Parquet file: `row`, the kept columns, `x`, `y`.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use arrow_array::{ArrayRef, Float32Array, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use dataset::vectors::column_names::ROW;
use dataset::vectors::write_atomically;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use crate::exit::Advice;
use crate::points::Points;

/// Columns of the places.
pub(crate) const AXES: [&str; 2] = ["x", "y"];

/// Refuses kept columns that have the name of an axis, before any work.
pub(crate) fn check_columns(kept: &Schema) -> anyhow::Result<()> {
    match AXES.iter().find(|axis| kept.index_of(axis).is_ok()) {
        None => Ok(()),
        Some(axis) => Err(Advice::usage(format!("the vectors have a kept column `{axis}`, which --coords writes too"))
            .hint("leave out --coords, or embed again with the column left out of --keep")
            .into()),
    }
}

/// Writes the places of the points. `facts` go into the footer.
pub(crate) fn write(
    path: &Path,
    points: &Points,
    places: &[[f32; 2]],
    facts: Vec<(String, String)>,
) -> anyhow::Result<()> {
    let mut fields = vec![Arc::new(Field::new(ROW, DataType::Int64, false))];
    fields.extend(points.kept.schema().fields().iter().cloned());
    fields.extend(AXES.map(|axis| Arc::new(Field::new(axis, DataType::Float32, false))));
    let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(points.rows.clone()))];
    columns.extend(points.kept.columns().iter().cloned());
    for axis in 0..AXES.len() {
        columns.push(Arc::new(places.iter().map(|place| Some(place[axis])).collect::<Float32Array>()));
    }
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    let facts = facts.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_key_value_metadata(Some(facts))
        .build();
    let what = || format!("cannot encode `{}`", path.display());
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties)).with_context(what)?;
    writer.write(&batch).with_context(what)?;
    write_atomically(path, &writer.into_inner().with_context(what)?)?;
    Ok(())
}
