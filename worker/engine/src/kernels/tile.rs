//! The innermost products: eight rows times one panel of forty-eight columns, all sums in registers.
//!
//! Eight rows of three 512-bit registers leave room for the panel's numbers and the row's; each number of a row is
//! broadcast once and meets three registers of the panel, so that loads keep up with two multiplications a cycle.
//! Each format has a kernel for processors with its instruction, and a reference in plain Rust, which every other
//! processor runs. A sum runs over the inputs in their order: a row's result does not depend on its neighbours.
#![expect(unsafe_code, reason = "vector loads, and calls of functions compiled for instructions that were looked for")]

use std::marker::PhantomData;

use super::vectorized;

/// Whether the processor has a feature of x86-64; false on every other kind.
macro_rules! detected {
    ($feature:tt) => {{
        #[cfg(target_arch = "x86_64")]
        let found = is_x86_feature_detected!($feature);
        #[cfg(not(target_arch = "x86_64"))]
        let found = false;
        found
    }};
}
/// Rows of a tile.
pub(super) const ROWS: usize = 8;
/// Columns of a tile, and of a panel of weights.
pub(super) const COLUMNS: usize = 48;

/// Where the rows of a tile are written.
pub(super) type TileMut<'a, T> = [&'a mut [T; COLUMNS]; ROWS];

/// A number format of weights and of the rows they meet.
pub(super) trait Format: Sized {
    /// What a row holds for one step along the inputs.
    type Left: Copy + Default;
    /// What a panel holds for one step: as much for each of its columns.
    type Right: Copy;
    /// What products add up to.
    type Sum: Copy + Default;

    /// Whether this processor has the instructions of [`fast_tile`](Format::fast_tile).
    fn has_instructions() -> bool;

    /// Overwrites `out` with the sums of products of `rows`, each as long as the panel, and `panel`.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn fast_tile(rows: [&[Self::Left]; ROWS], panel: &[Self::Right], out: TileMut<'_, Self::Sum>);

    /// Adds the products of one step for one row: the reference.
    fn multiply_add(sums: &mut [Self::Sum; COLUMNS], left: Self::Left, right: &Self::Right);
}

/// The way to compute tiles of a format on this processor.
pub(super) struct Kernel<F> {
    /// Set only where the processor was found to have the instructions.
    fast: bool,
    format: PhantomData<F>,
}

impl<F: Format> Kernel<F> {
    /// Looks for the instructions.
    pub(super) fn detect() -> Kernel<F> {
        Kernel { fast: F::has_instructions(), format: PhantomData }
    }

    /// Returns the kernel that every processor can run.
    #[cfg(test)]
    pub(super) fn reference() -> Kernel<F> {
        Kernel { fast: false, format: PhantomData }
    }

    /// Whether there is an instruction for it, or only the reference.
    pub(super) fn is_fast(&self) -> bool {
        self.fast
    }

    /// Overwrites `out` with the sums of products of eight rows and a panel.
    ///
    /// # Panics
    /// When a row is shorter than the panel.
    #[inline]
    pub(super) fn tile(&self, rows: [&[F::Left]; ROWS], panel: &[F::Right], out: TileMut<'_, F::Sum>) {
        let rows = rows.map(|row| &row[..panel.len()]);
        if self.fast {
            // SAFETY: `fast` says that the processor was asked.
            return unsafe { F::fast_tile(rows, panel, out) };
        }
        vectorized(
            #[inline(always)]
            || {
                for (sums, row) in out.into_iter().zip(rows) {
                    *sums = [F::Sum::default(); COLUMNS];
                    for (left, right) in row.iter().zip(panel) {
                        F::multiply_add(sums, *left, right);
                    }
                }
            },
        );
    }
}

/// 32-bit floats: one input per step.
pub(super) struct F32;

/// 16-bit brain floats, summed as 32-bit floats: two inputs per step.
pub(super) struct Bf16;

/// Bytes times signed bytes, summed as 32-bit integers, exactly: four inputs per step.
pub(super) struct Int8;

impl Format for F32 {
    type Left = f32;
    type Right = [f32; COLUMNS];
    type Sum = f32;

    fn has_instructions() -> bool {
        detected!("avx512f")
    }

    unsafe fn fast_tile(rows: [&[f32]; ROWS], panel: &[[f32; COLUMNS]], out: TileMut<'_, f32>) {
        // SAFETY: as the caller says.
        unsafe { fast::tile_f32(rows, panel, out) }
    }

