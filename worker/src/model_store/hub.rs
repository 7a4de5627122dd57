//! Requests to the Hub over HTTP. hf-hub's own client knows no timeouts, waits five seconds for a lock, and appends a
//! whole file to a half one where a server ignores `Range`; its knowledge of the Hub's names and routes is used, its transfer is not.

use std::time::Duration;

use common::Backoff;
use common::hub::is_commit;
use hf_hub::api::RepoInfo;
use hf_hub::{Repo, RepoType};
use ureq::config::RedirectAuthHeaders;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use super::error::ModelError;
use super::options::HubOptions;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long an answer, and each piece of a body, may keep us waiting.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Attempts in a row that bring nothing before giving up.
pub(super) const FRUITLESS_ATTEMPTS_MAX: u32 = 5;
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(500), max: Duration::from_secs(8) };
/// Relative redirects (a renamed model) followed while asking for a file's identity.
const REDIRECTS_MAX: usize = 5;

/// A model's file list at one commit.
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: Vec<String>,
}

/// What a file is: its identity and size in bytes.
pub(super) struct FileHead {
    pub(super) etag: String,
    pub(super) bytes: u64,
}

/// A failed exchange: worth another attempt, or not.
pub(super) enum Failure {
    MayPass(String),
    Final(ModelError),
}

/// One model at one Hub.
pub(super) struct Hub<'a> {
    name: &'a str,
    options: &'a HubOptions,
    follow: Agent,
    stay: Agent,
}

impl<'a> Hub<'a> {
    pub(super) fn new(name: &'a str, options: &'a HubOptions) -> Self {
        let config = || {
            Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects_will_error(false)
                .redirect_auth_headers(RedirectAuthHeaders::SameHost)
                .accept_encoding("identity")
                .user_agent(concat!("encaje/", env!("CARGO_PKG_VERSION")))
                .timeout_connect(Some(CONNECT_TIMEOUT))
                .timeout_recv_response(Some(READ_TIMEOUT))
                .timeout_per_read(Some(READ_TIMEOUT))
        };
        Self { name, options, follow: config().build().into(), stay: config().max_redirects(0).build().into() }
    }

    /// Returns the commit that `revision` means now, and its files.
    pub(super) fn listing(&self, revision: &str) -> Result<Listing, ModelError> {
        let repo = Repo::with_revision(self.name.to_owned(), RepoType::Model, revision.to_owned());
        let url = format!("{}/api/{}", self.options.endpoint, repo.api_url());
        let info: RepoInfo = self.patiently(&url, || {
            let mut response = self.call(self.authorized(self.follow.get(&url)))?;
            self.refuse(&response, &url, revision)?;
            let body = response.body_mut().read_to_string().map_err(|error| may_pass(&error))?;
            serde_json::from_str(&body).map_err(|error| Failure::Final(self.unexpected(&url, error.to_string())))
        })?;
        if !is_commit(&info.sha) {
            return Err(self.unexpected(&url, format!("the commit is not a hash: `{}`", info.sha)));
        }
        Ok(Listing { commit: info.sha, files: info.siblings.into_iter().map(|file| file.rfilename).collect() })
    }

    /// Returns what the file is, without fetching it.
    pub(super) fn head(&self, commit: &str, file: &str) -> Result<FileHead, ModelError> {
        let mut url = self.file_url(commit, file);
        self.patiently(&url.clone(), || {
            for _ in 0..REDIRECTS_MAX {
                let response = self.call(self.authorized(self.stay.head(&url)))?;
                match header(&response, "location") {
                    // A renamed model: its new address, on the same Hub. Any other target is where the bytes are.
                    Some(target) if response.status().is_redirection() && target.starts_with('/') => {
                        url = format!("{}{target}", origin(&url));
                    }
                    _ => return self.read_head(&response, &url, commit),
                }
            }
            Err(Failure::Final(self.unexpected(&url, "too many redirects".to_owned())))
        })
    }

