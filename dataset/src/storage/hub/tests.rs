//! The store against a Hub on local ports: ranges, redirects, expiry, limits, refusals.

use std::sync::Arc;

use common::Secret;
use common::hub::HubAccess;
use object_store::path::Path as StorePath;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use testkit::hub::{HubFault, HubServer};

use super::{HubClient, HubError, HubStore};
use crate::corpus::{HubPin, Object, expand_hub};
use crate::error::{DatasetError, ErrorKind};
use crate::storage::HubPlace;

const REPO: &str = "ana/tweets";
const TOKEN: &str = "hf_canary_0123456789";

fn client(hub: &HubServer, token: Option<&str>) -> Arc<HubClient> {
    let token = token.map(Secret::new);
    let access = HubAccess { endpoint: hub.url(), token, offline: false, home: "/none".into() };
    Arc::new(HubClient::new(access).unwrap())
}

/// A Hub with one large file, and a store over its commit.
fn setup() -> (HubServer, HubStore, Vec<u8>) {
    let hub = HubServer::start();
    let bytes: Vec<u8> = (0..50_000u32).flat_map(u32::to_le_bytes).collect();
    let commit = hub.commit(REPO, "main", &[("data/a b.bin", &bytes), ("small.csv", b"text\nhola\n")]);
    let store = HubStore::new(client(&hub, Some(TOKEN)), REPO, &commit);
    (hub, store, bytes)
}

async fn read(store: &HubStore, path: &str, range: std::ops::Range<u64>) -> Result<Vec<u8>, DatasetError> {
    let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
    let failed = |error| DatasetError::from_store(path, error);
    let found = store.get_opts(&StorePath::parse(path).unwrap(), options).await.map_err(failed)?;
    Ok(found.bytes().await.map_err(failed)?.to_vec())
}

#[tokio::test]
async fn ranges_are_read_where_the_bytes_are_without_the_token() {
    let (hub, store, bytes) = setup();
    hub.require_token(TOKEN);
    assert_eq!(read(&store, "data/a b.bin", 1_000..3_000).await.unwrap(), bytes[1_000..3_000]);
    assert_eq!(read(&store, "data/a b.bin", 199_990..300_000).await.unwrap(), bytes[199_990..]);
    assert_eq!(read(&store, "small.csv", 5..9).await.unwrap(), b"hola");
    assert_eq!(hub.bytes_sent(), 2_000 + 10 + 4);
    assert!(!hub.has_leaked());
    let requests = hub.requests();
    assert_eq!(requests.iter().filter(|line| line.starts_with("HEAD")).count(), 3, "{requests:?}");
    let meta = store.head(&StorePath::parse("data/a b.bin").unwrap()).await.unwrap();
    assert_eq!((meta.size, meta.e_tag.unwrap().len()), (200_000, 64));
    let meta = store.head(&StorePath::parse("small.csv").unwrap()).await.unwrap();
    assert_eq!((meta.size, meta.e_tag.unwrap().len()), (10, 40), "the hash, not what a cache makes of it");
    let commit = requests[0].split('/').nth(5).unwrap().to_owned();
    assert_eq!(commit.len(), 40, "{requests:?}");
}

#[tokio::test]
async fn a_body_that_breaks_off_goes_on_where_it_broke() {
    let (hub, store, bytes) = setup();
    hub.fail("GET", "/content/", HubFault::CutAfter(30_000), 3);
    assert_eq!(read(&store, "data/a b.bin", 0..200_000).await.unwrap(), bytes);
    let asked = hub.requests().iter().filter(|line| line.starts_with("GET /content/")).count();
    assert_eq!((asked, hub.bytes_sent()), (4, 200_000 + 170_000 + 140_000 + 110_000));
    hub.fail("GET", "small.csv", HubFault::CutAfter(0), 100);
    hub.reset_requests();
    let error = read(&store, "small.csv", 0..9).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert_eq!(
        hub.requests().iter().filter(|line| line.starts_with("GET /datasets/")).count(),
        5,
        "no storm of retries"
    );
}

