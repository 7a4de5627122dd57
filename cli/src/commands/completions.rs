//! `encaje completions`: a script for the shell, made from the clap tree.

use clap::Args;

use crate::exit::Exit;
use crate::ui::Ui;

/// Prints a completion script for a shell.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell that the script is for.
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// Prints the script for `program`.
pub(crate) fn run(ui: &Ui, args: &CompletionsArgs, program: &mut clap::Command) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, program, "encaje", &mut script);
    ui.bytes(&script)?;
    Ok(Exit::Done)
}
