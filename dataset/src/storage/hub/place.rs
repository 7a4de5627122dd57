//! `hf://datasets/OWNER/NAME[@REVISION][/PATH]`: the syntax of `huggingface_hub`'s `HfFileSystem`, for data sets.

use common::hub::{is_commit, is_repo_name, is_revision};

use crate::error::DatasetError;
use crate::storage::location::redacted_url;

/// What the URL of a data set begins with.
pub(crate) const HUB_DATASETS: &str = "hf://datasets";
/// The form that errors name.
const FORM: &str = "write hf://datasets/OWNER/NAME[@REVISION][/PATH]";

/// A data set of the Hub, or files in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HubPlace {
    /// `owner/name`, or the `name` of a data set without an owner.
    pub(crate) repo: String,
    /// A branch, tag, commit, `refs/pr/N` or `refs/convert/parquet`; `None` where the URL has none.
    pub(crate) revision: Option<String>,
    /// A path or pattern in it, without slashes at the ends; empty for the whole data set. Not percent-decoded.
    pub(crate) path: String,
}

impl HubPlace {
    /// Parses a URL whose scheme is `hf`.
    ///
    /// # Errors
    /// `BadInput` for another kind of repository, or a bad name, revision or path.
    pub(crate) fn parse(text: &str) -> Result<HubPlace, DatasetError> {
        let refused = |problem: String| DatasetError::bad_input(redacted_url(text), problem);
        let rest = text.split_once("://").map_or("", |(_, rest)| rest);
        let rest = match rest.split_once('/') {
            Some(("datasets", rest)) if !rest.trim_matches('/').is_empty() => rest,
            Some(("models" | "spaces" | "buckets", _)) => {
                return Err(refused(format!("of the Hub's repositories only data sets are read: {FORM}")));
            }
            Some((owner, name)) if owner != "datasets" && !name.is_empty() => {
                let problem = format!("this names a model; a data set is hf://datasets/{}", rest.trim_end_matches('/'));
                return Err(refused(problem));
            }
            Some(_) | None => return Err(refused(format!("this names no data set: {FORM}"))),
        };
        let (repo, revision, path) = split(rest);
        let revision = revision.map(|revision| percent_decoded(&revision));
        if !is_repo_name(&repo) {
            return Err(refused(format!("`{repo}` is no name of a data set: {FORM}")));
        }
        if let Some(revision) = revision.as_deref().filter(|revision| !is_revision(revision)) {
            let problem = format!("`{revision}` is no revision: name a branch, a tag, a commit or refs/pr/N");
            return Err(refused(problem));
        }
        let path = path.trim_end_matches('/').to_owned();
        if path.chars().any(|c| c.is_control() || c == '\\')
            || (!path.is_empty() && path.split('/').any(|part| part.is_empty() || part == "." || part == ".."))
        {
            return Err(refused(
                "a path has no empty, `.` or `..` parts, no control characters and no backslash".to_owned(),
            ));
        }
        Ok(HubPlace { repo, revision, path })
    }

    /// Returns the data set without an owner that the same URL may name, as the old ones are.
    pub(crate) fn without_owner(&self) -> Option<HubPlace> {
        let (repo, first) = self.repo.split_once('/').filter(|_| self.revision.is_none())?;
        let path = [first, &self.path].join("/").trim_end_matches('/').to_owned();
        Some(HubPlace { repo: repo.to_owned(), revision: None, path })
    }

    /// Returns the commit, if the revision is one.
    pub(crate) fn commit(&self) -> Option<&str> {
        self.revision.as_deref().filter(|revision| is_commit(revision))
    }

    /// Returns the URL of the data set, without revision.
    pub(crate) fn repo_url(&self) -> String {
        format!("{HUB_DATASETS}/{}", self.repo)
    }

    /// Returns the URL of a file at a commit.
    pub(crate) fn url_at(&self, commit: &str, path: &str) -> String {
        format!("{HUB_DATASETS}/{}@{commit}/{path}", self.repo)
    }
}

/// Returns the place of a URL that names a data set; `None` for any other text.
pub(crate) fn parse_hub_place(text: &str) -> Option<HubPlace> {
    text.starts_with(HUB_DATASETS).then(|| HubPlace::parse(text).ok()).flatten()
}