    #[inline(always)]
    fn multiply_add(sums: &mut [f32; COLUMNS], left: f32, right: &[f32; COLUMNS]) {
        for (sum, right) in sums.iter_mut().zip(right) {
            *sum = left.mul_add(*right, *sum);
        }
    }
}

impl Format for Bf16 {
    type Left = [u16; 2];
    type Right = [[u16; 2]; COLUMNS];
    type Sum = f32;

    fn has_instructions() -> bool {
        detected!("avx512f") && detected!("avx512bf16")
    }

    unsafe fn fast_tile(rows: [&[[u16; 2]]; ROWS], panel: &[[[u16; 2]; COLUMNS]], out: TileMut<'_, f32>) {
        // SAFETY: as the caller says.
        unsafe { fast::tile_bf16(rows, panel, out) }
    }

    #[inline(always)]
    fn multiply_add(sums: &mut [f32; COLUMNS], left: [u16; 2], right: &[[u16; 2]; COLUMNS]) {
        let widen = |half: u16| f32::from_bits(u32::from(half) << 16);
        for (sum, right) in sums.iter_mut().zip(right) {
            *sum = *sum + widen(left[1]) * widen(right[1]) + widen(left[0]) * widen(right[0]);
        }
    }
}

impl Format for Int8 {
    type Left = [u8; 4];
    type Right = [[i8; 4]; COLUMNS];
    type Sum = i32;

    fn has_instructions() -> bool {
        detected!("avx512f") && detected!("avx512vnni")
    }

    unsafe fn fast_tile(rows: [&[[u8; 4]]; ROWS], panel: &[[[i8; 4]; COLUMNS]], out: TileMut<'_, i32>) {
        // SAFETY: as the caller says.
        unsafe { fast::tile_int8(rows, panel, out) }
    }

    #[inline(always)]
    fn multiply_add(sums: &mut [i32; COLUMNS], left: [u8; 4], right: &[[i8; 4]; COLUMNS]) {
        for (sum, right) in sums.iter_mut().zip(right) {
            for at in 0..4 {
                *sum += i32::from(left[at]) * i32::from(right[at]);
            }
        }
    }
}

/// The kernels with instructions of x86-64.
#[cfg(target_arch = "x86_64")]
mod fast {
    use std::arch::x86_64::{
        __m512, __m512bh, __m512i, _mm512_castsi512_ps, _mm512_dpbf16_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps,
        _mm512_loadu_si512, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512,
    };
    use std::mem::transmute;

    use super::{Bf16, COLUMNS, F32, Format, Int8, ROWS, TileMut};

    /// Registers of a row of sums: sixteen 32-bit numbers each.
    const REGISTERS: usize = COLUMNS / 16;

    macro_rules! tile {
        ($name:ident, $features:literal, $format:ty, $vector:ty, $zero:expr, $spread:expr, $multiply_add:expr) => {
            #[target_feature(enable = $features)]
            pub(super) fn $name(
                rows: [&[<$format as Format>::Left]; ROWS],
                panel: &[<$format as Format>::Right],
                out: TileMut<'_, <$format as Format>::Sum>,
            ) {
                let mut sums = [[$zero; REGISTERS]; ROWS];
                let rows = rows.map(|row| &row[..panel.len()]);
                for (step, right) in panel.iter().enumerate() {
                    let right: [__m512i; REGISTERS] = std::array::from_fn(|at| {
                        // SAFETY: a step of a panel is 48 times 32 bits: three vectors, and the load may be unaligned.
                        unsafe { _mm512_loadu_si512((&raw const *right).cast::<__m512i>().add(at)) }
                    });
                    for (sums, row) in sums.iter_mut().zip(&rows) {
                        // SAFETY: every row was cut to the length of the panel, and `step` is within it.
                        let left = $spread(unsafe { *row.get_unchecked(step) });
                        for (sum, right) in sums.iter_mut().zip(right) {
                            *sum = $multiply_add(*sum, left, right);
                        }
                    }
                }
                for (out, sums) in out.into_iter().zip(sums) {
                    // SAFETY: three vectors of sixteen 32-bit numbers have the bits of a row, in its order.
                    *out = unsafe { transmute::<[$vector; REGISTERS], [<$format as Format>::Sum; COLUMNS]>(sums) };
                }
            }
        };
    }