    fn read_head(&self, response: &Response<Body>, url: &str, commit: &str) -> Result<FileHead, Failure> {
        if !response.status().is_redirection() {
            self.refuse(response, url, commit)?;
        }
        let either = |first, second| header(response, first).or_else(|| header(response, second));
        let etag = either("x-linked-etag", "etag").map(|tag| tag.trim_start_matches("W/").trim_matches('"').to_owned());
        let bytes = either("x-linked-size", "content-length").and_then(|size| size.parse().ok());
        // The etag becomes a file name: a hostile server must not choose the folder.
        let is_name = |tag: &String| {
            !tag.is_empty()
                && !tag.starts_with('.')
                && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        match (etag.filter(is_name), bytes) {
            (Some(etag), Some(bytes)) => Ok(FileHead { etag, bytes }),
            _ => Err(Failure::Final(self.unexpected(url, "the answer lacks a usable ETag or size".to_owned()))),
        }
    }

    /// Asks for the file's bytes from `start` on.
    pub(super) fn get(&self, commit: &str, file: &str, start: u64) -> Result<Response<Body>, Failure> {
        let url = self.file_url(commit, file);
        let mut request = self.authorized(self.follow.get(&url));
        if start > 0 {
            request = request.header("Range", format!("bytes={start}-"));
        }
        let response = self.call(request)?;
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(response);
        }
        self.refuse(&response, &url, commit)?;
        Ok(response)
    }

    pub(super) fn file_url(&self, commit: &str, file: &str) -> String {
        format!("{}/{}/resolve/{commit}/{file}", self.options.endpoint, self.name)
    }

    pub(super) fn unexpected(&self, url: &str, reason: String) -> ModelError {
        ModelError::Network { url: url.to_owned(), reason }
    }

    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.options.token {
            Some(token) => request.header("Authorization", format!("Bearer {}", token.expose())),
            None => request,
        }
    }

    fn call(&self, request: ureq::RequestBuilder<ureq::typestate::WithoutBody>) -> Result<Response<Body>, Failure> {
        request.call().map_err(|error| may_pass(&error))
    }

    /// Turns every status that is not a success into what it means here. The Hub says in `X-Error-Code` what it means.
    fn refuse(&self, response: &Response<Body>, url: &str, revision: &str) -> Result<(), Failure> {
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let code = header(response, "x-error-code").unwrap_or_default();
        let name = self.name.to_owned();
        let with_token = self.options.token.is_some();
        Err(Failure::Final(match (status.as_u16(), code.as_str()) {
            (404, "RevisionNotFound") => ModelError::NoSuchRevision { name, revision: revision.to_owned() },
            // Without a token the Hub answers 401 for models that do not exist, so as not to betray private ones.
            (401, "RepoNotFound") | (404, "RepoNotFound" | "") => {
                ModelError::NoSuchModel { name, endpoint: self.options.endpoint.clone() }
            }
            (401 | 403, code) => {
                ModelError::Denied { name, status: status.as_u16(), gated: code == "GatedRepo", with_token }
            }
            (408 | 429 | 500..=599, _) => return Err(Failure::MayPass(format!("HTTP {status}"))),
            _ => self.unexpected(url, format!("HTTP {status} {code}")),
        }))
    }

    /// Tries a small exchange again while its failure may pass.
    fn patiently<T>(&self, url: &str, mut exchange: impl FnMut() -> Result<T, Failure>) -> Result<T, ModelError> {
        let mut fruitless = 0;
        loop {
            match exchange() {
                Ok(answer) => return Ok(answer),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::MayPass(reason)) => {
                    fruitless += 1;
                    if fruitless >= FRUITLESS_ATTEMPTS_MAX {
                        return Err(self.unexpected(url, reason));
                    }
                    pause(fruitless);
                }
            }
        }
    }
}

pub(super) fn header(response: &Response<Body>, name: &str) -> Option<String> {
    response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// Returns scheme and host of a URL, without a final slash.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    url[host..].find('/').map_or(url, |slash| &url[..host + slash])
}

fn may_pass(error: &ureq::Error) -> Failure {
    Failure::MayPass(error.to_string())
}

/// Waits before the next attempt.
pub(super) fn pause(fruitless: u32) {
    std::thread::sleep(BACKOFF.pause(fruitless));
}
