//! The header of the `NumPy` format, version 1.0; the array follows it.

use std::io::{self, Write};

use super::Shape;

const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";
/// The array begins at a multiple of this.
const ALIGNMENT: usize = 64;

pub(super) fn begin(sink: &mut impl Write, shape: &Shape<'_>) -> io::Result<()> {
    let (kind, rows, width) = (shape.element().npy, shape.rows, shape.width());
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({rows}, {width}), }}");
    // The header's length (2 bytes) precedes it, a newline ends it.
    let used = MAGIC.len() + 2 + header.len() + 1;
    header.extend(std::iter::repeat_n(' ', used.next_multiple_of(ALIGNMENT) - used));
    header.push('\n');
    let length = u16::try_from(header.len()).expect("the header is about a hundred bytes");
    sink.write_all(MAGIC)?;
    sink.write_all(&length.to_le_bytes())?;
    sink.write_all(header.as_bytes())
}
