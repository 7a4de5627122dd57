//! Dot products of many rows with a packed block of rows, for exact nearest neighbours.

use super::matmul::dot_products;
use super::tile::{COLUMNS, F32, Kernel, LeftRows, OutRows};

/// Left rows per block: as many as stay in the L1 cache.
const BLOCK_ROWS: usize = 48;

/// Rows packed for [`PackedRows::dot_products`]; best about as many as fit the L2 cache.
pub struct PackedRows {
    dim: usize,
    rows: usize,
    kernel: Kernel<F32>,
    /// `dim` steps for every forty-eight rows, padded with zeros.
    panels: Vec<f32>,
    /// The rows as given, for the gemm crate on processors without a kernel here.
    unpacked: Vec<f32>,
}

impl PackedRows {
    /// Creates an empty buffer for rows of `dim` numbers.
    ///
    /// # Panics
    /// When `dim` is 0.
    pub fn new(dim: usize) -> PackedRows {
        assert!(dim > 0, "rows have numbers");
        PackedRows { dim, rows: 0, kernel: Kernel::detect(), panels: Vec::new(), unpacked: Vec::new() }
    }

    /// Replaces the packed rows by `rows` (row-major).
    ///
    /// # Panics
    /// When `rows` are not whole rows.
    pub fn pack(&mut self, rows: &[f32]) {
        assert!(rows.len().is_multiple_of(self.dim), "rows are whole");
        self.rows = rows.len() / self.dim;
        if !self.kernel.is_fast() {
            self.unpacked.clear();
            self.unpacked.extend_from_slice(rows);
            return;
        }
        let strip = self.kernel.strip();
        self.panels.clear();
        self.panels.resize(self.rows.next_multiple_of(COLUMNS) * self.dim, 0.0);
        for (numbers, rows) in self.panels.chunks_exact_mut(strip * self.dim).zip(rows.chunks(strip * self.dim)) {
            for (column, row) in rows.chunks_exact(self.dim).enumerate() {
                for (step, value) in numbers.chunks_exact_mut(strip).zip(row) {
                    step[column] = *value;
                }
            }
        }
    }

    /// Overwrites `out` with the dot products of every row of `left` with every packed row, one row per row of `left`.
    ///
    /// # Panics
    /// When `left` are not whole rows, or `out` is not as long as the product.
    pub fn dot_products(&self, out: &mut [f32], left: &[f32]) {
        if !self.kernel.is_fast() {
            return dot_products(out, left, &self.unpacked, self.dim);
        }
        assert!(left.len().is_multiple_of(self.dim), "rows are whole");
        let rows = left.len() / self.dim;
        assert_eq!(out.len(), rows * self.rows, "the product has its size");
        let mut edge = [0.0; BLOCK_ROWS * COLUMNS];
        for (block, out) in left.chunks(BLOCK_ROWS * self.dim).zip(out.chunks_mut((BLOCK_ROWS * self.rows).max(1))) {
            let block = LeftRows::new(block, self.dim, self.dim, block.len() / self.dim);
            for (panel, numbers) in self.panels.chunks_exact(self.dim * COLUMNS).enumerate() {
                let first = panel * COLUMNS;
                let width = COLUMNS.min(self.rows - first);
                if width == COLUMNS {
                    self.kernel.multiply(block, numbers, COLUMNS, OutRows::new(&mut out[first..], self.rows));
                    continue;
                }
                self.kernel.multiply(block, numbers, COLUMNS, OutRows::new(&mut edge, COLUMNS));
                for (out, edge) in out.chunks_mut(self.rows).zip(edge.as_chunks::<COLUMNS>().0) {
                    out[first..][..width].copy_from_slice(&edge[..width]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_rows_multiply_as_unpacked_ones_do() {
        let number = |at: usize| (at * 7919 % 1000) as f32 / 500.0 - 1.0;
        let mut packed = PackedRows::new(33);
        for (rows, left) in [(1, 1), (47, 9), (48, 8), (130, 17), (100, 150), (5, 0), (0, 3)] {
            let right: Vec<f32> = (0..rows * 33).map(number).collect();
            let left: Vec<f32> = (0..left * 33).map(|at| number(at + 5)).collect();
            packed.pack(&right);
            let mut found = vec![9.0; rows * left.len() / 33];
            let mut expected = found.clone();
            packed.dot_products(&mut found, &left);
            dot_products(&mut expected, &left, &right, 33);
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-4, "{rows}: {found} for {expected}");
            }
        }
    }
}
