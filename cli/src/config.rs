//! Layers of settings: options over `ENCAJE_*` environment variables over `encaje.toml`.
//!
//! Both lower layers are written into the clap tree before it parses: an environment variable as the option's `env`,
//! a value from the file as the option's default. So every option has all three, and clap checks them all alike.
//!
//! The file holds option names as on the command line: at the top for every command that has the option, or in a
//! table named after a command (`[run]`, `[model-show]`) for that one. A key that nothing knows is an error.

use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::builder::{BoolishValueParser, OsStr, PathBufValueParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches};
use dataset::vectors::place;

use crate::commands::Cli;
use crate::exit::Advice;
use crate::variables;

/// The file that is read from the current directory where it is there.
const FILE_NAME: &str = "encaje.toml";
/// Options that make no sense in the file: it cannot name itself, and logging is enabled by hand.
const NOT_IN_FILE: [&str; 4] = ["config", "verbose", "help", "version"];

/// Parses the command line with its lower layers, and returns warnings of the environment. Help, version and usage errors end
/// the process as clap does.
pub(crate) fn parse(words: Vec<OsString>) -> anyhow::Result<(Cli, Vec<String>)> {
    let bare = with_environment(Cli::command(), "");
    let layers = match find_file(&bare, &words)? {
        Some(path) => Some(Layer::read(&path, &bare)?),
        None => None,
    };
    let full = match &layers {
        Some(layer) => layer.apply(bare.clone()),
        None => bare.clone(),
    };
    let parsed = full.try_get_matches_from(&words).and_then(|matches| Cli::from_arg_matches(&matches));
    let set = || std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let misspelled = || variables::misspelled(&bare, set());
    match (parsed, layers) {
        (Ok(cli), _) => Ok((cli, misspelled())),
        (Err(error), Some(layer)) if is_bad_value(&error) && !is_bad_without_file(&bare, &words) => {
            Err(bad_value(&layer.path.display().to_string(), &error).into())
        }
        (Err(error), _) => match variables::blamed(&bare, &words, &error).filter(|_| is_bad_value(&error)) {
            Some(variable) => Err(bad_value(&variable, &error).into()),
            None => with_tips(error, &bare, &words, misspelled()).exit(),
        },
    }
}

