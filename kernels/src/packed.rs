//! The weights of linear layers, packed once in the order in which [`tile`](super::tile) reads them, and their
//! products.
//!
//! A panel is forty-eight columns, stored step by step along the inputs. Rows are taken in blocks that stay in the
//! cache while every panel is multiplied; the caller's epilogue runs on a block while it is still cached.

use std::ops::Range;

use super::attention::Precision;
use super::matmul::{Matrix, MatrixMut, matmul};
use super::quantize::{RowScale, from_bf16, quantize_columns, quantize_rows, round_to_bf16, to_bf16};
use super::rows_view::RowsView;
use super::slab::Slab;
use super::tile::{Bf16, COLUMNS, F32, Int8, Int8Pairwise, Kernel, LeftRows, NumberFormat, OutRows};

/// Tiles in a block of rows: enough to hide the latency of loading weights, few enough that the widest intermediate
/// rows stay in the cache. Measured from 16 to 256 rows on both bench shapes and all formats with tiles of eight rows,
/// and from 24 to 96 with tiles of six on a processor with half the L2 cache.
const BLOCK_TILES: usize = 8;

/// The number format in which weights are stored and multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightFormat {
    /// IEEE single precision.
    F32,
    /// bfloat16.
    Bf16,
    /// Eight-bit integers: a scale per output for weights, a scale and a zero point per row for inputs.
    Int8,
}

/// One or more matrices `[outputs, inputs]` that multiply the same rows, packed side by side.
pub struct PackedWeights {
    inputs: usize,
    panels: Vec<Panel>,
    numbers: Numbers,
}

/// The outputs of a panel. The last panel of a matrix may have fewer than forty-eight.
#[derive(Debug, Clone, Copy)]
struct Panel {
    first: usize,
    outputs: usize,
}

enum Numbers {
    /// `[inputs, outputs]` for the gemm crate, on processors without a kernel here.
    Unpacked(Vec<f32>),
    F32(Packed<F32>),
    Bf16(Packed<Bf16>),
    /// bfloat16 widened to f32, for processors that multiply only f32.
    Bf16InF32(Packed<F32>),
    Int8(Packed<Int8>, Quantized),
    Int8Pairwise(Packed<Int8Pairwise>, Quantized),
}

/// Panels in the order in which a kernel reads them.
struct Packed<F: NumberFormat> {
    kernel: Kernel<F>,
    numbers: Slab<F::Right>,
    /// Steps of every panel.
    steps: usize,
}

/// The quantization of each column.
struct Quantized {
    /// The value of one step.
    scales: Vec<f32>,
    /// The sum of the column's bytes, which a row's zero point multiplies.
    sums: Vec<f32>,
}

/// Buffers for rows converted to the weights' number format, reused from block to block.
#[derive(Default)]
pub struct Scratch {
    bf16_pairs: Vec<[u16; 2]>,
    rounded: Vec<f32>,
    bytes: Vec<[u8; 4]>,
    scales: Vec<RowScale>,
    /// Integer products of a block with one panel, before they are dequantized.
    sums: Vec<i32>,
}

impl PackedWeights {
    /// Packs matrices `[outputs, inputs]`, row-major.
    ///
    /// # Panics
    /// When a matrix's length is no multiple of `inputs`.
    pub fn new(matrices: &[&[f32]], inputs: usize, format: WeightFormat) -> PackedWeights {
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
        let numbers = Numbers::pack(&rows, inputs, &panels, format);
        PackedWeights { inputs, panels, numbers }
    }

    /// Returns the panels that hold exactly these outputs.
    ///
    /// # Panics
    /// When they do not begin and end at the bounds of packed matrices.
    pub fn panels(&self, outputs: Range<usize>) -> Range<usize> {
        let start = self.panels.partition_point(|panel| panel.first < outputs.start);
        let end = self.panels.partition_point(|panel| panel.first < outputs.end);
        let covered = &self.panels[start..end];
        let ends = covered.first().map(|panel| panel.first).zip(covered.last().map(|last| last.first + last.outputs));
        assert_eq!(ends, Some((outputs.start, outputs.end)), "outputs are chosen by whole matrices");
        start..end
    }

