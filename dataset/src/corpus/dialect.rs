//! The dialect of a text source: delimiter, quote, character encoding.

use encoding_rs::{Encoding, REPLACEMENT, UTF_8};
use spec::{Format, Quote, ReadOptions, Source};

use crate::corpus::formats;
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
        Dialect { delimiter: if format == Format::Tsv { b'\t' } else { b',' }, quote: Some(b'"') }
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

/// Checks that the dialect options are valid and apply to some source.
///
/// # Errors
/// `BadInput` naming the option.
pub(crate) fn check(sources: &[Source], options: &ReadOptions) -> Result<(), DatasetError> {
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
    if sources.is_empty() {
        return Ok(());
    }
    let delimited = sources.iter().filter(|source| formats::is_delimited(source.format));
    for source in delimited.clone() {
        let dialect = Dialect::of(source.format, options);
        if dialect.quote == Some(dialect.delimiter) {
            return bad("--quote", "must not be the delimiter too");
        }
    }
    if delimited.count() == 0 {
        let problem = "applies to csv and tsv alone, and the corpus has no such source: leave it out";
        if options.delimiter.is_some() {
            return bad("--delimiter", problem);
        }
        if options.quote.is_some() {
            return bad("--quote", problem);
        }
    }
    if options.encoding.is_some() && sources.iter().all(|source| formats::text_format(source.format).is_none()) {
        return bad("--encoding", "applies to text formats alone, and the corpus has no such source: leave it out");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use spec::Compression;

    fn source(format: Format) -> Source {
        Source { uri: "/a".to_owned(), format, compression: Compression::None }
    }

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

    #[test]
    fn an_option_that_applies_to_no_source_is_refused() {
        let delimiter = ReadOptions { delimiter: Some(';'), ..ReadOptions::default() };
        let quote = ReadOptions { quote: Some(Quote::None), ..ReadOptions::default() };
        let encoding = ReadOptions { encoding: Some("windows-1252".to_owned()), ..ReadOptions::default() };
        for (options, option, bad, good) in [
            (&delimiter, "--delimiter", Format::Jsonl, Format::Csv),
            (&quote, "--quote", Format::Txt, Format::Tsv),
            (&encoding, "--encoding", Format::Parquet, Format::Txt),
        ] {
            let error = check(&[source(bad)], options).unwrap_err().to_string();
            assert!(error.contains(option), "{error}");
            check(&[source(bad), source(good)], options).unwrap();
        }
    }

    #[test]
    fn conflicting_delimiter_and_quote_are_refused() {
        let options = |delimiter, quote| ReadOptions { delimiter, quote, ..ReadOptions::default() };
        for refused in [
            options(Some('\n'), None),
            options(Some('§'), None),
            options(Some('"'), None),
            options(None, Some(Quote::Char('é'))),
            options(None, Some(Quote::Char(','))),
        ] {
            assert!(check(&[source(Format::Csv)], &refused).is_err(), "{refused:?}");
        }
        check(&[source(Format::Csv)], &options(Some('"'), Some(Quote::None))).unwrap();
        check(&[source(Format::Tsv)], &options(None, Some(Quote::Char(',')))).unwrap();
    }
}
