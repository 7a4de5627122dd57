//! What the text formats have in common: finding record ends in a stream of blocks, and telling what a file really is
//! by its first bytes.

use crate::corpus::{Format, csv, jsonl, txt};

/// Finds record ends in consecutive blocks of a text. Holds no bytes: a record of any size costs nothing.
#[derive(Debug, Clone)]
pub(crate) enum Splitter {
    /// CSV and TSV.
    Csv(csv::Splitter),
    /// JSON lines.
    Jsonl(jsonl::Splitter),
    /// Lines.
    Txt(txt::Splitter),
}

/// What is left when the text ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// No record is begun.
    Nothing,
    /// The last record lacks its line end, which is fine.
    Record,
    /// The last record opened a quote, spans lines, and never closes the quote: it may have swallowed other records.
    OpenQuote,
}

impl Splitter {
    /// Makes the splitter of a text format, or `None` for a columnar one.
    pub(crate) fn new(format: Format) -> Option<Splitter> {
        match format {
            Format::Csv => Some(Splitter::Csv(csv::Splitter::new(b','))),
            Format::Tsv => Some(Splitter::Csv(csv::Splitter::new(b'\t'))),
            Format::Jsonl => Some(Splitter::Jsonl(jsonl::Splitter::default())),
            Format::Txt => Some(Splitter::Txt(txt::Splitter::default())),
            Format::Parquet | Format::Arrow => None,
        }
    }

    /// Returns where in `block` the current record ends, its line end included, and is then at the start of the next;
    /// or `None` where all of `block` belongs to a record (or to nothing) that goes on in the next block. The end can be
    /// 0: a record that ended with the CR at the end of the block before.
    pub(crate) fn find_end(&mut self, block: &[u8]) -> Option<usize> {
        match self {
            Splitter::Csv(splitter) => splitter.find_end(block),
            Splitter::Jsonl(splitter) => splitter.find_end(block),
            Splitter::Txt(splitter) => splitter.find_end(block),
        }
    }

    /// Tells what is left where the text ends.
    pub(crate) fn finish(&self) -> Tail {
        match self {
            Splitter::Csv(splitter) => splitter.finish(),
            Splitter::Jsonl(splitter) => splitter.finish(),
            Splitter::Txt(splitter) => splitter.finish(),
        }
    }
}

/// Returns the length of the UTF-8 byte order mark at the front of a text (0 or 3).
///
/// # Errors
/// Says what the file really is where its first bytes are no UTF-8 text.
pub(crate) fn byte_order_mark(front: &[u8]) -> Result<u64, &'static str> {
    const SIGNATURES: [(&[u8], &str); 8] = [
        (&[0xff, 0xfe], "it is UTF-16 or UTF-32 text: convert it first, for example `iconv -f UTF-16 -t UTF-8`"),
        (&[0xfe, 0xff], "it is UTF-16 text: convert it first, for example `iconv -f UTF-16 -t UTF-8`"),
        (&[0, 0, 0xfe, 0xff], "it is UTF-32 text: convert it first, for example `iconv -f UTF-32 -t UTF-8`"),
        (&[0x1f, 0x8b], "its text is gzip data: add .gz to its name, or decompress it"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "its text is zstd data: add .zst to its name, or decompress it"),
        (b"PK\x03\x04", "it is a zip archive (or a spreadsheet): unpack it, or save it as CSV"),
        (b"PAR1", "it is a parquet file: use --format parquet, or name it .parquet"),
        (b"ARROW1", "it is an arrow file: use --format arrow, or name it .arrow"),
    ];
    match SIGNATURES.iter().find(|(signature, _)| front.starts_with(signature)) {
        Some((_, problem)) => Err(problem),
        None if front.starts_with(b"\xef\xbb\xbf") => Ok(3),
        None => Ok(0),
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
