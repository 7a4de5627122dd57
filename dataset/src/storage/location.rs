//! Parses URLs and paths to locations: the only match on URL schemes. URLs must not contain credentials, endpoints or
//! options.

use std::path::PathBuf;

use crate::environment::env_flag;
use crate::error::DatasetError;
use crate::storage::hub::HubPlace;

/// The schemes of [`parse_location`].
const SCHEMES: [&str; 7] = ["file", "s3", "gs", "az", "hf", "https", "http"];

/// A location by scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// A path on this machine, perhaps relative.
    Local(PathBuf),
    /// An object, a prefix (of a storage) or a pattern (of a corpus) in a bucket.
    Bucket(BucketPlace),
    /// One object of a web server, read only.
    Web(url::Url),
    /// A data set of the Hub or files in it, read only.
    Hub(HubPlace),
}

/// The provider of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Cloud {
    S3,
    Gcs,
    Azure,
}

/// A bucket and a key, prefix or pattern in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BucketPlace {
    pub(crate) cloud: Cloud,
    pub(crate) bucket: String,
    /// Without slashes at the ends; empty for the whole bucket. Not percent-decoded.
    pub(crate) key: String,
}

impl Cloud {
    /// Returns the URL scheme.
    pub(crate) fn scheme(self) -> &'static str {
        match self {
            Cloud::S3 => "s3",
            Cloud::Gcs => "gs",
            Cloud::Azure => "az",
        }
    }
}

impl BucketPlace {
    pub(crate) fn bucket_url(&self) -> String {
        format!("{}://{}", self.cloud.scheme(), self.bucket)
    }

    pub(crate) fn url_of(&self, key: &str) -> String {
        format!("{}/{key}", self.bucket_url())
    }
}

/// Returns the scheme of a URL; `None` for a path.
pub(crate) fn scheme_of(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    is_scheme.then_some(scheme)
}

/// Parses a location.
///
/// # Errors
/// `UnsupportedScheme`, or `BadInput` for a URL with more than a location, or none. The message omits passwords and
/// queries.
pub(crate) fn parse_location(text: &str) -> Result<Location, DatasetError> {
    if text.contains('\0') {
        let shown = redacted_url(text).escape_debug().to_string();
        return Err(DatasetError::bad_input(shown, "a path cannot contain a NUL byte"));
    }
    if text.is_empty() {
        return Err(DatasetError::bad_input(text, "the path is empty"));
    }
    let Some(scheme) = scheme_of(text) else { return local(text) };
    match scheme.to_ascii_lowercase().as_str() {
        "file" => {
            url::Url::parse(text).ok().and_then(|url| url.to_file_path().ok()).map(Location::Local).ok_or_else(|| {
                DatasetError::bad_input(
                    redacted_url(text),
                    "not a file URL of this machine: write file:///absolute/path",
                )
            })
        }
        "s3" => bucket_place(Cloud::S3, text),
        "gs" => bucket_place(Cloud::Gcs, text),
        "az" => bucket_place(Cloud::Azure, text),
        "hf" => HubPlace::parse(text).map(Location::Hub),
        "https" => web(text),
        "http" if allows_plain_http() => web(text),
        "http" => Err(DatasetError::bad_input(
            redacted_url(text),
            "plain http is not read, since nobody could tell who answers: write https:// \
             (or set ENCAJE_ALLOW_HTTP=true for a server of your own)",
        )),
        other => Err(DatasetError::UnsupportedScheme { url: redacted_url(text), scheme: other.to_owned() }),
    }
}

/// Takes a path, unless it is a URL that lacks one of its two slashes.
fn local(text: &str) -> Result<Location, DatasetError> {
    let path = PathBuf::from(text);
    let scheme = text.split_once(":/").map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
    if SCHEMES.contains(&scheme.as_str()) && !path.exists() {
        let problem = format!("a URL has two slashes, {scheme}://…; for the path, write ./{text}");
        return Err(DatasetError::bad_input(text, problem));
    }
    Ok(Location::Local(path))
}

/// Whether plain `http://` is allowed, by the operator's environment only.
fn allows_plain_http() -> bool {
    env_flag("ENCAJE_ALLOW_HTTP")
}

fn bucket_place(cloud: Cloud, text: &str) -> Result<Location, DatasetError> {
    let refused = |problem: &str| Err(DatasetError::bad_input(redacted_url(text), problem));
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.contains('@') {
        return refused("credentials come from the environment, never from a URL: take them out");
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if bucket.is_empty() || bucket.len() > 222 || !bucket.chars().all(is_name) || bucket.starts_with('.') {
        return refused(
            "what follows the scheme is a bucket's name (letters, digits, `-`, `_`, `.`); \
             its endpoint comes from the environment, such as AWS_ENDPOINT_URL",
        );
    }
    let key = key.trim_end_matches('/');
    if key.chars().any(|c| c.is_control() || c == '\\') {
        return refused("a key has no control characters and no backslash");
    }
    if !key.is_empty() && key.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return refused("a key has no empty, `.` or `..` parts");
    }
    Ok(Location::Bucket(BucketPlace { cloud, bucket: bucket.to_owned(), key: key.to_owned() }))
}