    /// Returns the products of the rows of `x` with the outputs in `panels`, `[rows, outputs]`. `epilogue` is called
    /// with every finished block and its first row, while the block is in the cache.
    pub fn multiply(&self, x: RowsView<'_>, panels: Range<usize>, epilogue: impl FnMut(&mut [f32], usize)) -> Vec<f32> {
        let mut out = Vec::with_capacity(x.rows * self.width(&panels));
        self.multiply_into(x, panels, &mut out, &mut Scratch::default(), epilogue);
        out
    }

    /// As [`PackedWeights::multiply`], overwriting `out`, which grows if it is too short.
    pub fn multiply_into(
        &self,
        x: RowsView<'_>,
        panels: Range<usize>,
        out: &mut Vec<f32>,
        scratch: &mut Scratch,
        mut epilogue: impl FnMut(&mut [f32], usize),
    ) {
        let width = self.width(&panels);
        let block_rows = self.block_rows();
        for first in (0..x.rows).step_by(block_rows) {
            let rows = x.block(first, block_rows);
            // Zeroed block by block, so that the zeroed memory is in the cache when it is written.
            let end = (first + rows.rows) * width;
            if out.len() < end {
                out.resize(end, 0.0);
            }
            let out = &mut out[first * width..end];
            self.multiply_block(rows, panels.clone(), out, scratch);
            epilogue(out, first);
        }
    }

    /// Overwrites `out` with the products of one block of rows.
    pub fn multiply_block(
        &self,
        x: RowsView<'_>,
        panels: Range<usize>,
        out: &mut [f32],
        Scratch { bf16_pairs, rounded, bytes, scales, sums }: &mut Scratch,
    ) {
        match &self.numbers {
            Numbers::Unpacked(numbers) => self.multiply_unpacked(x, numbers, panels, out),
            Numbers::F32(packed) => {
                self.multiply_panels(LeftRows::new(x.data, self.inputs, x.stride, x.rows), packed, panels, out);
            }
            Numbers::Bf16(packed) => {
                round_to_bf16(x, self.inputs, bf16_pairs);
                self.multiply_panels(
                    LeftRows::new(bf16_pairs, packed.steps, packed.steps, x.rows),
                    packed,
                    panels,
                    out,
                );
            }
            Numbers::Bf16InF32(packed) => {
                rounded.clear();
                rounded.extend((0..x.rows).flat_map(|row| x.row(row, self.inputs)).map(|x| from_bf16(to_bf16(*x))));
                self.multiply_panels(LeftRows::new(rounded, self.inputs, self.inputs, x.rows), packed, panels, out);
            }
            Numbers::Int8(packed, quantized) => {
                quantize_rows(x, self.inputs, bytes, scales);
                let left = LeftRows::new(bytes, packed.steps, packed.steps, x.rows);
                self.multiply_panels_quantized((left, scales), (packed, quantized), panels, out, sums);
            }
            Numbers::Int8Pairwise(packed, quantized) => {
                quantize_rows(x, self.inputs, bytes, scales);
                let left = LeftRows::new(bytes, packed.steps, packed.steps, x.rows);
                self.multiply_panels_quantized((left, scales), (packed, quantized), panels, out, sums);
            }
        }
    }

