//! What sentence-transformers keeps beside a model: its modules, its pooling, its maximum length.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::config::read_json_object;
use crate::{LoadError, Pooling};

/// The file that holds `max_seq_length`; older models name it after their architecture.
const LENGTH_FILES: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

/// `pooling_mode` of newer files, the flag of older ones, and what they mean here; `None` is not done here.
const POOLING_MODES: [(&str, &str, Option<Pooling>); 6] = [
    ("cls", "pooling_mode_cls_token", Some(Pooling::Cls)),
    ("max", "pooling_mode_max_tokens", Some(Pooling::Max)),
    ("mean", "pooling_mode_mean_tokens", Some(Pooling::Mean)),
    ("mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", None),
    ("weightedmean", "pooling_mode_weightedmean_tokens", None),
    ("lasttoken", "pooling_mode_lasttoken", Some(Pooling::Last)),
];

/// The sentence-transformers side of a model directory; for a plain encoder, nothing but the directory itself.
#[derive(Debug, Clone)]
pub(crate) struct SentenceModules {
    /// Where `config.json`, weights and tokenizer are: the directory, or `0_Transformer` in older models.
    pub(crate) transformer_dir: PathBuf,
    /// The model's own pooling, if it says.
    pub(crate) pooling: Option<Pooling>,
    /// Whether the tokens of the prefix take part in pooling. True unless the model says otherwise.
    pub(crate) include_prompt: bool,
    /// Longest input in tokens.
    pub(crate) max_seq_length: Option<usize>,
    /// Whether texts are lowercased before the tokenizer sees them.
    pub(crate) do_lower_case: bool,
    /// The files read, for the digest.
    pub(crate) files: Vec<PathBuf>,
}

impl SentenceModules {
    /// Reads `modules.json`, the pooling config that it names, and the file with the maximum length.
    pub(crate) fn read(dir: &Path) -> Result<SentenceModules, LoadError> {
        let mut modules = SentenceModules {
            transformer_dir: dir.to_path_buf(),
            pooling: None,
            include_prompt: true,
            max_seq_length: None,
            do_lower_case: false,
            files: Vec::new(),
        };
        let list = dir.join("modules.json");
        let mut pooling_dir = Some(dir.join("1_Pooling"));
        if list.is_file() {
            modules.files.push(list.clone());
            let paths = module_paths(dir, &list)?;
            modules.transformer_dir = paths.transformer;
            // A list without a pooling module is the model's word that there is none.
            pooling_dir = paths.pooling;
        }
        if let Some(path) = pooling_dir.map(|dir| dir.join("config.json")).filter(|path| path.is_file()) {
            modules.read_pooling(&path)?;
        }
        let length_file = LENGTH_FILES.map(|name| modules.transformer_dir.join(name)).into_iter().find(|p| p.is_file());
        if let Some(path) = length_file {
            let map = read_json_object(&path)?;
            modules.max_seq_length = map.get("max_seq_length").and_then(Value::as_u64).map(|length| length as usize);
            modules.do_lower_case = map.get("do_lower_case").and_then(Value::as_bool).unwrap_or(false);
            modules.files.push(path);
        }
        Ok(modules)
    }

    fn read_pooling(&mut self, path: &Path) -> Result<(), LoadError> {
        let map = read_json_object(path)?;
        self.pooling = Some(pooling(path, &map)?);
        self.include_prompt = map.get("include_prompt").and_then(Value::as_bool).unwrap_or(true);
        self.files.push(path.to_path_buf());
        Ok(())
    }
}

struct ModulePaths {
    transformer: PathBuf,
    pooling: Option<PathBuf>,
}

/// Reads the list of modules, and refuses those that change vectors in a way that is not done here.
fn module_paths(dir: &Path, list: &Path) -> Result<ModulePaths, LoadError> {
    let invalid = |problem: String| LoadError::Invalid { path: list.into(), problem };
    let bytes = std::fs::read(list).map_err(|source| LoadError::Read { path: list.into(), source })?;
    let entries: Vec<Map<String, Value>> =
        serde_json::from_slice(&bytes).map_err(|error| invalid(format!("not a list of modules: {error}")))?;
    let mut paths = ModulePaths { transformer: dir.to_path_buf(), pooling: None };
    for entry in &entries {
        let kind = entry.get("type").and_then(Value::as_str).unwrap_or_default();
        let path = dir.join(entry.get("path").and_then(Value::as_str).unwrap_or_default());
        match kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" => paths.transformer = path,
            "Pooling" => paths.pooling = Some(path),
            "Normalize" => {}
            other => {
                return Err(LoadError::Unsupported {
                    what: format!(
                        "`{}` has a `{other}` module, but only Transformer, Pooling and Normalize are done",
                        list.display()
                    ),
                });
            }
        }
    }
    Ok(paths)
}

