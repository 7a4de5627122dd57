//! Seeded pseudo-random numbers, identical on every machine and for any number of threads.

/// `SplitMix64` (Steele, Lea, Flood 2014): one 64-bit state, full period, good enough for sampling.
#[derive(Debug, Clone)]
pub(super) struct Rng(u64);

const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Mixes a number so that each output bit depends on every input bit.
#[inline(always)]
pub(super) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// A bijection of 32-bit numbers of the same kind (C. Wellons' "lowbias32"), which vectorises.
#[inline(always)]
pub(super) fn mix32(value: u32) -> u32 {
    let value = (value ^ (value >> 16)).wrapping_mul(0x7FEB_352D);
    let value = (value ^ (value >> 15)).wrapping_mul(0x846C_A68B);
    value ^ (value >> 16)
}

/// Maps a random number to `0..bound` (Lemire's multiply-shift).
#[inline(always)]
pub(super) fn below(random: u32, bound: u32) -> u32 {
    ((u64::from(random) * u64::from(bound)) >> 32) as u32
}

impl Rng {
    /// Continues from a state; callers must use distinct states for distinct purposes.
    pub(super) fn from_state(state: u64) -> Self {
        Self(state)
    }

    /// Creates an independent generator for a stream of a seed.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        Self(mix(mix(seed.wrapping_add(STEP)) ^ stream.wrapping_mul(STEP)))
    }

    #[inline(always)]
    pub(super) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// Returns a number in `0..bound`, for a bound up to 2^32 (Lemire's multiply-shift; the bias is below 2^-32).
    #[inline(always)]
    pub(super) fn below(&mut self, bound: usize) -> usize {
        (((self.next_u64() >> 32) * bound as u64) >> 32) as usize
    }

    /// As [`Rng::below`], for any bound, with a wider multiplication.
    pub(super) fn below_wide(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// Returns a number in `0.0..1.0`.
    pub(super) fn uniform(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Returns a standard normal number (Box and Muller).
    pub(super) fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f32::consts::TAU * self.uniform()).cos()
    }
}
