//! Weights of a linear layer, laid out once in the order in which [`tile`](super::tile) reads them, and the product of
//! rows with them.
//!
//! A panel is forty-eight columns, step after step along the inputs. Rows are taken in blocks that stay in the cache
//! while every panel passes over them; what a block gives is handed on while it is still there.

use std::ops::Range;

use super::matmul::{Matrix, MatrixMut, matmul};
use super::quantize::{RowScale, quantize_columns, quantize_rows, round_to_bf16};
use super::slab::Slab;
use super::tile::{Bf16, COLUMNS, F32, Format, Int8, Kernel, ROWS};
use crate::Dtype;

/// Rows of a block: enough that the weights, which come from far away, are not waited for, and few enough that the widest
/// rows made of them stay near. Measured from 16 to 256 on both shapes of the bench, in every format.
const BLOCK_ROWS: usize = 64;

/// One or more matrices of `[outputs, inputs]` that are multiplied by the same rows, packed side by side.
pub(crate) struct PackedWeights {
    inputs: usize,
    panels: Vec<Panel>,
    numbers: Numbers,
}

/// Which outputs a panel holds. The last panel of a matrix may hold fewer than forty-eight.
#[derive(Debug, Clone, Copy)]
struct Panel {
    first: usize,
    outputs: usize,
}

enum Numbers {
    /// `[inputs, outputs]`, for the gemm crate: it has kernels for processors that we have none for.
    Plain(Vec<f32>),
    F32(Kernel<F32>, Slab<[f32; COLUMNS]>),
    Bf16(Kernel<Bf16>, Slab<[[u16; 2]; COLUMNS]>),
    Int8 {
        kernel: Kernel<Int8>,
        bytes: Slab<[[i8; 4]; COLUMNS]>,
        /// What a step of one means in each column.
        scales: Vec<[f32; COLUMNS]>,
        /// Each column's bytes added up: what a row's zero point multiplies.
        sums: Vec<[f32; COLUMNS]>,
    },
}

/// Rows of numbers, `stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct RowsView<'a> {
    /// The numbers, from the first row on.
    pub(crate) data: &'a [f32],
    /// How many rows.
    pub(crate) rows: usize,
    /// Numbers from the beginning of one row to that of the next.
    pub(crate) stride: usize,
}

/// Rows in the number format of the weights, kept from block to block.
#[derive(Default)]
pub(crate) struct Scratch {
    halves: Vec<[u16; 2]>,
    bytes: Vec<[u8; 4]>,
    scales: Vec<RowScale>,
}

impl<'a> RowsView<'a> {
    /// Returns the rows from `first` on, `rows` of them at most.
    pub(crate) fn block(&self, first: usize, rows: usize) -> RowsView<'a> {
        RowsView { data: &self.data[first * self.stride..], rows: rows.min(self.rows - first), stride: self.stride }
    }

    fn row(&self, row: usize, width: usize) -> &'a [f32] {
        &self.data[row * self.stride..][..width]
    }
}

impl PackedWeights {
    /// Packs matrices of `[outputs, inputs]`, row-major, for products in a number format of the engine.
    ///
    /// # Panics
    /// When a matrix is no multiple of `inputs` long, or for f16, which no processor multiplies faster than f32.
    pub(crate) fn new(matrices: &[Vec<f32>], inputs: usize, dtype: Dtype) -> PackedWeights {
        let mut panels = Vec::new();
        let mut first = 0;
        for matrix in matrices {
            assert_eq!(matrix.len() % inputs, 0, "a matrix is made of rows");
            let end = first + matrix.len() / inputs;
            while first < end {
                let outputs = COLUMNS.min(end - first);
                panels.push(Panel { first, outputs });
                first += outputs;
            }
        }
        let rows: Vec<&[f32]> = matrices.iter().flat_map(|matrix| matrix.chunks_exact(inputs)).collect();
        let numbers = Numbers::pack(&rows, inputs, &panels, dtype);
        PackedWeights { inputs, panels, numbers }
    }

    /// Returns the panels that hold exactly these outputs.
    ///
    /// # Panics
    /// When they do not begin and end where one of the packed matrices does.
    pub(crate) fn panels(&self, outputs: Range<usize>) -> Range<usize> {
        let start = self.panels.partition_point(|panel| panel.first < outputs.start);
        let end = self.panels.partition_point(|panel| panel.first < outputs.end);
        let covered = &self.panels[start..end];
        let ends = covered.first().map(|panel| panel.first).zip(covered.last().map(|last| last.first + last.outputs));
        assert_eq!(ends, Some((outputs.start, outputs.end)), "outputs are chosen by whole matrices");
        start..end
    }

