//! The clap tree: what can be typed. Doc comments are the manual. What it means is decided in `commands` and `plan`.
//!
//! Every option can also be set by `ENCAJE_<OPTION>` in the environment and by `encaje.toml`; see `config`.

mod cluster;
mod files;
mod models;
mod plot;
mod security;
mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use spec::{ComputeDtype, Format, Keep, MaxRejects, OnBadRow, OutputDtype, Pooling, Quote, ReadOptions};

pub(crate) use cluster::{ClusterArgs, CoordinatorArgs, DownloadArgs, RepairArgs, SteerArgs, SubmitArgs, WorkerArgs};
pub(crate) use files::{
    CompletionsArgs, ExportArgs, ListArgs, MergeArgs, ModelCommand, ModelPullArgs, ModelShowArgs, StatusArgs,
    TokenizeArgs, VerifyArgs,
};
pub(crate) use models::{FillMaskArgs, SimilarityArgs};
pub(crate) use plot::{CompareArgs, LabelTypeArg, MetricArg, ProjectArgs, UmapArgs};
pub(crate) use security::{
    CertsArgs, IdentityArgs, ServerArgs, TokenCommand, TokenFileArgs, TokenNewArgs, TokenRevokeArgs,
};
pub(crate) use values::{Auto, DeviceArg};
use values::{
    OWN_POOLING, auto_or, parse_delimiter, parse_device, parse_encoding, parse_keep, parse_max_rejects, parse_quote,
};

/// Turns large text corpora into Parquet files of embedding vectors, and accounts for every input row.
///
/// `encaje run` does everything in one process: no server, no database to set up. It can be interrupted at any moment
/// and started again; it goes on where it was. Results go to stdout, talk goes to stderr.
///
/// Exit codes: 0 done; 1 failed; 2 usage; 3 finished, but rows are missing, or were rejected and --strict was given; 4 a GPU
/// is lost to the process, start it again; 130 interrupted (the state is kept: run again to resume).
///
/// Every option can also be set by an environment variable (`--batch-tokens` is `ENCAJE_BATCH_TOKENS`) or in
/// `encaje.toml` (`batch-tokens = 4096`, for every command or under `[run]` for one). Options win over the environment,
/// the environment wins over the file.
#[derive(Debug, Parser)]
#[command(name = "encaje", version, propagate_version = true, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Options that every command has.
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command has.
#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct GlobalArgs {
    /// Reads defaults for options from this file instead of `encaje.toml` in the current directory.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Says nothing on stderr but warnings and errors.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Logs what happens inside to stderr: -v for events, -vv for details. `ENCAJE_LOG` takes a filter such as
    /// `worker=debug` and wins over this.
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Embeds a corpus on this machine; run it again to resume.
    ///
    /// Each input row becomes one output row: with a vector, or with the reason why it has none. Run the same command
    /// again to resume after an interruption, a crash or a failure; after success it does nothing. Other parameters, or
    /// a corpus that has changed, are refused in a directory that holds a job already.
    Run(Box<RunArgs>),
    /// Keeps the books of a cluster: takes jobs, hands shards to workers, decides which output counts.
    ///
    /// Any number of coordinators may share one PostgreSQL; a SQLite database belongs to one. What it knows is in the
    /// database and the storage: it can be killed and started again at any moment.
    Coordinator(CoordinatorArgs),
    /// Works for a cluster: leases shards, embeds them, writes the results to its storage.
    ///
    /// Workers come and go as they like. One that is told to stop (SIGTERM or ctrl-C) gives its shards back at once; the
    /// shards of one that dies go to others when its time is over.
    Worker(WorkerArgs),
    /// Hands a corpus to a cluster and prints the job's id.
    ///
    /// The same command again is the same job, so that repeating it is harmless. The corpus must be readable under the
    /// same name for coordinators and workers, and so must a model that is a directory.
    Submit(Box<SubmitArgs>),
    /// Shows how a job stands: one of a cluster by its id, or the one in an output directory.
    Status(StatusArgs),
    /// Lists the jobs of a cluster, or the output directories below a directory.
    List(ListArgs),
    /// Ends a job without a result.
    Cancel(SteerArgs),
    /// Stops handing out the shards of a job; what is being worked on is still finished.
    Pause(SteerArgs),
    /// Hands out the shards of a paused job again.
    Resume(SteerArgs),
    /// Gives what failed of a job another chance.
    Retry(SteerArgs),
    /// Fetches the results of a job, checks every file, and puts them where `run` would.
    ///
    /// Interrupted, it goes on where it was: files that are there with the right checksum are kept.
    Download(DownloadArgs),
    /// Finds output files that are damaged or missing, and has them made again.
    Repair(RepairArgs),
    /// Makes certificates for a cluster: an authority, one for coordinators, one for each worker.
    Certs(CertsArgs),
    /// Makes, lists or revokes the tokens with which people prove who they are.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Checks every promise about an output: rows, checksums, norms, and the corpus where it is given.
    Verify(VerifyArgs),
    /// Merges the part files of an output directory into one Parquet file.
    Merge(MergeArgs),
    /// Writes the vectors as a plain matrix for NumPy, safetensors or PyTorch.
    Export(ExportArgs),
    /// Draws the vectors: a UMAP projection to the plane, coloured by a column.
    ///
    /// Rows without a vector are left out and counted. The same vectors, options and seed give the same picture.
    Project(ProjectArgs),
    /// Compares models: a plot of each side by side, and how well each separates the values of a column.
    Compare(Box<CompareArgs>),
    /// Shows how near texts are to each other: the cosine of each pair, and a heat map.
    Similarity(Box<SimilarityArgs>),
    /// Shows which tokens a model expects where a text has a mask.
    FillMask(FillMaskArgs),
    /// Shows how a model's tokenizer cuts texts.
    Tokenize(TokenizeArgs),
    /// Fetches a model, or shows what it is.
    #[command(subcommand)]
    Model(ModelCommand),
    /// Prints a completion script for a shell.
    Completions(CompletionsArgs),
}