/// Returns name, revision and path. The revision follows an `@` in the name; those that begin with `refs/` have slashes.
fn split(rest: &str) -> (String, Option<String>, String) {
    let name_end = rest.match_indices('/').nth(1).map_or(rest.len(), |(at, _)| at);
    if let Some(at) = rest[..name_end].find('@') {
        let (repo, after) = (&rest[..at], &rest[at + 1..]);
        let end = special_ref(after).unwrap_or_else(|| after.find('/').unwrap_or(after.len()));
        return (repo.to_owned(), Some(after[..end].to_owned()), after[end..].trim_start_matches('/').to_owned());
    }
    (rest[..name_end].trim_end_matches('/').to_owned(), None, rest[name_end..].trim_start_matches('/').to_owned())
}

/// Returns the length of `refs/convert/NAME` or `refs/pr/N` at the start of a text.
fn special_ref(text: &str) -> Option<usize> {
    let length_of = |prefix: &str, is_part: fn(&u8) -> bool| {
        let rest = text.strip_prefix(prefix)?;
        let length = rest.bytes().take_while(is_part).count();
        (length > 0).then_some(prefix.len() + length)
    };
    length_of("refs/convert/", |byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        .or_else(|| length_of("refs/pr/", u8::is_ascii_digit))
}

/// Decodes `%2F` and the like; what is no code stays.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = (first == b'%').then(|| after.get(..2)).flatten();
        let decoded = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        bytes.push(decoded.unwrap_or(first));
        rest = if decoded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_huggingface_hub_reads_them() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let cases = [
            ("hf://datasets/o/n", "o/n", None, ""),
            ("hf://datasets/o/n/", "o/n", None, ""),
            ("hf://datasets/o/n/data/*.parquet", "o/n", None, "data/*.parquet"),
            ("HF://datasets/o/n@v1.0/a b.csv", "o/n", Some("v1.0"), "a b.csv"),
            (
                "hf://datasets/o/n@refs/convert/parquet/default/x.parquet",
                "o/n",
                Some("refs/convert/parquet"),
                "default/x.parquet",
            ),
            ("hf://datasets/o/n@refs%2Fconvert%2Fparquet/default", "o/n", Some("refs/convert/parquet"), "default"),
            ("hf://datasets/o/n@refs/pr/12", "o/n", Some("refs/pr/12"), ""),
            ("hf://datasets/o/n@refs%2Fpr%2F1/a.csv", "o/n", Some("refs/pr/1"), "a.csv"),
            ("hf://datasets/o/n@refs/a.csv", "o/n", Some("refs"), "a.csv"),
            (&format!("hf://datasets/o/n@{commit}/a.csv"), "o/n", Some(commit), "a.csv"),
            ("hf://datasets/squad", "squad", None, ""),
            ("hf://datasets/squad@main/plain_text/a.parquet", "squad", Some("main"), "plain_text/a.parquet"),
            ("hf://datasets/o/n/a@b.csv", "o/n", None, "a@b.csv"),
            ("hf://datasets/o/n/a?.csv", "o/n", None, "a?.csv"),
        ];
        for (url, repo, revision, path) in cases {
            let expected = HubPlace { repo: repo.into(), revision: revision.map(str::to_owned), path: path.to_owned() };
            assert_eq!(HubPlace::parse(url).unwrap(), expected, "{url}");
        }
        let place = HubPlace::parse("hf://datasets/squad/plain_text/a.parquet").unwrap().without_owner().unwrap();
        assert_eq!((place.repo.as_str(), place.path.as_str()), ("squad", "plain_text/a.parquet"));
        assert_eq!(place.url_at("c", "a.csv"), "hf://datasets/squad@c/a.csv");
    }

    #[test]
    fn other_repositories_and_bad_names_are_refused_with_the_right_form() {
        let cases = [
            ("hf://models/o/n", "hf://datasets/OWNER/NAME"),
            ("hf://spaces/o/n", "hf://datasets/OWNER/NAME"),
            ("hf://o/n/a.csv", "hf://datasets/o/n/a.csv"),
            ("hf://squad", "hf://datasets/OWNER/NAME"),
            ("hf://datasets", "hf://datasets/OWNER/NAME"),
            ("hf://datasets/", "hf://datasets/OWNER/NAME"),
            ("hf://datasets/o/..", "`o/..`"),
            ("hf://datasets/*/n", "`*/n`"),
            ("hf://datasets/o/n?x=1", "`o/n?x=1`"),
            ("hf://datasets/o/n@a..%00/x.csv", "no revision"),
            ("hf://datasets/o/n@%2e%2e/x.csv", "no revision"),
            ("hf://datasets/o/n@/x.csv", "no revision"),
            ("hf://datasets/o/n/../x.csv", "`..` parts"),
            ("hf://user:secret@host/x.csv", "data set"),
        ];
        for (url, part) in cases {
            let error = HubPlace::parse(url).unwrap_err().to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
    }
}
