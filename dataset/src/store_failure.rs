//! Store errors made safe for logs: a kind and a message without bodies, queries or secrets. A store's answer may
//! quote the refused request including tokens, so only its code and message are kept.

use std::sync::OnceLock;

use crate::environment::variables;

/// An error of a store, safe for logs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct StoreFailure(String);

impl StoreFailure {
    pub(crate) fn new(problem: String) -> StoreFailure {
        StoreFailure(problem)
    }
}

/// The meaning of a store's answer, where its error type lacks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Too many requests.
    Throttled,
    /// Credentials are missing, wrong, expired or insufficient.
    Auth,
    /// Anything else.
    Other,
}

const MESSAGE_BYTES_MAX: usize = 600;
const STATUS_MARK: &str = "status code: ";

/// Error codes for throttling.
const THROTTLED: [&str; 6] =
    ["SlowDown", "ServerBusy", "TooManyRequests", "RequestLimitExceeded", "Throttling", "rateLimitExceeded"];
/// Error codes for a bucket that does not exist.
const NO_BUCKET: [&str; 2] = ["NoSuchBucket", "ContainerNotFound"];
/// What the client says of `http://` where only TLS is allowed.
const PLAIN_HTTP: &str = "URL scheme is not allowed";
/// Error codes for refused credentials, some with status 400.
const AUTH: [&str; 10] = [
    "ExpiredToken",
    "TokenRefreshRequired",
    "InvalidToken",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "RequestTimeTooSkewed",
    "AccessDenied",
    "AuthenticationFailed",
    "AuthorizationFailure",
    "NotSignedUp",
];

/// Returns the meaning of an error, and a message safe for logs.
pub(crate) fn explain(error: &object_store::Error) -> (Meaning, StoreFailure) {
    let text = common::error_chain(error);
    let status = text.find(STATUS_MARK).and_then(|at| text.get(at + STATUS_MARK.len()..)?.get(..3));
    let code = element(&text, "Code");
    let is_one_of = |codes: &[&str]| code.is_some_and(|code| codes.contains(&code));
    let meaning = match error {
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => Meaning::Auth,
        _ if is_one_of(&AUTH) || matches!(status, Some("401" | "403")) => Meaning::Auth,
        _ if is_one_of(&THROTTLED) || matches!(status, Some("429" | "503")) => Meaning::Throttled,
        _ => Meaning::Other,
    };
    let mut said = code_and_message(&text, code);
    let advice = match status {
        Some(status) if status.starts_with('3') => "redirects are not followed: name the place that it leads to",
        _ if is_one_of(&NO_BUCKET) => "correct the name of the bucket, or make it first",
        _ if text.contains(PLAIN_HTTP) => "for a server of your own over http, set AWS_ALLOW_HTTP=true",
        _ => "",
    };
    if !advice.is_empty() {
        said.push_str(&format!(" ({advice})"));
    }
    (meaning, StoreFailure(without_secrets(&said)))
}

/// Extracts code and message from an answer.
fn code_and_message(text: &str, code: Option<&str>) -> String {
    let end = text.find("<?xml").or_else(|| text.find("<Error")).or_else(|| text.find('{')).unwrap_or(text.len());
    let mut brief: String = without_queries(text[..end].trim_end_matches([' ', ':', '\n', '"']));
    if let Some(code) = code {
        brief.push_str(": ");
        brief.push_str(code);
    }
    if let Some(message) = element(text, "Message").filter(|message| !message.is_empty()) {
        brief.push_str(", ");
        brief.push_str(message);
    }
    let mut brief: String = brief.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if brief.len() > MESSAGE_BYTES_MAX {
        let end = (0..=MESSAGE_BYTES_MAX).rev().find(|&at| brief.is_char_boundary(at)).unwrap_or(0);
        brief.truncate(end);
        brief.push('…');
    }
    brief
}

/// Removes the query from every URL in a text.
fn without_queries(text: &str) -> String {
    let words = text.split(' ').map(|word| match word.split_once('?') {
        Some((url, _)) if url.contains("://") => url,
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Returns the text of the first XML element of a name.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let open = format!("<{name}>");
    let start = text.find(&open)? + open.len();
    let end = start + text[start..].find(&format!("</{name}>"))?;
    Some(&text[start..end])
}

/// Redacts credentials found in the environment.
fn without_secrets(text: &str) -> String {
    static SECRETS: OnceLock<Vec<String>> = OnceLock::new();
    let secrets = SECRETS.get_or_init(|| {
        variables().iter().filter(|(name, value)| is_secret(name, value)).map(|(_, value)| value.clone()).collect()
    });
    secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
}

fn is_secret(name: &str, value: &str) -> bool {
    /// Shorter values would redact ordinary words.
    const SECRET_BYTES_MIN: usize = 8;
    let is_cloud = ["AWS_", "AZURE_", "GOOGLE_", "ENCAJE_"].iter().any(|prefix| name.starts_with(prefix));
    let is_secret = ["KEY", "SECRET", "TOKEN", "SAS", "PASSWORD", "CREDENTIAL"].iter().any(|word| name.contains(word));
    is_cloud && is_secret && value.len() >= SECRET_BYTES_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    #[test]
    fn store_errors_are_classified_and_omit_the_request() {
        let body = "<?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>no match</Message>\
                    <CanonicalRequest>x-amz-security-token:CANARY</CanonicalRequest></Error>";
        let url = "https://b.s3.amazonaws.com/k?sig=CANARY";
        let text =
            format!("Error performing GET {url} in 1ms - Server returned non-2xx status code: 400 Bad Request: {body}");
        let (meaning, failure) = explain(&generic(&text));
        assert_eq!(meaning, Meaning::Auth);
        let shown = failure.to_string();
        assert!(shown.contains("400 Bad Request: SignatureDoesNotMatch, no match"), "{shown}");
        assert!(!shown.contains("CANARY"), "{shown}");
    }

    #[test]
    fn throttling_is_distinguished_from_failures() {
        let said = |status: &str| explain(&generic(&format!("non-2xx status code: {status}: "))).0;
        assert_eq!(said("503 Service Unavailable"), Meaning::Throttled);
        assert_eq!(said("429 Too Many Requests"), Meaning::Throttled);
        assert_eq!(said("500 Internal Server Error"), Meaning::Other);
        assert_eq!(said("403 Forbidden"), Meaning::Auth);
    }

    #[test]
    fn secret_variables_are_detected_by_name() {
        for name in
            ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN"]
        {
            assert!(is_secret(name, "0123456789"), "{name}");
        }
        assert!(!is_secret("AWS_REGION", "eu-central-1") && !is_secret("AWS_SECRET_ACCESS_KEY", "x"));
    }
}
