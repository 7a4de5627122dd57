//! The arguments of a job, the same for one machine and for a cluster.

use clap::Args;
use spec::{ComputeDtype, MaxRejects, OnBadRow, OutputDtype, Pooling};

use super::values::{Auto, OWN_POOLING, auto_or, parse_max_rejects};
use super::{CorpusArgs, ModelArgs, PromptArgs};

/// A job: corpus, model and options, the same for one machine and for a cluster.
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
    pub(crate) reuse: ReuseArgs,
    #[command(flatten)]
    pub(crate) cut: CutArgs,
}

/// What is not computed again.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct ReuseArgs {
    /// Takes the vectors of texts that these earlier outputs have from there, bit for bit: directories, or merged files, or their URLs. Model and
    /// options must be theirs, and they must have kept their texts (`--keep all`). It does not change the job: the same command
    /// without it resumes it.
    #[arg(long, value_name = "DIR|FILE|URL", num_args = 1..)]
    pub(crate) reuse: Vec<String>,
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
    #[command(flatten)]
    pub(crate) prompt: PromptArgs,
    /// Keeps only the first N dimensions of each vector, for models trained that way (Matryoshka). The default is what the
    /// model says (`truncate_dim`), or all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) dimensions: Option<u32>,
    /// Computes in this number format. `auto` is what suits the device: f16 on a GPU. On a CPU that is f32; bf16
    /// and int8 are faster there, and a little less exact (models with a hidden size below 256 compute in f32 all the same).
    #[arg(long, default_value = "auto", value_parser = auto_or::<ComputeDtype>("What suits the device: f32 on a CPU, f16 on a GPU"))]
    pub(crate) dtype: Auto<ComputeDtype>,
}

/// The output of a row, and how bad rows are handled.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct RowArgs {
    /// Stores vectors in this number format: `f16` halves the size, `int8` (with a scale for each vector) is a quarter of it,
    /// and `binary` (the sign of each dimension as one bit) a thirty-second.
    #[arg(long, value_enum, default_value_t = OutputDtype::F32)]
    pub(crate) output_dtype: OutputDtype,
    /// Decides what a row that cannot be embedded does: `reject` writes it with a reason, `fail` ends the job.
    #[arg(long, value_enum, default_value_t = OnBadRow::Reject)]
    pub(crate) on_bad_row: OnBadRow,
    /// Fails the job when more rows than this are rejected: a count, or a share such as `1%`.
    #[arg(long, value_name = "N|P%", value_parser = parse_max_rejects)]
    pub(crate) max_rejects: Option<MaxRejects>,
}

/// In what portions the work is done.
#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
pub(crate) struct CutArgs {
    /// Feeds at most this many tokens to the model at a time. The default suits the device; lower it if memory is short.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch_tokens: Option<u32>,
    /// Cuts the corpus into shards of at most this many rows. The default is about 12 s of work per shard; what
    /// a killed process loses is at most the shards it was working on.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) shard_rows: Option<u64>,
}
