//! The model of a command: found or downloaded, opened, described.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use anyhow::Context;
use engine::{LoadError, ModelDir, ModelSummary, NO_MAX_LENGTH, Pooling, PoolingSource};
use proto::job::EmbedSpec;
use serde::Serialize;
use worker::model_store::{self, DownloadProgress, ResolvedModel};
use worker::{HubOptions, ModelError};

use crate::args::{HubArgs, JobArgs};
use crate::exit::Advice;
use crate::prompt;
use crate::ui::{self, Ui};

/// A model on this machine.
pub(crate) struct LocalModel {
    /// As named on the command line; a directory by its absolute path.
    pub(crate) name: String,
    /// Where it lies, and its commit.
    pub(crate) found: ResolvedModel,
    /// Its files, checked.
    pub(crate) dir: ModelDir,
    /// What it is.
    pub(crate) summary: ModelSummary,
}

impl LocalModel {
    /// Returns the components of a vector with this `--pooling`. Refuses one that the model's modules do not allow.
    pub(crate) fn dimensions(&self, pooling: Option<Pooling>) -> Result<u32, Advice> {
        let refused = |error: LoadError| {
            let option = pooling.map_or_else(|| "--pooling auto".to_owned(), |pooling| format!("--pooling {pooling}"));
            Advice::usage(format!("{option}: {error}")).hint("leave --pooling out")
        };
        self.dir.dimensions(pooling).map(|all| u32::try_from(all).unwrap_or(u32::MAX)).map_err(refused)
    }
}

/// Returns where the Hub is, with `--offline` taken into account.
pub(crate) fn hub_options(args: &HubArgs) -> HubOptions {
    let options = HubOptions::from_env();
    HubOptions { offline: options.offline || args.offline, ..options }
}

/// Finds a model, fetching what is missing with a display of progress. `revision` is used where the command names none.
pub(crate) fn find(ui: &Ui, name: &str, args: &HubArgs, revision: Option<&str>) -> anyhow::Result<ResolvedModel> {
    let mut display = Download::new(ui);
    let wanted = args.revision.as_deref().or(revision);
    let found = model_store::resolve(name, wanted, &hub_options(args), &mut |progress| display.update(progress))
        .map_err(|error| advise(name, error))?;
    if let (None, Some(revision)) = (&found.revision, &args.revision) {
        return Err(Advice::usage(format!("--revision {revision}: `{name}` is a directory, which has none"))
            .hint("leave --revision out, or name a model of the Hub")
            .into());
    }
    Ok(found)
}

/// Finds and opens a model.
pub(crate) fn open(ui: &Ui, name: &str, args: &HubArgs, revision: Option<&str>) -> anyhow::Result<LocalModel> {
    let found = find(ui, name, args, revision)?;
    let what = match found.revision {
        Some(_) => format!("cannot use model `{name}`"),
        None => "cannot use the model".to_owned(),
    };
    let dir = ModelDir::open(&found.dir).with_context(|| Advice::failed(what))?;
    let summary = dir.summary();
    let name = match found.revision {
        Some(_) => name.to_owned(),
        None => plain(&found.dir).display().to_string(),
    };
    Ok(LocalModel { name, found, dir, summary })
}

/// Returns an absolute directory without `..` and trailing slashes, unless a symbolic link makes that another one. Links are
/// kept, so that outputs name the model as the command did.
fn plain(dir: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in dir.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::Normal(_) => plain.push(part),
        }
    }
    let is_same = dir.canonicalize().ok().zip(plain.canonicalize().ok()).is_some_and(|(dir, plain)| dir == plain);
    if is_same { plain } else { dir.to_owned() }
}

fn advise(name: &str, error: ModelError) -> anyhow::Error {
    let advice = match &error {
        ModelError::BadName { .. } => {
            return Advice::usage(error.to_string()).hint(HINT_DIRECTORY).into();
        }
        ModelError::NoSuchModel { .. } | ModelError::NotCached { .. } => hint_full_name(name).hint(HINT_DIRECTORY),
        ModelError::Network { .. } => hint_full_name(name)
            .hint("--offline uses what is in the cache, and never asks the Hub")
            .hint(HINT_DIRECTORY),
        ModelError::NoSuchRevision { .. }
        | ModelError::Denied { .. }
        | ModelError::Incomplete { .. }
        | ModelError::Damaged { .. }
        | ModelError::Io { .. } => cannot_get(),
    };
    anyhow::Error::from(error).context(advice)
}

const HINT_DIRECTORY: &str = "a model on this machine is named by its directory, such as ./models/NAME, with config.json, a \
                              tokenizer and weights in it";

fn cannot_get() -> Advice {
    Advice::failed("cannot get the model")
}

/// Most models that are named without an owner are those of sentence-transformers.
fn hint_full_name(name: &str) -> Advice {
    if name.contains('/') {
        return cannot_get();
    }
    cannot_get().hint(format!("a Hub id has an owner: try `sentence-transformers/{name}`"))
}

/// Returns the short name of a model: the last part of its Hub id or directory that says anything.
pub(crate) fn short_name(model: &str) -> String {
    let mut parts = model.trim_end_matches('/').rsplit('/');
    parts.find(|part| !part.is_empty() && *part != "model").unwrap_or(model).to_owned()
}

/// Describes a model in one line.
pub(crate) fn describe(summary: &ModelSummary) -> String {
    format!(
        "{}, {} dimensions, {} layers, {} pooling ({}), {}",
        summary.architecture,
        summary.dimensions,
        summary.layers,
        summary.pooling,
        pooling_origin(summary.pooling_source),
        length_limit(summary.max_length),
    )
}

