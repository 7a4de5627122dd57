//! Arguments of the commands about outputs and models.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use dataset::Keep;
use spec::{ExportFormat, Format, OutputDtype};

use super::values::parse_keep;
use super::{ClusterArgs, DialectArgs, HubArgs, ModelArgs};

/// `encaje status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// A job of a cluster by its id, or the output of `encaje run`: a directory, or the `.parquet` file. Without one: all
    /// jobs of the cluster, or the current directory where no coordinator is named.
    #[arg(value_name = "JOB|DIR|FILE.parquet")]
    pub(crate) target: Option<String>,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Follows a job of a cluster until it has ended.
    #[arg(long)]
    pub(crate) watch: bool,
    /// Prints one JSON object on stdout; with --watch, one whenever something has changed.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `encaje list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// The directory whose output directories are listed. Without one: the jobs of the cluster, or the current directory
    /// where no coordinator is named.
    #[arg(value_name = "DIR")]
    pub(crate) parent: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Lists at most so many jobs of the cluster, the newest [default: 100].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,
    /// Lists all jobs of the cluster, however many.
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
    /// Prints a JSON array on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `encaje verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The output to check: a directory with manifest.json, or a merged file.
    #[arg(value_name = "DIR|FILE.parquet")]
    pub(crate) target: PathBuf,
    /// Checks the output against this corpus too: the same files, globs, URLs or `-` in the same order as for `run`. In
    /// the directory of a `run`, how it was read need not be said again.
    #[arg(long, value_name = "CORPUS", num_args = 1.., env = "ENCAJE_VERIFY_CORPUS")]
    pub(crate) corpus: Vec<String>,
    /// Takes every source of the corpus as this format, whatever its extension.
    #[arg(long, value_enum, value_name = "FORMAT", requires = "corpus")]
    pub(crate) format: Option<Format>,
    /// Names the corpus column that holds the text. The default is the one that `run` was given, else `text`.
    #[arg(long, value_name = "NAME")]
    pub(crate) text_column: Option<String>,
    /// The columns that `run` was to pass through: `all`, `none`, or names separated by commas. The default is those
    /// that the output has.
    #[arg(long, value_name = "COLUMN,...", value_parser = parse_keep)]
    pub(crate) keep: Option<Keep>,
    #[command(flatten)]
    pub(crate) dialect: DialectArgs,
    /// Prints the report on stdout as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `encaje merge`.
#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// The output directory of a finished run.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The Parquet file to write; with --partition-rows, the directory.
    #[arg(long, value_name = "FILE.parquet|DIR", env = "ENCAJE_MERGE_OUT")]
    pub(crate) out: PathBuf,
    /// Writes files of so many rows each (the last may have fewer) and a manifest, instead of one file.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) partition_rows: Option<u64>,
    /// Stores vectors in this number format; the default is that of the parts.
    #[arg(long, value_enum)]
    pub(crate) output_dtype: Option<OutputDtype>,
    /// Replaces the file if it is there already.
    #[arg(long)]
    pub(crate) force: bool,
    /// Prints the summary on stdout as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `encaje export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The output directory of a finished run, or a merged file.
    #[arg(value_name = "DIR|FILE.parquet")]
    pub(crate) target: PathBuf,
    /// The format to write.
    #[arg(long, value_enum, value_name = "FORMAT", env = "ENCAJE_EXPORT_FORMAT")]
    pub(crate) format: ExportFormat,
    /// The file to write.
    #[arg(long, value_name = "FILE", env = "ENCAJE_EXPORT_OUT")]
    pub(crate) out: PathBuf,
    /// Replaces the file if it is there already.
    #[arg(long)]
    pub(crate) force: bool,
    /// Prints the summary on stdout as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `encaje tokenize`.
#[derive(Debug, Args)]
pub(crate) struct TokenizeArgs {
    /// The texts; none reads one text per line from stdin.
    #[arg(value_name = "TEXT")]
    pub(crate) texts: Vec<String>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Cuts texts to this many tokens, special ones included. The default is what the model can take.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_length: Option<u32>,
    /// Puts this prompt of the model before every text, by its name. The default is the model's own default prompt, if it
    /// has one; `""` is none.
    #[arg(long, value_name = "NAME")]
    pub(crate) prompt: Option<String>,
    /// Puts this before every text instead of a prompt of the model.
    #[arg(long, value_name = "TEXT")]
    pub(crate) prefix: Option<String>,
    /// Prints one JSON object per text on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `encaje model`.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Downloads a Hub model into the cache that Python's tools use too, and prints its directory.
    Pull(ModelPullArgs),
    /// Shows a model's architecture, size, pooling and digest.
    Show(ModelShowArgs),
}

/// `encaje model pull`.
#[derive(Debug, Args)]
pub(crate) struct ModelPullArgs {
    /// The model: a Hub id such as `owner/name`.
    #[arg(value_name = "MODEL")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) hub: HubArgs,
    /// Prints one JSON object on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `encaje model show`.
#[derive(Debug, Args)]
pub(crate) struct ModelShowArgs {
    /// The model: a Hub id such as `owner/name`, or a directory.
    #[arg(value_name = "MODEL")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) hub: HubArgs,
    /// Prints one JSON object on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `encaje completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell that the script is for.
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}
