//! `encaje completions`: a script for the shell, made from the clap tree.

use clap::CommandFactory;

use crate::args::{Cli, CompletionsArgs};
use crate::exit::Exit;
use crate::ui::Ui;

/// Prints the script.
pub(crate) fn run(ui: &Ui, args: &CompletionsArgs) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "encaje", &mut script);
    ui.bytes(&script)?;
    Ok(Exit::Done)
}
