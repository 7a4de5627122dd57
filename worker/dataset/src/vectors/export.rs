//! Vectors as one array in the formats of `NumPy`, safetensors and PyTorch.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

use super::info::VectorDtype;
use crate::DatasetError;

/// The format of an exported array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportFormat {
    /// `NumPy`, version 1.0.
    Npy,
    /// safetensors, one tensor `embeddings`.
    Safetensors,
    /// What `torch.load(weights_only=True)` opens to a tensor.
    Pt,
}

/// The text is not the name of an export format.
#[derive(Debug, thiserror::Error)]
#[error("unknown export format: `{0}` (known: npy, safetensors, pt)")]
pub struct UnknownExportFormat(String);

impl FromStr for ExportFormat {
    type Err = UnknownExportFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "npy" => Ok(ExportFormat::Npy),
            "safetensors" => Ok(ExportFormat::Safetensors),
            "pt" => Ok(ExportFormat::Pt),
            other => Err(UnknownExportFormat(other.to_owned())),
        }
    }
}

impl fmt::Display for ExportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ExportFormat::Npy => "npy",
            ExportFormat::Safetensors => "safetensors",
            ExportFormat::Pt => "pt",
        })
    }
}

/// What an export wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportSummary {
    /// The file.
    pub out: PathBuf,
    /// Rows of the array: every row of the corpus, in order.
    pub rows: u64,
    /// Components per row.
    pub dimensions: u32,
    /// Number format.
    pub dtype: VectorDtype,
    /// Rows of NaN: those that were rejected.
    pub rejected: u64,
    /// Size of the file, in bytes.
    pub bytes: u64,
}

/// Writes the vectors of a folder or file as one array.
pub fn export(_target: &Path, _format: ExportFormat, _out: &Path) -> Result<ExportSummary, DatasetError> {
    unimplemented!()
}
