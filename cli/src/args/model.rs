//! Which model is used.

use clap::Args;

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

/// Which text is put before every other.
#[derive(Debug, Args)]
pub(crate) struct PromptArgs {
    /// Puts this prompt of the model before every text, by its name (`encaje model show` lists them). The default is the
    /// model's own default prompt, if it has one; `""` is none.
    #[arg(long, value_name = "NAME")]
    pub(crate) prompt: Option<String>,
    /// Puts this before every text instead of a prompt of the model, as models like E5 ask for (`"passage: "`).
    #[arg(long, value_name = "TEXT")]
    pub(crate) prefix: Option<String>,
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
