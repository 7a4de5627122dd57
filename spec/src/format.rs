//! Formats of corpus files, their compression, and exported arrays.

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
    /// Tab-separated values with a header, quoted like CSV.
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
    /// One text per line.
    Txt,
}

named!(Format, "format");

/// The compression of a text format.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, EnumString, VariantArray, VariantNames,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = UnknownName, parse_err_fn = unknown::<Compression>)]
pub enum Compression {
    /// Uncompressed.
    None,
    /// Gzip, possibly with several members.
    Gzip,
    /// Zstandard, possibly with several frames.
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
    /// A safetensors file with one tensor, `embeddings`, and its provenance as metadata.
    Safetensors,
    /// A `PyTorch` file that `torch.load(weights_only=True)` opens.
    Pt,
}

named!(ExportFormat, "export format");