#[tokio::test]
async fn an_expired_signature_is_renewed_once() {
    let (hub, store, bytes) = setup();
    read(&store, "data/a b.bin", 0..10).await.unwrap();
    hub.expire();
    assert_eq!(read(&store, "data/a b.bin", 10..20).await.unwrap(), bytes[10..20]);
    hub.fail("GET", "/content/", HubFault::Answer(403, ""), 100);
    hub.reset_requests();
    let error = read(&store, "data/a b.bin", 10..20).await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(!error.to_string().contains("canary"), "{error}");
    assert_eq!(hub.requests().len(), 3, "{:?}", hub.requests());
}

#[tokio::test]
async fn a_server_that_ignores_ranges_is_read_from_the_start() {
    let (hub, store, bytes) = setup();
    hub.fail("GET", "/content/", HubFault::IgnoreRange, 1);
    assert_eq!(read(&store, "data/a b.bin", 150_000..150_010).await.unwrap(), bytes[150_000..150_010]);
}

#[tokio::test]
async fn a_limit_of_requests_is_waited_for_up_to_a_minute() {
    let (hub, store, _) = setup();
    hub.fail("HEAD", "small.csv", HubFault::Answer(429, "Retry-After: 1\r\n"), 1);
    hub.fail("GET", "small.csv", HubFault::Answer(503, ""), 2);
    let started = std::time::Instant::now();
    assert_eq!(read(&store, "small.csv", 0..4).await.unwrap(), b"text");
    assert!(started.elapsed().as_millis() >= 1_000);
    hub.reset();
    hub.fail("GET", "small.csv", HubFault::Answer(429, "RateLimit: \"resolvers\";r=0;t=290\r\n"), 100);
    let error = read(&store, "small.csv", 0..4).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled);
    assert!(error.to_string().contains("290 s"), "{error}");
    assert_eq!(hub.requests().len(), 1);
    hub.fail("HEAD", "a b.bin", HubFault::Answer(500, ""), 100);
    hub.fail("HEAD", "a%20b.bin", HubFault::Answer(500, ""), 100);
    let error = read(&store, "data/a b.bin", 0..4).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled, "{error}");
    assert_eq!(hub.requests().len(), 1 + 5);
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let hub = HubServer::start();
    let commit = hub.commit(REPO, "main", &[("a.csv", b"text\nhola\n")]);
    let said = async |token: Option<&str>, repo: &str, revision: &str, path: &str| {
        let client = client(&hub, token);
        let found = match client.revision(repo, revision).await {
            Ok(found) => HubStore::new(client, repo, &found.sha).file(path).await.map(|_| ()),
            Err(error) => Err(error),
        };
        let error = found.unwrap_err();
        (error.kind(), error.to_string())
    };
    let expect = |(kind, text): (ErrorKind, String), expected: ErrorKind, parts: &[&str]| {
        assert_eq!(kind, expected, "{text}");
        assert!(parts.iter().all(|part| text.contains(part)) && !text.contains(TOKEN), "{text}");
    };
    expect(said(None, "ana/none", "main", "a").await, ErrorKind::Auth, &["`ana/none`", "spelling", "HF_TOKEN"]);
    expect(said(None, REPO, "v9", "a").await, ErrorKind::NotFound, &["no revision `v9`"]);
    expect(said(None, REPO, "main", "b.csv").await, ErrorKind::NotFound, &["no `b.csv`", &commit, "/tree/"]);
    hub.gate(REPO, true);
    let page = format!("accept the conditions at {}/datasets/{REPO}", hub.url());
    expect(said(None, REPO, "main", "a.csv").await, ErrorKind::Auth, &["gated", &page, "hf auth login"]);
    expect(said(Some(TOKEN), REPO, "main", "a.csv").await, ErrorKind::Auth, &[&page, "account of the token"]);
    hub.require_token("hf_another");
    expect(said(None, REPO, "main", "a.csv").await, ErrorKind::Auth, &["everybody", "HF_TOKEN"]);
    expect(said(Some(TOKEN), REPO, "main", "a.csv").await, ErrorKind::Auth, &["does not accept the token"]);
    let offline = HubAccess { endpoint: hub.url(), token: None, offline: true, home: "/none".into() };
    assert!(matches!(HubClient::new(offline), Err(HubError::Offline)));
}

