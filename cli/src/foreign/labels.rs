//! Columns of another file, joined to the points by a key: clusters and other labels that were made elsewhere.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow_schema::{Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use dataset::vectors::column_names::OUTPUT_COLUMNS;
use dataset::vectors::{ParquetTable, place};
use dataset::{DatasetError, Keep, ReadOptions, column_names, records};

use super::{ROW, whole_numbers};
use crate::column_text::to_strings;
use crate::exit::Advice;
use crate::points::Points;
use crate::ui::{self, Ui};

/// A file of labels.
pub(crate) struct LabelFile {
    path: PathBuf,
    key: String,
    /// The key of each row.
    keys: Vec<Option<String>>,
    /// The other columns.
    columns: RecordBatch,
}

impl LabelFile {
    /// Reads a Parquet file, or a file of any other format of a corpus. `key` is the column to join by: `row`, or one that the points
    /// kept too.
    ///
    /// # Errors
    /// The file cannot be read, or has no such column.
    pub(crate) fn read(path: &Path, key: &str) -> anyhow::Result<Self> {
        if place::size_of(path)?.is_none() {
            return Err(Advice::usage(format!("--labels: there is no file `{}`", path.display())).into());
        }
        let is_parquet = place::has_extension(path, "parquet");
        let (keys, columns) = if is_parquet { read_parquet(path, key)? } else { read_records(path, key)? };
        Ok(Self { path: path.to_owned(), key: key.to_owned(), keys, columns })
    }

    /// Returns the columns beside the key.
    pub(crate) fn schema(&self) -> SchemaRef {
        self.columns.schema()
    }

    /// Adds the columns to those of the points.
    ///
    /// # Errors
    /// A key is in the file twice, none is that of a point, or the points have a column of that name.
    pub(crate) fn join(&self, ui: &Ui, points: &mut Points) -> anyhow::Result<()> {
        let (shown, key, keys) = (self.path.display(), self.key.as_str(), &self.keys);
        let mut found = HashMap::new();
        for (index, value) in keys.iter().enumerate() {
            let Some(value) = value else { continue };
            if let Some(first) = found.insert(value.as_str(), index as u32) {
                let what = format!("--labels: `{shown}` has `{key}` {value} in its rows {first} and {index}");
                return Err(Advice::usage(what).hint("a key may be there once").into());
            }
        }
        let own: Vec<Option<String>> = match key {
            ROW => points.rows.iter().map(|row| Some(row.to_string())).collect(),
            key => points.column(key).with_context(|| {
                Advice::usage(format!("--labels-by `{key}` is no kept column of the vectors"))
                    .hint("join by `row`, or by a column that `encaje run --keep` kept")
            })?,
        };
        let places: UInt32Array =
            own.iter().map(|value| value.as_ref().and_then(|value| found.get(value.as_str()).copied())).collect();
        let joined = places.iter().flatten().count();
        if joined == 0 {
            let example = |values: &[Option<String>]| values.iter().flatten().next().cloned().unwrap_or_default();
            let (mine, theirs) = (example(&own), example(keys));
            let what = format!("--labels: no `{key}` of `{shown}` is that of a point");
            return Err(Advice::usage(what)
                .hint(format!("points have such as `{mine}`, the file such as `{theirs}`"))
                .into());
        }
        let lacking = own.len() - joined;
        if lacking > 0 {
            ui.note(format!("--labels: {} without labels in `{shown}`", ui::counted(lacking as u64, "point")));
        }
        add(points, &take_record_batch(&self.columns, &places)?)
    }
}

fn add(points: &mut Points, table: &RecordBatch) -> anyhow::Result<()> {
    let mut fields: Vec<_> = points.kept.schema().fields().iter().cloned().collect();
    let mut columns = points.kept.columns().to_vec();
    for (field, column) in table.schema().fields().iter().zip(table.columns()) {
        let name = field.name();
        if points.kept.column_by_name(name).is_some() {
            let what = format!("--labels: the vectors have a kept column `{name}` already");
            return Err(Advice::usage(what).hint("give the column of the file another name").into());
        }
        fields.push(Arc::new(field.as_ref().clone().with_nullable(true)));
        columns.push(Arc::clone(column));
    }
    let rows = arrow_array::RecordBatchOptions::new().with_row_count(Some(points.rows.len()));
    points.kept = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &rows)?;
    Ok(())
}

type KeyedColumns = (Vec<Option<String>>, RecordBatch);

