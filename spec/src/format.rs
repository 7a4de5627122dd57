//! File formats: of a corpus, of what is wrapped around it, and of exported arrays.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantArray, VariantNames};

use crate::names::{UnknownName, named, unknown};

/// The format of a source, by extension or by `--format`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, EnumString, VariantArray, VariantNames,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = UnknownName, parse_err_fn = unknown::<Format>)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Format {
    /// Comma-separated values with a header (RFC 4180).
    Csv,
    /// Tab-separated values with a header, quoted as CSV is.
    Tsv,
    /// One JSON object per line.
    #[cfg_attr(feature = "clap", value(alias = "ndjson"))]
    Jsonl,
    /// One array of JSON objects.
    Json,
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC, file or stream layout (Feather v2).
    Arrow,
    /// One text per line; every line is a record.
    Txt,
}

named!(Format, "format");

/// The compression around a text format.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, EnumString, VariantArray, VariantNames,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = UnknownName, parse_err_fn = unknown::<Compression>)]
pub enum Compression {
    /// Bytes as they are.
    None,
    /// Gzip, also several members in a row.
    Gzip,
    /// Zstandard, also several frames in a row.
    Zstd,
}

named!(Compression, "compression");

/// The format of an exported array.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, EnumString, VariantArray, VariantNames,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = UnknownName, parse_err_fn = unknown::<ExportFormat>)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum ExportFormat {
    /// A `NumPy` array.
    Npy,
    /// A safetensors file with one tensor, `embeddings`, and how it was made as metadata.
    Safetensors,
    /// A `PyTorch` file that `torch.load(weights_only=True)` opens.
    Pt,
}

named!(ExportFormat, "export format");
