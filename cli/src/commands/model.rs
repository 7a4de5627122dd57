//! `encaje model`: fetches a model, or shows what it is.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::args::HubArgs;
use crate::exit::Exit;
use crate::model::{self, ModelReport};
use crate::prompt;
use crate::ui::{self, Ui};

/// Fetches a model, or shows what it is.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

/// What to do with a model.
#[derive(Debug, Subcommand)]
enum ModelCommand {
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

/// Fetches or shows a model.
pub(crate) fn run(ui: &Ui, args: &ModelArgs) -> anyhow::Result<Exit> {
    match &args.command {
        ModelCommand::Pull(args) => pull(ui, args),
        ModelCommand::Show(args) => show(ui, args),
    }
}

/// Fetches a model and prints its directory.
fn pull(ui: &Ui, args: &ModelPullArgs) -> anyhow::Result<Exit> {
    let found = model::find(ui, &args.name, &args.hub, None)?;
    let directory = found.dir.display().to_string();
    if args.json {
        ui.json(&json!({ "model": args.name, "revision": found.revision, "directory": directory }))?;
    } else {
        ui.data(directory)?;
    }
    Ok(Exit::Done)
}

/// Shows what a model is.
fn show(ui: &Ui, args: &ModelShowArgs) -> anyhow::Result<Exit> {
    let model = model::open(ui, &args.name, &args.hub, None)?;
    let report = ModelReport::of(&model)?;
    if args.json {
        ui.json(&report)?;
        return Ok(Exit::Done);
    }
    let forward = match (report.native, report.gpus) {
        (true, true) => "native, on every device, in every number format",
        (true, false) => "native, on the CPU only, in every number format",
        (false, _) => "native, on the CPU only, in f32 only",
    };
    let dimensions = match report.truncate_dim {
        Some(kept) => format!("{kept}, the first of {} (the model's own truncate_dim)", report.dimensions),
        None => report.dimensions.to_string(),
    };
    let modules = match report.modules.as_slice() {
        [] => "none: a plain encoder".to_owned(),
        modules => modules.join(", "),
    };
    let lines = [
        ("model", report.model),
        ("directory", report.directory),
        ("revision", report.revision.unwrap_or_else(|| "none: a local directory".to_owned())),
        ("digest", report.digest),
        ("family", report.architecture),
        ("forward pass", forward.to_owned()),
        ("dimensions", dimensions),
        ("layers", report.layers.to_string()),
        ("heads", report.heads.to_string()),
        ("intermediate", report.intermediate.to_string()),
        ("vocabulary", ui::thousands(report.vocabulary as u64)),
        ("max length", report.max_length.map_or("none".to_owned(), |tokens| format!("{tokens} tokens"))),
        ("pooling", format!("{} ({})", report.pooling, model::pooling_origin(model.summary.pooling_source))),
        ("modules", modules),
        ("prompts", prompt::list(&model.summary.prompts)),
        ("default prompt", report.default_prompt.unwrap_or_else(|| "none".to_owned())),
        ("similarity", report.similarity.unwrap_or_else(|| "not said".to_owned())),
        ("weights", report.weights),
        ("tokenizer", report.tokenizer),
        ("flops per token", ui::thousands(report.flops_per_token)),
    ];
    for (name, value) in lines {
        ui.data(format!("{name:<16}{value}"))?;
    }
    Ok(Exit::Done)
}
