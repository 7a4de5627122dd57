//! Launch parameters of the kernels in `kernels/kernels.cu`: grid, block, shared memory. Must match the `.cuh` files;
//! tests run both together.

use ::kernels::{Activation, Heads};

use super::device::{Arg, Device, Fault, FloatFormat, Launch};

/// Rows per block of the norm kernels, one warp each.
const NORM_ROWS: u32 = 4;
/// The widest row that the norm kernels keep in registers.
const REGISTER_WIDTH_MAX: usize = 1024;
/// Shared memory that every kernel may use without an attribute.
const SHARED_BYTES_MAX: usize = 48 * 1024;
/// The largest head of `attend`.
const HEAD_SIZE_MAX: usize = 256;
/// Head sizes with a tensor core kernel.
const FLASH_SIZES: [usize; 7] = [16, 32, 48, 64, 80, 96, 128];
/// Rows per thread of the activation kernel.
const ACTIVATE_ROWS: usize = 8;
/// Maximum of `grid.y`.
const GRID_Y_MAX: u32 = 65_535;
/// Queries per block, and keys per step, on tensor cores.
const FLASH_TILE: usize = 64;
/// Queries per block with a warp each.
const PLAIN_TILE: usize = 8;

#[derive(Debug, Clone, Copy)]
pub(crate) struct NormAt {
    pub(crate) weight: u64,
    pub(crate) shift: u64,
    pub(crate) eps: f32,
}

/// Rows on the device: address of the first number, and stride in numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowsAt {
    pub(crate) address: u64,
    pub(crate) stride: usize,
}

/// Number of a pooling in the `pool` kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoolCode {
    Mean = 1,
    Max = 2,
    Last = 3,
    /// Each text has exactly one row.
    Only = 4,
    First = 5,
    MeanSqrtLen = 6,
    WeightedMean = 7,
}

/// The queries of an attention launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QuerySelection {
    /// Every token of every text.
    EveryToken,
    /// The first token of each text: one row per text.
    FirstToken,
}

/// The keys that an attention launch attends to, and what is added to their scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScoringAt {
    /// All keys of the text. As many heads of keys as of queries.
    Everything,
    /// All keys of the text, with a bias in f32 by head and distance from query to key, from `1 - tokens` to
    /// `tokens - 1`. As many heads of keys as of queries.
    Biased { numbers: u64, tokens: usize },
}

fn number(value: usize) -> Arg {
    Arg::Number(u32::try_from(value).expect("sizes on a GPU fit 32 bits"))
}

fn count(value: usize) -> u32 {
    u32::try_from(value).expect("grids of a GPU fit 32 bits")
}

/// Refuses shapes that no kernel supports.
pub(crate) fn check_shapes(width: usize, heads: Heads) -> Result<(), String> {
    if heads.size > HEAD_SIZE_MAX {
        return Err(format!("attention heads of {} on a GPU: at most {HEAD_SIZE_MAX}", heads.size));
    }
    if width * 4 > SHARED_BYTES_MAX {
        return Err(format!("vectors of {width} on a GPU: at most {}", SHARED_BYTES_MAX / 4));
    }
    Ok(())
}

/// Returns grid, block and shared memory of a norm over rows of `width`.
fn norm_shape(rows: usize, width: usize) -> ([u32; 2], [u32; 2], u32) {
    let in_registers = width.is_multiple_of(8) && width <= REGISTER_WIDTH_MAX;
    let fitting = count(SHARED_BYTES_MAX / (4 * width)).clamp(1, NORM_ROWS);
    let (rows_per_block, shared) = if in_registers { (NORM_ROWS, 0) } else { (fitting, fitting * count(width) * 4) };
    ([count(rows).div_ceil(rows_per_block), 1], [32, rows_per_block], shared)
}

/// `out[i] = norm(words[ids[i]] + positions[places[i]])`.
#[allow(clippy::too_many_arguments, reason = "the arguments of the kernel, in its order")]
pub(crate) fn embed_norm<D: Device>(
    device: &D,
    format: FloatFormat,
    (words, positions): (u64, u64),
    (ids, places): (u64, u64),
    out: u64,
    norm: NormAt,
    (rows, width): (usize, usize),
) -> Result<(), Fault> {
    let (grid, block, shared_bytes) = norm_shape(rows, width);
    let args = [
        Arg::Address(words),
        Arg::Address(positions),
        Arg::Address(ids),
        Arg::Address(places),
        Arg::Address(out),
        Arg::Address(norm.weight),
        Arg::Address(norm.shift),
        Arg::Float(norm.eps),
        number(rows),
        number(width),
        number(usize::from(shared_bytes > 0)),
    ];
    let kernel = format!("embed_norm_{}", format.suffix());
    device.launch(&Launch { kernel: &kernel, grid, block, shared_bytes, args: &args })
}

