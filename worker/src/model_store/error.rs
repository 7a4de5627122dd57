//! What can go wrong on the way to a model, each with what the user may do about it.

use std::path::PathBuf;

/// Why a model could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Neither a directory nor a well-formed Hub id.
    #[error("`{name}` is neither a directory here nor a Hub id of the form `owner/name`")]
    BadName {
        /// As given.
        name: String,
    },
    /// The Hub knows no such model.
    #[error("no model `{name}` at {endpoint}; check the spelling (a private model needs a token: set HF_TOKEN)")]
    NoSuchModel {
        /// The Hub id.
        name: String,
        /// The Hub.
        endpoint: String,
    },
    /// The model has no such branch, tag or commit.
    #[error("model `{name}` has no revision `{revision}`; give a branch, a tag, a commit or refs/pr/N")]
    NoSuchRevision {
        /// The Hub id.
        name: String,
        /// The requested revision.
        revision: String,
    },
    /// The Hub refuses access.
    #[error("access to model `{name}` is refused (HTTP {status}): {}", denied_hint(*gated, *with_token))]
    Denied {
        /// The Hub id.
        name: String,
        /// 401 or 403.
        status: u16,
        /// The model's owner asks for an agreement first.
        gated: bool,
        /// A token was sent.
        with_token: bool,
    },
    /// Offline, and the cache does not have it.
    #[error(
        "model `{name}` at revision `{revision}` is not in the cache `{cache}`, and the Hub is not asked: leave out --offline and HF_HUB_OFFLINE once"
    )]
    NotCached {
        /// The Hub id.
        name: String,
        /// The requested revision.
        revision: String,
        /// The cache folder.
        cache: PathBuf,
    },
    /// The repository lacks something that every model needs.
    #[error("model `{name}` has no {what}: it cannot be used as an encoder")]
    Incomplete {
        /// The Hub id.
        name: String,
        /// What is missing.
        what: &'static str,
    },
    /// The Hub cannot be reached, or breaks off again and again.
    #[error("the Hub did not answer as it should for `{url}`: {reason}; try again (what was downloaded is kept)")]
    Network {
        /// The address.
        url: String,
        /// What happened.
        reason: String,
    },
    /// A downloaded file is not what the Hub announced.
    #[error("downloaded file `{file}` of model `{name}` is damaged: {reason}; it was removed, try again")]
    Damaged {
        /// The Hub id.
        name: String,
        /// The file.
        file: String,
        /// What differs.
        reason: String,
    },
    /// The cache folder cannot be read or written.
    #[error("the model cache cannot be used: `{path}`")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

fn denied_hint(gated: bool, with_token: bool) -> &'static str {
    match (gated, with_token) {
        (true, true) => "it is gated: accept its terms on its page with the account that the token belongs to",
        (true, false) => {
            "it is gated: accept its terms on its page, then set HF_TOKEN to an access token of that account"
        }
        (false, true) => "the token in HF_TOKEN or the token file is not valid for it",
        (false, false) => "it may be private: set HF_TOKEN to an access token (or run `hf auth login`)",
    }
}