    /// Returns the products of rows of `inputs` numbers and the outputs in `panels`, `[rows, outputs]`. `finish` gets
    /// every block of finished rows, with the number of the first, while they are in the cache.
    pub(crate) fn multiply(
        &self,
        x: RowsView<'_>,
        panels: Range<usize>,
        mut finish: impl FnMut(&mut [f32], usize),
    ) -> Vec<f32> {
        let width = self.width(&panels);
        let mut out = Vec::with_capacity(x.rows * width);
        let mut scratch = Scratch::default();
        let block_rows = self.block_rows();
        for first in (0..x.rows).step_by(block_rows) {
            let rows = x.block(first, block_rows);
            // Zeroed block by block: what is zeroed is in the cache when it is written.
            out.resize(out.len() + rows.rows * width, 0.0);
            let out = &mut out[first * width..];
            self.multiply_block(rows, panels.clone(), out, &mut scratch);
            finish(out, first);
        }
        out
    }

    /// Overwrites `out` with the products of few rows: as many as a cache holds.
    pub(crate) fn multiply_block(
        &self,
        x: RowsView<'_>,
        panels: Range<usize>,
        out: &mut [f32],
        Scratch { halves, bytes: quantized, scales: row_scales }: &mut Scratch,
    ) {
        match &self.numbers {
            Numbers::Plain(numbers) => self.multiply_plain(x, numbers, panels, out),
            Numbers::F32(kernel, numbers) => {
                let row = |row| x.row(row, self.inputs);
                self.pass((x.rows, row), (kernel, numbers), panels, out);
            }
            Numbers::Bf16(kernel, numbers) => {
                round_to_bf16(x, self.inputs, halves);
                let steps = self.inputs.div_ceil(2);
                let row = |row| &halves[row * steps..][..steps];
                self.pass((x.rows, row), (kernel, numbers), panels, out);
            }
            Numbers::Int8 { kernel, bytes, scales, sums } => {
                quantize_rows(x, self.inputs, quantized, row_scales);
                let steps = self.inputs.div_ceil(4);
                let width = self.width(&panels);
                let mut tile = [[0i32; COLUMNS]; ROWS];
                for panel in panels.clone() {
                    let to = self.panels[panel];
                    let bytes = &bytes[panel * steps..][..steps];
                    for start in (0..x.rows).step_by(ROWS) {
                        let row = |at: usize| (start + at).min(x.rows - 1);
                        let rows = std::array::from_fn(|at| &quantized[row(at) * steps..][..steps]);
                        kernel.tile(rows, bytes, tile.each_mut());
                        let out = &mut out[start * width + to.first - self.panels[panels.start].first..];
                        dequantize(
                            &tile,
                            &row_scales[start..],
                            (&scales[panel], &sums[panel]),
                            (out, width, to.outputs),
                        );
                    }
                }
            }
        }
    }

    /// Passes every panel over a block of rows.
    #[inline(always)]
    fn pass<'a, F: Format<Sum = f32>>(
        &self,
        (rows, row): (usize, impl Fn(usize) -> &'a [F::Left]),
        (kernel, numbers): (&Kernel<F>, &[F::Right]),
        panels: Range<usize>,
        out: &mut [f32],
    ) where
        F::Left: 'a,
    {
        let width = out.len() / rows;
        let origin = self.panels[panels.start].first;
        let steps = numbers.len() / self.panels.len();
        let mut aside = [[0.0; COLUMNS]; ROWS];
        for panel in panels {
            let numbers = &numbers[panel * steps..][..steps];
            let Panel { first, outputs } = self.panels[panel];
            for (start, out) in (0..rows).step_by(ROWS).zip(out.chunks_mut(ROWS * width)) {
                // The last tile may have fewer rows: the last row fills it up, and what comes of that is left aside. So
                // is a panel with fewer columns, at first.
                let left = std::array::from_fn(|at| row((start + at).min(rows - 1)));
                let mut rows_out = out.chunks_exact_mut(width).map(|row| &mut row[first - origin..][..outputs]);
                if outputs == COLUMNS {
                    let tile = aside.each_mut().map(|aside| match rows_out.next() {
                        Some(row) => row.try_into().expect("it was cut to as many columns"),
                        None => aside,
                    });
                    kernel.tile(left, numbers, tile);
                } else {
                    kernel.tile(left, numbers, aside.each_mut());
                    rows_out.zip(&aside).for_each(|(row, aside)| row.copy_from_slice(&aside[..outputs]));
                }
            }
        }
    }

