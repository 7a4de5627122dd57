//! Warnings about sources that can be read, but perhaps with the wrong options.

use std::fmt;

/// A warning about a source. Displayed as one sentence that names the option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A quoted field that may have swallowed rows, or whose quotes may be text.
    OddQuotes {
        /// The source.
        uri: String,
        /// Row of the record, over the whole corpus.
        row: u64,
        /// Line ends between the quotes.
        line_ends: u64,
        /// Whether other characters follow the closing quote.
        goes_on: bool,
    },
    /// Rows whose bytes are not UTF-8.
    NotUtf8 {
        /// The source.
        uri: String,
        /// Number of such rows at the start of the source.
        invalid: u64,
        /// Number of rows checked.
        rows: u64,
        /// Whether they are valid Windows-1252.
        is_windows_1252: bool,
    },
    /// The options name an encoding, but the text is valid UTF-8.
    IsUtf8 {
        /// The source.
        uri: String,
        /// The encoding in the options.
        encoding: String,
    },
    /// Columns without a unique name were renamed.
    ColumnsRenamed {
        /// The source.
        uri: String,
        /// The new names.
        names: Vec<String>,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::OddQuotes { uri, row, line_ends: 0, goes_on: _ } => write!(
                f,
                "`{uri}`: in row {row}, other characters follow the closing quote of a field, and the quotes around the \
                 others are dropped: if quotes are ordinary characters in this file, add --quote none"
            ),
            Notice::OddQuotes { uri, row, line_ends, goes_on } => {
                let lines = line_ends + 1;
                let more = if *goes_on { " and goes on after its closing quote" } else { "" };
                write!(
                    f,
                    "`{uri}`: in row {row}, one quoted field spans {lines} lines{more}, so that these are one row: if \
                     quotes are ordinary characters in this file, add --quote none"
                )
            }
            Notice::NotUtf8 { uri, invalid, rows, is_windows_1252 } => {
                write!(f, "`{uri}`: {}", not_utf8(*invalid, *rows, *is_windows_1252))
            }
            Notice::IsUtf8 { uri, encoding } => write!(
                f,
                "`{uri}`: its first bytes are good UTF-8, so that decoding it from {encoding} may garble its text: \
                 leave out --encoding if it is UTF-8"
            ),
            Notice::ColumnsRenamed { uri, names } => {
                let names = crate::error::list(names);
                write!(f, "`{uri}`: columns without a name of their own are called {names}")
            }
        }
    }
}

/// Describes rows that are not UTF-8, and names the option that fixes it.
pub(crate) fn not_utf8(invalid: u64, rows: u64, is_windows_1252: bool) -> String {
    let remedy = if is_windows_1252 {
        "they are good Windows-1252: add --encoding windows-1252"
    } else {
        "say how it is encoded with --encoding, for example `--encoding latin1` or `--encoding shift_jis`"
    };
    format!("{invalid} of its first {rows} rows are not UTF-8 and get `invalid_utf8` instead of a vector: {remedy}")
}
