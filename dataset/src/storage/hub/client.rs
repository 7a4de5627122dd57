//! Requests to the Hub over HTTP. The token goes to the Hub's own host alone; the Hub's redirects to the hosts of its
//! files are followed without it, and only to hosts on the public internet.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use common::Backoff;
use common::hub::HubAccess;
use reqwest::header::{self, HeaderMap};
use reqwest::redirect::Policy;
use reqwest::{Method, Response, StatusCode};
use url::Url;

use super::error::HubError;
use crate::environment::variable;
use crate::storage::guard::{allows_private, check_host, only_public};
use crate::storage::remote::install_tls;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer, and each piece of a body, may take.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Redirects of one request.
const REDIRECTS_MAX: usize = 5;
/// Attempts in a row that bring nothing.
const ATTEMPTS_MAX: u32 = 5;
/// The longest that one request waits in all.
const WAIT_MAX: Duration = Duration::from_secs(60);
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(500), max: Duration::from_secs(8) };
/// A page of a listing is at most this long.
const PAGE_BYTES_MAX: usize = 64 << 20;

/// A failed exchange.
#[derive(Debug)]
pub(super) enum Failure {
    /// Worth another attempt, after this time if the Hub says so.
    MayPass(HubError, Option<Duration>),
    Final(HubError),
}

/// What a request is about, for messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) repo: &'a str,
    pub(super) revision: &'a str,
    pub(super) path: Option<&'a str>,
}

/// What the Hub answers.
pub(super) enum Reply {
    /// Itself, perhaps by an address that it pointed to with what it says about the bytes.
    Here(Response, Option<HeaderMap>),
    /// Where the bytes are, with what it says about them.
    Elsewhere(HeaderMap, Url),
}

/// The Hub, as one process sees it.
#[derive(Debug)]
pub(crate) struct HubClient {
    access: HubAccess,
    endpoint: Url,
    /// Follows no redirects.
    hub: reqwest::Client,
    /// For the hosts of files. Never has the token.
    content: reqwest::Client,
    /// The operator's own Hub may point anywhere.
    is_private: bool,
}

impl HubClient {
    /// Returns the client of this process, by the operator's settings.
    ///
    /// # Errors
    /// The settings are invalid, or forbid requests.
    pub(crate) fn of_process() -> Result<Arc<HubClient>, HubError> {
        static CLIENT: OnceLock<Result<Arc<HubClient>, HubError>> = OnceLock::new();
        let create = || {
            let access = HubAccess::from_lookup(&|name| variable(name).map(str::to_owned));
            HubClient::new(access).map(Arc::new)
        };
        CLIENT.get_or_init(create).clone()
    }

