//! Launch parameters of the kernels in `kernels/kernels.cu`: grid, block, shared memory. Must match the `.cuh` files;
//! tests run both together.

use ::kernels::{Activation, Heads, Reach};

use super::device::{Arg, Device, Fault, FloatFormat, Launch};
use crate::forward::kept_tokens::KeptTokens;

/// Rows per block of the norm kernels, one warp each.
const NORM_ROWS: u32 = 4;
/// Rows per block of the rotation kernel, one warp each.
const ROTATED_ROWS: u32 = 4;
/// The widest row that the norm kernels keep in registers.
const REGISTER_WIDTH_MAX: usize = 1024;
/// Shared memory that every kernel may use without an attribute.
const SHARED_BYTES_MAX: usize = 48 * 1024;
/// The largest head of `attend`.
const HEAD_SIZE_MAX: usize = 256;
/// The largest head whose scores may have a bias by distance.
const BIASED_HEAD_SIZE_MAX: usize = 128;
/// Head sizes with a tensor core kernel.
const FLASH_SIZES: [usize; 8] = [16, 32, 48, 64, 80, 96, 128, 256];
/// Rows per thread of the activation kernel.
const ACTIVATE_ROWS: usize = 8;
/// Maximum of `grid.y`.
const GRID_Y_MAX: u32 = 65_535;
/// Queries per block on tensor cores.
const FLASH_TILE: usize = 64;
/// Queries per block with a warp each.
const PLAIN_TILE: usize = 8;

#[derive(Debug, Clone, Copy)]
pub(crate) struct NormAt {
    pub(crate) weight: u64,
    pub(crate) shift: u64,
    pub(crate) eps: f32,
    /// Whether it is a layer norm; otherwise it is one by the root mean square.
    pub(crate) centered: bool,
}

