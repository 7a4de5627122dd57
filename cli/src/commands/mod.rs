//! The table of all commands. A command is one file with its arguments, whose doc comments are the manual, and its code; it is
//! entered here.
//!
//! Every option can also be set by `ENCAJE_<OPTION>` in the environment and by `encaje.toml`; see `config`.

pub(crate) mod certs;
pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod control;
pub(crate) mod coordinator;
pub(crate) mod download;
pub(crate) mod export;
pub(crate) mod fill_mask;
pub(crate) mod list;
pub(crate) mod merge;
pub(crate) mod model;
pub(crate) mod project;
pub(crate) mod repair;
pub(crate) mod run;
pub(crate) mod self_test;
pub(crate) mod similarity;
pub(crate) mod status;
pub(crate) mod submit;
pub(crate) mod token;
pub(crate) mod tokenize;
pub(crate) mod verify;
pub(crate) mod worker;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::exit::Exit;
use crate::ui::{MessageFormat, Ui};

/// Turns large text corpora into Parquet files of embedding vectors, and accounts for every input row.
///
/// `encaje run` does everything in one process: no server, no database to set up. It can be interrupted at any moment
/// and started again; it goes on where it was. Results go to stdout, messages to stderr.
///
/// Exit codes: 0 done; 1 failed; 2 usage; 3 finished, but rows are missing, or were rejected and --strict was given; 4 a GPU
/// is lost to the process, start it again; 130 interrupted (the state is kept: run again to resume).
///
/// Every option can also be set by an environment variable (`--batch-tokens` is `ENCAJE_BATCH_TOKENS`) or in
/// `encaje.toml` (`batch-tokens = 4096`, for every command or under `[run]` for one). Options win over the environment,
/// the environment wins over the file.
#[derive(Debug, Parser)]
#[command(name = "encaje", version, propagate_version = true, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Options that every command has.
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command has.
#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct GlobalArgs {
    /// Reads defaults for options from this file instead of `encaje.toml` in the current directory.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Prints only warnings and errors on stderr.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Logs what happens inside to stderr: -v for events, -vv for details. `ENCAJE_LOG` takes a filter such as
    /// `worker=debug` and wins over this.
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Prints messages, progress and errors on stderr for people, or as one JSON object per line for programs.
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) message_format: MessageFormat,
    /// Stops as by SIGTERM once standard input has ended, because the process that started this has ended.
    #[arg(long, global = true, hide = true)]
    pub(crate) stop_with_stdin: bool,
}

/// Makes an enum of commands and runs them from lines `Name(arguments) => function`.
macro_rules! commands {
    ($($name:ident($args:ty) => $run:expr),+ $(,)?) => {
        /// What to do.
        #[derive(Debug, Subcommand)]
        pub(crate) enum Command {
            $(#[allow(missing_docs, reason = "its arguments are documented")] $name($args)),+
        }

        impl Command {
            /// Does it.
            pub(crate) fn run(&self, ui: &Ui) -> anyhow::Result<Exit> {
                match self {
                    $(Command::$name(args) => ($run)(ui, args)),+
                }
            }
        }
    };
}

commands! {
    Run(Box<run::RunArgs>) => run::run,
    Coordinator(coordinator::CoordinatorArgs) => coordinator::run,
    Worker(worker::WorkerArgs) => worker::run,
    Submit(Box<submit::SubmitArgs>) => submit::run,
    Status(status::StatusArgs) => status::run,
    List(list::ListArgs) => list::run,
    Cancel(control::CancelArgs) => control::cancel,
    Pause(control::PauseArgs) => control::pause,
    Resume(control::ResumeArgs) => control::resume,
    Retry(control::RetryArgs) => control::retry,
    Download(download::DownloadArgs) => download::run,
    Repair(repair::RepairArgs) => repair::run,
    Certs(certs::CertsArgs) => certs::run,
    Token(token::TokenArgs) => token::run,
    Verify(verify::VerifyArgs) => verify::run,
    Merge(merge::MergeArgs) => merge::run,
    Export(export::ExportArgs) => export::run,
    Project(project::ProjectArgs) => project::run,
    Compare(Box<compare::CompareArgs>) => compare::run,
    Similarity(Box<similarity::SimilarityArgs>) => similarity::run,
    FillMask(fill_mask::FillMaskArgs) => fill_mask::run,
    Tokenize(tokenize::TokenizeArgs) => tokenize::run,
    Model(model::ModelArgs) => model::run,
    SelfTest(self_test::SelfTestArgs) => self_test::run,
    Completions(completions::CompletionsArgs) => |ui, args| completions::run(ui, args, &mut Cli::command()),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_has_a_sentence_as_help() {
        let mut commands = vec![Cli::command()];
        while let Some(command) = commands.pop() {
            for arg in command.get_arguments() {
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.len() > 10, "`{}` of `{}` has no help", arg.get_id(), command.get_name());
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }
}
