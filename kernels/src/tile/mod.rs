//! Microkernels of the matrix product: a few rows times one panel of forty-eight columns, with all sums in registers.
//!
//! A tile is 8 x 48 with AVX-512 and 6 x 16 with AVX2. Each number of a row is broadcast once and multiplied with all
//! vectors of the tile, so that loads keep up with two FMAs per cycle. A panel with few outputs (the end of a matrix)
//! is stored in strips of sixteen columns. Each format has kernels for processors with its instructions, and a
//! reference in plain Rust for all others. Sums run over the inputs in order: a row's result does not depend on its
//! neighbours.
#![expect(unsafe_code, reason = "calls of functions compiled for instructions that were detected")]

#[cfg(target_arch = "x86_64")]
mod x86;

use super::quantize::from_bf16;
use super::vectorized;

/// Columns of a panel of weights.
pub(super) const COLUMNS: usize = 48;

/// A number format of weights and of the rows they multiply.
pub(super) trait NumberFormat: Sized {
    /// One step of a row along the inputs.
    type Left: Copy + Default;
    /// One step of one column of a panel.
    type Right: Copy + Default + Send + Sync;
    /// The accumulator.
    type Sum: Copy + Default;

    /// Returns the kernels whose instructions this processor has, fastest first.
    fn kernels() -> Vec<Kernel<Self>>;

    /// Adds the product of one step to the sum: the reference.
    fn multiply_add(sum: Self::Sum, left: Self::Left, right: Self::Right) -> Self::Sum;
}

/// Rows of `steps` elements, `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct LeftRows<'a, T> {
    numbers: &'a [T],
    steps: usize,
    stride: usize,
    /// Number of rows.
    count: usize,
}

/// Output rows, of which [`COLUMNS`] numbers each are overwritten.
pub(super) struct OutRows<'a, T> {
    numbers: &'a mut [T],
    stride: usize,
}

impl<'a, T> LeftRows<'a, T> {
    /// Views `count` rows of `steps`, one every `stride`.
    ///
    /// # Panics
    /// When the slice is too short, or rows are empty or overlap.
    pub(super) fn new(numbers: &'a [T], steps: usize, stride: usize, count: usize) -> LeftRows<'a, T> {
        assert!(steps > 0 && steps <= stride, "rows have steps, and do not overlap");
        assert!(count == 0 || numbers.len() >= (count - 1) * stride + steps, "rows lie inside their slice");
        LeftRows { numbers, steps, stride, count }
    }

    /// Returns how many rows there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    #[inline(always)]
    fn row(&self, row: usize) -> &'a [T] {
        &self.numbers[row * self.stride..][..self.steps]
    }
}

impl<'a, T> OutRows<'a, T> {
    /// Views rows that begin every `stride` numbers.
    pub(super) fn new(numbers: &'a mut [T], stride: usize) -> OutRows<'a, T> {
        OutRows { numbers, stride }
    }

    #[inline(always)]
    fn row(&mut self, row: usize) -> &mut [T] {
        &mut self.numbers[row * self.stride..][..COLUMNS]
    }
}

type Multiply<F> = unsafe fn(
    LeftRows<'_, <F as NumberFormat>::Left>,
    &[<F as NumberFormat>::Right],
    OutRows<'_, <F as NumberFormat>::Sum>,
);

/// A microkernel for panels of a format.
pub(super) struct Kernel<F: NumberFormat> {
    /// For whole panels.
    wide: Strips<F>,
    /// For panels with narrow outputs.
    narrow: Strips<F>,
    rows: usize,
    fast: bool,
}

/// A microkernel for strips of columns.
struct Strips<F: NumberFormat> {
    /// Safe to call: created only where the processor has its instructions.
    multiply: Multiply<F>,
    /// Columns of a strip.
    columns: usize,
}

impl<F: NumberFormat> Kernel<F> {
    /// Returns the fastest kernel that this processor can run.
    pub(super) fn detect() -> Kernel<F> {
        F::kernels().into_iter().next().unwrap_or(Kernel::reference())
    }

    /// Returns the reference kernel, which runs on every processor.
    pub(super) fn reference() -> Kernel<F> {
        let strips = || Strips { multiply: multiply_reference::<F>, columns: COLUMNS };
        Kernel { wide: strips(), narrow: strips(), rows: 8, fast: false }
    }

    /// Returns whether it uses special instructions, or is the reference.
    pub(super) fn is_fast(&self) -> bool {
        self.fast
    }

    /// Returns the rows of a tile.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the columns of a strip of a full panel.
    pub(super) fn strip(&self) -> usize {
        self.wide.columns
    }

    /// Returns the strips for a panel with `outputs` outputs, and their columns together: at least `outputs`, at most
    /// 48.
    fn strips(&self, outputs: usize) -> (&Strips<F>, usize) {
        let [wide, narrow] =
            [&self.wide, &self.narrow].map(|strips| (strips, outputs.next_multiple_of(strips.columns)));
        if narrow.1 < wide.1 { narrow } else { wide }
    }

