//! What the text formats have in common: finding record ends in a stream of blocks, and telling what a file really is
//! by its first bytes.

use encoding_rs::{Encoding, UTF_8};
use spec::Format;

use crate::corpus::dialect::Dialect;
use crate::corpus::{csv, jsonl, txt};

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
    pub(crate) fn new(format: Format, dialect: Dialect) -> Option<Splitter> {
        match format {
            Format::Csv | Format::Tsv => Some(Splitter::Csv(csv::Splitter::new(dialect))),
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

    /// Returns what was odd about the quotes of the record that [`Splitter::find_end`] ended last.
    pub(crate) fn odd_quotes(&self) -> Option<csv::OddQuotes> {
        match self {
            Splitter::Csv(splitter) => splitter.odd_quotes(),
            Splitter::Jsonl(_) | Splitter::Txt(_) => None,
        }
    }

    /// As [`Splitter::odd_quotes`], of the record that the end of the text ends.
    pub(crate) fn odd_quotes_at_end(&mut self) -> Option<csv::OddQuotes> {
        match self {
            Splitter::Csv(splitter) => splitter.odd_quotes_at_end(),
            Splitter::Jsonl(_) | Splitter::Txt(_) => None,
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

/// Bytes that [`sniff`] looks at.
pub(crate) const FRONT_BYTES: u64 = 8;

/// What the first bytes of a text say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sniffed {
    /// The encoding to decode from; `None` is UTF-8, which needs no decoding.
    pub(crate) encoding: Option<&'static Encoding>,
    /// Length of the byte order mark.
    pub(crate) mark: usize,
}

/// Tells the encoding of a text from its first bytes: a byte order mark says it, else it is the one `given`, else UTF-8.
///
/// # Errors
/// Says what the file really is where its first bytes are those of something else.
pub(crate) fn sniff(front: &[u8], given: Option<&'static Encoding>) -> Result<Sniffed, &'static str> {
    const UTF_32: &str = "it is UTF-32 text: convert it first, for example `iconv -f UTF-32 -t UTF-8`";
    // The mark of UTF-32 begins with that of UTF-16.
    const SIGNATURES: [(&[u8], &str); 7] = [
        (&[0xff, 0xfe, 0, 0], UTF_32),
        (&[0, 0, 0xfe, 0xff], UTF_32),
        (&[0x1f, 0x8b], "its text is gzip data: add .gz to its name, or decompress it"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "its text is zstd data: add .zst to its name, or decompress it"),
        (b"PK\x03\x04", "it is a zip archive (or a spreadsheet): unpack it, or save it as CSV"),
        (b"PAR1", "it is a parquet file: use --format parquet, or name it .parquet"),
        (b"ARROW1", "it is an arrow file: use --format arrow, or name it .arrow"),
    ];
    if let Some((_, problem)) = SIGNATURES.iter().find(|(signature, _)| front.starts_with(signature)) {
        return Err(problem);
    }
    let (encoding, mark) = Encoding::for_bom(front).unwrap_or((given.unwrap_or(UTF_8), 0));
    Ok(Sniffed { encoding: Some(encoding).filter(|encoding| *encoding != UTF_8), mark })
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