#[tokio::test]
async fn a_renamed_data_set_is_found_under_its_old_name() {
    let hub = HubServer::start();
    hub.commit("squad", "main", &[("plain_text/a.csv", b"text\nhola\n")]);
    hub.rename("squad", "rajpurkar/squad");
    let client = client(&hub, Some(TOKEN));
    hub.require_token(TOKEN);
    let place = HubPlace::parse("hf://datasets/squad/plain_text/a.csv").unwrap();
    let found = expand_hub(&client, "hf://datasets/squad/plain_text/a.csv", place, None, &[]).await.unwrap();
    assert_eq!(found.pin.as_ref().unwrap().repo, "squad");
    let store = HubStore::new(client, "squad", &found.pin.unwrap().commit);
    assert_eq!(read(&store, "plain_text/a.csv", 0..4).await.unwrap(), b"text");
}

#[tokio::test]
async fn the_hubs_redirects_lead_to_public_hosts_over_tls() {
    for (endpoint, target, is_followed) in [
        ("https://huggingface.co", "https://cdn-lfs.hf.co/x", true),
        ("https://huggingface.co", "http://cdn-lfs.hf.co/x", false),
        ("https://huggingface.co", "https://169.254.169.254/x", false),
        ("https://huggingface.co", "https://metadata.google.internal/x", false),
        ("https://huggingface.co", "file:///etc/passwd", false),
        ("http://127.0.0.1:8080", "http://127.0.0.1:9090/x", true),
        ("https://hub.intranet", "https://10.0.0.7/x", true),
    ] {
        let access = HubAccess { endpoint: endpoint.to_owned(), token: None, offline: false, home: "/none".into() };
        let client = HubClient::new(access).unwrap();
        assert_eq!(client.may_lead_to(&target.parse().unwrap()), is_followed, "{endpoint} {target}");
    }
    let (hub, store, _) = setup();
    hub.point_to("ftp://files.example.org");
    let error = read(&store, "data/a b.bin", 0..4).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadInput);
    assert!(error.to_string().contains("ftp://files.example.org") && !error.to_string().contains("canary"), "{error}");
}

/// Returns the paths of a pattern at its commit.
async fn paths(hub: &HubServer, pattern: &str, pins: &[HubPin]) -> Result<(String, Vec<String>), DatasetError> {
    let place = HubPlace::parse(pattern)?;
    let found = expand_hub(&client(hub, None), pattern, place, None, pins).await?;
    let places: Vec<HubPlace> = found.urls.iter().map(|url| HubPlace::parse(url).unwrap()).collect();
    let commit = places[0].commit().unwrap().to_owned();
    Ok((commit, places.into_iter().map(|place| place.path).collect()))
}

