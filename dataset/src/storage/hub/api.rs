//! Commits and files of a data set, by the Hub's API.

use common::hub::is_commit;
use reqwest::header::{self, HeaderMap};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::client::{About, HubClient, unexpected};
use super::error::HubError;

/// Most files of a data set that are listed.
const FILES_MAX: usize = 1_000_000;

/// A revision of a data set.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Revision {
    /// Its commit.
    pub(crate) sha: String,
    /// What the data set's card says of it.
    #[serde(rename = "cardData", default)]
    card: Option<Card>,
}

impl Revision {
    /// Returns the configurations that the card lists.
    pub(crate) fn configs(self) -> serde_json::Value {
        self.card.map(|card| card.configs).unwrap_or_default()
    }
}

/// The metadata of a card, as far as it tells which files are data. Anything may be there: what has another form is ignored.
#[derive(Debug, Clone, Default, Deserialize)]
struct Card {
    #[serde(default)]
    configs: serde_json::Value,
}

/// An entry of a listing.
#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
}

impl HubClient {
    /// Returns the commit that a revision is now.
    pub(crate) async fn revision(&self, repo: &str, revision: &str) -> Result<Revision, HubError> {
        let parts = ["api", "datasets"].into_iter().chain(repo.split('/')).chain(["revision", revision]);
        let url = self.url(parts);
        let (_, found): (_, Revision) = self.json(&url, About { repo, revision, path: None }).await?;
        if !is_commit(&found.sha) {
            return Err(unexpected(&url, "the commit is no hash"));
        }
        Ok(found)
    }

    /// Lists the paths of all files below a folder (empty for all) at a commit, sorted.
    pub(crate) async fn files(&self, repo: &str, commit: &str, folder: &str) -> Result<Vec<String>, HubError> {
        let parts = ["api", "datasets"].into_iter().chain(repo.split('/')).chain(["tree", commit]);
        let mut url = self.url(parts.chain(folder.split('/').filter(|part| !part.is_empty())));
        url.set_query(Some("recursive=true&expand=false"));
        let about = About { repo, revision: commit, path: Some(folder) };
        let mut files = Vec::new();
        loop {
            let (headers, entries): (HeaderMap, Vec<Entry>) = self.json(&url, about).await?;
            let is_empty = entries.is_empty();
            files.extend(entries.into_iter().filter(|entry| entry.kind == "file").map(|entry| entry.path));
            if files.len() > FILES_MAX {
                return Err(unexpected(&url, &format!("it has more than {FILES_MAX} files: name a folder of it")));
            }
            match next_page(&headers) {
                Some(next) if !is_empty => self.turn_to(&mut url, &next)?,
                Some(_) | None => break,
            }
        }
        files.sort();
        Ok(files)
    }

    /// Takes path and query of the next page; its host is the Hub, whatever the header says, since the token goes there.
    fn turn_to(&self, url: &mut Url, next: &str) -> Result<(), HubError> {
        let next = url.join(next).map_err(|_| unexpected(url, "the next page has no address"))?;
        url.set_path(next.path());
        url.set_query(next.query());
        Ok(())
    }

    async fn json<T: DeserializeOwned>(&self, url: &Url, about: About<'_>) -> Result<(HeaderMap, T), HubError> {
        let (headers, body) = self.read(url, about).await?;
        let parsed = serde_json::from_slice(&body).map_err(|error| unexpected(url, &error.to_string()))?;
        Ok((headers, parsed))
    }
}

/// Returns the address of `<…>; rel="next"` in the header `Link`.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let links = headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok());
    links.flat_map(|links| links.split(',')).find_map(|link| {
        let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
        rest.contains("rel=\"next\"").then(|| target.to_owned())
    })
}