/// `encaje run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  encaje run tweets.csv --model sentence-transformers/all-MiniLM-L6-v2 --out vectors/"
)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) job: JobArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

/// What is to be embedded, with what and how: the same for one machine and for a cluster.
#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    #[command(flatten)]
    pub(crate) corpus: CorpusArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) embed: EmbedArgs,
    #[command(flatten)]
    pub(crate) rows: RowArgs,
    #[command(flatten)]
    pub(crate) cut: CutArgs,
}

/// Which texts to embed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Corpus")]
pub(crate) struct CorpusArgs {
    /// Files, globs, URLs, or `-` for stdin, embedded in the order given. The extension tells the format: .csv .tsv
    /// .jsonl .ndjson .json .parquet .arrow .txt, the text formats also as .gz or .zst. Stdin and pipes want --format;
    /// `run` keeps them in the output's state folder, `submit` uploads them.
    #[arg(required = true, value_name = "CORPUS")]
    pub(crate) corpus: Vec<String>,
    /// Takes every source as this format, whatever its extension.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,
    /// Names the column that holds the text.
    #[arg(long, value_name = "NAME", default_value = "text")]
    pub(crate) text_column: String,
    /// Names a column that must exist and is always kept.
    #[arg(long, value_name = "NAME")]
    pub(crate) id_column: Option<String>,
    /// Passes input columns through to the output: `all`, `none`, or names separated by commas.
    #[arg(long, value_name = "COLUMN,...", value_parser = parse_keep, default_value = "all")]
    pub(crate) keep: Keep,
    #[command(flatten)]
    pub(crate) dialect: DialectArgs,
}

/// How the text of a corpus is spelled.
#[derive(Debug, Args)]
pub(crate) struct DialectArgs {
    /// Separates the fields of csv and tsv by this one character, such as `;` or `tab`.
    #[arg(long, value_name = "CHARACTER", value_parser = parse_delimiter)]
    pub(crate) delimiter: Option<char>,
    /// Takes this one character for the quote of csv and tsv, instead of `"`; with `none`, quotes are characters like
    /// others and every line is a row.
    #[arg(long, value_name = "CHARACTER|none", value_parser = parse_quote)]
    pub(crate) quote: Option<Quote>,
    /// Decodes text formats from this character encoding, such as `windows-1252`, unless a byte order mark says which it
    /// is. The default is UTF-8.
    #[arg(long, value_name = "NAME", value_parser = parse_encoding)]
    pub(crate) encoding: Option<String>,
}

impl DialectArgs {
    /// Returns the options with what was given in the place of what they say.
    pub(crate) fn over(&self, options: ReadOptions) -> ReadOptions {
        let delimiter = self.delimiter.or(options.delimiter);
        let quote = self.quote.or(options.quote).filter(|quote| *quote != Quote::Char('"'));
        let encoding = self.encoding.clone().or(options.encoding).filter(|name| name != "UTF-8");
        ReadOptions { delimiter, quote, encoding, ..options }
    }
}

