//! The sources of a corpus, and how they are read.

use serde::{Deserialize, Serialize};

use crate::{Compression, Format};

/// One input object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Source {
    /// Absolute path or URL.
    pub uri: String,
    /// The format of its records.
    pub format: Format,
    /// The compression of the object.
    pub compression: Compression,
}

/// The input columns passed through to the output.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// Every column, the text column included.
    All,
    /// No column.
    None,
    /// These columns, in this order.
    Columns(Vec<String>),
}

/// How records are read from every source of a corpus.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReadOptions {
    /// Name of the text column, also that of the single column of a `.txt` source.
    pub text_column: String,
    /// A required column that is always kept.
    pub id_column: Option<String>,
    /// Pass-through columns.
    pub keep: Keep,
    /// Field delimiter of csv and tsv, unless the format's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// Quote of csv and tsv fields, unless `"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<Quote>,
    /// WHATWG label of the encoding of text sources without a byte order mark, unless UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
}

impl Default for ReadOptions {
    /// Returns options that read the column `text`, keep all columns, and use the formats' defaults.
    fn default() -> Self {
        ReadOptions {
            text_column: "text".to_owned(),
            id_column: None,
            keep: Keep::All,
            delimiter: None,
            quote: None,
            encoding: None,
        }
    }
}

/// The quote of csv and tsv fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quote {
    /// No quoting: all characters except delimiters and line ends are part of a field.
    None,
    /// This ASCII character, doubled inside a field.
    Char(char),
}
