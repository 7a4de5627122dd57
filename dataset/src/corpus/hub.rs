//! Expands `hf://datasets/…` to files at a commit, so that a job is of the same bytes whatever the data set becomes.

use glob::Pattern;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use spec::Format;

use crate::corpus::expand::{MATCHING, format_of};
use crate::corpus::hub_files::{ChoiceError, Chosen, all_below, choose};
use crate::error::DatasetError;
use crate::storage::{HubClient, HubError, HubPlace, parse_hub_place};

/// The branch where the Hub keeps its own conversion of a data set.
const CONVERTED: &str = "refs/convert/parquet";
/// The branch of a URL without revision.
const BRANCH: &str = "main";

/// The commit that a revision of a data set was when a job was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubPin {
    /// `owner/name`, or the `name` of a data set without an owner.
    pub repo: String,
    /// As in the URL; `None` where it has none.
    pub revision: Option<String>,
    /// The commit.
    pub commit: String,
}

impl HubPin {
    /// Returns the pins of URLs without revision, by the sources of an earlier job. Data sets of which it read several commits
    /// are not pinned.
    pub fn of_sources<'a>(uris: impl Iterator<Item = &'a str>) -> Vec<HubPin> {
        let mut pins: Vec<HubPin> = Vec::new();
        for place in uris.filter_map(parse_hub_place) {
            let Some(commit) = place.commit().map(str::to_owned) else { continue };
            let pin = HubPin { repo: place.repo, revision: None, commit };
            if !pins.contains(&pin) {
                pins.push(pin);
            }
        }
        let is_single = |pin: &HubPin| pins.iter().filter(|other| other.repo == pin.repo).count() == 1;
        pins.iter().filter(|pin| is_single(pin)).cloned().collect()
    }
}

/// The files of a pattern.
pub(crate) struct HubFiles {
    /// Their URLs at the commit.
    pub(crate) urls: Vec<String>,
    /// What was chosen, where the pattern does not say it.
    pub(crate) note: Option<String>,
    /// The commit, where the pattern names none.
    pub(crate) pin: Option<HubPin>,
}

/// A data set at the commit of a pattern.
struct Pinned {
    place: HubPlace,
    commit: String,
    /// The configurations of the card, where the caller wants them.
    configs: Value,
    /// The commit is that of an earlier job.
    was_pinned: bool,
}

/// Returns the files that a pattern means: at the commit that it names, else at the one that `pins` says, else at the one
/// that its revision is now.
pub(crate) async fn expand_hub(
    client: &HubClient,
    pattern: &str,
    place: HubPlace,
    format: Option<Format>,
    pins: &[HubPin],
) -> Result<HubFiles, DatasetError> {
    let mut pinned = pin(client, place, pins).await?;
    let asked = pinned.place.revision.clone();
    let base = || pattern.trim_end_matches('/').to_owned();
    let refused = |base: String, error: &ChoiceError| DatasetError::bad_input(pattern, error.explain(&base));
    let mut shown_revision = asked.clone().unwrap_or_else(|| BRANCH.to_owned());
    let path = pinned.place.path.clone();
    let (chosen, says_files) = if path.is_empty() {
        let files = client.files(&pinned.place.repo, &pinned.commit, "").await?;
        let chosen = match choose(&files, &pinned.configs, format) {
            Err(ChoiceError::Nothing) if asked.is_none() && !pinned.was_pinned => {
                shown_revision = CONVERTED.to_owned();
                pinned.commit = converted_commit(client, pattern, &pinned).await?;
                let files = client.files(&pinned.place.repo, &pinned.commit, "").await?;
                let base = format!("{}@{CONVERTED}", pinned.place.repo_url());
                choose(&files, &Value::Null, format).map_err(|error| refused(base, &error))?
            }
            chosen => chosen.map_err(|error| refused(base(), &error))?,
        };
        (chosen, true)
    } else if path.contains(['*', '?', '[']) {
        (matching(client, pattern, &pinned).await?, true)
    } else if pattern.ends_with('/') || (format_of(&path, format).is_err() || has_no_extension(&path)) {
        match client.files(&pinned.place.repo, &pinned.commit, &path).await {
            // It is a file with a name of its own.
            Err(HubError::NoSuchFile { .. }) if format.is_some() && !pattern.ends_with('/') => (one(path), false),
            files => (all_below(&files?, format).map_err(|error| refused(base(), &error))?, true),
        }
    } else {
        (one(path), false)
    };
    let url_of = |file: &String| pinned.place.url_at(&pinned.commit, file);
    let is_commit = pinned.place.commit().is_some();
    let note = (says_files || !is_commit).then(|| note(pattern, &pinned, &shown_revision, &chosen));
    let pin = (!is_commit).then(|| HubPin {
        repo: pinned.place.repo.clone(),
        revision: asked,
        commit: pinned.commit.clone(),
    });
    Ok(HubFiles { urls: chosen.files.iter().map(url_of).collect(), note, pin })
}