    /// Returns step and column of every number of a panel, in storage order: strip by strip, each through all steps.
    pub(super) fn order(&self, steps: usize, outputs: usize) -> impl Iterator<Item = (usize, usize)> + use<F> {
        let strip = self.strips(outputs).0.columns;
        let step = move |first: usize, step: usize| (first..first + strip).map(move |column| (step, column));
        (0..COLUMNS).step_by(strip).flat_map(move |first| (0..steps).flat_map(move |at| step(first, at)))
    }

    /// Overwrites the first `outputs` (or up to 48) numbers of each row of `out` with the products of the left rows
    /// and a panel of `steps * COLUMNS` numbers in [`order`](Kernel::order).
    ///
    /// # Panics
    /// When the panel's steps differ from the rows', or `out` has too few rows.
    #[inline]
    pub(super) fn multiply(
        &self,
        left: LeftRows<'_, F::Left>,
        panel: &[F::Right],
        outputs: usize,
        out: OutRows<'_, F::Sum>,
    ) {
        assert!((1..=COLUMNS).contains(&outputs), "a panel has outputs, and room for them");
        assert_eq!(panel.len(), left.steps * COLUMNS, "a panel has the steps of its rows");
        let (strips, columns) = self.strips(outputs);
        // SAFETY: a kernel exists only where the processor has its instructions.
        unsafe { (strips.multiply)(left, &panel[..left.steps * columns], out) }
    }
}

/// Runs on every processor; the other kernels are tested against it.
fn multiply_reference<F: NumberFormat>(left: LeftRows<'_, F::Left>, panel: &[F::Right], mut out: OutRows<'_, F::Sum>) {
    vectorized(
        #[inline(always)]
        || {
            for row in 0..left.count {
                let mut sums = [F::Sum::default(); COLUMNS];
                for (left, right) in left.row(row).iter().zip(panel.as_chunks::<COLUMNS>().0) {
                    for (sum, right) in sums.iter_mut().zip(right) {
                        *sum = F::multiply_add(*sum, *left, *right);
                    }
                }
                out.row(row).copy_from_slice(&sums);
            }
        },
    );
}

/// 32-bit floats: one input per step.
pub(super) struct F32;

/// bfloat16, summed as f32: two inputs per step.
pub(super) struct Bf16;

/// Unsigned times signed bytes, summed exactly as 32-bit integers: four inputs per step.
pub(super) struct Int8;

/// As [`Int8`], for processors that sum pairs of products in 16 bits: exact where the first two and the last two
/// signed bytes of a step sum to at most [`PAIR_MAX`](super::quantize::PAIR_MAX) in magnitude.
pub(super) struct Int8Pairwise;

/// The x86-64 kernels whose instructions are detected; none on other processors.
macro_rules! kernels {
    ($($kernel:ident),*) => {
        fn kernels() -> Vec<Kernel<Self>> {
            #[cfg(target_arch = "x86_64")]
            return [$(x86::$kernel()),*].into_iter().flatten().collect();
            #[cfg(not(target_arch = "x86_64"))]
            return Vec::new();
        }
    };
}

impl NumberFormat for F32 {
    type Left = f32;
    type Right = f32;
    type Sum = f32;

    kernels!(f32_avx512, f32_avx2);

    #[inline(always)]
    fn multiply_add(sum: f32, left: f32, right: f32) -> f32 {
        left.mul_add(right, sum)
    }
}

impl NumberFormat for Bf16 {
    type Left = [u16; 2];
    type Right = [u16; 2];
    type Sum = f32;

    kernels!(bf16_avx512);

    #[inline(always)]
    fn multiply_add(sum: f32, left: [u16; 2], right: [u16; 2]) -> f32 {
        sum + from_bf16(left[1]) * from_bf16(right[1]) + from_bf16(left[0]) * from_bf16(right[0])
    }
}

impl NumberFormat for Int8 {
    type Left = [u8; 4];
    type Right = [i8; 4];
    type Sum = i32;

    kernels!(int8_avx512);

    #[inline(always)]
    fn multiply_add(sum: i32, left: [u8; 4], right: [i8; 4]) -> i32 {
        left.into_iter().zip(right).fold(sum, |sum, (left, right)| sum + i32::from(left) * i32::from(right))
    }
}

impl NumberFormat for Int8Pairwise {
    type Left = [u8; 4];
    type Right = [i8; 4];
    type Sum = i32;

    kernels!(int8_pairwise_avx2);

    #[inline(always)]
    fn multiply_add(sum: i32, left: [u8; 4], right: [i8; 4]) -> i32 {
        Int8::multiply_add(sum, left, right)
    }
}

#[cfg(test)]
mod tests {
    use super::super::quantize::PAIR_MAX;
    use super::*;

