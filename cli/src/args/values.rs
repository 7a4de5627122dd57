//! Values of options: the names that can be typed, and what they are read as.

use clap::ValueEnum;
use dataset::{Format, Keep};
use proto::job::MaxRejects;

/// A corpus format as typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum FormatArg {
    /// Comma-separated values with a header.
    Csv,
    /// Tab-separated values with a header.
    Tsv,
    /// One JSON object per line.
    #[value(alias = "ndjson")]
    Jsonl,
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC (Feather v2).
    Arrow,
    /// One text per line.
    Txt,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Csv => Format::Csv,
            FormatArg::Tsv => Format::Tsv,
            FormatArg::Jsonl => Format::Jsonl,
            FormatArg::Parquet => Format::Parquet,
            FormatArg::Arrow => Format::Arrow,
            FormatArg::Txt => Format::Txt,
        }
    }
}

/// Pooling as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PoolingArg {
    /// What the model's own configuration says, or `cls` where it says nothing.
    Auto,
    /// The vector of the first token.
    Cls,
    /// The mean over all tokens.
    Mean,
    /// The maximum over all tokens, per dimension.
    Max,
    /// The vector of the last token.
    Last,
}

/// Compute format as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DtypeArg {
    /// What suits the device: f32 on a CPU.
    Auto,
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 16-bit brain floats.
    Bf16,
    /// 8-bit integers with 32-bit accumulation.
    Int8,
}

/// Output format as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputDtypeArg {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
}

/// Bad-row policy as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnBadRowArg {
    /// The row gets a reason instead of a vector.
    Reject,
    /// The job fails and names the row.
    Fail,
}

/// Export format as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormatArg {
    /// A NumPy array.
    Npy,
    /// A safetensors file with one tensor, `embeddings`.
    Safetensors,
    /// A PyTorch file that `torch.load(weights_only=True)` opens.
    Pt,
}

/// Reads `all`, `none` or column names separated by commas.
pub(super) fn parse_keep(text: &str) -> Result<Keep, String> {
    match text {
        "all" => Ok(Keep::All),
        "none" => Ok(Keep::None),
        names => {
            let names: Vec<String> = names.split(',').map(|name| name.trim().to_owned()).collect();
            if names.iter().any(String::is_empty) {
                return Err("expected `all`, `none`, or column names separated by commas".to_owned());
            }
            Ok(Keep::Columns(names))
        }
    }
}

/// Reads a count or a percentage.
pub(super) fn parse_max_rejects(text: &str) -> Result<MaxRejects, String> {
    let expected = || format!("expected a count such as `100` or a share such as `1%`, found `{text}`");
    match text.strip_suffix('%') {
        Some(share) => match share.trim().parse::<f64>() {
            Ok(share) if (0.0..=100.0).contains(&share) => Ok(MaxRejects::Percent(share)),
            Ok(_) | Err(_) => Err(expected()),
        },
        None => text.parse().map(MaxRejects::Rows).map_err(|_| expected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_are_a_count_or_a_share() {
        assert_eq!(parse_max_rejects("7"), Ok(MaxRejects::Rows(7)));
        assert_eq!(parse_max_rejects("0.5%"), Ok(MaxRejects::Percent(0.5)));
        for wrong in ["", "-1", "101%", "many", "%"] {
            assert!(parse_max_rejects(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn kept_columns_are_names_in_order() {
        assert_eq!(parse_keep("all"), Ok(Keep::All));
        assert_eq!(parse_keep("none"), Ok(Keep::None));
        assert_eq!(parse_keep("b, a"), Ok(Keep::Columns(vec!["b".to_owned(), "a".to_owned()])));
        assert!(parse_keep("a,,b").is_err());
    }
}
