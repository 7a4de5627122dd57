//! Detects the encoding of a text, and other file types, by the first bytes.

use encoding_rs::{Encoding, UTF_8};

/// Bytes that [`sniff`] needs.
pub(crate) const FRONT_BYTES: u64 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sniffed {
    /// The encoding to decode from; `None` for UTF-8.
    pub(crate) encoding: Option<&'static Encoding>,
    /// Length of the byte order mark.
    pub(crate) mark: usize,
}

const UTF_32: &str = "it is UTF-32 text: convert it first, for example `iconv -f UTF-32 -t UTF-8`";
/// The first bytes of other file types, and what to do with them.
pub(crate) const SIGNATURES: [(&[u8], &str); 7] = [
    // Must precede UTF-16, whose mark is a prefix of it.
    (&[0xff, 0xfe, 0, 0], UTF_32),
    (&[0, 0, 0xfe, 0xff], UTF_32),
    (&[0x1f, 0x8b], "its text is gzip data: add .gz to its name, or decompress it"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "its text is zstd data: add .zst to its name, or decompress it"),
    (b"PK\x03\x04", "it is a zip archive (or a spreadsheet): unpack it, or save it as CSV"),
    (b"PAR1", "it is a parquet file: use --format parquet, or name it .parquet"),
    (b"ARROW1", "it is an arrow file: use --format arrow, or name it .arrow"),
];

/// Determines the encoding: that of a byte order mark, else `given`, else UTF-8. Fails with the actual file type if
/// the first bytes are those of another.
pub(crate) fn sniff(front: &[u8], given: Option<&'static Encoding>) -> Result<Sniffed, &'static str> {
    if let Some((_, problem)) = SIGNATURES.iter().find(|(signature, _)| front.starts_with(signature)) {
        return Err(problem);
    }
    let (encoding, mark) = Encoding::for_bom(front).unwrap_or((given.unwrap_or(UTF_8), 0));
    Ok(Sniffed { encoding: Some(encoding).filter(|encoding| *encoding != UTF_8), mark })
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
