//! The sources of a corpus, and how they are read.

use serde::{Deserialize, Serialize};

use crate::{Compression, Format};

/// One input object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Source {
    /// Absolute path or URL.
    pub uri: String,
    /// How the bytes spell records.
    pub format: Format,
    /// What is wrapped around them.
    pub compression: Compression,
}

/// Which input columns pass through to the output.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// Every column, the text column included.
    All,
    /// None.
    None,
    /// These, in this order.
    Columns(Vec<String>),
}

/// How records are read from every source of a corpus.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReadOptions {
    /// Name of the column that holds the text. A `.txt` source has one column of this name.
    pub text_column: String,
    /// A column that must exist and is always kept, where given.
    pub id_column: Option<String>,
    /// Pass-through columns.
    pub keep: Keep,
    /// What separates the fields of csv and tsv, where it is not the format's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// What quotes the fields of csv and tsv, where it is not `"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<Quote>,
    /// Name of the character encoding of text sources without a byte order mark, where it is not UTF-8; any WHATWG label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
}

impl Default for ReadOptions {
    /// The texts of a column `text`, with every other column, spelled as the formats have it.
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

/// What quotes a field of csv and tsv.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quote {
    /// Nothing: every character but the delimiter and line ends belongs to its field.
    None,
    /// This ASCII character, doubled inside a field.
    Char(char),
}
