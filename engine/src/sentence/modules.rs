//! `modules.json`: the modules of a model in order, and the directory of each.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::settings::{self, Rule, Table};
use crate::LoadError;

/// A supported module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Transformer,
    Pooling,
    Normalize,
    /// No effect outside of training.
    Dropout,
}

/// The class names that sentence-transformers 6.2 accepts: of old and new releases, and of the packages between.
const CLASSES: &[(&str, Kind)] = &[
    ("sentence_transformers.models.Transformer", Kind::Transformer),
    ("sentence_transformers.models.Transformer.Transformer", Kind::Transformer),
    ("sentence_transformers.base.modules.Transformer", Kind::Transformer),
    ("sentence_transformers.base.modules.transformer.Transformer", Kind::Transformer),
    ("sentence_transformers.sentence_transformer.modules.Transformer", Kind::Transformer),
    ("sentence_transformers.models.Pooling", Kind::Pooling),
    ("sentence_transformers.models.Pooling.Pooling", Kind::Pooling),
    ("sentence_transformers.sentence_transformer.modules.Pooling", Kind::Pooling),
    ("sentence_transformers.sentence_transformer.modules.pooling.Pooling", Kind::Pooling),
    ("sentence_transformers.models.Normalize", Kind::Normalize),
    ("sentence_transformers.models.Normalize.Normalize", Kind::Normalize),
    ("sentence_transformers.base.modules.Normalize", Kind::Normalize),
    ("sentence_transformers.base.modules.normalize.Normalize", Kind::Normalize),
    ("sentence_transformers.sentence_transformer.modules.Normalize", Kind::Normalize),
    ("sentence_transformers.sentence_transformer.modules.normalize.Normalize", Kind::Normalize),
    ("sentence_transformers.models.Dropout", Kind::Dropout),
    ("sentence_transformers.models.Dropout.Dropout", Kind::Dropout),
    ("sentence_transformers.sentence_transformer.modules.Dropout", Kind::Dropout),
    ("sentence_transformers.sentence_transformer.modules.dropout.Dropout", Kind::Dropout),
];

/// The keys of an entry. `kwargs` names arguments that callers of Python's `encode` may pass: irrelevant here.
const ENTRY: Table = &[
    ("idx", Rule::NoEffect),
    ("name", Rule::Read),
    ("path", Rule::Read),
    ("type", Rule::Read),
    ("kwargs", Rule::NoEffect),
];

/// The keys of a Normalize module's file.
const NORMALIZE: Table = &[
    ("module_input_name", Rule::Only(&[r#""sentence_embedding""#])),
    ("module_output_name", Rule::Only(&[r#""sentence_embedding""#, "null"])),
];

pub(super) struct Modules {
    /// The directory of the encoder.
    pub(super) transformer: PathBuf,
    /// The config of the pooling module.
    pub(super) pooling: PathBuf,
    /// Whether a module normalises the pooled vectors.
    pub(super) normalize: bool,
    pub(super) files: Vec<PathBuf>,
}

/// Reads the list of modules, and refuses unsupported modules and orders.
pub(super) fn read(dir: &Path, list: &Path) -> Result<Modules, LoadError> {
    let invalid = |problem: String| LoadError::Invalid { path: list.into(), problem };
    let bytes = std::fs::read(list).map_err(|source| LoadError::Read { path: list.into(), source })?;
    let entries: Vec<Map<String, Value>> =
        serde_json::from_slice(&bytes).map_err(|error| invalid(format!("not a list of modules: {error}")))?;
    let mut found = Vec::new();
    let mut names = BTreeSet::new();
    for (index, entry) in entries.iter().enumerate() {
        settings::check(list, &format!("[{index}]"), ENTRY, entry)?;
        let text = |key: &str| {
            let missing = || invalid(format!("module {index} has no `{key}`"));
            entry.get(key).and_then(Value::as_str).ok_or_else(missing)
        };
        if !names.insert(text("name")?) {
            return Err(invalid(format!("two modules have the name `{}`", text("name")?)));
        }
        found.push((kind(list, text("type")?)?, module_dir(dir, list, text("path")?)?));
    }
    let kinds: Vec<Kind> = found.iter().map(|(kind, _)| *kind).collect();
    check_order(list, &kinds)?;
    let mut modules = Modules {
        transformer: found[0].1.clone(),
        pooling: found[1].1.join("config.json"),
        normalize: kinds.contains(&Kind::Normalize),
        files: vec![list.into()],
    };
    for (_, dir) in found.iter().filter(|(kind, _)| *kind == Kind::Normalize) {
        let path = dir.join("config.json");
        if path.is_file() {
            settings::check(&path, "", NORMALIZE, &crate::config::read_json_object(&path)?)?;
            modules.files.push(path);
        }
    }
    Ok(modules)
}

fn kind(list: &Path, class: &str) -> Result<Kind, LoadError> {
    if let Some((_, kind)) = CLASSES.iter().find(|(known, _)| *known == class) {
        return Ok(*kind);
    }
    let list = list.display();
    let what = match class.strip_prefix("sentence_transformers.") {
        Some(known) => format!(
            "`{list}` has a `{}` module (`{class}`), but only Transformer, Pooling, Normalize and Dropout are supported: embed \
             with sentence-transformers",
            known.rsplit('.').next().unwrap_or(known)
        ),
        None => format!(
            "`{list}` names `{class}`, which is code of the model's own, and such code is never run: embed with \
             sentence-transformers and `trust_remote_code`"
        ),
    };
    Err(LoadError::Unsupported { what })
}

/// Refuses a path outside of the model, as sentence-transformers does.
fn module_dir(dir: &Path, list: &Path, path: &str) -> Result<PathBuf, LoadError> {
    let windows = path.replace('\\', "/");
    let rooted = windows.starts_with('/') || windows.as_bytes().get(1) == Some(&b':');
    if rooted || windows.split('/').any(|part| part == "..") || path.contains('\0') {
        let problem = format!("the path `{path}` of a module leads out of the model's directory");
        return Err(LoadError::Invalid { path: list.into(), problem });
    }
    Ok(if path.is_empty() { dir.into() } else { dir.join(path) })
}

fn check_order(list: &Path, kinds: &[Kind]) -> Result<(), LoadError> {
    let invalid = |problem: &str| Err(LoadError::Invalid { path: list.into(), problem: problem.into() });
    match kinds {
        [] => invalid("it names no modules"),
        [Kind::Transformer, Kind::Pooling, rest @ ..]
            if rest.iter().all(|kind| matches!(kind, Kind::Normalize | Kind::Dropout)) =>
        {
            Ok(())
        }
        kinds if !kinds.contains(&Kind::Pooling) => {
            invalid("it names no Pooling module, so there is one vector per token and none per text")
        }
        _ => invalid("its modules are not one Transformer, then one Pooling, then any Normalize or Dropout"),
    }
}