/// `out = norm(x + bias + residual)`, row by row; `bias` is f32.
#[allow(clippy::too_many_arguments, reason = "the arguments of the kernel, in its order")]
pub(crate) fn add_norm<D: Device>(
    device: &D,
    format: FloatFormat,
    (x, bias, residual): (u64, u64, u64),
    out: u64,
    norm: NormAt,
    (rows, width): (usize, usize),
) -> Result<(), Fault> {
    let (grid, block, shared_bytes) = norm_shape(rows, width);
    let args = [
        Arg::Address(x),
        Arg::Address(bias),
        Arg::Address(residual),
        Arg::Address(out),
        Arg::Address(norm.weight),
        Arg::Address(norm.shift),
        Arg::Float(norm.eps),
        number(rows),
        number(width),
        number(usize::from(shared_bytes > 0)),
    ];
    let kernel = format!("add_norm_{}", format.suffix());
    device.launch(&Launch { kernel: &kernel, grid, block, shared_bytes, args: &args })
}

/// `x = activation(x + bias)` in place; `bias` is f32.
pub(crate) fn activate<D: Device>(
    device: &D,
    format: FloatFormat,
    (x, bias): (u64, u64),
    (rows, width): (usize, usize),
    activation: Activation,
) -> Result<(), Fault> {
    let code = match activation {
        Activation::GeluErf => 0,
        Activation::GeluTanh => 1,
        Activation::Relu => 2,
        Activation::Silu => 3,
    };
    let threads = if width.is_multiple_of(8) { width / 8 } else { width };
    let args = [Arg::Address(x), Arg::Address(bias), number(rows), number(width), Arg::Number(code)];
    let kernel = format!("activate_{}", format.suffix());
    let grid = [count(threads.div_ceil(128)), count(rows.div_ceil(ACTIVATE_ROWS)).min(GRID_Y_MAX)];
    device.launch(&Launch { kernel: &kernel, grid, block: [128, 1], shared_bytes: 0, args: &args })
}

/// `out[i] = x[offsets[i]]`, row by row.
pub(crate) fn first_tokens<D: Device>(
    device: &D,
    format: FloatFormat,
    (x, offsets, out): (u64, u64, u64),
    (texts, width): (usize, usize),
) -> Result<(), Fault> {
    let args = [Arg::Address(x), Arg::Address(offsets), Arg::Address(out), number(width)];
    let kernel = format!("first_tokens_{}", format.suffix());
    device.launch(&Launch { kernel: &kernel, grid: [count(texts), 1], block: [256, 1], shared_bytes: 0, args: &args })
}

/// `out[i]` is the pooling of the rows `offsets[i] + left_out..offsets[i + 1]`, in f32.
pub(crate) fn pool<D: Device>(
    device: &D,
    format: FloatFormat,
    (x, offsets, out): (u64, u64, u64),
    (texts, width): (usize, usize),
    (pooling, excluded): (PoolCode, usize),
) -> Result<(), Fault> {
    let how = [number(width), Arg::Number(pooling as u32), number(excluded)];
    let args = [Arg::Address(x), Arg::Address(offsets), Arg::Address(out), how[0], how[1], how[2]];
    let kernel = format!("pool_{}", format.suffix());
    device.launch(&Launch { kernel: &kernel, grid: [count(texts), 1], block: [256, 1], shared_bytes: 0, args: &args })
}

/// Returns the queries per block.
pub(crate) fn tile_queries(format: FloatFormat, heads: Heads, selection: QuerySelection) -> usize {
    match (selection, uses_tensor_cores(format, heads)) {
        (QuerySelection::FirstToken, _) => 1,
        (QuerySelection::EveryToken, true) => FLASH_TILE,
        (QuerySelection::EveryToken, false) => PLAIN_TILE,
    }
}

/// Returns whether attention of every token runs on tensor cores.
pub(crate) fn uses_tensor_cores(format: FloatFormat, heads: Heads) -> bool {
    format != FloatFormat::F32 && FLASH_SIZES.contains(&heads.size)
}

/// Returns the tiles of texts at `offsets`: pairs of a text and its first query.
pub(crate) fn tiles(offsets: &[u32], queries: usize, selection: QuerySelection) -> Vec<u32> {
    let mut tiles = Vec::new();
    for (text, span) in offsets.windows(2).enumerate() {
        let length = match selection {
            QuerySelection::EveryToken => span[1] - span[0],
            QuerySelection::FirstToken => 1,
        };
        for first in (0..length).step_by(queries) {
            tiles.extend([count(text), first]);
        }
    }
    tiles
}