    /// Returns how many outputs panels have together.
    pub(crate) fn width(&self, panels: &Range<usize>) -> usize {
        self.panels[panels.clone()].iter().map(|panel| panel.outputs).sum()
    }

    fn multiply_plain(&self, x: RowsView<'_>, numbers: &[f32], panels: Range<usize>, out: &mut [f32]) {
        let (first, width) = (self.panels[panels.start].first, self.width(&panels));
        let all = self.panels.last().map_or(0, |last| last.first + last.outputs);
        let weights = Matrix::new(&numbers[first..], self.inputs, width, all);
        matmul(
            MatrixMut::new(out, x.rows, width, width),
            Matrix::new(x.data, x.rows, self.inputs, x.stride),
            weights,
            1.0,
        );
    }

    /// Returns how many rows are best taken together: all of them where weights are not packed, since the gemm crate packs
    /// them anew for every call.
    pub(crate) fn block_rows(&self) -> usize {
        match &self.numbers {
            Numbers::Plain(_) => usize::MAX,
            Numbers::F32(..) | Numbers::Bf16(..) | Numbers::Int8 { .. } => BLOCK_ROWS,
        }
    }
}

/// Whether this processor has the instructions that make a number format worth its while.
pub(crate) fn has_instructions(dtype: Dtype) -> bool {
    match dtype {
        Dtype::F32 => true,
        Dtype::F16 => false,
        Dtype::Bf16 => Kernel::<Bf16>::detect().is_fast(),
        Dtype::Int8 => Kernel::<Int8>::detect().is_fast(),
    }
}

impl Numbers {
    fn pack(rows: &[&[f32]], inputs: usize, panels: &[Panel], dtype: Dtype) -> Numbers {
        let column = |panel: &Panel, column: usize| (column < panel.outputs).then(|| rows[panel.first + column]);
        let number = |panel: &Panel, at: usize, input: usize| -> f32 {
            column(panel, at).and_then(|row| row.get(input)).copied().unwrap_or(0.0)
        };
        let kernel = Kernel::<F32>::detect();
        match dtype {
            Dtype::F32 if !kernel.is_fast() => {
                Numbers::Plain((0..inputs).flat_map(|input| rows.iter().map(move |row| row[input])).collect())
            }
            Dtype::F32 => {
                let step = |panel: &Panel, input| std::array::from_fn(|at| number(panel, at, input));
                Numbers::F32(kernel, laid_out(panels, inputs, step))
            }
            Dtype::Bf16 => {
                let step = |panel: &Panel, step: usize| {
                    std::array::from_fn(|at| [0, 1].map(|i| super::quantize::to_bf16(number(panel, at, 2 * step + i))))
                };
                Numbers::Bf16(Kernel::detect(), laid_out(panels, inputs.div_ceil(2), step))
            }
            Dtype::Int8 => {
                let (bytes, scales, sums) = quantize_columns(rows);
                let per_panel = |values: &[f32]| -> Vec<[f32; COLUMNS]> {
                    let pick = |panel: &Panel, at| if at < panel.outputs { values[panel.first + at] } else { 0.0 };
                    panels.iter().map(|panel| std::array::from_fn(|at| pick(panel, at))).collect()
                };
                let byte = |panel: &Panel, at: usize, input: usize| -> i8 {
                    if at < panel.outputs && input < inputs { bytes[(panel.first + at) * inputs + input] } else { 0 }
                };
                let step = |panel: &Panel, step: usize| {
                    std::array::from_fn(|at| std::array::from_fn(|i| byte(panel, at, 4 * step + i)))
                };
                let bytes = laid_out(panels, inputs.div_ceil(4), step);
                Numbers::Int8 { kernel: Kernel::detect(), bytes, scales: per_panel(&scales), sums: per_panel(&sums) }
            }
            Dtype::F16 => unreachable!("the engine refuses f16 on a CPU"),
        }
    }
}

fn laid_out<T: Copy + Send>(panels: &[Panel], steps: usize, step: impl Fn(&Panel, usize) -> T + Sync) -> Slab<T> {
    Slab::new(panels.len(), steps, |panel, at| step(&panels[panel], at))
}

