//! The dialect of a text source: delimiter, quote, character encoding.

use encoding_rs::{Encoding, REPLACEMENT, UTF_8};
use spec::{Format, Quote, ReadOptions};

use crate::error::DatasetError;

/// Delimiter and quote of a csv or tsv source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dialect {
    pub(crate) delimiter: u8,
    /// `None` without quoting.
    pub(crate) quote: Option<u8>,
}

impl Dialect {
    /// Returns the format's default: RFC 4180, with tabs for tsv.
    pub(crate) fn of_format(format: Format) -> Dialect {
        let delimiter = match format {
            Format::Tsv => b'\t',
            // Formats without delimiters never ask for one.
            Format::Csv | Format::Jsonl | Format::Json | Format::Txt | Format::Parquet | Format::Arrow => b',',
        };
        Dialect { delimiter, quote: Some(b'"') }
    }

    /// Returns the dialect under these options, which [`check`] has validated.
    pub(crate) fn of(format: Format, options: &ReadOptions) -> Dialect {
        let own = Dialect::of_format(format);
        let byte = |character: char| u8::try_from(character).unwrap_or(own.delimiter);
        Dialect {
            delimiter: options.delimiter.map_or(own.delimiter, byte),
            quote: match options.quote {
                None => own.quote,
                Some(Quote::None) => None,
                Some(Quote::Char(character)) => Some(byte(character)),
            },
        }
    }
}

/// Returns the name of a character encoding by any of its WHATWG labels (`latin1` is `windows-1252`); `None` for
/// labels that are unknown or cannot be decoded safely.
pub fn encoding_name(label: &str) -> Option<&'static str> {
    find(label).map(Encoding::name)
}

fn find(label: &str) -> Option<&'static Encoding> {
    Encoding::for_label(label.as_bytes()).filter(|encoding| *encoding != REPLACEMENT)
}

/// Returns the encoding in the options, if any; `UTF_8` for one that [`check`] refuses.
pub(crate) fn encoding_of(options: &ReadOptions) -> Option<&'static Encoding> {
    options.encoding.as_deref().map(|label| find(label).unwrap_or(UTF_8))
}

/// Checks that the dialect options are valid.
///
/// # Errors
/// `BadInput` naming the option.
pub(crate) fn check(options: &ReadOptions) -> Result<(), DatasetError> {
    let bad = |option: &str, problem: &str| Err(DatasetError::bad_input(option, problem));
    let quote = match options.quote {
        None => Some('"'),
        Some(Quote::None) => None,
        Some(Quote::Char(character)) => Some(character),
    };
    let is_usable = |character: char| character.is_ascii() && !matches!(character, '\r' | '\n');
    if options.delimiter.is_some_and(|delimiter| !is_usable(delimiter)) {
        return bad("--delimiter", "is one ASCII character, and no line end");
    }
    if quote.is_some_and(|quote| !is_usable(quote)) {
        return bad("--quote", "is `none` or one ASCII character, and no line end");
    }
    if options.encoding.as_deref().is_some_and(|label| find(label).is_none()) {
        return bad("--encoding", "is no character encoding that the WHATWG standard has a label for");
    }
    Ok(())
}

/// Most bytes of a line that [`separator_line`] takes.
pub(crate) const SEPARATOR_LINE_BYTES: usize = 7;

/// Returns the delimiter that the first line names as Excel writes it (`sep=;`), and the length of that line.
pub(crate) fn separator_line(text: &[u8]) -> Option<(u8, usize)> {
    let (name, rest) = text.split_at_checked(4)?;
    let (delimiter, end) = rest.split_first()?;
    let length = match end {
        [b'\r', b'\n', ..] => 7,
        [b'\r' | b'\n', ..] => 6,
        _ => return None,
    };
    let is_delimiter = delimiter.is_ascii() && !matches!(delimiter, b'\r' | b'\n');
    (name.eq_ignore_ascii_case(b"sep=") && is_delimiter).then_some((*delimiter, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatwg_encoding_labels_are_known() {
        for (label, name) in [
            ("windows-1252", "windows-1252"),
            ("cp1252", "windows-1252"),
            ("Latin1", "windows-1252"),
            ("iso-8859-15", "ISO-8859-15"),
            ("utf-16", "UTF-16LE"),
            ("utf-16be", "UTF-16BE"),
            ("utf8", "UTF-8"),
            ("shift_jis", "Shift_JIS"),
        ] {
            assert_eq!(encoding_name(label), Some(name));
        }
        for label in ["", "utf-32", "iso-2022-kr", "latin-99"] {
            assert_eq!(encoding_name(label), None, "{label}");
        }
    }
}
