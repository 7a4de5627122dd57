//! The innermost products: a narrow rows times one panel of forty-eight columns, all sums in registers.
//!
//! A kernel holds a tile of sums in the processor's registers: eight rows of forty-eight columns in those of AVX-512, six rows
//! of sixteen in those of AVX2. Each number of a row is broadcast once and meets all vectors of the tile, so that loads keep
//! up with two multiplications a cycle. A panel with narrow outputs, such as a matrix ends with, is made of strips of sixteen
//! columns. Each format has kernels for processors with its instructions, and a reference in plain Rust, which every other
//! processor runs. A sum runs over the inputs in their order: a row's result does not depend on its neighbours.
#![expect(unsafe_code, reason = "calls of functions compiled for instructions that were looked for")]

#[cfg(target_arch = "x86_64")]
mod x86;

use super::quantize::from_bf16;
use super::vectorized;

/// Columns of a panel of weights.
pub(super) const COLUMNS: usize = 48;

/// A number format of weights and of the rows they meet.
pub(super) trait NumberFormat: Sized {
    /// What a row holds for one step along the inputs.
    type Left: Copy + Default;
    /// What a panel holds for one step and one of its columns.
    type Right: Copy + Default + Send + Sync;
    /// What products add up to.
    type Sum: Copy + Default;

    /// Returns the kernels whose instructions this processor has, the fastest first.
    fn kernels() -> Vec<Kernel<Self>>;

    /// Returns the sum and the product of one step: the reference.
    fn multiply_add(sum: Self::Sum, left: Self::Left, right: Self::Right) -> Self::Sum;
}

/// Adjacent rows of as many steps as a panel has.
#[derive(Clone, Copy)]
pub(super) struct LeftRows<'a, T> {
    numbers: &'a [T],
    steps: usize,
    stride: usize,
    /// How many.
    count: usize,
}

/// Where the products of rows and a panel are written: rows of which [`COLUMNS`] numbers are overwritten.
pub(super) struct OutRows<'a, T> {
    numbers: &'a mut [T],
    stride: usize,
}

impl<'a, T> LeftRows<'a, T> {
    /// Takes `count` rows of `steps`, one every `stride`.
    ///
    /// # Panics
    /// When there are not as many, or a row has no step.
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
    /// Takes rows that begin every `stride` numbers.
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

/// A way to multiply rows with panels of a format.
pub(super) struct Kernel<F: NumberFormat> {
    /// For whole panels.
    wide: Strips<F>,
    /// For panels with narrow outputs.
    narrow: Strips<F>,
    rows: usize,
    fast: bool,
}

/// A way to multiply rows with strips of columns.
struct Strips<F: NumberFormat> {
    /// Safe to call: a kernel is only made where the processor was found to have its instructions.
    multiply: Multiply<F>,
    /// How many columns lie side by side.
    columns: usize,
}

impl<F: NumberFormat> Kernel<F> {
    /// Returns the fastest kernel that this processor can run.
    pub(super) fn detect() -> Kernel<F> {
        F::kernels().into_iter().next().unwrap_or(Kernel::reference())
    }

    /// Returns the kernel that every processor can run.
    pub(super) fn reference() -> Kernel<F> {
        let strips = || Strips { multiply: multiply_reference::<F>, columns: COLUMNS };
        Kernel { wide: strips(), narrow: strips(), rows: 8, fast: false }
    }

    /// Whether there is an instruction for it, or only the reference.
    pub(super) fn is_fast(&self) -> bool {
        self.fast
    }

    /// Returns how many rows it takes together.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Returns how many columns of a whole panel lie side by side.
    pub(super) fn strip(&self) -> usize {
        self.wide.columns
    }

    /// Returns the strips of a panel with so many outputs, and how many columns they have together: no fewer, and 48 at most.
    fn strips(&self, outputs: usize) -> (&Strips<F>, usize) {
        let [wide, narrow] =
            [&self.wide, &self.narrow].map(|strips| (strips, outputs.next_multiple_of(strips.columns)));
        if narrow.1 < wide.1 { narrow } else { wide }
    }

    /// Returns step and column of every number of a panel of `steps` with so many outputs, in the order in which they lie:
    /// a strip of columns goes through all steps before the next does.
    pub(super) fn order(&self, steps: usize, outputs: usize) -> impl Iterator<Item = (usize, usize)> + use<F> {
        let strip = self.strips(outputs).0.columns;
        let step = move |first: usize, step: usize| (first..first + strip).map(move |column| (step, column));
        (0..COLUMNS).step_by(strip).flat_map(move |first| (0..steps).flat_map(move |at| step(first, at)))
    }

    /// Overwrites numbers of each row of `out`, one for each of the `outputs` and forty-eight at most, with the sums of
    /// products of the row on the left and a panel: `steps * COLUMNS` numbers, in their [`order`](Kernel::order).
    ///
    /// # Panics
    /// When the panel has not as many steps as the rows, or `out` has too narrow rows.
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
        // SAFETY: the processor has the instructions, or the kernel would not have been made.
        unsafe { (strips.multiply)(left, &panel[..left.steps * columns], out) }
    }
}

/// What every processor can do, and what the kernels are tested against.
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

/// 16-bit brain floats, summed as 32-bit floats: two inputs per step.
pub(super) struct Bf16;

/// Bytes times signed bytes, summed as 32-bit integers, exactly: four inputs per step.
pub(super) struct Int8;

/// The same, for processors that add up products two by two in 16 bits: exactly, where the first two and the last two signed
/// bytes of a step add up to no more than [`PAIR_MAX`] either way.
pub(super) struct Int8Pairwise;

/// What two signed bytes may add up to: times the largest byte, it fits 16 bits.
pub(super) const PAIR_MAX: i16 = 128;

/// The kernels of x86-64 whose instructions are there; none on every other processor.
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
    use super::*;

    /// Every kernel of this processor, every number of rows of a tile, several lengths of the inner loop, next to the
    /// reference.
    fn compare<F: NumberFormat>(
        left: impl Fn(usize) -> F::Left,
        right: impl Fn(usize) -> F::Right,
        near: impl Fn(F::Sum, F::Sum) -> bool,
    ) where
        F::Sum: std::fmt::Debug,
    {
        let reference = Kernel::<F>::reference();
        for (steps, count) in [(1, 1), (2, 5), (3, 6), (7, 7), (64, 8), (193, 9), (20, 12), (33, 17), (5, 0)] {
            // One number too many in front of every row: unaligned on purpose. And what is not asked for is left alone.
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
    fn every_number_of_a_panel_has_one_place() {
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
    fn brain_floats_multiply_as_the_reference_does() {
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