/// Turns sums of bytes into what they stand for: a row's byte `q` stands for `scale * (q - zero)`. Rows of
/// `out` are `width` apart, and as many as there are scales, eight at most.
#[inline(always)]
fn dequantize(
    tile: &[[i32; COLUMNS]; ROWS],
    rows: &[RowScale],
    (scales, sums): (&[f32; COLUMNS], &[f32; COLUMNS]),
    (out, width, outputs): (&mut [f32], usize, usize),
) {
    super::vectorized(
        #[inline(always)]
        || {
            for ((tile, row), out) in tile.iter().zip(rows).zip(out.chunks_mut(width)) {
                let number = |at: usize| (tile[at] as f32 - row.zero * sums[at]) * (row.scale * scales[at]);
                if outputs == COLUMNS {
                    for (at, out) in out[..COLUMNS].iter_mut().enumerate() {
                        *out = number(at);
                    }
                } else {
                    out[..outputs].iter_mut().enumerate().for_each(|(at, out)| *out = number(at));
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exact(x: &[f32], rows: usize, weights: &[f32], inputs: usize) -> Vec<f64> {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        (0..rows)
            .flat_map(|row| weights.chunks(inputs).map(move |column| dot(&x[row * inputs..][..inputs], column)))
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn every_format_multiplies_every_shape(
            rows in 1usize..40, inputs in 1usize..90, widths in prop::collection::vec(1usize..110, 1..4), seed: u32,
        ) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            };
            let x: Vec<f32> = (0..rows * inputs).map(|_| next()).collect();
            let matrices: Vec<Vec<f32>> =
                widths.iter().map(|width| (0..width * inputs).map(|_| next()).collect()).collect();
            let view = RowsView { data: &x, rows, stride: inputs };
            for (dtype, bound) in [(Dtype::F32, 1e-6), (Dtype::Bf16, 8e-3), (Dtype::Int8, 1.6e-2)] {
                let packed = PackedWeights::new(&matrices, inputs, dtype);
                let mut start = 0;
                for matrix in &matrices {
                    let outputs = matrix.len() / inputs;
                    let found = packed.multiply(view, packed.panels(start..start + outputs), |_, _| {});
                    let expected = exact(&x, rows, matrix, inputs);
                    prop_assert_eq!(found.len(), expected.len());
                    // Errors of single products add up like a random walk, and their bound like their number.
                    let bound = bound * inputs as f64;
                    for (found, expected) in found.iter().zip(&expected) {
                        prop_assert!((f64::from(*found) - expected).abs() <= bound, "{dtype:?}: {found} for {expected}");
                    }
                    start += outputs;
                }
            }
        }
    }

    #[test]
    fn a_row_gives_the_same_bits_in_every_batch() {
        let (inputs, outputs) = (70, 100);
        let number = |at: usize| (at * 7919 % 1000) as f32 / 500.0 - 1.0;
        let x: Vec<f32> = (0..20 * inputs).map(number).collect();
        let matrix: Vec<f32> = (0..inputs * outputs).map(|at| number(at + 13)).collect();
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::Int8] {
            let packed = PackedWeights::new(std::slice::from_ref(&matrix), inputs, dtype);
            let product = |x: &[f32]| {
                let view = RowsView { data: x, rows: x.len() / inputs, stride: inputs };
                packed.multiply(view, packed.panels(0..outputs), |_, _| {})
            };
            let all = product(&x);
            for row in 0..20 {
                assert_eq!(product(&x[row * inputs..][..inputs]), all[row * outputs..][..outputs], "{dtype:?} {row}");
            }
        }
    }

    #[test]
    fn blocks_are_handed_on_in_order_and_once() {
        let inputs = 2048;
        let packed = PackedWeights::new(&[vec![1.0; inputs]], inputs, Dtype::F32);
        let x = vec![1.0; 100 * inputs];
        let mut seen = Vec::new();
        let view = RowsView { data: &x, rows: 100, stride: inputs };
        let out = packed.multiply(view, 0..1, |block, first| {
            seen.extend(first..first + block.len());
            block.iter_mut().for_each(|x| *x += 1.0);
        });
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        assert!(out.iter().all(|x| *x == 2049.0), "what is finished is what comes out");
    }

    #[test]
    fn numbers_that_are_not_finite_spoil_their_row_alone() {
        let x = [1.0, f32::NAN, 1.0, 1.0, f32::INFINITY, 1.0, 2.0, 2.0];
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::Int8] {
            let packed = PackedWeights::new(&[vec![1.0, 1.0]], 2, dtype);
            let out = packed.multiply(RowsView { data: &x, rows: 4, stride: 2 }, 0..1, |_, _| {});
            let finite: Vec<bool> = out.iter().map(|x| x.is_finite()).collect();
            assert_eq!(finite, [false, true, false, true], "{dtype:?}: {out:?}");
        }
    }
}
