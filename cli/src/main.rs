//! The `encaje` binary: parse, do, exit. The only place where an error is printed.

mod args;
mod cluster;
mod commands;
mod config;
mod coords;
mod corpus_texts;
mod descriptors;
mod devices;
mod exit;
mod fetch;
mod local;
mod memory;
mod model;
mod noticed;
mod outdir;
mod outfile;
mod plan;
mod points;
mod private;
mod prompt;
mod restart;
mod security;
mod shared_rows;
mod signals;
mod spelled;
mod status;
mod stream;
mod summary;
mod ui;

use std::process::ExitCode;

use args::{Cli, Command, ModelCommand};
use commands::steer::Action;
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
    // What runs for days says what happens to it; what runs for a user speaks through its own words.
    let serves = matches!(cli.command, Command::Coordinator(_) | Command::Worker(_));
    if serves {
        // Before anything is written: databases, storage, uploads, spools hold the texts of those who submit.
        private::keep_all();
    }
    ui::start_logging(cli.global.verbose.max(u8::from(serves && !cli.global.quiet)));
    let ui = Ui::new(cli.global.quiet, cli.global.verbose);
    match cli.command {
        Command::Run(args) => {
            memory::keep_flat();
            commands::run::run(&ui, *args)
        }
        Command::Coordinator(args) => commands::coordinator::run(&ui, &args),
        Command::Worker(args) if args.restart && !args.stop_with_stdin => restart::run(&ui),
        Command::Worker(args) => {
            memory::keep_flat();
            commands::worker::run(&ui, &args)
        }
        Command::Submit(args) => commands::submit::run(&ui, &args),
        Command::Cancel(args) => commands::steer::run(&ui, &args, Action::Cancel),
        Command::Pause(args) => commands::steer::run(&ui, &args, Action::Pause),
        Command::Resume(args) => commands::steer::run(&ui, &args, Action::Resume),
        Command::Retry(args) => commands::steer::run(&ui, &args, Action::Retry),
        Command::Download(args) => commands::download::run(&ui, &args),
        Command::Repair(args) => commands::repair::run(&ui, &args),
        Command::Certs(args) => commands::certs::run(&ui, &args),
        Command::Token(command) => commands::token::run(&ui, &command),
        Command::Status(args) => commands::status::run(&ui, &args),
        Command::List(args) => commands::list::run(&ui, &args),
        Command::Verify(args) => commands::verify::run(&ui, &args),
        Command::Merge(args) => commands::merge::run(&ui, &args),
        Command::Export(args) => commands::export::run(&ui, &args),
        Command::Project(args) => commands::project::run(&ui, &args),
        Command::Compare(args) => commands::compare::run(&ui, &args),
        Command::Similarity(args) => commands::similarity::run(&ui, &args),
        Command::FillMask(args) => commands::fill_mask::run(&ui, &args),
        Command::Tokenize(args) => commands::tokenize::run(&ui, &args),
        Command::Model(ModelCommand::Pull(args)) => commands::model::pull(&ui, &args),
        Command::Model(ModelCommand::Show(args)) => commands::model::show(&ui, &args),
        Command::Completions(args) => commands::completions::run(&ui, &args),
    }
}
