//! Expands paths, globs and URLs to a list of sources.

use std::path::{Path, PathBuf};

use futures::TryStreamExt;
use glob::{MatchOptions, Pattern};
use object_store::ObjectStore;
use object_store::path::Path as StorePath;
use spec::{Compression, Format, Source};

use crate::corpus::formats;
use crate::corpus::hub::{HubPin, expand_hub};
use crate::error::DatasetError;
use crate::storage::{BucketPlace, HUB_DATASETS, HubClient, Location, bucket_store, check_host, parse_location};

/// Maximum objects listed for a pattern over a bucket.
const OBJECTS_MAX: usize = 1_000_000;

/// As on disk, `*` and `?` do not match `/`; `**` does.
pub(crate) const MATCHING: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

/// The sources of a corpus, and how they were chosen.
#[derive(Debug, Clone, Default)]
pub struct Expanded {
    /// The sources, in order.
    pub sources: Vec<Source>,
    /// Sentences about choices that the patterns leave open.
    pub notes: Vec<String>,
    /// The commits of data sets whose patterns name none.
    pub pins: Vec<HubPin>,
}

/// Expands paths, globs and URLs to sources with absolute paths or URLs, in order; the files of a glob are sorted by
/// name. `format` overrides the extension; the compression always follows it.
///
/// # Errors
/// A pattern without match, a folder, an unknown extension, an unsupported scheme, a path that is not UTF-8, or a
/// bucket or data set that cannot be listed.
pub async fn expand(patterns: &[String], format: Option<Format>) -> Result<Vec<Source>, DatasetError> {
    expand_pinned(patterns, format, &[]).await.map(|expanded| expanded.sources)
}

/// As [`expand`], with data sets at the commits that `pins` says, and with what is to be said of the choice.
///
/// # Errors
/// As [`expand`].
pub async fn expand_pinned(
    patterns: &[String],
    format: Option<Format>,
    pins: &[HubPin],
) -> Result<Expanded, DatasetError> {
    let mut expanded = Expanded::default();
    let sources = &mut expanded.sources;
    for pattern in patterns {
        match parse_location(pattern)? {
            Location::Local(path) => {
                for file in files_of(pattern, &path)? {
                    sources.push(source_of(&file, format)?);
                }
            }
            Location::Bucket(place) => {
                for key in keys_of(pattern, &place).await? {
                    sources.push(remote_source(place.url_of(&key), format)?);
                }
            }
            Location::Web(url) => sources.push(remote_source(url.into(), format)?),
            Location::Hub(place) => {
                let client = HubClient::of_process()?;
                let found = expand_hub(&client, pattern, place, format, pins).await?;
                for url in found.urls {
                    sources.push(remote_source(url, format)?);
                }
                expanded.notes.extend(found.note);
                expanded.pins.extend(found.pin);
            }
        }
    }
    Ok(expanded)
}

fn remote_source(uri: String, format: Option<Format>) -> Result<Source, DatasetError> {
    let (format, compression) = format_of(&uri, format)?;
    Ok(Source { uri, format, compression })
}

/// Returns the keys that match a pattern over a bucket. Without a wildcard it is a key, which is not checked.
async fn keys_of(pattern: &str, place: &BucketPlace) -> Result<Vec<String>, DatasetError> {
    if place.key.is_empty() || pattern.ends_with('/') {
        let example = format!("names a folder: name its files, for example '{}/*.csv'", pattern.trim_end_matches('/'));
        return Err(DatasetError::bad_input(pattern, example));
    }
    let Some(wild) = place.key.find(['*', '?', '[']) else { return Ok(vec![place.key.clone()]) };
    let glob =
        Pattern::new(&place.key).map_err(|error| DatasetError::bad_input(pattern, format!("bad glob: {error}")))?;
    let folder = place.key[..wild].rsplit_once('/').map_or("", |(folder, _)| folder);
    let prefix = StorePath::parse(folder)
        .map_err(|_| DatasetError::bad_input(pattern, "the store does not take this prefix"))?;
    let store = bucket_store(place)?;
    let failed = |error| DatasetError::from_store(pattern, error);
    let mut listed = store.list(Some(&prefix));
    let (mut keys, mut seen) = (Vec::new(), 0);
    while let Some(meta) = listed.try_next().await.map_err(failed)? {
        seen += 1;
        if seen > OBJECTS_MAX {
            let problem = format!("more than {OBJECTS_MAX} objects lie below `{folder}`: name a folder further down");
            return Err(DatasetError::bad_input(pattern, problem));
        }
        if glob.matches_with(meta.location.as_ref(), MATCHING) {
            keys.push(meta.location.to_string());
        }
    }
    if keys.is_empty() {
        return Err(DatasetError::bad_input(pattern, "no object matches this pattern"));
    }
    keys.sort();
    Ok(keys)
}

