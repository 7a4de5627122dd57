//! Rows of an earlier output that take the place of computed ones in a chunk: encoded as they were, so that no bit changes.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int32Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::ArrowError;
use arrow_select::interleave::interleave;

use super::column_names::{EMBEDDING, EMBEDDING_SCALE, N_TOKENS, TRUNCATED};
use super::element::Encoded;
use super::read::Projection;

const CHECKED: &str = "the reader checked the columns and their types";

/// The rows of a chunk that an earlier output has.
#[derive(Debug, Clone)]
pub struct ReusedRows {
    /// Rows of the earlier output; several chunks may share them.
    rows: RecordBatch,
    /// For each row of the chunk: which of them has its text.
    places: Vec<Option<usize>>,
}

impl ReusedRows {
    pub(super) fn new(rows: RecordBatch, places: Vec<Option<usize>>) -> ReusedRows {
        ReusedRows { rows, places }
    }

    /// Returns the columns that `rows` must have at least.
    pub(super) fn columns(is_scaled: bool) -> Projection {
        let scale = is_scaled.then_some(EMBEDDING_SCALE);
        let names = [EMBEDDING, N_TOKENS, TRUNCATED].into_iter().chain(scale);
        Projection::Columns(names.map(str::to_owned).collect())
    }

    /// Tells whether a row of the chunk is reused.
    pub fn has(&self, row: usize) -> bool {
        self.places[row].is_some()
    }

    /// Returns how many rows are reused.
    pub fn count(&self) -> u64 {
        self.places.iter().flatten().count() as u64
    }

    /// Returns the tokens of a row, and whether its text was truncated, if it is reused.
    pub fn tokens(&self, row: usize) -> Option<(i32, bool)> {
        let place = self.places[row]?;
        let tokens = self.rows.column_by_name(N_TOKENS).expect(CHECKED).as_primitive::<Int32Type>();
        let truncated = self.rows.column_by_name(TRUNCATED).expect(CHECKED).as_boolean();
        Some((tokens.value(place), truncated.value(place)))
    }

    /// Returns columns of computed vectors with the reused ones in their places.
    pub(super) fn over(&self, computed: Encoded) -> Result<Encoded, ArrowError> {
        let choice = self.places.iter().enumerate();
        let choice: Vec<(usize, usize)> =
            choice.map(|(row, place)| place.map_or((0, row), |place| (1, place))).collect();
        let choose = |name, computed: &dyn Array| {
            interleave(&[computed, self.rows.column_by_name(name).expect(CHECKED)], &choice)
        };
        let embedding = choose(EMBEDDING, &computed.embedding)?.as_fixed_size_list().clone();
        let scale = match &computed.scale {
            Some(scale) => Some(choose(EMBEDDING_SCALE, scale)?.as_primitive::<Float32Type>().clone()),
            None => None,
        };
        Ok(Encoded { embedding, scale })
    }

    /// Tells whether a row is reused, and has the same bits, tokens and truncation in a batch of the chunk's rows.
    pub(super) fn equals(&self, row: usize, chunk: &RecordBatch) -> bool {
        let Some(place) = self.places[row] else { return false };
        let fields = self.rows.schema_ref().fields();
        fields.iter().zip(self.rows.columns()).all(|(field, column)| {
            let other = chunk.column_by_name(field.name()).expect(CHECKED);
            // Data are equal if their bits are: a NaN equals itself, and -0 is not 0.
            column.slice(place, 1).to_data() == other.slice(row, 1).to_data()
        })
    }
}
