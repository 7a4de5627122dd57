//! Commits of the Hub's data sets: what was begun with one is finished and verified with it, though the branch moves on.

use std::path::Path;

use dataset::vectors::Outline;
use dataset::{DatasetError, Expanded, HubPin};
use spec::Format;

use crate::exit::Advice;
use crate::outdir::{JobRecord, OutDir, Target};
use crate::ui::Ui;

/// Returns the commits that an output was begun with. None where it has no record and cannot be read.
pub(crate) fn of_output(patterns: &[String], target: &Path, record: Option<&JobRecord>) -> Vec<HubPin> {
    if let Some(record) = record {
        return record.pins.clone();
    }
    if !patterns.iter().any(|pattern| is_of_hub(pattern)) {
        return Vec::new();
    }
    let sources = match Target::of(target) {
        Target::File(file) => Outline::read(&file).ok().map(|outline| outline.sources),
        Target::Dir(dir) => OutDir::new(dir).manifest().ok().flatten().map(|manifest| manifest.sources),
    };
    HubPin::of_sources(sources.iter().flatten().map(|source| source.uri.as_str()))
}

/// Refuses a corpus that is read from the Hub where the Hub must not be asked.
pub(crate) fn refuse_offline(patterns: &[String], is_offline: bool) -> Result<(), Advice> {
    match patterns.iter().find(|pattern| is_offline && is_of_hub(pattern)) {
        Some(pattern) => Err(Advice::usage(format!("--offline, but `{pattern}` is read from the Hub"))
            .hint("download its files, and name those")),
        None => Ok(()),
    }
}

fn is_of_hub(pattern: &str) -> bool {
    pattern.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("hf://"))
}

/// Expands patterns, and notes what they leave open.
pub(crate) async fn expand(
    ui: &Ui,
    patterns: &[String],
    format: Option<Format>,
    pins: &[HubPin],
) -> Result<Expanded, DatasetError> {
    let expanded = dataset::expand_pinned(patterns, format, pins).await?;
    expanded.notes.iter().for_each(|note| ui.note(note));
    Ok(expanded)
}