/// Returns the files that match a pattern. An existing file with wildcard characters in its name matches itself.
fn files_of(pattern: &str, path: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Err(DatasetError::bad_input(
            pattern,
            format!("is a folder: name its files, for example '{}/*.csv'", pattern.trim_end_matches('/')),
        )),
        Ok(meta) if !meta.is_file() => {
            Err(DatasetError::bad_input(pattern, "is neither a file nor a folder: write what it gives to a file first"))
        }
        Ok(_) => Ok(vec![path.to_owned()]),
        Err(_) if pattern.contains(['*', '?', '[']) => glob_files(pattern, path),
        Err(error) => Err(DatasetError::from_io(pattern, error)),
    }
}

fn glob_files(pattern: &str, path: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let text = path.to_str().ok_or_else(|| DatasetError::bad_input(pattern, "the pattern is not UTF-8"))?;
    let found = glob::glob(text).map_err(|error| DatasetError::bad_input(pattern, format!("bad glob: {error}")))?;
    let mut files = Vec::new();
    for entry in found {
        let file = entry.map_err(|error| {
            let name = error.path().display().to_string();
            DatasetError::from_io(name, error.into())
        })?;
        let meta =
            std::fs::metadata(&file).map_err(|error| DatasetError::from_io(file.display().to_string(), error))?;
        if meta.is_file() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(DatasetError::bad_input(pattern, "no file matches this pattern"));
    }
    files.sort();
    Ok(files)
}

fn source_of(file: &Path, format: Option<Format>) -> Result<Source, DatasetError> {
    let shown = file.display().to_string();
    // Resolves the folder but not the file, since a link's name has the extension of the format.
    let absolute = std::path::absolute(file).map_err(|error| DatasetError::from_io(shown.as_str(), error))?;
    let (Some(folder), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Err(DatasetError::bad_input(shown, "is not a file"));
    };
    let folder = std::fs::canonicalize(folder).map_err(|error| DatasetError::from_io(shown.as_str(), error))?;
    let uri = folder.join(name);
    let uri = uri.to_str().ok_or_else(|| DatasetError::bad_input(shown, "the path is not UTF-8: rename the file"))?;
    let (format, compression) = format_of(uri, format)?;
    Ok(Source { uri: uri.to_owned(), format, compression })
}

fn names() -> Vec<String> {
    Format::ALL.iter().map(Format::to_string).collect()
}

/// Returns format (unless `given`) and compression by the extension.
pub(crate) fn format_of(uri: &str, given: Option<Format>) -> Result<(Format, Compression), DatasetError> {
    let name = uri.rsplit('/').next().unwrap_or(uri).to_ascii_lowercase();
    let (stem, compression) = if let Some(stem) = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".gzip")) {
        (stem, Compression::Gzip)
    } else if let Some(stem) = name.strip_suffix(".zst").or_else(|| name.strip_suffix(".zstd")) {
        (stem, Compression::Zstd)
    } else {
        (name.as_str(), Compression::None)
    };
    let extension = stem.rsplit_once('.').map_or("", |(_, extension)| extension);
    let Some(format) = given.or_else(|| formats::by_extension(extension)) else {
        return Err(DatasetError::bad_input(
            uri,
            format!("the extension says no known format: say it with --format {}", names().join("|")),
        ));
    };
    if formats::text_format(format).is_none() && compression != Compression::None {
        let columnar = Format::ALL.iter().filter(|format| formats::text_format(**format).is_none());
        let names: Vec<String> = columnar.map(Format::to_string).collect();
        let problem = format!(
            "{} files are compressed inside: decompress this one, then name it without the suffix",
            names.join(" and ")
        );
        return Err(DatasetError::bad_input(uri, problem));
    }
    Ok((format, compression))
}

/// The location of a source, for access checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorpusPlace {
    /// A path of this machine, as written.
    Path(PathBuf),
    /// A key of a bucket: the bucket's URL (`s3://bucket`), and the key. Also a file of a data set: `hf://datasets`, and
    /// its name and path.
    Bucket {
        /// Scheme and name, such as `s3://bucket`.
        bucket: String,
        /// Without a leading slash.
        key: String,
    },
    /// A file of a web server.
    Web {
        /// The host in lower case, with a non-default port.
        host: String,
    },
}

/// Parses the location of a source, without accessing it.
///
/// # Errors
/// An unsupported scheme, or a URL with more than a location.
pub fn corpus_place(uri: &str) -> Result<CorpusPlace, DatasetError> {
    Ok(match parse_location(uri)? {
        Location::Local(path) => CorpusPlace::Path(path),
        Location::Bucket(place) => CorpusPlace::Bucket { bucket: place.bucket_url(), key: place.key },
        // A revision is not part of what is allowed.
        Location::Hub(place) => {
            // A path of a data set without an owner is not to be taken for an owner's data set.
            let separator = if place.repo.contains('/') { "/" } else { "//" };
            let key = [place.repo, place.path].join(separator).trim_end_matches('/').to_owned();
            CorpusPlace::Bucket { bucket: HUB_DATASETS.to_owned(), key }
        }
        Location::Web(url) => {
            check_host(&url)?;
            let host = url.host_str().unwrap_or("").trim_end_matches('.');
            CorpusPlace::Web { host: url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")) }
        }
    })
}
