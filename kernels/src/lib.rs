//! CPU kernels over plain slices, each on the calling thread: matrix products, attention, norms and activations. All
//! unsafe CPU code of the project is here, with its tests.
//!
//! Matrix products have AVX-512 and AVX2 kernels (`tile/`). Everything else is safe Rust that the compiler vectorises,
//! run through `vectorized`, which compiles each caller for several instruction sets and picks the widest at run time.
//! Sums have a fixed order and number of lanes and never cross rows: a row gives the same bits in every batch. (Except
//! where the gemm crate multiplies, as on ARM: it sums in another order for few rows.)

mod activation;
mod attention;
mod first_token;
mod matmul;
mod norm;
mod packed;
mod quantize;
mod rows;
mod rows_view;
mod slab;
mod tile;

pub use activation::{Activation, activate, gate};
pub use attention::{
    Heads, Precision, Reach, RelativePositions, ScoreBias, Scoring, Window, attend, attend_disentangled, attend_within,
};
pub use first_token::{KeysValues, attend_first_token};
pub use matmul::dot_products;
pub use norm::{add_layer_norm, embed_layer_norm, layer_norm, rms_norm};
pub use packed::{PackedWeights, Scratch, WeightFormat};
pub use rows::PackedRows;
pub use rows_view::RowsView;

/// Lanes of a partial sum: one AVX-512 register, or two of AVX2.
const LANES: usize = 16;

/// 1.5 * 2^23: adding it rounds a number to the nearest integer, held in the low bits; subtracting it gives that
/// number.
const ROUNDING_MAGIC: f32 = 12_582_912.0;

/// Runs `work` compiled for the widest vector instructions available. Code to be vectorised must be inlined into the
/// closure.
#[inline(always)]
fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// Sums in lanes, then the lanes pairwise.
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
