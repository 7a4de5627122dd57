//! Places in the plane, read back from a file that `--coords` wrote or another program made.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_cast::cast;
use arrow_schema::{DataType, SchemaRef};
use arrow_select::concat::concat_batches;
use dataset::vectors::ParquetTable;
use dataset::vectors::place;

use super::{ROW, row_numbers};
use crate::coords::{AXES, MODEL_KEY, NEIGHBORS, UMAP_KEYS};
use crate::exit::Advice;
use crate::points::Points;

/// Points with the places that they had.
pub(crate) struct Places {
    /// The points, without vectors.
    pub(crate) points: Points,
    /// The place of each.
    pub(crate) places: Vec<[f32; 2]>,
    /// What the file says of how the places were made: a name, its key in the footer, and the value.
    pub(crate) facts: Vec<(&'static str, &'static str, String)>,
}

/// Opens a Parquet file of places: it has `x` and `y`, and no vectors. `None` for any other file.
pub(crate) fn open_places(path: &Path) -> Option<ParquetTable> {
    let is_parquet = place::has_extension(path, "parquet") && !place::is_folder(path);
    let table = if is_parquet { ParquetTable::open(path).ok()? } else { return None };
    has_axes(table.schema()).then_some(table)
}

fn has_axes(schema: &SchemaRef) -> bool {
    let is_number = |axis: &str| schema.field_with_name(axis).is_ok_and(|field| field.data_type().is_numeric());
    AXES.iter().all(|axis| is_number(axis)) && schema.index_of(dataset::vectors::column_names::EMBEDDING).is_err()
}

impl Places {
    /// Reads a file of places, opened by [`open_places`].
    ///
    /// # Errors
    /// It cannot be read, has no points, or a place that is not finite.
    pub(crate) fn load(path: &Path, table: ParquetTable) -> anyhow::Result<Self> {
        let schema = Arc::clone(table.schema());
        let fact = |key: &str| table.footer_value(key).map(str::to_owned);
        let model = fact(MODEL_KEY);
        let facts = UMAP_KEYS.iter().filter_map(|(name, key)| Some((*name, *key, fact(key)?))).collect();
        let batches = table.collect::<Result<Vec<_>, _>>()?;
        let whole = concat_batches(&schema, &batches)
            .with_context(|| format!("the columns of `{}` do not fit into memory at once", path.display()))?;
        let axis = |name: &str| -> anyhow::Result<Vec<f32>> {
            let column = cast(&whole.columns()[schema.index_of(name)?], &DataType::Float32)?;
            let values = column.as_primitive::<Float32Type>();
            let bad = (0..values.len()).find(|&index| values.is_null(index) || !values.value(index).is_finite());
            match bad {
                Some(index) => {
                    let what = format!("`{}`: row {index} has no finite `{name}`", path.display());
                    Err(Advice::failed(what).hint("leave such rows out of the file").into())
                }
                None => Ok(values.values().to_vec()),
            }
        };
        let (x, y) = (axis(AXES[0])?, axis(AXES[1])?);
        if x.is_empty() {
            return Err(Advice::failed(format!("`{}` has no rows, so there is nothing to draw", path.display())).into());
        }
        let places = x.into_iter().zip(y).map(|(x, y)| [x, y]).collect();
        let rows = row_numbers(path, &whole, 0)?;
        let is_shown = |name: &str| name != ROW && name != NEIGHBORS && !AXES.contains(&name);
        let shown: Vec<usize> =
            (0..schema.fields().len()).filter(|&index| is_shown(schema.field(index).name())).collect();
        let mut points = Points { rows, kept: whole.project(&shown)?, ..Points::named(path) };
        if let Some(model) = model {
            points.name = model;
        }
        Ok(Self { points, places, facts })
    }
}
