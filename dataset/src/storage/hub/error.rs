//! What can go wrong between us and the Hub, each with what the user may do about it. No message has a token or a signed URL.

use std::time::Duration;

use crate::error::ErrorKind;

/// Why a data set of the Hub cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HubError {
    /// The Hub has no such data set, or does not show it to us: it does not tell these apart.
    #[error("the Hub at {endpoint} has no data set `{repo}` {}", hidden(*with_token))]
    NoSuchRepo {
        /// Its name.
        repo: String,
        /// The Hub.
        endpoint: String,
        /// A token was sent.
        with_token: bool,
    },
    /// The owner asks for an agreement first.
    #[error("data set `{repo}` is gated: accept the conditions at {page}, {}", gated(*with_token))]
    Gated {
        /// Its name.
        repo: String,
        /// Its page.
        page: String,
        /// A token was sent.
        with_token: bool,
    },
    /// The token is unknown to the Hub.
    #[error(
        "the Hub at {endpoint} does not accept the token: set HF_TOKEN to a valid one, or log in with `hf auth login`"
    )]
    BadToken {
        /// The Hub.
        endpoint: String,
    },
    /// Access is refused for another reason.
    #[error("the Hub refuses access to data set `{repo}` (HTTP {status}): {}", denied(*with_token))]
    Denied {
        /// Its name.
        repo: String,
        /// 401 or 403.
        status: u16,
        /// A token was sent.
        with_token: bool,
    },
    /// The data set has no such branch, tag or commit.
    #[error("data set `{repo}` has no revision `{revision}`: name a branch, a tag, a commit or refs/pr/N")]
    NoSuchRevision {
        /// Its name.
        repo: String,
        /// As the corpus names it.
        revision: String,
    },
    /// The data set has no such file or folder.
    #[error("data set `{repo}` has no `{path}` at revision `{revision}`: see its files at {page}")]
    NoSuchFile {
        /// Its name.
        repo: String,
        /// As the corpus names it.
        path: String,
        /// The commit.
        revision: String,
        /// The page that lists its files.
        page: String,
    },
    /// Too many requests, for longer than it is waited.
    #[error("the Hub allows no more requests now{}: try again later{}", wait(*after), more(*with_token))]
    Throttled {
        /// How long it asks to wait.
        after: Option<Duration>,
        /// A token was sent.
        with_token: bool,
    },
    /// The Hub fails or is out of service.
    #[error("the Hub is out of service (HTTP {status} for {url}): try again later")]
    OutOfService {
        /// The address, without a query.
        url: String,
        /// 408 or 5xx.
        status: u16,
    },
    /// The Hub, or the host of its files, cannot be reached or breaks off again and again.
    #[error("cannot read from {url}: {reason}")]
    Unreachable {
        /// The address, without a query.
        url: String,
        /// What happened.
        reason: String,
    },
    /// An answer that makes no sense.
    #[error("the Hub answered {url} in an unexpected way: {reason}")]
    Unexpected {
        /// The address, without a query.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// A redirect to a place that we do not go to.
    #[error(
        "the Hub points to {url}, which is not read: only https and hosts on the public internet are, unless \
         ENCAJE_ALLOW_PRIVATE_HOSTS=true"
    )]
    BadRedirect {
        /// The address, without a query.
        url: String,
    },
    /// Requests are forbidden.
    #[error("`hf://` is read from the Hub, and HF_HUB_OFFLINE says not to ask it: leave it out")]
    Offline,
    /// The settings are no good.
    #[error("{what}")]
    BadSetting {
        /// What is wrong.
        what: String,
    },
}

impl HubError {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            HubError::NoSuchRevision { .. } | HubError::NoSuchFile { .. } => ErrorKind::NotFound,
            // A private data set is not shown to whoever lacks the token, as a worker may.
            HubError::NoSuchRepo { .. }
            | HubError::Gated { .. }
            | HubError::BadToken { .. }
            | HubError::Denied { .. } => ErrorKind::Auth,
            HubError::Throttled { .. } | HubError::OutOfService { .. } => ErrorKind::Throttled,
            HubError::Unreachable { .. } | HubError::Unexpected { .. } => ErrorKind::Io,
            HubError::BadRedirect { .. } | HubError::Offline | HubError::BadSetting { .. } => ErrorKind::BadInput,
        }
    }
}

fn hidden(with_token: bool) -> &'static str {
    if with_token {
        "that this token may see: check the spelling, or set HF_TOKEN to a token of an account that has access"
    } else {
        "that everybody may see: check the spelling; if it is private or gated, log in with `hf auth login` or set HF_TOKEN"
    }
}

fn gated(with_token: bool) -> &'static str {
    if with_token {
        "with the account of the token"
    } else {
        "then log in with `hf auth login` or set HF_TOKEN to a token of that account"
    }
}

fn denied(with_token: bool) -> &'static str {
    if with_token { "the token has no right to read it" } else { "log in with `hf auth login` or set HF_TOKEN" }
}

fn wait(after: Option<Duration>) -> String {
    after.map_or_else(String::new, |after| format!(" and asks to wait {} s", after.as_secs()))
}

fn more(with_token: bool) -> &'static str {
    if with_token { "" } else { ", or with a token (HF_TOKEN), which is allowed more" }
}
