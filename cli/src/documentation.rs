//! What help texts and documents state in numbers and lists, compared with the code that decides it.

use clap::{Command, CommandFactory, ValueEnum};

use crate::{cluster, commands, job_spec, ui};

const README: &str = include_str!("../../README.md");
const ARCHITECTURE: &str = include_str!("../../ARCHITECTURE.md");

/// Returns the help text of an argument.
fn help(command: &str, argument: &str) -> String {
    let program = commands::Cli::command();
    let command: &Command = program.find_subcommand(command).unwrap();
    let argument = command.get_arguments().find(|found| found.get_id() == argument).unwrap();
    argument.get_long_help().or(argument.get_help()).unwrap().to_string()
}

#[test]
fn the_help_of_a_corpus_names_every_format_and_only_schemes_that_are_read() {
    for command in ["run", "submit"] {
        let help = help(command, "corpus");
        for format in spec::Format::value_variants() {
            assert!(help.contains(&format!(".{format}")), "{format}: {help}");
        }
        let schemes: Vec<&str> = help.split('`').filter_map(|word| word.strip_suffix("://")).collect();
        assert_eq!(schemes, ["s3", "gs", "az", "https", "file"]);
        for scheme in schemes {
            let host = if scheme == "file" { "" } else { "example.org" };
            assert!(dataset::corpus_place(&format!("{scheme}://{host}/a.csv")).is_ok(), "{scheme}");
        }
        assert!(dataset::corpus_place("hf://datasets/OWNER/NAME/a.csv").is_ok());
        for kind in [
            "hf://datasets/OWNER/NAME[@REVISION]",
            ".arrows",
            ".feather",
            ".ipc",
            ".gz",
            ".zst",
            "globs",
            "pipes",
            "stdin",
        ] {
            assert!(help.contains(kind), "{kind}: {help}");
        }
    }
}

#[test]
fn the_size_of_shards_is_as_documented() {
    let seconds = format!("about {} s of work", job_spec::SHARD_SECONDS);
    assert!(help("run", "shard_rows").contains(&seconds));
    assert!(ARCHITECTURE.contains(&seconds));
    let (cpu, gpu) = (*job_spec::INPUT_BYTES.end() >> 20, job_spec::GPU_INPUT_BYTES_MAX >> 20);
    assert!(ARCHITECTURE.contains(&format!("{cpu} MiB of input, or {gpu} MiB on GPUs")));
}

#[test]
fn defaults_that_are_computed_are_as_documented() {
    let [small, medium, large] = [10_000, 100_000, 100_001].map(atlas::umap::default_epochs);
    let small = ui::thousands(small as u64);
    let stated = format!("{small} up to 10,000 points, {medium} up to 100,000 and {large} above");
    for command in ["project", "compare"] {
        assert!(help(command, "epochs").contains(&stated), "{stated}");
    }
    assert!(help("list", "limit").contains(&format!("[default: {}]", cluster::JOBS_SHOWN)));
}

#[test]
fn the_limit_of_a_record_is_as_documented() {
    assert!(README.contains(&format!("A record above {} MiB", dataset::RECORD_BYTES_MAX >> 20)));
}