    /// Makes a client.
    ///
    /// # Errors
    /// As [`HubClient::of_process`].
    pub(crate) fn new(access: HubAccess) -> Result<HubClient, HubError> {
        if access.offline {
            return Err(HubError::Offline);
        }
        install_tls();
        let invalid = || HubError::BadSetting { what: "HF_ENDPOINT is not an http or https URL".to_owned() };
        let endpoint = Url::parse(&access.endpoint).map_err(|_| invalid())?;
        if !matches!(endpoint.scheme(), "http" | "https") || endpoint.host().is_none() {
            return Err(invalid());
        }
        let is_private = allows_private() || endpoint.scheme() == "http" || check_host(&endpoint).is_err();
        let builder = || {
            reqwest::Client::builder()
                .referer(false)
                .user_agent(concat!("encaje/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(READ_TIMEOUT)
        };
        let policy = Policy::custom(move |attempt| match may_lead_to(attempt.url(), is_private) {
            true if attempt.previous().len() < REDIRECTS_MAX => attempt.follow(),
            true | false => attempt.error("it points elsewhere again and again, or to a host that is not read"),
        });
        let content = builder().redirect(policy);
        let has_proxy = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"].iter().any(|v| variable(v).is_some());
        let content = if is_private || has_proxy { content } else { only_public(content) };
        let failed = |error: reqwest::Error| HubError::BadSetting { what: common::error_chain(&error) };
        let hub = builder().redirect(Policy::none()).build().map_err(failed)?;
        Ok(HubClient { access, endpoint, hub, content: content.build().map_err(failed)?, is_private })
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.access.endpoint
    }

    /// Returns a URL of the Hub, with these parts of a path, percent-encoded.
    pub(super) fn url<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        url
    }

    /// Returns the page of a data set.
    pub(super) fn page(&self, repo: &str) -> String {
        format!("{}/datasets/{repo}", self.endpoint())
    }

    /// Asks the Hub once, and follows it to other addresses of its own, as those of a renamed data set.
    pub(super) async fn ask(
        &self,
        method: Method,
        url: &Url,
        range: Option<&str>,
        about: About<'_>,
    ) -> Result<Reply, Failure> {
        let (mut url, mut linked) = (url.clone(), None);
        for _ in 0..=REDIRECTS_MAX {
            let mut request = self.hub.request(method.clone(), url.clone()).header(header::ACCEPT_ENCODING, "identity");
            if let Some(token) = &self.access.token {
                request = request.bearer_auth(token.expose());
            }
            if let Some(range) = range {
                request = request.header(header::RANGE, range);
            }
            let response = request.send().await.map_err(|error| unreachable(&url, &error))?;
            if !response.status().is_redirection() {
                return self.accept(response, about).map(|response| Reply::Here(response, linked));
            }
            let target = response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
            let Some(target) = target.and_then(|to| url.join(to).ok()) else {
                return Err(Failure::Final(unexpected(&url, "a redirect to nowhere")));
            };
            if target.origin() != self.endpoint.origin() {
                if !self.may_lead_to(&target) {
                    return Err(Failure::Final(HubError::BadRedirect { url: shown(&target) }));
                }
                return Ok(Reply::Elsewhere(response.headers().clone(), target));
            }
            if linked.is_none() && response.headers().contains_key("x-linked-etag") {
                linked = Some(response.headers().clone());
            }
            url = target;
        }
        Err(Failure::Final(unexpected(&url, "too many redirects")))
    }

    /// Whether a redirect of the Hub to another host is followed.
    pub(super) fn may_lead_to(&self, url: &Url) -> bool {
        may_lead_to(url, self.is_private)
    }

    /// Reads a whole answer of the Hub, with its headers, trying again where that may help.
    pub(super) async fn read(&self, url: &Url, about: About<'_>) -> Result<(HeaderMap, Vec<u8>), HubError> {
        let mut patience = Patience::default();
        loop {
            match self.read_once(url, about).await {
                Ok(read) => return Ok(read),
                Err(failure) => patience.wait(failure).await?,
            }
        }
    }

    async fn read_once(&self, url: &Url, about: About<'_>) -> Result<(HeaderMap, Vec<u8>), Failure> {
        let mut response = match self.ask(Method::GET, url, None, about).await? {
            Reply::Here(response, _) => response,
            Reply::Elsewhere(_, target) => {
                return Err(Failure::Final(HubError::BadRedirect { url: shown(&target) }));
            }
        };
        let headers = response.headers().clone();
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| unreachable(url, &error))? {
            body.extend_from_slice(&piece);
            if body.len() > PAGE_BYTES_MAX {
                return Err(Failure::Final(unexpected(url, "the answer is too long")));
            }
        }
        Ok((headers, body))
    }

    /// Asks the host of a file for bytes of it, without the token.
    pub(super) async fn ask_elsewhere(&self, url: &Url, range: &str) -> Result<Response, Failure> {
        let request = self.content.get(url.clone());
        let request = request.header(header::ACCEPT_ENCODING, "identity").header(header::RANGE, range);
        request.send().await.map_err(|error| unreachable(url, &error))
    }