/// Returns data set and commit of a place. `a/b` may be a path in an old data set without an owner.
async fn pin(client: &HubClient, place: HubPlace, pins: &[HubPin]) -> Result<Pinned, DatasetError> {
    let without_owner = place.without_owner();
    for place in [Some(&place), without_owner.as_ref()].into_iter().flatten() {
        let known = pins.iter().find(|pin| pin.repo == place.repo && pin.revision == place.revision);
        let known = known.map(|pin| pin.commit.as_str());
        let Some(commit) = place.commit().or(known) else { continue };
        let configs = match place.path.is_empty() {
            true => client.revision(&place.repo, commit).await?.configs(),
            false => Value::Null,
        };
        let (place, commit, was_pinned) = (place.clone(), commit.to_owned(), known.is_some());
        return Ok(Pinned { place, commit, configs, was_pinned });
    }
    let revision = place.revision.as_deref().unwrap_or(BRANCH);
    let (place, found) = match (client.revision(&place.repo, revision).await, without_owner) {
        (Err(missing @ HubError::NoSuchRepo { .. }), Some(other)) => {
            match client.revision(&other.repo, revision).await {
                Err(HubError::NoSuchRepo { .. }) => return Err(missing.into()),
                found => (other, found?),
            }
        }
        (found, _) => {
            let found = found?;
            (place, found)
        }
    };
    Ok(Pinned { place, commit: found.sha.clone(), configs: found.configs(), was_pinned: false })
}

/// Returns the commit of the Hub's conversion, for a data set without files that we read.
async fn converted_commit(client: &HubClient, pattern: &str, pinned: &Pinned) -> Result<String, DatasetError> {
    match client.revision(&pinned.place.repo, CONVERTED).await {
        Ok(found) => Ok(found.sha),
        Err(HubError::NoSuchRevision { .. }) => {
            let problem = format!("it has no files of a known format, and no conversion of them (`{CONVERTED}`)");
            Err(DatasetError::bad_input(pattern, problem))
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the files that a glob matches.
async fn matching(client: &HubClient, pattern: &str, pinned: &Pinned) -> Result<Chosen, DatasetError> {
    let path = pinned.place.path.as_str();
    let glob = Pattern::new(path).map_err(|error| DatasetError::bad_input(pattern, format!("bad glob: {error}")))?;
    let wild = path.find(['*', '?', '[']).unwrap_or(path.len());
    let folder = path[..wild].rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut files = client.files(&pinned.place.repo, &pinned.commit, folder).await?;
    files.retain(|file| glob.matches_with(file, MATCHING));
    if files.is_empty() {
        return Err(DatasetError::bad_input(pattern, "no file of the data set matches this pattern"));
    }
    Ok(Chosen { files, left_out: Vec::new() })
}

fn one(path: String) -> Chosen {
    Chosen { files: vec![path], left_out: Vec::new() }
}

fn has_no_extension(path: &str) -> bool {
    !path.rsplit('/').next().unwrap_or(path).contains('.')
}

/// Says which files at which commit a pattern means.
fn note(pattern: &str, pinned: &Pinned, revision: &str, chosen: &Chosen) -> String {
    let commit = &pinned.commit;
    let revision = match pinned.was_pinned {
        _ if pinned.place.commit().is_some() => String::new(),
        true => ", with which this output was begun".to_owned(),
        false if revision == CONVERTED && pinned.place.revision.is_none() => {
            format!(" of {CONVERTED}, the Hub's conversion, as the data set has no files of a known format")
        }
        false => format!(" ({revision})"),
    };
    let mut note = format!("`{pattern}` is {} at commit {commit}{revision}", listed(&chosen.files));
    if chosen.files.iter().any(|file| file.contains("/partial-")) {
        note.push_str("; THE HUB CONVERTED ONLY THE FIRST PART of it");
    }
    if !chosen.left_out.is_empty() {
        note.push_str(&format!("; left out: {}", listed(&chosen.left_out)));
    }
    note
}

fn listed(files: &[String]) -> String {
    const FILES_MAX: usize = 6;
    let mut text = files.iter().take(FILES_MAX).map(|file| format!("`{file}`")).collect::<Vec<_>>().join(", ");
    if files.len() > FILES_MAX {
        text.push_str(&format!(" and {} more files", files.len() - FILES_MAX));
    }
    text
}
