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
#[cfg(test)]
mod documentation;
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
    signals::ignore_file_size_signal();
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    dataset::set_environment(variables);
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
    // Daemons log their events by default; commands print messages of their own.
    let serves = matches!(cli.command, Command::Coordinator(_) | Command::Worker(_));
    if serves {
        // Before anything is written: databases, storage, uploads and spools hold texts of users.
        permissions::set_private_umask();
    }
    ui::start_logging(cli.global.verbose.max(u8::from(serves && !cli.global.quiet)));
    let ui = Ui::new(cli.global.quiet, cli.global.verbose);
    cli.command.run(&ui)
}