fn web(text: &str) -> Result<Location, DatasetError> {
    let refused = |problem: &str| Err(DatasetError::bad_input(redacted_url(text), problem));
    let Ok(url) = url::Url::parse(text) else { return refused("this is not a URL") };
    if !url.username().is_empty() || url.password().is_some() || authority_of(text).contains('@') {
        return refused(
            "a URL with a user or password is not read: it would be written down in the job and its manifest",
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refused(
            "a URL with a query or fragment is not read: it may be a signed one, and would be written down in the job \
             and its manifest; copy the file to a bucket or download it first",
        );
    }
    if url.path().len() <= 1 || url.path().ends_with('/') {
        return refused("this names no file");
    }
    if text.contains(['*', '[']) {
        return refused("a web server cannot be searched: name every file");
    }
    Ok(Location::Web(url))
}

fn authority_of(text: &str) -> &str {
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    rest.split(['/', '?', '#', '\\']).next().unwrap_or("")
}

/// Returns a URL safe for logs: without user, password or query.
pub(crate) fn redacted_url(text: &str) -> String {
    let Some(scheme) = scheme_of(text) else { return text.to_owned() };
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    // In a pattern over a bucket or a data set, a question mark is a wildcard and cannot precede a secret.
    let takes_patterns = matches!(scheme.to_ascii_lowercase().as_str(), "s3" | "gs" | "az" | "hf");
    let rest = if takes_patterns { rest } else { rest.split(['?', '#']).next().unwrap_or("") };
    let (authority, path) = match rest.find(['/', '\\']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}{path}"),
        None => format!("{scheme}://{authority}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_with_secrets_are_refused_without_repeating_them() {
        for text in [
            "s3://AKIAKEY:s3cr3t@bucket/x",
            "https://user:s3cr3t@host/a.csv",
            "https://host/a.csv?X-Amz-Signature=s3cr3t",
            "https://host/a.csv#s3cr3t",
            "ftp://user:s3cr3t@host/a.csv",
            "http://user:s3cr3t@host/a.csv",
            "postgres://user:s3cr3t@host/db?password=s3cr3t",
        ] {
            let message = parse_location(text).unwrap_err().to_string();
            assert!(!message.contains("s3cr3t"), "{message}");
        }
    }

    #[test]
    fn a_bucket_url_names_a_bucket_and_a_key() {
        let place = |cloud, bucket: &str, key: &str| {
            Location::Bucket(BucketPlace { cloud, bucket: bucket.to_owned(), key: key.to_owned() })
        };
        assert_eq!(parse_location("s3://b-1/a/b c%20?.csv").unwrap(), place(Cloud::S3, "b-1", "a/b c%20?.csv"));
        assert_eq!(parse_location("GS://bucket").unwrap(), place(Cloud::Gcs, "bucket", ""));
        assert_eq!(parse_location("az://container/p/").unwrap(), place(Cloud::Azure, "container", "p"));
        for text in [
            "s3:///key",
            "s3://host:9000/bucket/key",
            "s3://[::1]/key",
            "s3://bucket?endpoint=http://169.254.169.254/x",
            "s3://b%2e%2e/key",
            "s3://../key",
            "s3://bucket/a/../../other",
            "s3://bucket//key",
            "s3://bucket/a\\b",
            "s3://bucket/a\nb",
        ] {
            assert!(parse_location(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_url_with_one_slash_is_no_path() {
        for text in ["s3:/bucket/key", "S3:/bucket", "hf:/datasets/a/b", "https:/host/a.csv"] {
            let message = parse_location(text).unwrap_err().to_string();
            assert!(message.contains("two slashes"), "{message}");
        }
        for text in ["./s3:/bucket/key", "s3", "notes:/a.csv"] {
            assert_eq!(parse_location(text).unwrap(), Location::Local(text.into()));
        }
    }

    #[test]
    fn a_web_url_names_one_file_over_tls() {
        assert!(matches!(parse_location("https://host/d/a.csv").unwrap(), Location::Web(_)));
        for text in ["http://host/a.csv", "https://host", "https://host/d/", "https://host/*.csv", "https://"] {
            assert!(parse_location(text).is_err(), "{text}");
        }
    }
}
