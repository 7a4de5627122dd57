//! The vectors of an output with what its rows say about themselves: read as a stream into one matrix.

use std::path::Path;

use anyhow::Context;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Int64Type};
use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_select::concat::concat_batches;
use arrow_select::filter::{filter, filter_record_batch};
use dataset::vectors::schema::{EMBEDDING, N_TOKENS, ROW, TRUNCATED};
use dataset::vectors::{BATCH_ROWS, Projection};
use dataset::{FileInfo, VectorSet};

use crate::exit::Advice;

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
    /// How the vectors were made.
    pub(crate) info: FileInfo,
}

impl Points {
    /// Returns the number of rows that have a vector.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Drops points: `kept` says of each whether it stays. What was counted is not counted anew.
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
}

/// Loads the output directory of a finished run, or a merged file. Rows without a vector are left out and counted.
/// `progress` is told how many rows were read, and of how many.
pub(crate) fn load(target: &Path, progress: &mut dyn FnMut(u64, u64)) -> anyhow::Result<Points> {
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
        info: set.info().clone(),
    };
    let mut kept = Vec::new();
    let mut read = 0;
    for batch in set.batches(&Projection::All, BATCH_ROWS) {
        let batch = batch?;
        read += batch.num_rows() as u64;
        kept.push(append(&mut points, &batch)?);
        progress(read, total);
    }
    points.kept = concat_batches(&points.kept.schema(), &kept)
        .with_context(|| format!("the kept columns of `{}` do not fit into memory at once", target.display()))?;
    Ok(points)
}

/// Takes the rows of a batch that have a vector, and returns their kept columns.
fn append(points: &mut Points, batch: &RecordBatch) -> anyhow::Result<RecordBatch> {
    const CHECKED: &str = "the reader checked the columns and their types";
    let column = |name: &str| batch.column_by_name(name).expect(CHECKED);
    let list = column(EMBEDDING).as_fixed_size_list();
    let has_vector = BooleanArray::from_iter((0..list.len()).map(|row| Some(list.is_valid(row))));
    points.rejected += list.null_count() as u64;
    for row in (0..list.len()).filter(|&row| list.is_valid(row)) {
        let range = (list.offset() + row) * points.dim..(list.offset() + row + 1) * points.dim;
        match list.values().as_primitive_opt::<Float32Type>() {
            Some(values) => points.vectors.extend_from_slice(&values.values()[range]),
            None => {
                let values = &list.values().as_primitive::<Float16Type>().values()[range];
                points.vectors.extend(values.iter().map(|value| value.to_f32()));
            }
        }
    }
    points.rows.extend_from_slice(filter(column(ROW), &has_vector)?.as_primitive::<Int64Type>().values());
    let truncated = filter(column(TRUNCATED), &has_vector)?;
    points.truncated += truncated.as_boolean().true_count() as u64;
    let tokens = filter(column(N_TOKENS), &has_vector)?;
    let tokens = tokens.as_primitive::<arrow_array::types::Int32Type>();
    points.tokens += tokens.values().iter().map(|&count| u64::from(count.unsigned_abs())).sum::<u64>();
    // Columns of ours stand at both ends: `row` first, the vectors and what follows them last.
    let places: Vec<usize> = (1..=points.kept.num_columns()).collect();
    Ok(filter_record_batch(&batch.project(&places)?, &has_vector)?)
}