/// Operands of an attention launch. Rows of keys and values have the same stride.
#[derive(Clone, Copy)]
pub(crate) struct Attention {
    pub(crate) format: FloatFormat,
    /// Of queries, which share the heads of keys in turn: head `i` has the keys of head `i % key_heads`.
    pub(crate) heads: Heads,
    pub(crate) key_heads: usize,
    pub(crate) selection: QuerySelection,
    pub(crate) scoring: ScoringAt,
    pub(crate) queries: RowsAt,
    pub(crate) keys: RowsAt,
    pub(crate) values: RowsAt,
    /// `[queries, heads.count * heads.size]`, contiguous.
    pub(crate) out: u64,
    pub(crate) offsets: u64,
    /// Pairs from [`tiles`], with [`tile_queries`] queries per tile.
    pub(crate) tiles: u64,
    pub(crate) tile_count: usize,
}

/// Computes the attention of every query to the keys of its text.
pub(crate) fn attention<D: Device>(device: &D, attention: &Attention) -> Result<(), Fault> {
    let Attention { format, heads, selection, scoring, .. } = *attention;
    let flash = selection == QuerySelection::EveryToken && uses_tensor_cores(format, heads);
    let mut args = attention_args(attention, flash);
    let grid = [count(attention.tile_count), count(heads.count)];
    if flash {
        let (name, bias_bytes) = match scoring {
            ScoringAt::Everything => ("flash", 0),
            ScoringAt::Biased { .. } => ("flash_biased", 2 * 2 * FLASH_TILE * 4),
        };
        let kernel = format!("{name}_{}_{}", format.suffix(), heads.size);
        let shared_bytes = count(5 * FLASH_TILE * (heads.size + 8) * format.bytes() + bias_bytes);
        return device.launch(&Launch { kernel: &kernel, grid, block: [128, 1], shared_bytes, args: &args });
    }
    let code = match selection {
        QuerySelection::EveryToken => 0,
        QuerySelection::FirstToken => 1,
    };
    args.extend([number(heads.size), Arg::Number(code)]);
    let kernel = format!("attend_{}", format.suffix());
    let warps = count(tile_queries(format, heads, selection).min(PLAIN_TILE));
    let shared_bytes = warps * count(heads.size) * 4;
    device.launch(&Launch { kernel: &kernel, grid, block: [32, warps], shared_bytes, args: &args })
}

/// Returns the arguments that all kernels of attention have.
fn attention_args(attention: &Attention, flash: bool) -> Vec<Arg> {
    let Attention { heads, key_heads, scoring, queries, keys, values, .. } = *attention;
    assert_eq!(keys.stride, values.stride, "keys and values are columns of the same rows");
    let root = (heads.size as f32).sqrt();
    let (bias, bias_tokens) = match scoring {
        ScoringAt::Everything => (0, 0),
        ScoringAt::Biased { numbers, tokens } => (numbers, tokens),
    };
    assert_eq!(key_heads, heads.count, "heads share no keys here");
    vec![
        Arg::Address(queries.address),
        Arg::Address(keys.address),
        Arg::Address(values.address),
        Arg::Address(attention.out),
        number(queries.stride),
        number(keys.stride),
        number(heads.count * heads.size),
        number(key_heads),
        // The tensor core kernels use 2^x.
        Arg::Float(if flash { std::f32::consts::LOG2_E / root } else { 1.0 / root }),
        // Unlimited, before and after.
        Arg::Number(u32::MAX),
        Arg::Number(u32::MAX),
        Arg::Address(bias),
        number(bias_tokens),
        Arg::Float(root),
        Arg::Address(attention.offsets),
        Arg::Address(attention.tiles),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_every_query_once() {
        assert_eq!(tiles(&[0, 3, 133, 197], 64, QuerySelection::EveryToken), [0, 0, 1, 0, 1, 64, 1, 128, 2, 0]);
        assert_eq!(tiles(&[0, 3, 133], 1, QuerySelection::FirstToken), [0, 0, 1, 0]);
    }

    #[test]
    fn norm_kernels_stay_within_default_shared_memory() {
        for width in [1, 7, 8, 100, 384, 1024, 1032, 4096, 12_288] {
            let (grid, block, shared) = norm_shape(10, width);
            assert!(shared as usize <= SHARED_BYTES_MAX && grid[0] * block[1] >= 10, "{width}");
        }
        assert!(check_shapes(12_289, Heads { count: 1, size: 64 }).is_err());
        assert!(check_shapes(768, Heads { count: 1, size: 257 }).is_err());
    }
}