#[tokio::test]
async fn patterns_are_expanded_page_by_page_at_one_commit() {
    let hub = HubServer::start();
    let names: Vec<String> = (0..25).map(|number| format!("data/{number:02}.csv")).collect();
    let mut files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), b"text\n".as_slice())).collect();
    files.extend([("README.md", b"# x".as_slice()), ("data/deep/a.csv", b"text\n"), ("other.tsv", b"text\n")]);
    let first = hub.commit(REPO, "main", &files);
    hub.set_page(10);
    let url = |rest: &str| format!("hf://datasets/{REPO}{rest}");
    assert_eq!(paths(&hub, &url("/data/*.csv"), &[]).await.unwrap(), (first.clone(), names.clone()));
    assert_eq!(paths(&hub, &url("/data"), &[]).await.unwrap().1.len(), 26);
    assert_eq!(paths(&hub, &url("/data/deep/"), &[]).await.unwrap().1, ["data/deep/a.csv"]);
    assert_eq!(paths(&hub, &url("/other.tsv"), &[]).await.unwrap().1, ["other.tsv"]);
    let error = paths(&hub, &url(""), &[]).await.unwrap_err().to_string();
    assert!(error.contains("several formats") && error.contains(&url("/**/*.csv*")), "{error}");
    let error = paths(&hub, &url("/*.parquet"), &[]).await.unwrap_err().to_string();
    assert!(error.contains("no file of the data set matches"), "{error}");
    assert_eq!(paths(&hub, &url("/none"), &[]).await.unwrap_err().kind(), ErrorKind::NotFound);

    // The branch moves on; a pin stays, for the revision that it was made of.
    let second = hub.commit(REPO, "main", &[("data/99.csv", b"text\n")]);
    assert_eq!(paths(&hub, &url("/data/*.csv"), &[]).await.unwrap().0, second);
    let pin = HubPin { repo: REPO.to_owned(), revision: None, commit: first.clone() };
    assert_eq!(paths(&hub, &url("/data/*.csv"), std::slice::from_ref(&pin)).await.unwrap(), (first.clone(), names));
    assert_eq!(paths(&hub, &url("@main/data/*.csv"), &[pin]).await.unwrap().0, second);
    assert_eq!(paths(&hub, &url(&format!("@{first}/data/*.csv")), &[]).await.unwrap().0, first);
    let sources = [url(&format!("@{first}/a.csv")), "/b.csv".to_owned(), url(&format!("@{first}/c.csv"))];
    assert_eq!(HubPin::of_sources(sources.iter().map(String::as_str)).len(), 1);
    let sources = [url(&format!("@{first}/a.csv")), url(&format!("@{second}/c.csv"))];
    assert_eq!(HubPin::of_sources(sources.iter().map(String::as_str)), []);
}

#[tokio::test]
async fn the_token_does_not_follow_a_next_page_elsewhere() {
    let hub = HubServer::start();
    hub.commit(REPO, "main", &[("a.csv", b"text\n".as_slice()), ("b.csv", b"text\n")]);
    hub.set_page(1);
    hub.point_to("http://127.0.0.1:1");
    let (_, found) = paths(&hub, &format!("hf://datasets/{REPO}"), &[]).await.unwrap();
    assert_eq!(found, ["a.csv", "b.csv"]);
}

#[tokio::test]
async fn without_files_that_we_read_the_hubs_conversion_is_taken() {
    let hub = HubServer::start();
    hub.commit(REPO, "main", &[("README.md", b"# x".as_slice()), ("script.py", b"x")]);
    let url = format!("hf://datasets/{REPO}");
    let error = paths(&hub, &url, &[]).await.unwrap_err().to_string();
    assert!(error.contains("refs/convert/parquet"), "{error}");
    let files: [(&str, &[u8]); 2] = [("default/test/0000.parquet", b"x"), ("default/train/0000.parquet", b"x")];
    let commit = hub.commit(REPO, "refs/convert/parquet", &files);
    let place = HubPlace::parse(&url).unwrap();
    let found = expand_hub(&client(&hub, None), &url, place, None, &[]).await.unwrap();
    let note = found.note.unwrap();
    assert!(note.contains("the Hub's conversion") && note.contains(&commit), "{note}");
    assert_eq!(found.urls.len(), 2);
    // Pinned, it is the same again.
    let pins = [found.pin.unwrap()];
    assert_eq!(paths(&hub, &url, &pins).await.unwrap().0, commit);
    let (_, paths) = paths(&hub, &format!("{url}@refs/convert/parquet"), &[]).await.unwrap();
    assert_eq!(paths, ["default/test/0000.parquet", "default/train/0000.parquet"]);
}

#[tokio::test]
async fn an_object_of_the_hub_is_tagged_by_its_content() {
    let (_hub, store, bytes) = setup();
    let path = StorePath::parse("data/a b.bin").unwrap();
    let name = format!("hf://datasets/{REPO}@{}/data/a b.bin", store.commit);
    let object = Object::open_in(Arc::new(store), path, name).await.unwrap();
    assert!(object.is_tagged_by_content());
    assert_eq!(object.size(), 200_000);
    assert_eq!(object.read(7..99).await.unwrap(), bytes[7..99]);
    object.check().await.unwrap();
}