/// Says where a missing argument may have gone: into a misspelled variable, or into an option that takes several values and so every
/// word up to the next option.
fn with_tips(mut error: clap::Error, bare: &Command, words: &[OsString], misspelled: Vec<String>) -> clap::Error {
    if error.kind() != clap::error::ErrorKind::MissingRequiredArgument {
        return error;
    }
    let command = words.iter().skip(1).find_map(|word| bare.find_subcommand(word));
    let takes_several = |arg: &&Arg| arg.get_num_args().is_some_and(|range| range.max_values() > 1);
    let options = command.into_iter().flat_map(Command::get_arguments).filter(takes_several).filter_map(Arg::get_long);
    let mut options = options.map(|long| format!("--{long}"));
    let greedy = options.find(|option| words.iter().any(|word| word == option.as_str()));
    let greedy = greedy
        .map(|option| format!("{option} takes every word up to the next option: write what is missing before it"));
    let tips: Vec<_> = misspelled.into_iter().chain(greedy).map(Into::into).collect();
    if !tips.is_empty() {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
    error
}

/// Names the file or variable that a rejected value came from, and the values that it takes.
fn bad_value(place: &str, error: &clap::Error) -> Advice {
    let text = error.to_string();
    let mut lines = text.strip_prefix("error: ").unwrap_or(&text).lines();
    let advice = Advice::usage(format!("`{place}`: {}", lines.next().unwrap_or_default()));
    match lines.next().and_then(|line| line.trim().strip_prefix('[')?.strip_suffix(']')) {
        Some(values) => advice.hint(values),
        None => advice,
    }
}

/// Whether a value was given that the option does not take.
fn is_bad_value(error: &clap::Error) -> bool {
    use clap::error::ErrorKind::{InvalidValue, ValueValidation};
    matches!(error.kind(), InvalidValue | ValueValidation)
}

/// Whether the command line fails on a value by itself, so that the file is not to blame.
fn is_bad_without_file(bare: &Command, words: &[OsString]) -> bool {
    bare.clone().try_get_matches_from(words).is_err_and(|error| is_bad_value(&error))
}

/// Finds the file: `--config`, then `ENCAJE_CONFIG`, then `encaje.toml` in the current directory.
fn find_file(command: &Command, words: &[OsString]) -> anyhow::Result<Option<PathBuf>> {
    let matches = command.clone().ignore_errors(true).try_get_matches_from(words).ok();
    let named = matches.and_then(|matches| {
        let mut level = Some(&matches);
        while let Some(here) = level {
            if let Ok(Some(path)) = here.try_get_one::<PathBuf>("config") {
                return Some(path.clone());
            }
            level = here.subcommand().map(|(_, below)| below);
        }
        None
    });
    if named.is_some() {
        return Ok(named);
    }
    let here = PathBuf::from(FILE_NAME);
    let is_there =
        here.try_exists().with_context(|| format!("cannot look for `{FILE_NAME}` in the current directory"))?;
    Ok(is_there.then_some(here))
}

/// Gives every option its environment variable, and lets flags be set by words such as `true` and `0`.
fn with_environment(command: Command, path: &str) -> Command {
    let mut command = command.mut_args(|arg| {
        let arg = with_local_path(arg);
        let Some(long) = arg.get_long().map(str::to_owned) else { return arg };
        let arg = match arg.get_action() {
            ArgAction::SetTrue => arg.value_parser(BoolishValueParser::new()),
            ArgAction::Count | ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version => {
                return arg;
            }
            _ => arg,
        };
        let arg = if arg.get_env().is_some() { arg } else { arg.env(variable(&long)) };
        arg.hide_env_values(true)
    });
    let names: Vec<String> = command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    for name in names {
        let path = join(path, &name);
        command = command.mut_subcommand(&name, |below| with_environment(below, &path));
    }
    command
}

/// Lets an argument that is a path refuse URLs: as a path, `s3://bucket/x` would be a folder named `s3:` on this machine.
fn with_local_path(arg: Arg) -> Arg {
    if arg.get_value_parser().type_id() != TypeId::of::<PathBuf>() {
        return arg;
    }
    arg.value_parser(PathBufValueParser::new().try_map(|path| {
        match place::url_of(&path).and_then(|url| url.split_once("://")) {
            Some((scheme, _)) => Err(format!("it is a URL (`{scheme}://`), and this takes a path on this machine")),
            None => Ok(path),
        }
    }))
}

/// The environment variable of an option.
fn variable(long: &str) -> OsStr {
    OsStr::from(format!("ENCAJE_{}", long.replace('-', "_").to_uppercase()))
}

/// The table name of a subcommand: `run`, `model-show`.
fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}-{name}") }
}

/// The file, checked against the tree: what it sets for every command and for single ones.
struct Layer {
    path: PathBuf,
    common: BTreeMap<String, Vec<String>>,
    tables: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

impl Layer {
    /// Reads the file and checks every key.
    fn read(path: &Path, command: &Command) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| {
            anyhow::Error::from(error).context(Advice::usage(format!("cannot read the configuration file `{shown}`")))
        })?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            Advice::usage(format!("`{shown}` is not valid TOML: {}", error.to_string().trim_end()))
        })?;
        Self::check(path, &table, &options_by_command(command, ""))
    }

    fn check(path: &Path, table: &toml::Table, known: &BTreeMap<String, BTreeSet<String>>) -> anyhow::Result<Self> {
        let every: BTreeSet<String> = known.values().flatten().cloned().collect();
        let mut layer = Self { path: path.to_owned(), common: BTreeMap::new(), tables: BTreeMap::new() };
        for (key, value) in table {
            match (value, known.get(key)) {
                (toml::Value::Table(inner), Some(options)) => {
                    let mut values = BTreeMap::new();
                    for (name, value) in inner {
                        let full = format!("{key}.{name}");
                        check_key(path, &full, options.contains(name), options)?;
                        values.insert(name.clone(), value_words(path, &full, value)?);
                    }
                    layer.tables.insert(key.clone(), values);
                }
                (value, _) => {
                    check_key(path, key, every.contains(key), &every)?;
                    layer.common.insert(key.clone(), value_words(path, key, value)?);
                }
            }
        }
        Ok(layer)
    }

    /// Makes the file's values the defaults of the tree.
    fn apply(&self, command: Command) -> Command {
        self.apply_at(command, "")
    }

    fn apply_at(&self, command: Command, path: &str) -> Command {
        let own = self.tables.get(path);
        let mut command = command.mut_args(|arg| {
            let Some(long) = arg.get_long() else { return arg };
            match own.and_then(|table| table.get(long)).or_else(|| self.common.get(long)) {
                Some(words) if !NOT_IN_FILE.contains(&long) => with_default(arg, words),
                _ => arg,
            }
        });
        let names: Vec<String> = command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
        for name in names {
            let path = join(path, &name);
            command = command.mut_subcommand(&name, |below| self.apply_at(below, &path));
        }
        command
    }
}

