//! `modules.json`: the modules of a model in order, and the directory of each.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::settings::{self, Rule, Table};
use super::steps::Step;
use crate::LoadError;

/// A supported module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Transformer,
    Pooling,
    StaticEmbedding,
    Dense,
    LayerNorm,
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
    ("sentence_transformers.models.StaticEmbedding", Kind::StaticEmbedding),
    ("sentence_transformers.models.StaticEmbedding.StaticEmbedding", Kind::StaticEmbedding),
    ("sentence_transformers.sentence_transformer.modules.StaticEmbedding", Kind::StaticEmbedding),
    ("sentence_transformers.sentence_transformer.modules.static_embedding.StaticEmbedding", Kind::StaticEmbedding),
    ("sentence_transformers.models.Dense", Kind::Dense),
    ("sentence_transformers.models.Dense.Dense", Kind::Dense),
    ("sentence_transformers.base.modules.Dense", Kind::Dense),
    ("sentence_transformers.base.modules.dense.Dense", Kind::Dense),
    ("sentence_transformers.sentence_transformer.modules.Dense", Kind::Dense),
    ("sentence_transformers.models.LayerNorm", Kind::LayerNorm),
    ("sentence_transformers.models.LayerNorm.LayerNorm", Kind::LayerNorm),
    ("sentence_transformers.sentence_transformer.modules.LayerNorm", Kind::LayerNorm),
    ("sentence_transformers.sentence_transformer.modules.layer_norm.LayerNorm", Kind::LayerNorm),
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

pub(super) struct Modules {
    pub(super) first: First,
    /// The modules after the one that makes a vector per text.
    pub(super) steps: Vec<Step>,
    pub(super) files: Vec<PathBuf>,
}

/// A listed module and its directory.
type Found = (Kind, PathBuf);

/// What makes a vector per text.
pub(super) enum First {
    /// The directory of the encoder, and the config of the pooling module.
    Pooled { transformer: PathBuf, pooling: PathBuf },
    /// The directory of the StaticEmbedding module.
    Static(PathBuf),
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
    let (first, rest) = first(list, &found)?;
    let mut modules = Modules { first, steps: Vec::new(), files: vec![list.into()] };
    for (kind, dir) in rest {
        let (step, files) = match kind {
            Kind::Dropout => continue,
            Kind::Normalize => Step::normalize(dir)?,
            Kind::Dense => Step::dense(dir)?,
            Kind::LayerNorm => Step::layer_norm(dir)?,
            Kind::Transformer | Kind::Pooling | Kind::StaticEmbedding => {
                let problem = "its modules are not one Transformer and one Pooling, or one StaticEmbedding, before \
                               any Dense, LayerNorm, Normalize and Dropout";
                return Err(invalid(problem.into()));
            }
        };
        modules.steps.push(step);
        modules.files.extend(files);
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
            "`{list}` has a `{}` module (`{class}`), but only Transformer, Pooling, StaticEmbedding, Dense, LayerNorm, Normalize \
             and Dropout are supported: embed with sentence-transformers",
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

/// Takes apart what makes a vector per text and the modules after it.
fn first<'a>(list: &Path, found: &'a [Found]) -> Result<(First, &'a [Found]), LoadError> {
    let invalid = |problem: &str| Err(LoadError::Invalid { path: list.into(), problem: problem.into() });
    match found {
        [] => invalid("it names no modules"),
        [(Kind::Transformer, transformer), (Kind::Pooling, pooling), rest @ ..] => {
            let first = First::Pooled { transformer: transformer.clone(), pooling: pooling.join("config.json") };
            Ok((first, rest))
        }
        [(Kind::StaticEmbedding, dir), rest @ ..] => Ok((First::Static(dir.clone()), rest)),
        [(Kind::Transformer, _), rest @ ..] if !rest.iter().any(|(kind, _)| *kind == Kind::Pooling) => {
            invalid("it names no Pooling module, so there is one vector per token and none per text")
        }
        _ => invalid("its first modules are neither one Transformer and one Pooling, nor one StaticEmbedding"),
    }
}
