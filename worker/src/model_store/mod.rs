//! Finds a model: a directory as it is, or a Hub id through the cache that Python's `huggingface_hub` uses too.
//! The only downloader of the workspace. Blocking: call it from a thread that may wait.

mod cache;
mod download;
mod error;
mod files;
mod hub;
mod options;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use cache::ModelCache;
use common::hub::{is_repo_name, is_revision};
use download::Download;
use hub::Hub;

pub use error::ModelError;
pub use options::HubOptions;

/// A model on local disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedModel {
    /// The folder with `config.json`, tokenizer files and weights.
    pub dir: PathBuf,
    /// The commit for a Hub model; `None` for a directory.
    pub revision: Option<String>,
}

/// How far the download of one file got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownloadProgress<'a> {
    /// The file's path in the repository.
    pub file: &'a str,
    /// Bytes here so far, those of an earlier, broken download included.
    pub bytes_done: u64,
    /// Bytes in all.
    pub bytes_total: u64,
}

/// Returns where the model is, downloading what is missing. `name` is a directory or a Hub id (`owner/name` or `name`);
/// an existing directory wins. `revision` is a branch, tag, commit or `refs/pr/N`; `main` where absent.
/// `progress` is called for every file that is downloaded: at its start, every 256 KiB, and at its end.
///
/// A commit whose files are all here is used without asking the Hub; so is the last known commit of a branch where the Hub
/// cannot be reached, with a warning.
pub fn resolve(
    name: &str,
    revision: Option<&str>,
    options: &HubOptions,
    progress: &mut dyn FnMut(DownloadProgress<'_>),
) -> Result<ResolvedModel, ModelError> {
    if Path::new(name).is_dir() {
        let dir = std::path::absolute(name).map_err(|source| ModelError::Io { path: PathBuf::from(name), source })?;
        return Ok(ResolvedModel { dir, revision: None });
    }
    let revision = revision.unwrap_or("main");
    if !is_repo_name(name) {
        return Err(ModelError::BadName { name: name.to_owned() });
    }
    if !is_revision(revision) {
        return Err(ModelError::NoSuchRevision { name: name.to_owned(), revision: revision.to_owned() });
    }
    let cache = ModelCache::new(&options.cache_dir, name, revision);
    let found = |commit: String| ResolvedModel { dir: cache.snapshot(&commit), revision: Some(commit) };
    if options.offline {
        return from_cache(&cache).map(found).ok_or_else(|| not_cached(name, revision, options));
    }
    if let Some(commit) = cache.known_commit().filter(|commit| commit == revision && cache.is_surely_complete(commit)) {
        return Ok(found(commit));
    }
    match fetch(name, revision, options, &cache, progress) {
        Ok(commit) => Ok(found(commit)),
        Err(ModelError::Network { url, reason }) => match from_cache(&cache) {
            Some(commit) => {
                tracing::warn!(
                    model = name,
                    revision = commit,
                    reason,
                    "the Hub cannot be reached, using the cached model"
                );
                Ok(found(commit))
            }
            None => Err(ModelError::Network { url, reason }),
        },
        Err(error) => Err(error),
    }
}

/// Looks the revision up at the Hub and fetches the files that the cache lacks. Returns the commit.
fn fetch(
    name: &str,
    revision: &str,
    options: &HubOptions,
    cache: &ModelCache,
    progress: &mut dyn FnMut(DownloadProgress<'_>),
) -> Result<String, ModelError> {
    let hub = Hub::new(name, options);
    let listing = hub.listing(revision)?;
    let needed =
        files::select(&listing.files).map_err(|what| ModelError::Incomplete { name: name.to_owned(), what })?;
    for file in needed.iter().filter(|file| !cache.has(&listing.commit, file)) {
        Download { hub: &hub, cache, name, commit: &listing.commit, file }.run(progress)?;
    }
    cache.note_absences(&listing.commit, &listing.files)?;
    cache.note_commit(&listing.commit)?;
    Ok(listing.commit)
}

fn from_cache(cache: &ModelCache) -> Option<String> {
    let commit = cache.known_commit()?;
    files::select(&cache.files(&commit)).ok()?;
    if cache.pooling_is_unknown(&commit) {
        tracing::warn!(commit, "the cached model has no modules.json; whether it should have one is not known here");
    }
    Some(commit)
}

fn not_cached(name: &str, revision: &str, options: &HubOptions) -> ModelError {
    ModelError::NotCached { name: name.to_owned(), revision: revision.to_owned(), cache: options.cache_dir.clone() }
}
