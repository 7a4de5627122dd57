//! The loops that the time goes into on a CPU: matrix products, attention, norms and activations over plain slices, on one
//! thread. All unsafe CPU code of the project is here, with its tests.
//!
//! Matrix products have kernels of their own (`tile/`) where the processor has AVX-512 or AVX2. Everything else is safe Rust,
//! written so that the compiler vectorises it, and run through `vectorized`, which compiles each caller once per
//! instruction set and picks the widest that the processor has. Sums run in a fixed order over a fixed number of lanes,
//! and never across rows: the same row gives the same bits in every batch. (Not on processors that the gemm crate multiplies for,
//! such as ARM's: it adds up in another order for few rows.)

mod activation;
mod attention;
mod first_token;
mod matmul;
mod norm;
mod packed;
mod quantize;
mod rows;
mod slab;
mod tile;

pub use activation::{Activation, activate};
pub use attention::{Heads, Precision, RelativePositions, attend, attend_disentangled, attend_sliding_window};
pub use first_token::{KeysValues, attend_first_token};
pub use matmul::dot_products;
pub use norm::{add_layer_norm, embed_layer_norm, layer_norm};
pub use packed::{PackedWeights, RowsView, Scratch, WeightFormat};
pub use rows::PackedRows;

/// Lanes of a partial sum: two AVX-512 registers, or four of AVX2.
const LANES: usize = 16;

/// 1.5 * 2^23: adding it rounds a number to the nearest whole one, which then sits in the low bits; taking it off again
/// gives that number.
const ROUNDING_MAGIC: f32 = 12_582_912.0;

/// Runs `work`, compiled for the widest vector instructions at hand. Whatever is to be vectorised has to be inlined
/// into the closure.
#[inline(always)]
fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// Adds up in lanes, then the lanes pairwise.
#[inline(always)]
fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += chunk[lane];
        }
    }
    for (lane, value) in rest.iter().enumerate() {
        lanes[lane] += value;
    }
    reduce_sum(lanes)
}

#[inline(always)]
fn reduce_sum(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}
