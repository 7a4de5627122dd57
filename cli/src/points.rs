//! The vectors of an output with what its rows say about themselves: read as a stream into one matrix.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{BooleanArray, RecordBatch};
use arrow_schema::Schema;
use arrow_select::concat::concat_batches;
use arrow_select::filter::{filter, filter_record_batch};
use atlas::plot::{HoverColumn, Labels};
use dataset::vectors::column_names::{N_TOKENS, ROW, TRUNCATED};
use dataset::vectors::{BATCH_ROWS, Projection, Vectors};
use dataset::{FileInfo, VectorSet};

use crate::args::LabelTypeArg;
use crate::column_text::to_strings;
use crate::exit::Advice;
use crate::summary::note_missing;
use crate::ui::{self, Amount, Ui};

/// The column that is taken for the text where there is one of this name.
const TEXT: &str = "text";

/// The rows of an output that have a vector, in order.
#[derive(Debug)]
pub(crate) struct Points {
    /// One vector after the other, `dim` numbers each.
    pub(crate) vectors: Vec<f32>,
    /// Numbers per vector.
    pub(crate) dim: usize,
    /// The row number of each, over the whole corpus.
    pub(crate) rows: Vec<i64>,
    /// The kept input columns.
    pub(crate) kept: RecordBatch,
    /// Rows without a vector, left out.
    pub(crate) rejected: u64,
    /// Rows of the corpus that the output does not have.
    pub(crate) missing: u64,
    /// Rows whose text was cut, among those that have a vector.
    pub(crate) truncated: u64,
    /// Tokens fed to the model for these rows.
    pub(crate) tokens: u64,
    /// What they are called: the model as it was asked for, or the file of another program.
    pub(crate) name: String,
    /// How the vectors were made, where they are of ours.
    pub(crate) info: Option<FileInfo>,
}

impl Points {
    /// Returns the number of rows that have a vector.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Makes a set without points, called as its file.
    pub(crate) fn named(path: &Path) -> Self {
        Self {
            vectors: Vec::new(),
            dim: 0,
            rows: Vec::new(),
            kept: RecordBatch::new_empty(Arc::new(Schema::empty())),
            rejected: 0,
            missing: 0,
            truncated: 0,
            tokens: 0,
            name: path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
            info: None,
        }
    }

    /// Drops the points that are not `kept`. Counts stay as they are.
    pub(crate) fn retain(&mut self, kept: &[bool]) -> anyhow::Result<()> {
        if kept.iter().all(|&kept| kept) {
            return Ok(());
        }
        let mut end = 0;
        for (point, _) in kept.iter().enumerate().filter(|(_, kept)| **kept) {
            self.vectors.copy_within(point * self.dim..(point + 1) * self.dim, end * self.dim);
            self.rows[end] = self.rows[point];
            end += 1;
        }
        self.vectors.truncate(end * self.dim);
        self.rows.truncate(end);
        self.kept = filter_record_batch(&self.kept, &BooleanArray::from(kept.to_vec()))?;
        Ok(())
    }

    /// Returns the values of a kept column as text; `None` for a null.
    pub(crate) fn column(&self, name: &str) -> anyhow::Result<Vec<Option<String>>> {
        let Some(column) = self.kept.column_by_name(name) else {
            return Err(Advice::usage(format!("there is no kept column `{name}`")).into());
        };
        Ok(to_strings(column))
    }

    /// Returns the meaning of the colours by a kept column.
    ///
    /// # Errors
    /// There is no such column, or it holds other values than numbers where `label_type` is a number.
    pub(crate) fn labels(&self, name: &str, label_type: LabelTypeArg) -> anyhow::Result<Labels> {
        let values = self.column(name)?;
        match label_type {
            LabelTypeArg::Auto => Ok(Labels::of_column(name, &values)),
            LabelTypeArg::Category => Ok(Labels::categories_of(name, &values)),
            LabelTypeArg::Number => Labels::numbers_of(name, &values).map_err(|row| {
                let value = values[row].clone().unwrap_or_default();
                let row = self.rows[row];
                Advice::usage(format!("--label-type number: column `{name}` holds `{value}` in row {row}, no number"))
                    .hint("use --label-type category")
                    .into()
            }),
        }
    }

    /// Returns the columns that a point shows on hover: the text, the other kept columns, the row number.
    pub(crate) fn hover(&self) -> anyhow::Result<Vec<HoverColumn>> {
        let schema = self.kept.schema();
        let mut columns = Vec::new();
        for field in schema.fields() {
            let values = self.column(field.name())?.into_iter().map(Option::unwrap_or_default).collect();
            columns.push(HoverColumn { name: field.name().clone(), values });
        }
        // The text is the column of that name, or else the one with most to read.
        let length = |column: &HoverColumn| column.values.iter().map(String::len).sum::<usize>();
        let text = columns.iter().position(|column| column.name == TEXT);
        let text = text.or_else(|| (0..columns.len()).max_by_key(|&index| length(&columns[index])));
        if let Some(index) = text {
            columns[..=index].rotate_right(1);
        }
        let rows = self.rows.iter().map(i64::to_string).collect();
        columns.push(HoverColumn { name: dataset::vectors::column_names::ROW.to_owned(), values: rows });
        Ok(columns)
    }
}

