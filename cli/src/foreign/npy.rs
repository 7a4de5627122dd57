//! Arrays of `NumPy`: two dimensions of floating-point numbers.
//!
//! Candle's reader allocates what the header declares before it looks at the file, and refuses Fortran's order.

use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use dataset::vectors::place;

const MAGIC: &[u8] = b"\x93NUMPY";
/// A longer header is none.
const HEADER_BYTES_MAX: usize = 1 << 16;

/// A matrix, one row after the other.
#[derive(Debug, PartialEq)]
pub(super) struct Matrix {
    pub(super) rows: usize,
    pub(super) width: usize,
    pub(super) values: Vec<f32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    F16,
    F32,
    F64,
}

impl Kind {
    fn bytes(self) -> usize {
        match self {
            Kind::F16 => 2,
            Kind::F32 => 4,
            Kind::F64 => 8,
        }
    }

    fn value(self, bytes: &[u8]) -> f32 {
        const SIZE: &str = "bytes are read by the size of the kind";
        match self {
            Kind::F16 => half::f16::from_le_bytes(bytes.try_into().expect(SIZE)).to_f32(),
            Kind::F32 => f32::from_le_bytes(bytes.try_into().expect(SIZE)),
            Kind::F64 => f64::from_le_bytes(bytes.try_into().expect(SIZE)) as f32,
        }
    }
}

struct Header {
    kind: Kind,
    by_column: bool,
    rows: usize,
    width: usize,
}

/// Reads a `.npy` file, which may be at a URL.
///
/// # Errors
/// It cannot be read, or holds no matrix of f16, f32 or f64.
pub(super) fn read(path: &Path) -> anyhow::Result<Matrix> {
    let size = place::size_of(path)?.with_context(|| format!("there is no `{}`", path.display()))?;
    let cannot = || format!("cannot use `{}`", path.display());
    parse(&mut BufReader::with_capacity(1 << 20, place::open(path)?), size).with_context(cannot)
}

fn parse(file: &mut impl Read, size: u64) -> anyhow::Result<Matrix> {
    let (header, before) = header(file)?;
    let Header { kind, by_column, rows, width } = header;
    let bytes = rows.checked_mul(width).and_then(|numbers| numbers.checked_mul(kind.bytes()));
    let bytes = bytes.context("its shape is too large")?;
    let found = size.saturating_sub(before as u64);
    ensure!(found == bytes as u64, "{found} bytes follow its header, which promises {bytes}");
    let mut values = vec![0.0; rows * width];
    let mut piece = vec![0; kind.bytes() * if by_column { rows } else { width }];
    if piece.is_empty() {
        return Ok(Matrix { rows, width, values });
    }
    for line in 0..if by_column { width } else { rows } {
        file.read_exact(&mut piece)?;
        let numbers = piece.chunks_exact(kind.bytes()).map(|bytes| kind.value(bytes));
        match by_column {
            false => values[line * width..(line + 1) * width].iter_mut().zip(numbers).for_each(|(to, x)| *to = x),
            true => values[line..].iter_mut().step_by(width).zip(numbers).for_each(|(to, x)| *to = x),
        }
    }
    Ok(Matrix { rows, width, values })
}

/// Reads the header, and tells how long it is with all that precedes the array.
fn header(file: &mut impl Read) -> anyhow::Result<(Header, usize)> {
    let mut start = [0; 8];
    file.read_exact(&mut start).ok().filter(|()| start.starts_with(MAGIC)).context("it is no .npy file")?;
    let mut length = vec![0; if start[6] == 1 { 2 } else { 4 }];
    file.read_exact(&mut length)?;
    let before = start.len() + length.len();
    let length = length.iter().rev().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
    ensure!(length <= HEADER_BYTES_MAX, "its header is too long");
    let mut text = vec![0; length];
    file.read_exact(&mut text)?;
    let text = String::from_utf8(text).context("its header is not UTF-8")?;
    let value = |key: &str| {
        let rest = text.split_once(&format!("'{key}':")).map(|(_, rest)| rest.trim_start());
        rest.with_context(|| format!("its header has no `{key}`"))
    };
    let kind = match value("descr")?.split('\'').nth(1).context("its elements are records")? {
        "<f2" => Kind::F16,
        "<f4" => Kind::F32,
        "<f8" => Kind::F64,
        other => bail!("its elements are `{other}`: save it as float32, as by `array.astype(\"float32\")`"),
    };
    let by_column = value("fortran_order")?.starts_with("True");
    let shape = value("shape")?.trim_start_matches('(').split(')').next().unwrap_or_default();
    let shape: Vec<usize> = shape
        .split(',')
        .map(str::trim)
        .filter(|length| !length.is_empty())
        .map(str::parse)
        .collect::<Result<_, _>>()
        .context("its shape is not readable")?;
    let [rows, width] = shape[..] else { bail!("it has {} dimensions, not 2: a vector per row", shape.len()) };
    Ok((Header { kind, by_column, rows, width }, before + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(header: &str, values: &[u8]) -> Vec<u8> {
        let mut bytes = [MAGIC, &[1, 0], &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat();
        bytes.extend(values);
        bytes
    }

    fn parsed(header: &str, values: &[u8]) -> anyhow::Result<Matrix> {
        let bytes = npy(header, values);
        parse(&mut bytes.as_slice(), bytes.len() as u64)
    }

    #[test]
    fn matrices_of_floats_are_read_in_both_orders() {
        let singles: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let by_row = parsed("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", &singles).unwrap();
        assert_eq!(by_row, Matrix { rows: 2, width: 3, values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] });
        let by_column = parsed("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }\n", &singles).unwrap();
        assert_eq!(by_column.values, [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
        let doubles: Vec<u8> = [0.5_f64, -1.5].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(
            parsed("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2)}", &doubles).unwrap().values,
            [0.5, -1.5]
        );
        let halves: Vec<u8> = [0x3c00_u16, 0xc000].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(
            parsed("{'descr': '<f2', 'fortran_order': False, 'shape': (2, 1)}", &halves).unwrap().values,
            [1.0, -2.0]
        );
    }

    #[test]
    fn what_is_no_matrix_of_floats_is_refused_by_what_it_is() {
        let refused = |header: &str, bytes: &[u8]| format!("{:#}", parsed(header, bytes).unwrap_err());
        let with = |kind: &str, shape: &str| format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}");
        assert!(refused(&with("<i8", "(1, 1)"), &[0; 8]).contains("`<i8`"));
        assert!(refused(&with("<f4", "(4,)"), &[0; 16]).contains("1 dimensions"));
        assert!(refused(&with("<f4", "(2, 2)"), &[0; 12]).contains("12 bytes follow"));
        assert!(refused(&with("<f4", "(99999999999, 99999999999)"), &[]).contains("too large"));
        assert!(refused(&with("<f4", "(999999999, 999)"), &[]).contains("promises"), "nothing is allocated for it");
        assert!(parse(&mut b"text".as_slice(), 4).unwrap_err().to_string().contains("no .npy file"));
    }
}