/// Returns the one pooling mode that a pooling config asks for. No mode at all means the mean, as in Python.
fn pooling(path: &Path, map: &Map<String, Value>) -> Result<Pooling, LoadError> {
    let unsupported = |what: String| LoadError::Unsupported { what: format!("`{}`: {what}", path.display()) };
    let asked: Vec<String> = match map.get("pooling_mode") {
        Some(Value::String(mode)) => vec![mode.clone()],
        Some(Value::Array(modes)) => modes.iter().map(|mode| mode.as_str().unwrap_or_default().to_string()).collect(),
        _ => {
            let set = |flag: &str| map.get(flag).and_then(Value::as_bool).unwrap_or(false);
            POOLING_MODES.iter().filter(|(_, flag, _)| set(flag)).map(|(mode, ..)| (*mode).to_string()).collect()
        }
    };
    match asked.as_slice() {
        [] => Ok(Pooling::Mean),
        [mode] => POOLING_MODES
            .iter()
            .find(|(name, ..)| name == mode)
            .and_then(|(.., pooling)| *pooling)
            .ok_or_else(|| unsupported(format!("pooling `{mode}` is not done; cls, mean, max and lasttoken are"))),
        several => Err(unsupported(format!("joins several poolings ({}); only one is done", several.join(", ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN_MODULES: &str = r#"[
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]"#;

    fn read(files: &[(&str, &str)]) -> Result<SentenceModules, String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        SentenceModules::read(dir.path()).map_err(|error| error.to_string())
    }

    fn pooling_of(config: &str) -> Result<Option<Pooling>, String> {
        read(&[("modules.json", PLAIN_MODULES), ("1_Pooling/config.json", config)]).map(|modules| modules.pooling)
    }

    #[test]
    fn a_plain_encoder_says_nothing() {
        let modules = read(&[]).unwrap();
        assert_eq!((modules.pooling, modules.max_seq_length, modules.include_prompt), (None, None, true));
        assert!(modules.files.is_empty());
    }

    #[test]
    fn pooling_is_read_from_flags_and_from_the_newer_name() {
        let flags = r#"{"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}"#;
        assert_eq!(pooling_of(flags), Ok(Some(Pooling::Mean)));
        assert_eq!(pooling_of(r#"{"pooling_mode_cls_token": true}"#), Ok(Some(Pooling::Cls)));
        assert_eq!(pooling_of(r#"{"pooling_mode_max_tokens": true}"#), Ok(Some(Pooling::Max)));
        assert_eq!(pooling_of(r#"{"pooling_mode": "lasttoken"}"#), Ok(Some(Pooling::Last)));
        assert_eq!(pooling_of(r#"{"pooling_mode": ["cls"]}"#), Ok(Some(Pooling::Cls)));
        assert_eq!(pooling_of(r#"{"embedding_dimension": 8}"#), Ok(Some(Pooling::Mean)));
    }

    #[test]
    fn poolings_that_are_not_done_are_refused_by_name() {
        assert!(pooling_of(r#"{"pooling_mode": "weightedmean"}"#).unwrap_err().contains("`weightedmean` is not done"));
        let two = r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}"#;
        assert!(pooling_of(two).unwrap_err().contains("(cls, mean)"));
    }

    #[test]
    fn a_dense_module_is_refused() {
        let modules = PLAIN_MODULES.replace("models.Normalize", "models.Dense");
        assert!(read(&[("modules.json", &modules)]).unwrap_err().contains("`Dense` module"));
    }

    #[test]
    fn the_prompt_flag_and_the_length_are_read() {
        let modules = read(&[
            ("modules.json", PLAIN_MODULES),
            ("1_Pooling/config.json", r#"{"pooling_mode": "mean", "include_prompt": false}"#),
            ("sentence_bert_config.json", r#"{"max_seq_length": 256, "do_lower_case": true}"#),
        ]);
        let modules = modules.unwrap();
        assert!(!modules.include_prompt && modules.do_lower_case);
        assert_eq!((modules.max_seq_length, modules.files.len()), (Some(256), 3));
    }

    #[test]
    fn an_older_model_keeps_its_transformer_in_a_folder() {
        let modules = PLAIN_MODULES.replace(r#""path": "", "#, r#""path": "0_Transformer", "#);
        let read = read(&[("modules.json", &modules)]).unwrap();
        assert!(read.transformer_dir.ends_with("0_Transformer"));
    }
}