/// Refuses a label that is none of the columns.
pub(crate) fn check_label<'a>(
    label: &str,
    target: &Path,
    schemas: impl IntoIterator<Item = &'a Schema>,
) -> Result<(), Advice> {
    let columns: Vec<&str> =
        schemas.into_iter().flat_map(|schema| schema.fields()).map(|field| field.name().as_str()).collect();
    if columns.contains(&label) {
        return Ok(());
    }
    let hint = match columns.len() {
        0 => "it has none at all: `encaje run --keep` chooses them, and `project --labels` adds more".to_owned(),
        _ => format!("its kept columns are: {}", columns.join(", ")),
    };
    Err(Advice::usage(format!("--label: `{}` has no kept column `{label}`", target.display())).hint(hint))
}

/// Loads the vectors of an output, with a display of progress. Refuses an output without any.
pub(crate) fn load(ui: &Ui, target: &Path) -> anyhow::Result<Points> {
    let mut progress = ui.progress("reading", Amount::default());
    let points = read(target, &mut |rows, total| {
        progress.update(Amount { rows, tokens: 0 }, total, Some(total));
    })?;
    progress.finish();
    if points.len() == 0 {
        let (shown, rejected) = (target.display(), ui::counted(points.rejected, "row"));
        let advice = match points.rejected {
            0 => Advice::failed(format!("`{shown}` has no rows, so there is nothing to draw")),
            _ => Advice::failed(format!("`{shown}` has no vectors to draw ({rejected}, all rejected)"))
                .hint("`encaje verify` says what the reasons are"),
        };
        return Err(advice.into());
    }
    note_missing(ui, points.missing);
    if points.rejected > 0 {
        ui.note(format!("left out: {} without a vector", ui::counted(points.rejected, "row")));
    }
    Ok(points)
}

/// Loads the output directory of a finished run, or a merged file. Rows without a vector are left out and counted.
/// `progress` gets the rows read and the total.
fn read(target: &Path, progress: &mut dyn FnMut(u64, u64)) -> anyhow::Result<Points> {
    let set = VectorSet::open(target)?;
    let dim = usize::try_from(set.info().dimensions).context("the vectors have too many dimensions")?;
    let total = set.rows();
    let expected = usize::try_from(total).unwrap_or(usize::MAX);
    let mut vectors = Vec::new();
    let numbers = expected.saturating_mul(dim);
    vectors.try_reserve_exact(numbers).map_err(|_| {
        Advice::failed(format!("{total} vectors of {dim} dimensions do not fit into memory at once"))
            .hint("embed fewer rows, or fewer dimensions (`run --dimensions N`) where the model allows it")
    })?;
    let mut points = Points {
        vectors,
        dim,
        rows: Vec::new(),
        kept: RecordBatch::new_empty(set.kept_schema().clone().into()),
        rejected: 0,
        missing: set.missing(),
        truncated: 0,
        tokens: 0,
        name: set.info().model.clone(),
        info: Some(set.info().clone()),
    };
    let mut kept = Vec::new();
    let mut read = 0;
    for batch in set.batches(&Projection::All, BATCH_ROWS) {
        let batch = batch?;
        read += batch.num_rows() as u64;
        kept.push(append(&mut points, set.info(), &batch)?);
        progress(read, total);
    }
    points.kept = concat_batches(&points.kept.schema(), &kept)
        .with_context(|| format!("the kept columns of `{}` do not fit into memory at once", target.display()))?;
    Ok(points)
}

/// Takes the rows of a batch that have a vector, and returns their kept columns.
fn append(points: &mut Points, info: &FileInfo, batch: &RecordBatch) -> anyhow::Result<RecordBatch> {
    const CHECKED: &str = "the reader checked the columns and their types";
    let column = |name: &str| batch.column_by_name(name).expect(CHECKED);
    let vectors = Vectors::of(batch, info);
    let has_vector: Vec<bool> = (0..vectors.len()).map(|row| vectors.has(row)).collect();
    points.rejected += has_vector.iter().filter(|has| !**has).count() as u64;
    for row in (0..vectors.len()).filter(|&row| has_vector[row]) {
        vectors.append(row, &mut points.vectors);
    }
    let has_vector = BooleanArray::from(has_vector);
    points.rows.extend_from_slice(filter(column(ROW), &has_vector)?.as_primitive::<Int64Type>().values());
    let truncated = filter(column(TRUNCATED), &has_vector)?;
    points.truncated += truncated.as_boolean().true_count() as u64;
    let tokens = filter(column(N_TOKENS), &has_vector)?;
    let tokens = tokens.as_primitive::<Int32Type>();
    points.tokens += tokens.values().iter().map(|&count| u64::from(count.unsigned_abs())).sum::<u64>();
    let kept = points.kept.schema();
    let places: Result<Vec<usize>, _> =
        kept.fields().iter().map(|field| batch.schema().index_of(field.name())).collect();
    Ok(filter_record_batch(&batch.project(&places?)?, &has_vector)?)
}
