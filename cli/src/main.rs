//! The `encaje` binary: parse, do, exit. The only place where an error is printed.

mod args;
mod cluster;
mod column_text;
mod commands;
mod config;
mod coords;
mod corpus_texts;
mod descriptors;
mod devices;
mod exit;
mod fetch;
mod job_spec;
mod local;
mod memory;
mod merging;
mod model;
mod notices;
mod outdir;
mod outfile;
mod permissions;
mod points;
mod prompt;
mod restart;
mod security;
mod shared_rows;
mod signals;
mod stream;
mod summary;
mod ui;
mod umap;

use std::process::ExitCode;

use commands::{Cli, Command};
use exit::Exit;
use ui::Ui;

fn main() -> ExitCode {
    memory::limit_malloc_arenas();
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
        permissions::set_private_umask();
    }
    ui::start_logging(cli.global.verbose.max(u8::from(serves && !cli.global.quiet)));
    let ui = Ui::new(cli.global.quiet, cli.global.verbose);
    cli.command.run(&ui)
}
