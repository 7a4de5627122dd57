//! Matrix multiplication through the `gemm` crate, on the calling thread alone.
#![expect(unsafe_code, reason = "gemm takes raw pointers; the matrices here carry the lengths that make them valid")]

use gemm::Parallelism;

/// A strided view of a matrix of `rows * columns` numbers.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Views `data` as rows of `columns` numbers, one row every `row_stride` numbers.
    ///
    /// # Panics
    /// When `data` is too short for that.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Matrix<'a> {
        assert!(data.len() >= extent(rows, columns, row_stride), "a matrix view lies inside its data");
        Matrix { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// Views the same numbers with rows and columns swapped.
    pub(crate) fn transposed(self) -> Matrix<'a> {
        Matrix {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

/// A mutable view of a matrix.
pub(crate) struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// As [`Matrix::new`].
    pub(crate) fn new(data: &'a mut [f32], rows: usize, columns: usize, row_stride: usize) -> MatrixMut<'a> {
        assert!(data.len() >= extent(rows, columns, row_stride), "a matrix view lies inside its data");
        assert!(row_stride >= columns, "rows that are written to do not overlap");
        MatrixMut { data, rows, columns, row_stride }
    }
}

/// Returns the number of elements from the first to the last of a matrix.
fn extent(rows: usize, columns: usize, row_stride: usize) -> usize {
    match rows {
        0 => 0,
        _ => (rows - 1) * row_stride + columns,
    }
}

/// Overwrites `out` with `alpha * a * b`.
///
/// # Panics
/// When the shapes do not fit each other.
pub(crate) fn matmul(out: MatrixMut<'_>, a: Matrix<'_>, b: Matrix<'_>, alpha: f32) {
    assert_eq!((out.rows, out.columns, a.columns), (a.rows, b.columns, b.rows), "the shapes of a product fit");
    // SAFETY: each view was checked to lie inside its slice, the shapes fit, and `out` is borrowed exclusively, so it
    // overlaps neither factor. `read_dst` is off: the old contents of `out` are not read.
    unsafe {
        gemm::gemm(
            out.rows,
            out.columns,
            a.columns,
            out.data.as_mut_ptr(),
            1,
            out.row_stride as isize,
            false,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            0.0,
            alpha,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// Overwrites `out` with the dot products of every row of `a` with every row of `b`, row-major, one row per row of
/// `a`. Rows are contiguous, `dim` numbers each.
///
/// # Panics
/// When `a` or `b` are not whole rows, or `out` is not as long as the product.
pub fn dot_products(out: &mut [f32], a: &[f32], b: &[f32], dim: usize) {
    assert!(dim > 0 && a.len().is_multiple_of(dim) && b.len().is_multiple_of(dim), "rows are whole");
    let (rows, columns) = (a.len() / dim, b.len() / dim);
    assert_eq!(out.len(), rows * columns, "the product has its size");
    if !out.is_empty() {
        let (a, b) = (Matrix::new(a, rows, dim, dim), Matrix::new(b, columns, dim, dim).transposed());
        matmul(MatrixMut::new(out, rows, columns, columns), a, b, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_views_multiply() {
        // a is the right half of a 2x4, b the transpose of a 3x2 inside rows of 3.
        let a = [0., 0., 1., 2., 0., 0., 3., 4.];
        let b = [1., 1., 9., 2., 0., 9., 0., 5.];
        let mut out = [7.0; 7];
        matmul(
            MatrixMut::new(&mut out, 2, 3, 4),
            Matrix::new(&a[2..], 2, 2, 4),
            Matrix::new(&b, 3, 2, 3).transposed(),
            2.0,
        );
        assert_eq!(out, [6., 4., 20., 7.0, 14., 12., 40.]);
    }

    #[test]
    fn dot_products_are_of_rows_with_rows() {
        let mut out = [9.0; 6];
        dot_products(&mut out, &[1., 2., 3., 4.], &[1., 0., 0., 1., 1., 1.], 2);
        assert_eq!(out, [1., 2., 3., 3., 4., 7.]);
        dot_products(&mut [], &[], &[1., 2.], 2);
    }

    #[test]
    #[should_panic(expected = "lies inside its data")]
    fn a_view_beyond_its_data_is_refused() {
        Matrix::new(&[0.0; 5], 2, 3, 3);
    }
}
