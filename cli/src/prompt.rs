//! Which text is put before every other: the model's default prompt, one chosen by name, or a prefix.

use engine::{ModelSummary, Prompts};
use proto::job::EmbedSpec;

use crate::args::PromptArgs;
use crate::exit::Advice;

/// A text that is put before every other; may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// The name of the model's prompt that it is, if it is one.
    pub(crate) name: Option<String>,
    pub(crate) text: String,
}

/// Returns what applies, as `encode` of sentence-transformers decides: a prefix before a prompt by name before the model's
/// default. The prompt `""` is none.
pub(crate) fn resolve(prompts: &Prompts, given: &PromptArgs) -> Result<Applied, Advice> {
    let of_model =
        |name: &str, text: &str| Applied { name: (!text.is_empty()).then(|| name.to_owned()), text: text.to_owned() };
    match (given.prefix.as_deref(), given.prompt.as_deref()) {
        (Some(_), Some(name)) if !name.is_empty() && !prompts.by_name.contains_key(name) => Err(unknown(prompts, name)),
        (Some(prefix), _) => Ok(Applied { name: None, text: prefix.to_owned() }),
        (None, Some("")) => Ok(Applied::default()),
        (None, Some(name)) => match prompts.by_name.get(name) {
            Some(text) => Ok(of_model(name, text)),
            None => Err(unknown(prompts, name)),
        },
        (None, None) => Ok(prompts.by_default().map_or_else(Applied::default, |(name, text)| of_model(name, text))),
    }
}

fn unknown(prompts: &Prompts, name: &str) -> Advice {
    let advice = Advice::usage(format!("--prompt {name}: the model has no prompt of this name"));
    match names(prompts).as_str() {
        "" => advice.hint("it has none at all: leave --prompt out, or give the text itself with --prefix"),
        names => advice.hint(format!("it has {names}; --prefix takes any text")),
    }
}

/// Lists the names of a model's prompts.
fn names(prompts: &Prompts) -> String {
    prompts.by_name.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Lists a model's prompts with their texts.
pub(crate) fn list(prompts: &Prompts) -> String {
    let all: Vec<String> = prompts.by_name.iter().map(|(name, text)| format!("{name} {text:?}")).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

/// Says which prompt applies to a job, and how to have another; nothing where the model has none and none is given.
pub(crate) fn note(model: &ModelSummary, embed: &EmbedSpec) -> Option<String> {
    let (prompts, prefix) = (&model.prompts, &embed.prefix);
    let default = prompts.by_default().map(|(name, _)| name);
    match (embed.prompt.as_deref(), default) {
        (Some(name), Some(default)) if name == default => Some(format!(
            "prompt: `{name}`, the model's default, puts {prefix:?} before every text (--prompt \"\" leaves it out)"
        )),
        (Some(name), _) => Some(format!("prompt: `{name}` puts {prefix:?} before every text")),
        (None, _) if !prefix.is_empty() => Some(format!("prefix: {prefix:?} before every text")),
        (None, Some(default)) => Some(format!("prompt: none, though the model's default is `{default}`")),
        (None, None) if prompts.by_name.values().all(String::is_empty) => None,
        (None, None) => Some(format!("prompt: none; the model has {} (--prompt NAME)", names(prompts))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompts(default: Option<&str>) -> Prompts {
        let by_name = [("doc", "texto: "), ("query", "consulta: "), ("bare", "")];
        Prompts {
            by_name: by_name.map(|(name, text)| (name.to_owned(), text.to_owned())).into(),
            default: default.map(str::to_owned),
        }
    }

    fn given(prompt: Option<&str>, prefix: Option<&str>) -> PromptArgs {
        PromptArgs { prompt: prompt.map(str::to_owned), prefix: prefix.map(str::to_owned) }
    }

    fn applied(asked: Option<&str>, prefix: Option<&str>) -> (Option<String>, String) {
        let applied = resolve(&prompts(Some("doc")), &given(asked, prefix)).unwrap();
        (applied.name, applied.text)
    }

    #[test]
    fn a_prefix_wins_over_a_named_prompt_and_that_over_the_default() {
        assert_eq!(applied(None, None), (Some("doc".to_owned()), "texto: ".to_owned()));
        assert_eq!(applied(Some("query"), None), (Some("query".to_owned()), "consulta: ".to_owned()));
        assert_eq!(applied(Some("query"), Some("x: ")), (None, "x: ".to_owned()));
        assert_eq!(applied(Some(""), None), (None, String::new()));
        assert_eq!(applied(None, Some("")), (None, String::new()));
        assert_eq!(applied(Some("bare"), None), (None, String::new()));
        assert_eq!(resolve(&prompts(None), &given(None, None)).unwrap(), Applied::default());
    }

    #[test]
    fn an_unknown_prompt_is_refused_with_the_names_of_the_known() {
        let error = format!("{:?}", resolve(&prompts(None), &given(Some("passage"), None)).unwrap_err());
        assert!(error.contains("--prompt passage") && error.contains("`bare`, `doc`, `query`"), "{error}");
        let error = format!("{:?}", resolve(&Prompts::default(), &given(Some("query"), None)).unwrap_err());
        assert!(error.contains("none at all"), "{error}");
        assert!(
            resolve(&prompts(None), &given(Some("passage"), Some("x: "))).is_err(),
            "a prefix does not hide a mistake"
        );
    }
}
