//! Places in the plane as a Parquet file: `row`, the kept columns, `x`, `y`.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StructArray};
use arrow_cast::cast;
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema};
use atlas::umap::Neighbors;
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
/// Column of the nearest neighbours, where they are asked for.
pub(crate) const NEIGHBORS: &str = "neighbors";

/// The key of the model in the footer.
pub(crate) const MODEL_KEY: &str = "encaje.model";
/// What the footer says of UMAP: a name for people, and the key.
pub(crate) const UMAP_KEYS: [(&str, &str); 4] = [
    ("neighbors", "encaje.umap.neighbors"),
    ("min. distance", "encaje.umap.min_dist"),
    ("metric", "encaje.umap.metric"),
    ("seed", "encaje.umap.seed"),
];

/// Refuses kept columns that have the name of one that is written, before any work.
pub(crate) fn check_columns(kept: &Schema, with_neighbors: bool) -> anyhow::Result<()> {
    let written = AXES.iter().chain(with_neighbors.then_some(&NEIGHBORS));
    match written.into_iter().find(|name| kept.index_of(name).is_ok()) {
        None => Ok(()),
        Some(name) => Err(Advice::usage(format!("the vectors have a kept column `{name}`, which --coords writes too"))
            .hint("leave out --coords, or embed again with the column left out of --keep")
            .into()),
    }
}

/// Writes the places of the points, and their nearest neighbours where they are given. `facts` go into the footer.
pub(crate) fn write(
    path: &Path,
    points: &Points,
    places: &[[f32; 2]],
    near: Option<&Neighbors>,
    facts: Vec<(&str, String)>,
) -> anyhow::Result<()> {
    let mut fields = vec![Arc::new(Field::new(ROW, DataType::Int64, false))];
    fields.extend(points.kept.schema().fields().iter().cloned());
    fields.extend(AXES.map(|axis| Arc::new(Field::new(axis, DataType::Float32, false))));
    let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(points.rows.clone()))];
    columns.extend(points.kept.columns().iter().cloned());
    for axis in 0..AXES.len() {
        columns.push(Arc::new(places.iter().map(|place| Some(place[axis])).collect::<Float32Array>()));
    }
    if let Some(near) = near {
        let column = neighbors_column(near)?;
        fields.push(Arc::new(Field::new(NEIGHBORS, column.data_type().clone(), false)));
        columns.push(column);
    }
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    let facts = facts.into_iter().map(|(key, value)| KeyValue::new(key.to_owned(), value)).collect();
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

/// Lays neighbours out as embedding-atlas reads them: positions in the file, the point itself first, and their distances.
fn neighbors_column(near: &Neighbors) -> anyhow::Result<ArrayRef> {
    let k = i32::try_from(near.k).context("too many neighbours")?;
    let list = |name: &str, values: ArrayRef| -> anyhow::Result<(FieldRef, ArrayRef)> {
        let item = Arc::new(Field::new_list_field(values.data_type().clone(), true));
        let lists: ArrayRef = Arc::new(FixedSizeListArray::try_new(Arc::clone(&item), k, values, None)?);
        // Lists of any length, as Python's writers make them.
        let lists = cast(&lists, &DataType::List(item))?;
        Ok((Arc::new(Field::new(name, lists.data_type().clone(), true)), lists))
    };
    let ids = near.ids.iter().map(|id| Some(i64::from(*id))).collect::<Int64Array>();
    let (fields, columns): (Vec<_>, Vec<_>) =
        [list("distances", Arc::new(Float32Array::from(near.distances.clone())))?, list("ids", Arc::new(ids))?]
            .into_iter()
            .unzip();
    Ok(Arc::new(StructArray::try_new(Fields::from(fields), columns, None)?))
}