    /// Passes a success on, and turns everything else into what it means.
    pub(super) fn accept(&self, response: Response, about: About<'_>) -> Result<Response, Failure> {
        if response.status().is_success() {
            return Ok(response);
        }
        if let Some(failure) = passing(&response, self.access.token.is_some()) {
            return Err(failure);
        }
        let said = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (code, message) = (said("x-error-code"), said("x-error-message"));
        let (repo, with_token) = (about.repo.to_owned(), self.access.token.is_some());
        let endpoint = self.endpoint().to_owned();
        let status = response.status().as_u16();
        Err(Failure::Final(match (status, code) {
            (401 | 403, "GatedRepo") => HubError::Gated { page: self.page(&repo), repo, with_token },
            (401, _) if with_token && message.starts_with("Invalid") => HubError::BadToken { endpoint },
            // Without a token, the Hub answers 401 for what does not exist, so as not to betray private data sets.
            (401, "" | "RepoNotFound") | (404, "RepoNotFound") => HubError::NoSuchRepo { repo, endpoint, with_token },
            (401 | 403, _) => HubError::Denied { repo, status, with_token },
            (404, "RevisionNotFound") => HubError::NoSuchRevision { repo, revision: about.revision.to_owned() },
            (404, _) => match about.path {
                Some(path) => {
                    let page = format!("{}/tree/{}", self.page(&repo), about.revision);
                    HubError::NoSuchFile { repo, path: path.to_owned(), revision: about.revision.to_owned(), page }
                }
                None => HubError::NoSuchRepo { repo, endpoint, with_token },
            },
            _ => unexpected(response.url(), &format!("HTTP {status} {code}")),
        }))
    }
}

/// Returns the failure of an answer that may be another one later.
pub(super) fn passing(response: &Response, with_token: bool) -> Option<Failure> {
    let status = response.status();
    if status == StatusCode::TOO_MANY_REQUESTS {
        let after = asked_to_wait(response.headers());
        return Some(Failure::MayPass(HubError::Throttled { after, with_token }, after));
    }
    let is_passing = status == StatusCode::REQUEST_TIMEOUT || status.is_server_error();
    let (url, status) = (shown(response.url()), status.as_u16());
    is_passing.then(|| {
        let after = asked_to_wait(response.headers());
        Failure::MayPass(HubError::OutOfService { url, status }, after)
    })
}

/// Returns how long a server asks to wait: by `Retry-After` in seconds, or the Hub's own `RateLimit: "api";r=0;t=55`.
fn asked_to_wait(headers: &HeaderMap) -> Option<Duration> {
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let seconds = value("retry-after").and_then(|text| text.trim().parse().ok()).or_else(|| {
        let seconds = value("ratelimit")?.split(';').find_map(|part| part.trim().strip_prefix("t="))?;
        seconds.parse().ok()
    });
    seconds.map(Duration::from_secs)
}

/// Whether a redirect to another host is followed, by the Hub's own.
fn may_lead_to(url: &Url, is_private: bool) -> bool {
    match url.scheme() {
        "https" => is_private || check_host(url).is_ok(),
        "http" => is_private,
        _ => false,
    }
}

/// Bounds the attempts of one request.
#[derive(Debug, Default)]
pub(super) struct Patience {
    fruitless: u32,
    waited: Duration,
}

impl Patience {
    /// Forgets failed attempts, after one that brought something.
    pub(super) fn renew(&mut self) {
        self.fruitless = 0;
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// There should be no other attempt.
    pub(super) async fn wait(&mut self, failure: Failure) -> Result<(), HubError> {
        let (error, after) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::MayPass(error, after) => (error, after),
        };
        let pause = after.unwrap_or_else(|| BACKOFF.pause(self.fruitless));
        self.fruitless += 1;
        self.waited += pause;
        if self.fruitless >= ATTEMPTS_MAX || self.waited > WAIT_MAX {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// Returns an address for messages: a query may be a signature.
pub(super) fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    shown.into()
}

pub(super) fn unexpected(url: &Url, reason: &str) -> HubError {
    HubError::Unexpected { url: shown(url), reason: reason.to_owned() }
}

pub(super) fn unreachable(url: &Url, error: &reqwest::Error) -> Failure {
    // The error's own text has the URL with its signature; its cause does not.
    let reason = std::error::Error::source(error).map_or_else(|| "no answer".to_owned(), common::error_chain);
    let failed = HubError::Unreachable { url: shown(url), reason };
    if error.is_builder() || error.is_redirect() { Failure::Final(failed) } else { Failure::MayPass(failed, None) }
}
