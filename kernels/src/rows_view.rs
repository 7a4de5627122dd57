//! A matrix of rows within a larger one.

/// Rows of numbers, `stride` apart.
#[derive(Clone, Copy)]
pub struct RowsView<'a> {
    /// The numbers, from the first row on.
    pub data: &'a [f32],
    /// Number of rows.
    pub rows: usize,
    /// Numbers from the start of one row to the start of the next.
    pub stride: usize,
}

impl<'a> RowsView<'a> {
    /// Returns at most `rows` rows, from `first` on.
    pub fn block(&self, first: usize, rows: usize) -> RowsView<'a> {
        RowsView { data: &self.data[first * self.stride..], rows: rows.min(self.rows - first), stride: self.stride }
    }

    /// Returns the rows without their first `first` columns.
    pub fn without_columns(self, first: usize) -> RowsView<'a> {
        RowsView { data: &self.data[first..], ..self }
    }

    /// Returns the first `width` numbers of a row.
    pub(super) fn row(&self, row: usize, width: usize) -> &'a [f32] {
        &self.data[row * self.stride..][..width]
    }
}