/// Describes how long a text may be.
pub(crate) fn length_limit(tokens: usize) -> String {
    match tokens {
        NO_MAX_LENGTH => "texts of any length".to_owned(),
        tokens => format!("up to {} tokens", ui::thousands(tokens as u64)),
    }
}

/// Describes where the pooling came from.
pub(crate) fn pooling_origin(source: PoolingSource) -> &'static str {
    match source {
        PoolingSource::Model => "the model's own",
        PoolingSource::Default => "the default: the model names none",
    }
}

/// Reports how a model will be used.
pub(crate) fn report(ui: &Ui, args: &JobArgs, summary: &ModelSummary, embed: &EmbedSpec) {
    ui.note(format!("model: {}", describe(summary)));
    if let Some(note) = prompt::note(summary, embed) {
        ui.note(note);
    }
    if let (None, Some(kept)) = (args.embed.dimensions, embed.dimensions) {
        let all = summary.dimensions;
        ui.note(format!("dimensions: the first {kept} of {all}, as the model says (--dimensions overrides it)"));
    }
    let asked = args.embed.pooling.0;
    if let Some(asked) = asked.filter(|asked| summary.pooling != *asked) {
        if summary.pooling_source == PoolingSource::Model {
            ui.warn(format!("--pooling {asked} is not the model's own pooling, which is {}", summary.pooling));
        } else {
            ui.note(format!("pooling: {asked}, as --pooling says"));
        }
    }
    match (summary.native, summary.gpus) {
        (true, true) => {}
        (true, false) => ui.note(format!("note: {} runs on the CPU only", summary.architecture)),
        (false, _) => ui.note(format!("note: {} runs on the CPU in f32 only", summary.architecture)),
    }
    if let Some(asked) = args.embed.max_length.filter(|asked| *asked as usize > summary.max_length) {
        let limit = summary.max_length;
        ui.note(format!("note: --max-length {asked} is more than the {limit} tokens that the model is made for"));
    }
}

/// A model as `model show --json` prints it.
#[derive(Debug, Serialize)]
pub(crate) struct ModelReport {
    pub(crate) model: String,
    pub(crate) directory: String,
    pub(crate) revision: Option<String>,
    pub(crate) digest: String,
    pub(crate) architecture: String,
    pub(crate) native: bool,
    pub(crate) gpus: bool,
    pub(crate) dimensions: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) intermediate: usize,
    pub(crate) vocabulary: usize,
    /// In tokens; `null` where there is no limit.
    pub(crate) max_length: Option<usize>,
    pub(crate) pooling: String,
    pub(crate) pooling_source: &'static str,
    /// Those of sentence-transformers in order; none for a plain encoder.
    pub(crate) modules: Vec<String>,
    pub(crate) prompts: BTreeMap<String, String>,
    /// The prompt that applies by default.
    pub(crate) default_prompt: Option<String>,
    pub(crate) truncate_dim: Option<usize>,
    pub(crate) similarity: Option<String>,
    pub(crate) weights: String,
    pub(crate) tokenizer: String,
    pub(crate) flops_per_token: u64,
}

impl ModelReport {
    /// Describes a model; reads all of its files for the digest.
    pub(crate) fn of(model: &LocalModel) -> anyhow::Result<Self> {
        let summary = &model.summary;
        Ok(Self {
            model: model.name.clone(),
            directory: model.found.dir.display().to_string(),
            revision: model.found.revision.clone(),
            digest: model.dir.digest()?,
            architecture: summary.architecture.clone(),
            native: summary.native,
            gpus: summary.gpus,
            dimensions: summary.dimensions,
            layers: summary.layers,
            heads: summary.heads,
            intermediate: summary.intermediate,
            vocabulary: summary.vocab_size,
            max_length: Some(summary.max_length).filter(|length| *length != NO_MAX_LENGTH),
            pooling: summary.pooling.to_string(),
            pooling_source: match summary.pooling_source {
                PoolingSource::Model => "model",
                PoolingSource::Default => "default",
            },
            modules: summary.modules.clone(),
            prompts: summary.prompts.by_name.clone(),
            default_prompt: summary.prompts.by_default().map(|(name, _)| name.to_owned()),
            truncate_dim: summary.truncate_dim,
            similarity: summary.similarity.clone(),
            weights: summary.weights.clone(),
            tokenizer: summary.tokenizer.to_string(),
            flops_per_token: summary.flops_per_token,
        })
    }
}

/// Displays a download: one display per file.
struct Download<'a> {
    ui: &'a Ui,
    file: String,
    shown: Option<ui::Transfer>,
}

impl<'a> Download<'a> {
    fn new(ui: &'a Ui) -> Self {
        Self { ui, file: String::new(), shown: None }
    }

    fn update(&mut self, progress: DownloadProgress<'_>) {
        if self.file != progress.file {
            self.file = progress.file.to_owned();
            self.shown = Some(self.ui.transfer(progress.file, progress.bytes_total));
        }
        if let Some(shown) = &mut self.shown {
            shown.update(progress.bytes_done);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_links_but_no_detours() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("deep/model")).unwrap();
        std::os::unix::fs::symlink(root.join("deep/model"), root.join("alias")).unwrap();
        assert_eq!(plain(&root.join("alias/")), root.join("alias"));
        assert_eq!(plain(&root.join("deep/../alias")), root.join("alias"));
        let through_a_link = root.join("alias/../model");
        assert_eq!(plain(&through_a_link), through_a_link, "`..` of a link is not where the link is");
    }

    #[test]
    fn a_model_is_named_by_what_says_anything() {
        let names = ["owner/name", "/models/beto/", "/lib/gt_minilm/model", "model"].map(short_name);
        assert_eq!(names, ["name", "beto", "gt_minilm", "model"]);
    }
}
