//! The `encaje` binary: parse, do, exit. The only place where an error is printed.

mod args;
mod commands;
mod config;
mod exit;
mod local;
mod memory;
mod model;
mod outdir;
mod plan;
#[expect(dead_code, reason = "the commands that draw are yet to come")]
mod plot;
mod status;
mod summary;
mod ui;

use std::process::ExitCode;

use args::{Cli, Command, ModelCommand};
use exit::Exit;
use ui::Ui;

fn main() -> ExitCode {
    let result = config::parse(std::env::args_os().collect()).and_then(run);
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            let exit = exit::code_of(&error);
            if exit != Exit::Done {
                ui::report(&error, exit::hints_of(&error));
            }
            exit.into()
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<Exit> {
    ui::start_logging(cli.global.verbose);
    let ui = Ui::new(cli.global.quiet, cli.global.verbose);
    match cli.command {
        Command::Run(args) => {
            memory::keep_flat();
            commands::run::run(&ui, *args)
        }
        Command::Status(args) => commands::status::run(&ui, &args),
        Command::List(args) => commands::list::run(&ui, &args),
        Command::Verify(args) => commands::verify::run(&ui, &args),
        Command::Merge(args) => commands::merge::run(&ui, &args),
        Command::Export(args) => commands::export::run(&ui, &args),
        Command::Tokenize(args) => commands::tokenize::run(&ui, &args),
        Command::Model(ModelCommand::Pull(args)) => commands::model::pull(&ui, &args),
        Command::Model(ModelCommand::Show(args)) => commands::model::show(&ui, &args),
        Command::Completions(args) => commands::completions::run(&ui, &args),
    }
}
