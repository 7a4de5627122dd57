//! The environment variables of this program: the ones that look misspelled, and the one that a bad value came from.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue};
use strsim::levenshtein as errors_between;

/// What all variables of this program begin with.
const PREFIX: &str = "ENCAJE_";
/// Variables of no option.
const WITHOUT_OPTION: [&str; 5] =
    ["ENCAJE_LOG", "ENCAJE_TOKEN", "ENCAJE_ALLOW_HTTP", "ENCAJE_ALLOW_PRIVATE_HOSTS", "ENCAJE_CUDA_KERNELS"];
/// A name with this many letters inserted, left out or replaced is taken for a misspelling.
const ERRORS_MAX: usize = 2;

/// Warns of variables that are set, mean nothing, and are nearly the name of one that does.
pub(crate) fn misspelled(command: &Command, set: impl Iterator<Item = String>) -> Vec<String> {
    let mut known: BTreeSet<String> = WITHOUT_OPTION.map(str::to_owned).into();
    collect_names(command, &mut known);
    let unknown = set.filter(|name| name.starts_with(PREFIX) && !known.contains(name));
    let warning = |name: String| {
        let close = known.iter().map(|known| (errors_between(&name, known), known)).min()?;
        let text = || format!("`{name}` is no variable of encaje and does nothing: did you mean `{}`?", close.1);
        (close.0 <= ERRORS_MAX).then(text)
    };
    unknown.filter_map(warning).collect()
}

fn collect_names(command: &Command, names: &mut BTreeSet<String>) {
    let variables = command.get_arguments().filter_map(|arg| arg.get_env());
    names.extend(variables.map(|name| name.to_string_lossy().into_owned()));
    command.get_subcommands().for_each(|below| collect_names(below, names));
}

/// Returns the variable that a refused value came from: the option's, if it is set and the option was not typed.
pub(crate) fn blamed(command: &Command, words: &[OsString], error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else { return None };
    let long = shown.split_whitespace().next()?.strip_prefix("--")?;
    let option = format!("--{long}");
    let is_typed = |word: &OsString| {
        let rest = word.to_str().and_then(|word| word.strip_prefix(&option));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    if words.iter().any(is_typed) {
        return None;
    }
    let mut here = command;
    let mut found = None;
    for word in std::iter::once(None).chain(words.iter().map(Some)) {
        if let Some(word) = word {
            let Some(below) = here.find_subcommand(word) else { continue };
            here = below;
        }
        found = here.get_arguments().find(|arg| arg.get_long() == Some(long)).or(found);
    }
    let variable = found?.get_env()?;
    std::env::var_os(variable).map(|_| variable.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_is_nearly_one_of_ours_is_named() {
        let command = Command::new("encaje")
            .subcommand(Command::new("run").arg(clap::Arg::new("pooling").long("pooling").env("ENCAJE_POOLING")));
        let said = |name: &str| misspelled(&command, std::iter::once(name.to_owned()));
        assert!(said("ENCAJE_POLING")[0].contains("did you mean `ENCAJE_POOLING`?"));
        for name in ["ENCAJE_POOLING", "ENCAJE_LOG", "ENCAJE_TEST_BETO", "POLING", "ENCAJE_"] {
            assert!(said(name).is_empty(), "{name}: {:?}", said(name));
        }
    }

    #[test]
    fn errors_are_counted_as_levenshtein_did() {
        let pairs = [("kitten", "sitting", 3), ("", "ab", 2), ("ab", "", 2), ("modle", "model", 2), ("a", "a", 0)];
        assert!(pairs.iter().all(|(one, other, errors)| errors_between(one, other) == *errors));
    }
}