/// Makes words from the file the default of an option. One that takes a single value takes a list with commas.
fn with_default(arg: Arg, words: &[String]) -> Arg {
    let values = match arg.get_action() {
        ArgAction::Append => words.to_vec(),
        _ => vec![words.join(",")],
    };
    arg.required(false).default_values(values.into_iter().map(OsStr::from)).hide_default_value(false)
}

/// The long options of each command; those of the root belong to every command.
fn options_by_command(command: &Command, path: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut known = BTreeMap::new();
    let own = command.get_arguments().filter_map(|arg| arg.get_long()).filter(|long| !NOT_IN_FILE.contains(long));
    known.insert(path.to_owned(), own.map(str::to_owned).collect());
    for below in command.get_subcommands() {
        known.extend(options_by_command(below, &join(path, below.get_name())));
    }
    known
}

fn check_key(path: &Path, key: &str, is_known: bool, options: &BTreeSet<String>) -> anyhow::Result<()> {
    if is_known {
        return Ok(());
    }
    let known: Vec<&str> = options.iter().map(String::as_str).collect();
    Err(Advice::usage(format!("`{}`: unknown key `{key}`", path.display()))
        .hint(format!("keys are option names without the dashes: {}", known.join(", ")))
        .into())
}

/// Formats a TOML value as it would be typed: one word, or those of a list.
fn value_words(path: &Path, key: &str, value: &toml::Value) -> anyhow::Result<Vec<String>> {
    let word = |value: &toml::Value| match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => None,
    };
    let words = match value {
        toml::Value::Array(items) => items.iter().map(word).collect(),
        other => word(other).map(|word| vec![word]),
    };
    words.ok_or_else(|| {
        let what = format!("`{}`: the value of `{key}` must be a string, number, boolean or list", path.display());
        Advice::usage(what).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(text: &str) -> anyhow::Result<Layer> {
        let command = with_environment(Cli::command(), "");
        Layer::check(Path::new("encaje.toml"), &text.parse().unwrap(), &options_by_command(&command, ""))
    }

    fn parse_with(text: &str, words: &[&str]) -> Cli {
        let command = layer(text).unwrap().apply(with_environment(Cli::command(), ""));
        Cli::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap()
    }

    fn run_args(cli: Cli) -> crate::commands::run::RunArgs {
        match cli.command {
            crate::commands::Command::Run(run) => *run,
            other => panic!("not run: {other:?}"),
        }
    }

    #[test]
    fn the_tree_stays_sound_with_all_layers() {
        let text = "model = \"m\"\nout = \"o\"\nstrict = true\nkeep = [\"a\", \"b\"]\n[run]\nthreads = 3\n";
        layer(text).unwrap().apply(with_environment(Cli::command(), "")).debug_assert();
    }

    #[test]
    fn a_url_is_refused_wherever_a_path_of_this_machine_is_taken() {
        let refused = ["worker --spool s3://bucket/spool", "certs --out s3://bucket/certs"];
        for line in refused {
            let words = std::iter::once("encaje").chain(line.split(' '));
            let error = with_environment(Cli::command(), "").try_get_matches_from(words).unwrap_err();
            assert_eq!(error.kind(), clap::error::ErrorKind::ValueValidation, "{line}: {error}");
            assert!(error.to_string().contains("it is a URL"), "{error}");
        }
        for line in [
            "run c.csv --model m --out s3://bucket/x",
            "verify https://host/a.parquet",
            "merge a --out gs://b/c.parquet",
        ] {
            let words = std::iter::once("encaje").chain(line.split(' '));
            assert!(with_environment(Cli::command(), "").try_get_matches_from(words).is_ok(), "{line}");
        }
        let odd = ["encaje", "run", "c.csv", "--model", "m", "--out", "a:/b//c"];
        assert!(with_environment(Cli::command(), "").try_get_matches_from(odd).is_ok());
    }

    #[test]
    fn the_file_sets_required_options_flags_and_lists() {
        let text = "model = \"m\"\nout = \"o\"\nkeep = [\"a\", \"b\"]\n[run]\nstrict = true\nthreads = 3\n";
        let run = run_args(parse_with(text, &["encaje", "run", "c.csv"]));
        assert_eq!(run.job.model.model, "m");
        assert!(run.output.strict);
        assert_eq!(run.machine.threads, Some(3));
        assert_eq!(run.job.corpus.keep, dataset::Keep::Columns(vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn an_option_with_many_values_takes_a_list() {
        let cli = parse_with("[verify]\ncorpus = [\"a,1.csv\", \"b.csv\"]\n", &["encaje", "verify", "out"]);
        match cli.command {
            crate::commands::Command::Verify(verify) => assert_eq!(verify.corpus, ["a,1.csv", "b.csv"]),
            other => panic!("not verify: {other:?}"),
        }
    }

    #[test]
    fn options_win_over_the_file() {
        let text = "model = \"m\"\nout = \"o\"\n[run]\nmodel = \"n\"\n";
        let typed = run_args(parse_with(text, &["encaje", "run", "c.csv", "--model", "typed"]));
        assert_eq!(typed.job.model.model, "typed");
        let table = run_args(parse_with(text, &["encaje", "run", "c.csv"]));
        assert_eq!(table.job.model.model, "n");
    }

    #[test]
    fn an_unknown_key_is_named() {
        for (text, key) in
            [("modle = \"m\"", "`modle`"), ("[run]\nmodle = 1", "`run.modle`"), ("[rnu]\nx = 1", "`rnu`")]
        {
            let error = layer(text).err().unwrap().to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn every_option_has_a_variable() {
        let command = with_environment(Cli::command(), "");
        let run = command.find_subcommand("run").unwrap();
        for arg in run.get_arguments().filter(|arg| arg.get_long().is_some_and(|long| long != "help")) {
            assert!(arg.get_env().is_some() || arg.get_id() == "verbose", "{}", arg.get_id());
        }
    }

    /// Variables that commands share although each explains its option in its own words, and what it always means.
    const SHARED: [(&str, &str); 16] = [
        ("ENCAJE_DEVICE", "where a model computes"),
        ("ENCAJE_FORCE", "replace what is at the output's place"),
        ("ENCAJE_FORMAT", "the format of the input file; `export` has its own variable"),
        ("ENCAJE_INSECURE", "accept that others on the network read or send"),
        ("ENCAJE_JSON", "JSON on stdout"),
        ("ENCAJE_KEEP", "the columns that pass through"),
        ("ENCAJE_MODEL", "the model"),
        ("ENCAJE_OFFLINE", "never ask the Hub"),
        ("ENCAJE_OUTPUT_DTYPE", "the number format of the vectors written"),
        ("ENCAJE_PREFIX", "what precedes every text"),
        ("ENCAJE_PROMPT", "the prompt that precedes every text"),
        ("ENCAJE_QUICK", "a self-test of a few sizes"),
        ("ENCAJE_TEXT_COLUMN", "the column of the text"),
        ("ENCAJE_TLS_CERT", "the certificate of this machine"),
        ("ENCAJE_TOKENS", "the token file of the coordinators"),
        ("ENCAJE_WAIT", "wait for the end of the job"),
    ];

    /// The explanations of every environment variable, each with the commands whose option has it.
    fn explanations(command: &Command, path: &str, found: &mut BTreeMap<String, BTreeMap<String, Vec<String>>>) {
        for arg in command.get_arguments() {
            let Some(variable) = arg.get_env() else { continue };
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let variable = variable.to_string_lossy().into_owned();
            found.entry(variable).or_default().entry(help).or_default().push(path.to_owned());
        }
        for below in command.get_subcommands() {
            explanations(below, &join(path, below.get_name()), found);
        }
    }

    #[test]
    fn commands_share_a_variable_only_for_the_same_option() {
        let mut found = BTreeMap::new();
        explanations(&with_environment(Cli::command(), ""), "", &mut found);
        let shared = found.iter().filter(|(_, explanations)| explanations.len() > 1);
        let shared: Vec<_> =
            shared.filter(|(variable, _)| !SHARED.iter().any(|(known, _)| known == variable)).collect();
        assert!(shared.is_empty(), "give one its own `env`, or add it to SHARED with the reason: {shared:#?}");
    }
}