/// Which model turns texts into vectors.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// The model: a Hub id such as `owner/name`, or a directory with config.json, a tokenizer and weights.
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) hub: HubArgs,
}

/// How a Hub model is fetched.
#[derive(Debug, Args)]
pub(crate) struct HubArgs {
    /// Takes this branch, tag or commit of a Hub model instead of `main`.
    #[arg(long, value_name = "REV")]
    pub(crate) revision: Option<String>,
    /// Uses only what is in the local cache, and never asks the Hub.
    #[arg(long)]
    pub(crate) offline: bool,
}

/// How the model is used.
#[derive(Debug, Args)]
#[command(next_help_heading = "Embedding")]
pub(crate) struct EmbedArgs {
    /// Decides how token vectors become one vector. `auto` is the model's own pooling, or `cls` where it names none.
    #[arg(long, default_value = "auto", value_parser = auto_or::<Pooling>(OWN_POOLING))]
    pub(crate) pooling: Auto<Pooling>,
    /// Leaves vectors as long as the model makes them, instead of scaling each to length 1.
    #[arg(long)]
    pub(crate) no_normalize: bool,
    /// Cuts texts to this many tokens, special ones included. The default is what the model can take.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_length: Option<u32>,
    /// Puts this prompt of the model before every text, by its name (`encaje model show` lists them). The default is the
    /// model's own default prompt, if it has one; `""` is none.
    #[arg(long, value_name = "NAME")]
    pub(crate) prompt: Option<String>,
    /// Puts this before every text instead of a prompt of the model, as models like E5 ask for (`"passage: "`).
    #[arg(long, value_name = "TEXT")]
    pub(crate) prefix: Option<String>,
    /// Keeps only the first N dimensions of each vector, for models trained that way (Matryoshka). The default is what the
    /// model says (`truncate_dim`), or all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) dimensions: Option<u32>,
    /// Computes in this number format. `auto` is what suits the device: f16 on a GPU. On a CPU that is f32; bf16
    /// and int8 are faster there, and a little less exact.
    #[arg(long, default_value = "auto", value_parser = auto_or::<ComputeDtype>("What suits the device: f32 on a CPU, f16 on a GPU"))]
    pub(crate) dtype: Auto<ComputeDtype>,
}

/// What is written for a row, and what a bad one does.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct RowArgs {
    /// Stores vectors in this number format; f16 halves the size.
    #[arg(long, value_enum, default_value_t = OutputDtype::F32)]
    pub(crate) output_dtype: OutputDtype,
    /// Decides what a row that cannot be embedded does: `reject` writes it with a reason, `fail` ends the job.
    #[arg(long, value_enum, default_value_t = OnBadRow::Reject)]
    pub(crate) on_bad_row: OnBadRow,
    /// Fails the job when more rows than this are rejected: a count, or a share such as `1%`.
    #[arg(long, value_name = "N|P%", value_parser = parse_max_rejects)]
    pub(crate) max_rejects: Option<MaxRejects>,
}

/// Where the output goes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Writes to this directory (part-00000.parquet ..., manifest.json), or into one file if it ends in `.parquet`.
    #[arg(long, value_name = "DIR|FILE.parquet")]
    pub(crate) out: PathBuf,
    /// Exits with 3 if any row was rejected.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Prints the summary on stdout as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// In what portions the work is done.
#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
pub(crate) struct CutArgs {
    /// Feeds at most this many tokens to the model at a time. The default suits the device; lower it if memory is short.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch_tokens: Option<u32>,
    /// Cuts the corpus into shards of at most this many rows. The default is about ten seconds of work per shard; what
    /// a killed process loses is at most the shards it was working on.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) shard_rows: Option<u64>,
}

/// How this machine is used.
#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
pub(crate) struct MachineArgs {
    /// Computes on these devices: `auto`, `cpu`, `cuda:0,1` or `cuda:all`. `auto` is every GPU that can be used, else the
    /// CPU.
    #[arg(long, value_name = "DEVICE", value_parser = parse_device, default_value = "auto")]
    pub(crate) device: DeviceArg,
    /// Runs this many forward passes at a time on a CPU. The default is one per core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) threads: Option<u32>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_has_a_sentence_as_help() {
        let mut commands = vec![Cli::command()];
        while let Some(command) = commands.pop() {
            for arg in command.get_arguments() {
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.len() > 10, "`{}` of `{}` has no help", arg.get_id(), command.get_name());
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }
}
