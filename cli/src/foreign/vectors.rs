//! Vectors that another program made: a column of a Parquet file with its other columns, or a matrix of `NumPy`.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow_cast::cast;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use arrow_select::filter::filter_record_batch;
use dataset::vectors::column_names::{EMBEDDING, EMBEDDING_SCALE, ERROR, N_TOKENS, TRUNCATED};
use dataset::vectors::{ParquetTable, place};

use super::{ROW, npy, row_numbers};
use crate::exit::Advice;
use crate::points::Points;
use crate::ui::{self, Amount, Ui};

/// Loads vectors: a `.npy` matrix, or a column of a Parquet file. `column` names it where there are several.
///
/// # Errors
/// The file cannot be read, or has no vectors of floating-point numbers of one length.
pub(crate) fn load(ui: &Ui, path: &Path, column: Option<&str>) -> anyhow::Result<Points> {
    let points = match (place::has_extension(path, "npy"), column) {
        (true, Some(_)) => {
            let what = format!("--vectors-column: `{}` is a matrix, and has no columns", path.display());
            return Err(Advice::usage(what).into());
        }
        (true, None) => of_npy(path)?,
        (false, column) => of_parquet(ui, path, column)?,
    };
    if points.len() == 0 || points.dim == 0 {
        return Err(Advice::failed(format!("`{}` has no vectors to draw", path.display())).into());
    }
    if points.rejected > 0 {
        ui.note(format!("left out: {} without a vector", ui::counted(points.rejected, "row")));
    }
    Ok(points)
}

fn of_npy(path: &Path) -> anyhow::Result<Points> {
    let npy::Matrix { rows, width, values } = npy::read(path)?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let kept = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)?;
    Ok(Points { vectors: values, dim: width, rows: (0..rows as i64).collect(), kept, ..Points::named(path) })
}

fn of_parquet(ui: &Ui, path: &Path, column: Option<&str>) -> anyhow::Result<Points> {
    let table = ParquetTable::open(path)?;
    let schema = Arc::clone(table.schema());
    let column = column_of(path, &schema, column)?;
    let others = others_of(&schema, column);
    let (total, mut progress) = (table.rows(), ui.progress("reading", Amount::default()));
    let mut points = Points::named(path);
    let (mut kept, mut read) = (Vec::new(), 0);
    for batch in table {
        let batch = batch?;
        let has_vector = append(&mut points, batch.column(column), read)
            .with_context(|| format!("cannot use `{}`, column `{}`", path.display(), schema.field(column).name()))?;
        let numbers = row_numbers(path, &batch, read)?;
        let some = numbers.iter().zip(has_vector.iter()).filter(|(_, has)| *has == Some(true));
        points.rows.extend(some.map(|(number, _)| *number));
        kept.push(filter_record_batch(&batch.project(&others)?, &has_vector)?);
        read += batch.num_rows();
        progress.update(Amount { rows: read as u64, tokens: 0 }, total, Some(total));
    }
    progress.finish();
    let schema = Arc::new(schema.project(&others)?);
    points.kept = concat_batches(&schema, &kept)
        .with_context(|| format!("the columns of `{}` do not fit into memory at once", path.display()))?;
    Ok(points)
}

/// Chooses the column of vectors.
fn column_of(path: &Path, schema: &SchemaRef, named: Option<&str>) -> anyhow::Result<usize> {
    let fields = schema.fields();
    let candidates: Vec<usize> = (0..fields.len()).filter(|&index| is_vector(fields[index].data_type())).collect();
    let names = |indices: &[usize]| {
        indices.iter().map(|&index| format!("`{}`", fields[index].name())).collect::<Vec<_>>().join(", ")
    };
    let shown = path.display();
    if let Some(name) = named {
        return match schema.index_of(name) {
            Ok(index) if candidates.contains(&index) => Ok(index),
            Ok(index) => {
                let what =
                    format!("--vectors-column: column `{name}` of `{shown}` holds {}", fields[index].data_type());
                Err(Advice::usage(what).hint("vectors are lists of floating-point numbers").into())
            }
            Err(_) => {
                let what = format!("--vectors-column: `{shown}` has no column `{name}`");
                let hint = match candidates.len() {
                    0 => "it has no column of lists of floating-point numbers".to_owned(),
                    _ => format!("it has {}", names(&candidates)),
                };
                Err(Advice::usage(what).hint(hint).into())
            }
        };
    }
    let ours = candidates.iter().find(|&&index| fields[index].name() == EMBEDDING);
    match (ours, candidates.as_slice()) {
        (Some(&index), _) | (None, &[index]) => Ok(index),
        (None, []) => {
            let what = format!("`{shown}` has no column of vectors: lists of floating-point numbers");
            Err(Advice::usage(what)
                .hint(format!("its columns are: {}", names(&(0..fields.len()).collect::<Vec<_>>())))
                .into())
        }
        (None, several) => {
            let what = format!("`{shown}` has several columns of vectors: {}", names(several));
            Err(Advice::usage(what).hint("name the one to draw: --vectors-column NAME").into())
        }
    }
}

fn is_vector(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            item.data_type().is_floating()
        }
        _ => false,
    }
}

/// The columns that are shown: all but the vectors, and what a file of ours has beside them.
fn others_of(schema: &SchemaRef, column: usize) -> Vec<usize> {
    let ours = [EMBEDDING_SCALE, N_TOKENS, TRUNCATED, ERROR];
    let is_of_ours = schema.index_of(ROW).is_ok() && schema.index_of(N_TOKENS).is_ok();
    let is_left_out = |field: &Field| {
        let name = field.name().as_str();
        is_vector(field.data_type()) || name == ROW || (is_of_ours && ours.contains(&name))
    };
    (0..schema.fields().len()).filter(|&index| index != column && !is_left_out(schema.field(index))).collect()
}

/// Appends the vectors of a batch, and tells which rows have one.
fn append(points: &mut Points, column: &ArrayRef, before: usize) -> anyhow::Result<BooleanArray> {
    let item = Arc::new(Field::new_list_field(DataType::Float32, true));
    let lists = cast(column, &DataType::LargeList(item)).context("its lists cannot be read")?;
    let lists = lists.as_list::<i64>();
    let mut has_vector = Vec::with_capacity(lists.len());
    for index in 0..lists.len() {
        let is_there = lists.is_valid(index);
        has_vector.push(is_there);
        if !is_there {
            points.rejected += 1;
            continue;
        }
        let vector = lists.value(index);
        let row = before + index;
        anyhow::ensure!(vector.null_count() == 0, "the vector of row {row} has a null");
        if points.dim == 0 {
            points.dim = vector.len();
        }
        let (length, first) = (vector.len(), points.dim);
        anyhow::ensure!(length == first, "the vector of row {row} has {length} numbers, those before it {first}");
        points.vectors.extend_from_slice(vector.as_primitive::<Float32Type>().values());
    }
    Ok(BooleanArray::from(has_vector))
}
