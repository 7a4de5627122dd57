//! Which tokenizer class of transformers `AutoTokenizer` picks for a model.

use serde_json::{Map, Value};

use super::class::{Class, NAMES, UNSUPPORTED_CLASSES};
use crate::LoadError;
use crate::config::Config;

/// Models (`model_name` of `config.json`) whose `tokenizer_class` transformers treats as wrong.
const WRONG_CLASS: [&str; 1] = ["camembertv2-base"];

/// A `tokenizer_class` and the file that declares it.
#[derive(Clone, Copy)]
struct Declared<'a> {
    name: &'a str,
    file: &'a str,
}

impl<'a> Declared<'a> {
    fn find(map: &'a Map<String, Value>, file: &'a str) -> Option<Declared<'a>> {
        let name = map.get("tokenizer_class").and_then(Value::as_str).filter(|name| !name.is_empty())?;
        Some(Declared { name, file })
    }

    fn refused(&self) -> LoadError {
        let Declared { name, file } = self;
        LoadError::Unsupported {
            what: format!(
                "`{file}`: `tokenizer_class` is `{name}`, whose rules are in its code and not in the files of the model; use a \
                 model whose `tokenizer.json` holds all of its tokenizer"
            ),
        }
    }
}

/// Chooses the class like `AutoTokenizer` of transformers 5.24. `byte_level`, called only if needed, returns whether
/// `tokenizer.json` mentions `"ByteLevel"`.
pub(super) fn choose(
    model: &Config,
    settings: &Map<String, Value>,
    byte_level: impl FnOnce() -> Result<bool, LoadError>,
) -> Result<Class, LoadError> {
    let in_settings = Declared::find(settings, "tokenizer_config.json");
    let in_model = Declared::find(&model.raw, "config.json");
    let registered = model.family.tokenizer;
    let known_as_wrong = model.family.ignores_tokenizer_class
        || model.raw.get("model_name").and_then(Value::as_str).is_some_and(|name| WRONG_CLASS.contains(&name));
    // Code of the model's repository is not run, but its presence skips the comparison of classes.
    if !has_own_code(settings)
        && let Some(declared) = in_settings.or(in_model)
    {
        if without_fast(declared.name) == "LlamaTokenizer" && !known_as_wrong && byte_level()? {
            return Ok(Class::Backend);
        }
        if without_fast(declared.name) != registered.name() {
            return match known_as_wrong {
                true => Ok(registered),
                false => Ok(class_named(declared)?.unwrap_or(Class::Backend)),
            };
        }
    }
    match (in_settings, in_model) {
        (Some(declared), _) => Ok(class_named(declared)?.unwrap_or(Class::Backend)),
        (None, Some(declared)) => class_named(declared)?.ok_or_else(|| declared.refused()),
        (None, None) => Ok(registered),
    }
}

/// Finds a class by name; `None` where transformers does not know it either.
fn class_named(declared: Declared<'_>) -> Result<Option<Class>, LoadError> {
    let name = without_fast(declared.name);
    if UNSUPPORTED_CLASSES.contains(&name) {
        return Err(declared.refused());
    }
    Ok(NAMES.iter().find(|(known, _)| *known == name).map(|(_, class)| *class))
}

fn has_own_code(settings: &Map<String, Value>) -> bool {
    match settings.get("auto_map") {
        None | Some(Value::Null) => false,
        Some(Value::Object(map)) => map.get("AutoTokenizer").is_some_and(|class| !class.is_null()),
        Some(_) => true,
    }
}

fn without_fast(name: &str) -> &str {
    name.strip_suffix("Fast").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chosen(model: Value, settings: Value) -> Result<Class, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, model.to_string()).unwrap();
        let model = Config::read(&path).unwrap();
        choose(&model, settings.as_object().unwrap(), || Ok(true)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_architecture_decides_without_a_declared_class() {
        assert_eq!(chosen(json!({"model_type": "bert"}), json!({})), Ok(Class::Bert));
        assert_eq!(chosen(json!({"model_type": "roberta"}), json!({})), Ok(Class::Roberta));
        assert_eq!(chosen(json!({"model_type": "modernbert"}), json!({})), Ok(Class::Backend));
    }

    #[test]
    fn a_declared_class_wins_over_the_architecture() {
        let roberta = || json!({"model_type": "roberta"});
        let class = |name: &str| chosen(roberta(), json!({"tokenizer_class": name}));
        assert_eq!(class("BertTokenizerFast"), Ok(Class::Bert));
        assert_eq!(class("PreTrainedTokenizerFast"), Ok(Class::Backend));
        assert_eq!(class("NobodyKnowsThisTokenizer"), Ok(Class::Backend));
        assert_eq!(class("LlamaTokenizer"), Ok(Class::Backend), "its file is byte-level");
        let in_model = json!({"model_type": "roberta", "tokenizer_class": "MPNetTokenizer"});
        assert_eq!(chosen(in_model, json!({})), Ok(Class::MpNet));
    }

    #[test]
    fn families_without_a_class_and_known_wrong_declarations_ignore_the_class() {
        for (family, declared) in [("modernbert", "BertTokenizer"), ("umt5", "T5Tokenizer")] {
            let model = json!({"model_type": family});
            assert_eq!(chosen(model, json!({"tokenizer_class": declared})), Ok(Class::Backend));
        }
        let camembert = json!({"model_type": "roberta", "model_name": "camembertv2-base"});
        assert_eq!(chosen(camembert, json!({"tokenizer_class": "CamembertTokenizer"})), Ok(Class::Roberta));
    }

    #[test]
    fn a_class_with_rules_in_code_is_refused_by_name() {
        let error =
            chosen(json!({"model_type": "bert"}), json!({"tokenizer_class": "BertJapaneseTokenizer"})).unwrap_err();
        assert!(error.contains("`tokenizer_config.json`: `tokenizer_class` is `BertJapaneseTokenizer`"), "{error}");
        let model = json!({"model_type": "roberta", "tokenizer_class": "BertweetTokenizer"});
        assert!(
            chosen(model, json!({})).unwrap_err().contains("`config.json`: `tokenizer_class` is `BertweetTokenizer`")
        );
    }
}
