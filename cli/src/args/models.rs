//! Arguments of the commands that look at what a model makes of texts.

use std::path::PathBuf;

use clap::Args;
use spec::{Format, Pooling};

use super::values::{Auto, OWN_POOLING, auto_or};
use super::{DialectArgs, ModelArgs};

/// `encaje fill-mask`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  encaje fill-mask --model dccuchile/bert-base-spanish-wwm-cased \
                        'Hoy vamos a comer unos [MASK].'")]
pub(crate) struct FillMaskArgs {
    /// The texts, each with `[MASK]` or `<mask>` where a token is to be guessed; none reads one text per line from stdin.
    #[arg(value_name = "TEXT")]
    pub(crate) texts: Vec<String>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Shows this many tokens per mask, the most probable first.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) top: u32,
    /// Prints a JSON array per text on stdout, as the `fill-mask` pipeline of transformers gives it.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `encaje similarity`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  encaje similarity 'Tengo un perro.' 'Mi gato duerme.' --model MODEL --out similarity.png"
)]
pub(crate) struct SimilarityArgs {
    /// The texts to compare with each other.
    #[arg(value_name = "TEXT", required_unless_present = "from")]
    pub(crate) texts: Vec<String>,
    /// Takes the texts from this file, glob, URL or `-` for stdin instead.
    #[arg(long, value_name = "FILE", conflicts_with = "texts", env = "ENCAJE_SIMILARITY_FROM")]
    pub(crate) from: Option<String>,
    /// Takes so many rows of the file, from its top.
    #[arg(long, value_name = "N", default_value_t = 20, requires = "from", value_parser = clap::value_parser!(u32).range(1..=400))]
    pub(crate) rows: u32,
    /// Takes the file as this format, whatever its extension.
    #[arg(long, value_enum, value_name = "FORMAT", requires = "from")]
    pub(crate) format: Option<Format>,
    /// Names the column of the file that holds the text.
    #[arg(long, value_name = "NAME", default_value = "text", requires = "from")]
    pub(crate) text_column: String,
    #[command(flatten)]
    pub(crate) dialect: DialectArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Decides how token vectors become one vector. `auto` is the model's own pooling, or `cls` where it names none.
    #[arg(long, default_value = "auto", value_parser = auto_or::<Pooling>(OWN_POOLING))]
    pub(crate) pooling: Auto<Pooling>,
    /// Puts this prompt of the model before every text, by its name. The default is the model's own default prompt, if it
    /// has one; `""` is none.
    #[arg(long, value_name = "NAME")]
    pub(crate) prompt: Option<String>,
    /// Puts this before every text instead of a prompt of the model.
    #[arg(long, value_name = "TEXT")]
    pub(crate) prefix: Option<String>,
    /// Draws a heat map into this file; the extension says what it is.
    #[arg(long, value_name = "PLOT.html|.png|.svg", env = "ENCAJE_SIMILARITY_OUT")]
    pub(crate) out: Option<PathBuf>,
    /// Replaces the file if it is there already.
    #[arg(long)]
    pub(crate) force: bool,
    /// Prints texts and matrix on stdout as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}