    /// Multiplies a block of rows with every panel.
    fn multiply_panels<F: NumberFormat<Sum = f32>>(
        &self,
        left: LeftRows<'_, F::Left>,
        packed: &Packed<F>,
        panels: Range<usize>,
        out: &mut [f32],
    ) {
        let width = self.width(&panels);
        let origin = self.panels[panels.start].first;
        let mut edge = Vec::new();
        for panel in panels {
            let Panel { first, outputs } = self.panels[panel];
            let out = &mut out[first - origin..];
            if outputs == COLUMNS {
                packed.multiply((panel, outputs), left, OutRows::new(out, width));
            } else {
                // The padding columns of a partial panel must not reach `out`.
                edge.resize(left.count() * COLUMNS, 0.0);
                packed.multiply((panel, outputs), left, OutRows::new(&mut edge, COLUMNS));
                for (row, edge) in out.chunks_mut(width).zip(edge.as_chunks::<COLUMNS>().0) {
                    row[..outputs].copy_from_slice(&edge[..outputs]);
                }
            }
        }
    }

    /// As [`multiply_panels`](PackedWeights::multiply_panels), for bytes, dequantizing the sums.
    fn multiply_panels_quantized<F: NumberFormat<Sum = i32>>(
        &self,
        (left, rows): (LeftRows<'_, F::Left>, &[RowScale]),
        (packed, quantized): (&Packed<F>, &Quantized),
        panels: Range<usize>,
        out: &mut [f32],
        sums: &mut Vec<i32>,
    ) {
        let width = self.width(&panels);
        let origin = self.panels[panels.start].first;
        sums.resize(left.count() * COLUMNS, 0);
        for panel in panels {
            let Panel { first, outputs } = self.panels[panel];
            packed.multiply((panel, outputs), left, OutRows::new(sums, COLUMNS));
            let columns = [&quantized.scales, &quantized.sums].map(|values| &values[first..][..outputs]);
            dequantize(sums.as_chunks().0, rows, columns, (&mut out[first - origin..], width));
        }
    }

    /// Returns the number of outputs of the panels together.
    pub fn width(&self, panels: &Range<usize>) -> usize {
        self.panels[panels.clone()].iter().map(|panel| panel.outputs).sum()
    }

    fn multiply_unpacked(&self, x: RowsView<'_>, numbers: &[f32], panels: Range<usize>, out: &mut [f32]) {
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

    /// Returns the precision that products of these outputs need: that of the weights.
    pub fn precision(&self) -> Precision {
        match &self.numbers {
            Numbers::Unpacked(_) | Numbers::F32(_) => Precision::Single,
            Numbers::Bf16(_) | Numbers::Bf16InF32(_) | Numbers::Int8(..) | Numbers::Int8Pairwise(..) => Precision::Half,
        }
    }

    /// Returns the best number of rows per block: all rows where weights are not packed, since the gemm crate packs
    /// them again in every call.
    pub fn block_rows(&self) -> usize {
        match &self.numbers {
            Numbers::Unpacked(_) => usize::MAX,
            Numbers::F32(packed) | Numbers::Bf16InF32(packed) => packed.block_rows(),
            Numbers::Bf16(packed) => packed.block_rows(),
            Numbers::Int8(packed, _) => packed.block_rows(),
            Numbers::Int8Pairwise(packed, _) => packed.block_rows(),
        }
    }
}

impl WeightFormat {
    /// Returns whether this processor has instructions that make the format faster than f32 (always true for f32).
    pub fn is_fast(self) -> bool {
        match self {
            WeightFormat::F32 => true,
            WeightFormat::Bf16 => Kernel::<Bf16>::detect().is_fast(),
            WeightFormat::Int8 => Kernel::<Int8>::detect().is_fast() || Kernel::<Int8Pairwise>::detect().is_fast(),
        }
    }
}

impl Numbers {
    fn pack(rows: &[&[f32]], inputs: usize, panels: &[Panel], format: WeightFormat) -> Numbers {
        let number = |row: usize, input: usize| rows[row].get(input).copied().unwrap_or(0.0);
        match format {
            WeightFormat::F32 if !Kernel::<F32>::detect().is_fast() => {
                Numbers::Unpacked((0..inputs).flat_map(|input| rows.iter().map(move |row| row[input])).collect())
            }
            WeightFormat::F32 => Numbers::F32(Packed::new(panels, inputs, number)),
            WeightFormat::Bf16 if !Kernel::<Bf16>::detect().is_fast() && Kernel::<F32>::detect().is_fast() => {
                Numbers::Bf16InF32(Packed::new(panels, inputs, |row, step| from_bf16(to_bf16(number(row, step)))))
            }
            WeightFormat::Bf16 => Numbers::Bf16(Packed::new(panels, inputs.div_ceil(2), |row, step| {
                [0, 1].map(|i| to_bf16(number(row, 2 * step + i)))
            })),
            WeightFormat::Int8 => {
                let pairwise = !Kernel::<Int8>::detect().is_fast() && Kernel::<Int8Pairwise>::detect().is_fast();
                let (bytes, scales, sums) = quantize_columns(rows, pairwise);
                let byte = |row: usize, input: usize| if input < inputs { bytes[row * inputs + input] } else { 0 };
                let bytes = |row, step| [0, 1, 2, 3].map(|i| byte(row, 4 * step + i));
                let (quantized, steps) = (Quantized { scales, sums }, inputs.div_ceil(4));
                match pairwise {
                    true => Numbers::Int8Pairwise(Packed::new(panels, steps, bytes), quantized),
                    false => Numbers::Int8(Packed::new(panels, steps, bytes), quantized),
                }
            }
        }
    }
}

impl<F: NumberFormat> Packed<F> {
    /// Packs `number(output, step)` in the kernel's order, with zeros in padding columns.
    fn new(panels: &[Panel], steps: usize, number: impl Fn(usize, usize) -> F::Right + Sync) -> Packed<F> {
        let (kernel, number) = (Kernel::detect(), &number);
        let numbers = Slab::new(panels.len(), steps * COLUMNS, |panel| {
            let Panel { first, outputs } = panels[panel];
            kernel.order(steps, outputs).map(move |(step, column)| match column < outputs {
                true => number(first + column, step),
                false => F::Right::default(),
            })
        });
        Packed { kernel, numbers, steps }
    }

    fn block_rows(&self) -> usize {
        BLOCK_TILES * self.kernel.rows()
    }

    fn multiply(&self, (panel, outputs): (usize, usize), left: LeftRows<'_, F::Left>, out: OutRows<'_, F::Sum>) {
        let length = self.steps * COLUMNS;
        self.kernel.multiply(left, &self.numbers[panel * length..][..length], outputs, out);
    }
}

/// Dequantizes sums of bytes: a row's byte `q` means `scale * (q - zero)`. Rows of `out` are `width` apart; `columns`
/// are the scales of the outputs and the sums of their bytes.
fn dequantize(
    sums: &[[i32; COLUMNS]],
    rows: &[RowScale],
    [scales, bytes]: [&[f32]; 2],
    (out, width): (&mut [f32], usize),
) {
    super::vectorized(
        #[inline(always)]
        || {
            let number = |sum: i32, row: &RowScale, scale: f32, bytes: f32| {
                (sum as f32 - row.zero * bytes) * (row.scale * scale)
            };
            // Whole panels as arrays: a length known at compile time leaves no scalar remainder.
            if let (Ok(scales), Ok(bytes)) = (<&[f32; COLUMNS]>::try_from(scales), <&[f32; COLUMNS]>::try_from(bytes)) {
                for ((sums, row), out) in sums.iter().zip(rows).zip(out.chunks_mut(width)) {
                    if let Some(out) = out.first_chunk_mut::<COLUMNS>() {
                        *out = std::array::from_fn(|at| number(sums[at], row, scales[at], bytes[at]));
                    }
                }
                return;
            }
            for ((sums, row), out) in sums.iter().zip(rows).zip(out.chunks_mut(width)) {
                for (((out, sum), scale), bytes) in out.iter_mut().zip(sums).zip(scales).zip(bytes) {
                    *out = number(*sum, row, *scale, *bytes);
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
            for (dtype, bound) in [(WeightFormat::F32, 1e-6), (WeightFormat::Bf16, 8e-3), (WeightFormat::Int8, 1.6e-2)] {
                let slices: Vec<&[f32]> = matrices.iter().map(Vec::as_slice).collect();
                let packed = PackedWeights::new(&slices, inputs, dtype);
                let mut start = 0;
                for matrix in &matrices {
                    let outputs = matrix.len() / inputs;
                    let found = packed.multiply(view, packed.panels(start..start + outputs), |_, _| {});
                    let expected = exact(&x, rows, matrix, inputs);
                    prop_assert_eq!(found.len(), expected.len());
                    // Errors of single products add up like a random walk; their bound grows with their number.
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
        for dtype in [WeightFormat::F32, WeightFormat::Bf16, WeightFormat::Int8] {
            let packed = PackedWeights::new(&[&matrix], inputs, dtype);
            let product = |x: &[f32]| {
                let view = RowsView { data: x, rows: x.len() / inputs, stride: inputs };
                packed.multiply(view, packed.panels(0..outputs), |_, _| {})
            };
            let all = product(&x);
            for (row, among) in all.chunks_exact(outputs).enumerate() {
                let alone = product(&x[row * inputs..][..inputs]);
                match &packed.numbers {
                    // The gemm crate sums in another order for few rows.
                    Numbers::Unpacked(_) => {
                        let near = |(alone, among): (&f32, &f32)| (alone - among).abs() <= 1e-5 * (1.0 + among.abs());
                        assert!(alone.len() == outputs && alone.iter().zip(among).all(near), "{dtype:?} {row}");
                    }
                    _ => assert_eq!(alone, among, "{dtype:?} {row}"),
                }
            }
            assert_eq!(all.len(), 20 * outputs, "every row was compared");
        }
    }

    #[test]
    fn the_epilogue_gets_every_block_once_in_order() {
        let inputs = 2048;
        let packed = PackedWeights::new(&[&vec![1.0; inputs]], inputs, WeightFormat::F32);
        let x = vec![1.0; 100 * inputs];
        let mut seen = Vec::new();
        let view = RowsView { data: &x, rows: 100, stride: inputs };
        let out = packed.multiply(view, 0..1, |block, first| {
            seen.extend(first..first + block.len());
            block.iter_mut().for_each(|x| *x += 1.0);
        });
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        assert!(out.iter().all(|x| *x == 2049.0), "the epilogue's result is returned");
    }

    #[test]
    fn non_finite_weights_affect_only_their_own_output() {
        for (dtype, broken) in [WeightFormat::F32, WeightFormat::Bf16, WeightFormat::Int8].into_iter().zip([
            f32::NAN,
            f32::NAN,
            f32::INFINITY,
        ]) {
            let packed = PackedWeights::new(&[&[1.0, 1.0, 1.0, broken, f32::NAN, 1.0, 2.0, 1.0]], 2, dtype);
            let out = packed.multiply(RowsView { data: &[1.0, 2.0], rows: 1, stride: 2 }, 0..1, |_, _| {});
            let finite: Vec<bool> = out.iter().map(|x| x.is_finite()).collect();
            assert_eq!(finite, [true, false, false, true], "{dtype:?}: {out:?}");
        }
    }

    #[test]
    fn non_finite_inputs_affect_only_their_own_row() {
        let x = [1.0, f32::NAN, 1.0, 1.0, f32::INFINITY, 1.0, 2.0, 2.0];
        for dtype in [WeightFormat::F32, WeightFormat::Bf16, WeightFormat::Int8] {
            let packed = PackedWeights::new(&[&[1.0, 1.0]], 2, dtype);
            let out = packed.multiply(RowsView { data: &x, rows: 4, stride: 2 }, 0..1, |_, _| {});
            let finite: Vec<bool> = out.iter().map(|x| x.is_finite()).collect();
            assert_eq!(finite, [false, true, false, true], "{dtype:?}: {out:?}");
        }
    }
}