    tile!(
        tile_f32,
        "avx512f",
        F32,
        __m512,
        _mm512_setzero_ps(),
        |left: f32| _mm512_set1_ps(left),
        |sum, left, right| _mm512_fmadd_ps(left, _mm512_castsi512_ps(right), sum)
    );

    tile!(
        tile_bf16,
        "avx512f,avx512bf16",
        Bf16,
        __m512,
        _mm512_setzero_ps(),
        |[first, second]: [u16; 2]| _mm512_set1_epi32((u32::from(first) | u32::from(second) << 16).cast_signed()),
        // SAFETY: 512 bits are 512 bits; what they hold are brain floats.
        |sum, left, right| unsafe {
            _mm512_dpbf16_ps(sum, transmute::<__m512i, __m512bh>(left), transmute::<__m512i, __m512bh>(right))
        }
    );

    tile!(
        tile_int8,
        "avx512f,avx512vnni",
        Int8,
        __m512i,
        _mm512_setzero_si512(),
        |left: [u8; 4]| _mm512_set1_epi32(i32::from_le_bytes(left)),
        |sum, left, right| _mm512_dpbusd_epi32(sum, left, right)
    );
}

/// No other processor has kernels of its own yet, and `has_instructions` says so.
#[cfg(not(target_arch = "x86_64"))]
mod fast {
    use super::{Bf16, F32, Format, Int8, ROWS, TileMut};

    macro_rules! tile {
        ($name:ident, $format:ty) => {
            pub(super) unsafe fn $name(
                _: [&[<$format as Format>::Left]; ROWS],
                _: &[<$format as Format>::Right],
                _: TileMut<'_, <$format as Format>::Sum>,
            ) {
                unreachable!("this processor was found to have the instructions of another")
            }
        };
    }

    tile!(tile_f32, F32);
    tile!(tile_bf16, Bf16);
    tile!(tile_int8, Int8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length of the inner loop, and what the fast kernel makes of it, next to the reference.
    fn compare<F: Format>(
        left: impl Fn(usize) -> F::Left,
        right: impl Fn(usize) -> F::Right,
        near: impl Fn(F::Sum, F::Sum) -> bool,
    ) where
        F::Sum: std::fmt::Debug,
    {
        let (fast, reference) = (Kernel::<F>::detect(), Kernel::<F>::reference());
        for steps in [0, 1, 2, 3, 7, 64, 193] {
            // One number too many in front of every row: unaligned on purpose.
            let rows: Vec<F::Left> = (0..ROWS * (steps + 1)).map(&left).collect();
            let panel: Vec<F::Right> = (0..=steps).map(&right).collect();
            let rows: [&[F::Left]; ROWS] = std::array::from_fn(|row| &rows[row * (steps + 1) + 1..][..steps]);
            let (mut found, mut expected) =
                ([[F::Sum::default(); COLUMNS]; ROWS], [[F::Sum::default(); COLUMNS]; ROWS]);
            fast.tile(rows, &panel[1..], found.each_mut());
            reference.tile(rows, &panel[1..], expected.each_mut());
            for (row, (found, expected)) in found.iter().flatten().zip(expected.iter().flatten()).enumerate() {
                assert!(near(*found, *expected), "{steps} steps, number {row}: {found:?} for {expected:?}");
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
    fn floats_multiply_as_the_reference_does() {
        compare::<F32>(|at| wave(at, 101), |at| std::array::from_fn(|column| wave(at + 3 * column, 97)), close);
    }

    #[test]
    fn brain_floats_multiply_as_the_reference_does() {
        let half = |x: f32| (x.to_bits() >> 16) as u16;
        compare::<Bf16>(
            |at| [half(wave(at, 101)), half(wave(at + 7, 89))],
            |at| std::array::from_fn(|column| [half(wave(at + column, 97)), half(wave(at + 5 * column, 83))]),
            close,
        );
    }

    #[test]
    fn bytes_multiply_exactly_at_their_extremes_too() {
        let extreme = |at: usize| [0u8, 1, 127, 128, 254, 255][at % 6];
        compare::<Int8>(
            |at| std::array::from_fn(|i| extreme(at * 5 + i)),
            |at| {
                std::array::from_fn(|column| {
                    std::array::from_fn(|i| [-127i8, -1, 0, 1, 127][(at + column * 3 + i) % 5])
                })
            },
            |a, b| a == b,
        );
    }
}