fn read_parquet(path: &Path, key: &str) -> anyhow::Result<KeyedColumns> {
    let table = ParquetTable::open(path)?;
    let schema = Arc::clone(table.schema());
    let Ok(index) = schema.index_of(key) else {
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let what = format!("--labels: `{}` has no column `{key}` to join by", path.display());
        let hint = format!("name one of its columns with --labels-by: {}", names.join(", "));
        return Err(Advice::usage(what).hint(hint).into());
    };
    let mut columns = whole(path, &schema, table.collect::<Result<Vec<_>, _>>()?)?;
    let keys = spelled(&columns.remove_column(index));
    // Points have row numbers of their own.
    if let Ok(index) = columns.schema().index_of(ROW) {
        columns.remove_column(index);
    }
    Ok((keys, columns))
}

fn read_records(path: &Path, key: &str) -> anyhow::Result<KeyedColumns> {
    let pattern = path.to_str().with_context(|| format!("the path `{}` is not UTF-8", path.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    // As spreadsheets of many countries write it.
    let delimiters = [None, Some(';'), Some('\t')];
    let mut first_error = None;
    for delimiter in delimiters {
        let options =
            ReadOptions { text_column: key.to_owned(), keep: Keep::None, delimiter, ..ReadOptions::default() };
        match runtime.block_on(read_all(pattern, options)) {
            Ok(read) => return columns_of(path, key, read),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    let what = format!("--labels: `{}` cannot be joined by its column `{key}`", path.display());
    let advice = Advice::usage(what)
        .hint("it is a CSV or JSON file in UTF-8 with that column, or Parquet; --labels-by names another column");
    let reason = first_error.map(|error| reason_of(&error)).unwrap_or_default();
    Err(advice.hint(reason).into())
}

/// What is wrong with a file, without the option of other commands that names the column.
fn reason_of(error: &DatasetError) -> String {
    match error {
        DatasetError::TextColumnMissing { found, .. } => format!("its columns are: {}", found.join(", ")),
        error => common::error_chain(error),
    }
}

/// Keys, batches of the other columns, and the names of those that cannot be read.
type Read = (Vec<Option<String>>, Vec<RecordBatch>, Vec<String>);

async fn read_all(pattern: &str, options: ReadOptions) -> Result<Read, DatasetError> {
    let sources = dataset::expand(&[pattern.to_owned()], None).await?;
    let names = match sources.first() {
        Some(source) => column_names(source, &options).await?,
        None => Vec::new(),
    };
    // What has the name of a column of ours, such as `row`, cannot be kept; the key is read as a text.
    let is_ours = |name: &String| OUTPUT_COLUMNS.contains(&name.as_str());
    let (ours, others): (Vec<_>, Vec<_>) = names.into_iter().partition(is_ours);
    let left_out = ours.into_iter().filter(|name| *name != options.text_column && name != ROW).collect();
    let mut records = records(&sources, &ReadOptions { keep: Keep::Columns(others), ..options }).await?;
    let (mut keys, mut batches) = (Vec::new(), Vec::new());
    while let Some(chunk) = records.next_chunk().await? {
        keys.extend(chunk.texts.into_iter().map(Result::ok));
        batches.push(chunk.kept);
    }
    Ok((keys, batches, left_out))
}

fn columns_of(path: &Path, key: &str, (keys, batches, left_out): Read) -> anyhow::Result<KeyedColumns> {
    if let Some(name) = left_out.first() {
        let what =
            format!("--labels: `{}` has a column `{name}`, which is the name of one of an output", path.display());
        return Err(Advice::usage(what).hint("give it another name, or leave it out").into());
    }
    let schema = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
    let mut columns = whole(path, &schema, batches)?;
    let keys = match schema.index_of(key) {
        Ok(index) => spelled(&columns.remove_column(index)),
        Err(_) => keys,
    };
    Ok((keys, columns))
}

/// Returns keys as text. Python makes floating-point numbers of whole ones where some are missing.
fn spelled(column: &ArrayRef) -> Vec<Option<String>> {
    match whole_numbers(column).filter(|whole| whole.null_count() == column.null_count()) {
        Some(whole) => whole.iter().map(|number| number.map(|number| number.to_string())).collect(),
        None => to_strings(column),
    }
}

fn whole(path: &Path, schema: &SchemaRef, batches: Vec<RecordBatch>) -> anyhow::Result<RecordBatch> {
    concat_batches(schema, &batches).with_context(|| format!("`{}` does not fit into memory at once", path.display()))
}
