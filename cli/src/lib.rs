//! The `encaje` program: parse, do, exit. The only place where an error is printed.
//!
//! A library, so that the Python package has the same program in its module.

mod args;
mod cluster;
mod column_text;
mod commands;
mod comparison;
mod config;
mod coords;
mod corpus_texts;
mod descriptors;
mod devices;
#[cfg(test)]
mod documentation;
mod exit;
mod fetch;
mod foreign;
mod job_spec;
mod local;
mod memory;
mod merging;
mod model;
mod notices;
mod outdir;
mod outfile;
mod permissions;
mod pins;
mod points;
mod prompt;
mod restart;
mod reuse;
mod security;
mod shared_rows;
mod signals;
mod stream;
mod summary;
mod ui;
mod umap;
mod variables;

use std::ffi::OsString;

use commands::{Cli, Command};
use exit::Exit;
use ui::Ui;

/// Runs the command line `program` + `words` and returns the exit code. `program` starts this program: `[encaje]`, or
/// `[python, -m, encaje]`.
///
/// Takes the process for its own: signals, standard streams, `umask`. Help and usage errors end it.
pub fn main(program: Vec<OsString>, words: Vec<OsString>) -> u8 {
    memory::limit_malloc_arenas();
    signals::ignore_file_size_signal();
    take_environment();
    let line = [OsString::from("encaje")].into_iter().chain(words.iter().cloned()).collect();
    let (ui, result) = match config::parse(line) {
        Ok((cli, warnings)) => {
            let ui = Ui::new(&cli.global);
            warnings.iter().for_each(|warning| ui.warn(warning));
            (ui, run(&ui, &cli, [program, words].concat()))
        }
        Err(error) => (Ui::default(), Err(error)),
    };
    let exit = result.unwrap_or_else(|error| {
        let exit = exit::code_of(&error);
        if exit != Exit::Done {
            ui.error(&error);
        }
        exit
    });
    exit as u8
}

/// Takes credentials and endpoints of storage from the environment.
pub fn take_environment() {
    let variables = std::env::vars_os();
    dataset::set_environment(
        variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
    );
}

fn run(ui: &Ui, cli: &Cli, invocation: Vec<OsString>) -> anyhow::Result<Exit> {
    // Daemons log their events by default; commands print messages of their own.
    let serves = matches!(cli.command, Command::Coordinator(_) | Command::Worker(_));
    if serves {
        // Before anything is written: databases, storage, uploads and spools hold texts of users.
        permissions::set_private_umask();
    }
    ui::start_logging(cli.global.verbose.max(u8::from(serves && !cli.global.quiet)));
    if cli.global.stop_with_stdin {
        signals::stop_with_stdin();
    } else if matches!(&cli.command, Command::Worker(args) if args.restart) {
        return restart::run(ui, &invocation);
    }
    cli.command.run(ui)
}