    /// Compares every kernel with the reference, for every number of rows in a tile and several numbers of steps.
    fn compare<F: NumberFormat>(
        left: impl Fn(usize) -> F::Left,
        right: impl Fn(usize) -> F::Right,
        near: impl Fn(F::Sum, F::Sum) -> bool,
    ) where
        F::Sum: std::fmt::Debug,
    {
        let reference = Kernel::<F>::reference();
        for (steps, count) in [(1, 1), (2, 5), (3, 6), (7, 7), (64, 8), (193, 9), (20, 12), (33, 17), (5, 0)] {
            // One extra number before every row makes it unaligned.
            let numbers: Vec<F::Left> = (0..(count + 1) * (steps + 1)).map(&left).collect();
            let rows = LeftRows::new(&numbers[1..], steps, steps + 1, count);
            let stride = COLUMNS + 3;
            let product = |kernel: &Kernel<F>, outputs: usize| -> Vec<F::Sum> {
                let panel = kernel.order(steps, outputs).map(|(step, column)| right(step * COLUMNS + column));
                let panel: Vec<F::Right> = std::iter::once(F::Right::default()).chain(panel).collect();
                let mut out = vec![F::Sum::default(); count * stride];
                kernel.multiply(rows, &panel[1..], outputs, OutRows::new(&mut out, stride));
                out
            };
            for outputs in [COLUMNS, 40, 32, 17, 16, 1] {
                let expected = product(&reference, outputs);
                for kernel in F::kernels() {
                    for (at, (found, expected)) in product(&kernel, outputs).iter().zip(&expected).enumerate() {
                        let right = near(*found, *expected) || at % stride >= outputs;
                        assert!(right, "{steps} steps, {outputs} outputs, number {at}: {found:?} for {expected:?}");
                    }
                }
            }
        }
    }

    fn wave(at: usize, period: usize) -> f32 {
        (at * 37 % period) as f32 / period as f32 - 0.5
    }

    fn close(a: f32, b: f32) -> bool {
        (a - b).abs() <= 1e-5 * (1.0 + b.abs())
    }

    #[test]
    fn panel_order_is_a_permutation() {
        for kernel in F32::kernels().iter().chain([&Kernel::reference()]) {
            for outputs in 1..=COLUMNS {
                let mut places: Vec<_> = kernel.order(5, outputs).collect();
                assert_eq!(places.len(), 5 * COLUMNS);
                places.sort_unstable();
                places.dedup();
                assert_eq!(places.len(), 5 * COLUMNS);
                assert_eq!(places.last(), Some(&(4, COLUMNS - 1)));
            }
        }
    }

    #[test]
    fn floats_multiply_as_the_reference_does() {
        compare::<F32>(|at| wave(at, 101), |at| wave(at, 97), close);
    }

    #[test]
    fn bf16_multiplies_as_the_reference_does() {
        let half = |x: f32| (x.to_bits() >> 16) as u16;
        compare::<Bf16>(
            |at| [half(wave(at, 101)), half(wave(at + 7, 89))],
            |at| [half(wave(at, 97)), half(wave(5 * at, 83))],
            close,
        );
    }

    #[test]
    fn bytes_multiply_exactly_at_their_extremes_too() {
        let (unsigned, signed) = ([0u8, 1, 127, 128, 254, 255], [-127i8, -1, 0, 1, 127]);
        compare::<Int8>(
            |at| std::array::from_fn(|i| unsigned[(at * 5 + i) % 6]),
            |at| std::array::from_fn(|i| signed[(at * 3 + i) % 5]),
            |a, b| a == b,
        );
        let pairs = [[-127i8, -1], [-64, -64], [127, -127], [0, 1], [127, 1], [64, 64]];
        assert!(pairs.iter().all(|[a, b]| (i16::from(*a) + i16::from(*b)).abs() <= PAIR_MAX));
        let step = |at: usize| [pairs[at * 5 % 6], pairs[at * 7 % 6]];
        compare::<Int8Pairwise>(
            |at| std::array::from_fn(|i| unsigned[(at * 5 + i) % 6]),
            |at| std::array::from_fn(|i| step(at)[i / 2][i % 2]),
            |a, b| a == b,
        );
        for pair in pairs {
            compare::<Int8Pairwise>(|_| [255; 4], |_| std::array::from_fn(|i| pair[i % 2]), |a, b| a == b);
        }
    }

    #[test]
    #[should_panic(expected = "the steps of its rows")]
    fn a_panel_of_another_length_is_refused() {
        let mut out = [0.0; COLUMNS];
        let rows = LeftRows::new(&[1.0, 2.0], 2, 2, 1);
        Kernel::<F32>::detect().multiply(rows, &[0.0; COLUMNS], COLUMNS, OutRows::new(&mut out, COLUMNS));
    }
}