impl NormAt {
    /// Returns the arguments of a norm that a kernel may leave out.
    fn args(norm: Option<NormAt>) -> [Arg; 4] {
        let NormAt { weight, shift, eps, centered } =
            norm.unwrap_or(NormAt { weight: 0, shift: 0, eps: 0.0, centered: false });
        [Arg::Address(weight), Arg::Address(shift), Arg::Float(eps), number(usize::from(centered))]
    }
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

/// The keys that an attention launch attends to, and what is added to their scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScoringAt {
    /// All keys of the text. As many heads of keys as of queries.
    Everything,
    /// Those near the query's own token.
    Within(Reach),
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

/// Refuses shapes that no kernel supports. `by_distance` is whether attention has a bias by distance.
pub(crate) fn check_shapes(width: usize, heads: Heads, by_distance: bool) -> Result<(), String> {
    let size_max = if by_distance { BIASED_HEAD_SIZE_MAX } else { HEAD_SIZE_MAX };
    if heads.size > size_max {
        return Err(format!("attention heads of {} on a GPU: at most {size_max}", heads.size));
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
    let (grid, code) = (activation_grid(rows, width), activation_code(activation));
    let args = [Arg::Address(x), Arg::Address(bias), number(rows), number(width), code];
    let kernel = format!("activate_{}", format.suffix());
    device.launch(&Launch { kernel: &kernel, grid, block: [128, 1], shared_bytes: 0, args: &args })
}

fn activation_code(activation: Activation) -> Arg {
    Arg::Number(match activation {
        Activation::GeluErf => 0,
        Activation::GeluTanh => 1,
        Activation::Relu => 2,
        Activation::Silu => 3,
    })
}

/// Returns the blocks of 128 threads that take all columns, by eights where possible.
fn activation_grid(rows: usize, width: usize) -> [u32; 2] {
    let threads = if width.is_multiple_of(8) { width / 8 } else { width };
    [count(threads.div_ceil(128)), count(rows.div_ceil(ACTIVATE_ROWS)).min(GRID_Y_MAX)]
}

/// `out[i] = x[chosen[i]]`, row by row.
pub(crate) fn select_rows<D: Device>(
    device: &D,
    format: FloatFormat,
    (x, chosen, out): (u64, u64, u64),
    (rows, width): (usize, usize),
) -> Result<(), Fault> {
    let args = [Arg::Address(x), Arg::Address(chosen), Arg::Address(out), number(width)];
    let kernel = format!("select_rows_{}", format.suffix());
    device.launch(&Launch { kernel: &kernel, grid: [count(rows), 1], block: [256, 1], shared_bytes: 0, args: &args })
}

/// What a sum in f32 begins with, or what is added to it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AddedAt {
    /// The rows of a table by ids.
    Words { words: u64, ids: u64 },
    /// Rows and a bias in f32.
    Output { x: u64, bias: u64 },
}

/// Begins a sum with words, or adds an output to it: `sum += norms[0](added)`, `out = norms[1](sum)`, row by row.
pub(crate) fn add_to_sum<D: Device>(
    device: &D,
    format: FloatFormat,
    added: AddedAt,
    (sum, out): (u64, u64),
    norms: [Option<NormAt>; 2],
    (rows, width): (usize, usize),
) -> Result<(), Fault> {
    let (grid, block, shared_bytes) = norm_shape(rows, width);
    let (name, added) = match added {
        AddedAt::Words { words, ids } => ("begin_sum", [words, ids]),
        AddedAt::Output { x, bias } => ("add_to_sum", [x, bias]),
    };
    let mut args = [added, [sum, out]].concat().into_iter().map(Arg::Address).collect::<Vec<_>>();
    args.extend(norms.into_iter().flat_map(NormAt::args));
    args.extend([number(rows), number(width), number(usize::from(shared_bytes > 0))]);
    let kernel = format!("{name}_{}", format.suffix());
    device.launch(&Launch { kernel: &kernel, grid, block, shared_bytes, args: &args })
}

/// Normalises heads by their root mean square if there is a norm, and rotates the pairs `(i, size / 2 + i)` of their
/// components by the position of their row times the frequency of `i`, in place. `rows` begin with the first head.
pub(crate) fn rotate<D: Device>(
    device: &D,
    format: FloatFormat,
    (rows, count_of_rows): (RowsAt, usize),
    heads: Heads,
    (positions, frequencies): (u64, u64),
    norm: Option<NormAt>,
) -> Result<(), Fault> {
    let [weight, _, eps, _] = NormAt::args(norm);
    let args = [
        Arg::Address(rows.address),
        number(rows.stride),
        number(heads.count),
        number(heads.size / 2),
        Arg::Address(positions),
        Arg::Address(frequencies),
        weight,
        eps,
        number(count_of_rows),
    ];
    let kernel = format!("rotate_{}", format.suffix());
    let grid = [count(count_of_rows).div_ceil(ROTATED_ROWS), 1];
    device.launch(&Launch { kernel: &kernel, grid, block: [32, ROTATED_ROWS], shared_bytes: 0, args: &args })
}

/// `out = activation(gate + bias) * (other + bias)`, where the rows of `x` are a gate and what it multiplies, `width`
/// numbers each; `bias` is f32.
pub(crate) fn gate<D: Device>(
    device: &D,
    format: FloatFormat,
    (x, bias, out): (u64, u64, u64),
    (rows, width): (usize, usize),
    activation: Activation,
) -> Result<(), Fault> {
    let (grid, code) = (activation_grid(rows, width), activation_code(activation));
    let args = [Arg::Address(x), Arg::Address(bias), Arg::Address(out), number(rows), number(width), code];
    let kernel = format!("gate_{}", format.suffix());
    device.launch(&Launch { kernel: &kernel, grid, block: [128, 1], shared_bytes: 0, args: &args })
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
pub(crate) fn tile_queries(format: FloatFormat, heads: Heads, selection: KeptTokens) -> usize {
    match (selection, uses_tensor_cores(format, heads)) {
        (KeptTokens::First | KeptTokens::Last, _) => 1,
        (KeptTokens::Every, true) => FLASH_TILE,
        (KeptTokens::Every, false) => PLAIN_TILE,
    }
}

/// Returns whether attention of every token runs on tensor cores.
pub(crate) fn uses_tensor_cores(format: FloatFormat, heads: Heads) -> bool {
    format != FloatFormat::F32 && FLASH_SIZES.contains(&heads.size)
}

/// Returns the tiles of texts at `offsets`: pairs of a text and its first query.
pub(crate) fn tiles(offsets: &[u32], queries: usize, selection: KeptTokens) -> Vec<u32> {
    let mut tiles = Vec::new();
    for (text, span) in offsets.windows(2).enumerate() {
        let length = match selection {
            KeptTokens::Every => span[1] - span[0],
            KeptTokens::First | KeptTokens::Last => 1,
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
    /// The tokens whose queries there are.
    pub(crate) selection: KeptTokens,
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
    let flash = selection == KeptTokens::Every && uses_tensor_cores(format, heads);
    let mut args = attention_args(attention, flash);
    let grid = [count(attention.tile_count), count(heads.count)];
    if flash {
        let (name, bias_bytes) = match scoring {
            ScoringAt::Everything => ("flash", 0),
            ScoringAt::Within(_) => ("flash_within", 0),
            ScoringAt::Biased { .. } => ("flash_biased", 2 * 2 * FLASH_TILE * 4),
        };
        let kernel = format!("{name}_{}_{}", format.suffix(), heads.size);
        // Queries, and two steps of keys and of values.
        let rows = FLASH_TILE + 4 * if heads.size <= 128 { 64 } else { 32 };
        let shared_bytes = count(rows * (heads.size + 8) * format.bytes() + bias_bytes);
        return device.launch(&Launch { kernel: &kernel, grid, block: [128, 1], shared_bytes, args: &args });
    }
    let code = match selection {
        KeptTokens::Every => 0,
        KeptTokens::First => 1,
        KeptTokens::Last => 2,
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
    let (reach, (bias, bias_tokens)) = match scoring {
        ScoringAt::Everything => (Reach::ALL, (0, 0)),
        ScoringAt::Within(reach) => (reach, (0, 0)),
        ScoringAt::Biased { numbers, tokens } => (Reach::ALL, (numbers, tokens)),
    };
    assert!(
        matches!(scoring, ScoringAt::Within(_)) || key_heads == heads.count,
        "heads share keys only within a reach"
    );
    // Longer than any text is as good as unlimited.
    let limit = |tokens: usize| Arg::Number(u32::try_from(tokens).unwrap_or(u32::MAX));
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
        limit(reach.before),
        limit(reach.after),
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
        assert_eq!(tiles(&[0, 3, 133, 197], 64, KeptTokens::Every), [0, 0, 1, 0, 1, 64, 1, 128, 2, 0]);
        assert_eq!(tiles(&[0, 3, 133], 1, KeptTokens::First), [0, 0, 1, 0]);
    }

    #[test]
    fn norm_kernels_stay_within_default_shared_memory() {
        for width in [1, 7, 8, 100, 384, 1024, 1032, 4096, 12_288] {
            let (grid, block, shared) = norm_shape(10, width);
            assert!(shared as usize <= SHARED_BYTES_MAX && grid[0] * block[1] >= 10, "{width}");
        }
        assert!(check_shapes(12_289, Heads { count: 1, size: 64 }, false).is_err());
        assert!(check_shapes(768, Heads { count: 1, size: 257 }, false).is_err());
        assert!(check_shapes(768, Heads { count: 3, size: 256 }, true).is_err());
    }
}
