//! The model store against a server in this process that speaks the Hub's routes.

mod server;

use std::path::Path;

use server::{Answer, FakeHub};

use super::{DownloadProgress, HubOptions, ModelError, ResolvedModel, resolve};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const NAME: &str = "ana/mini";

fn options(hub: &FakeHub, cache: &Path) -> HubOptions {
    HubOptions { endpoint: hub.url(), cache_dir: cache.to_owned(), token: None, offline: false }
}

fn get(revision: Option<&str>, options: &HubOptions) -> Result<ResolvedModel, ModelError> {
    resolve(NAME, revision, options, &mut |_| {})
}

/// A model whose weights are large enough to break off in the middle.
fn mini() -> FakeHub {
    let weights: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
    FakeHub::start(NAME, COMMIT)
        .with_small("config.json", b"{}")
        .with_small("tokenizer.json", b"{\"version\":\"1.0\"}")
        .with_small("modules.json", b"[]")
        .with_small("1_Pooling/config.json", b"{\"pooling_mode_cls_token\":true}")
        .with_small("README.md", b"not needed")
        .with_large("model.safetensors", &weights)
        .with_large("pytorch_model.bin", b"not needed")
}

fn read_link(path: &Path) -> String {
    std::fs::read_link(path).unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_model_arrives_in_the_layout_that_python_uses() {
    let (hub, cache) = (mini(), tempfile::tempdir().unwrap());
    let mut reports: Vec<(String, u64, u64)> = Vec::new();
    let mut note = |at: DownloadProgress<'_>| reports.push((at.file.to_owned(), at.bytes_done, at.bytes_total));
    let model = resolve(NAME, None, &options(&hub, cache.path()), &mut note).unwrap();

    let root = cache.path().join("models--ana--mini");
    assert_eq!(model.dir, root.join("snapshots").join(COMMIT));
    assert_eq!(model.revision.as_deref(), Some(COMMIT));
    assert_eq!(std::fs::read_to_string(root.join("refs/main")).unwrap(), COMMIT);
    let etag = hub.etag("model.safetensors");
    assert_eq!(read_link(&model.dir.join("model.safetensors")), format!("../../blobs/{etag}"));
    let pooling = read_link(&model.dir.join("1_Pooling/config.json"));
    assert_eq!(pooling, format!("../../../blobs/{}", hub.etag("1_Pooling/config.json")));
    assert_eq!(std::fs::read(model.dir.join("model.safetensors")).unwrap(), hub.bytes("model.safetensors"));
    assert!(root.join(".no_exist").join(COMMIT).join("vocab.txt").is_file());
    for absent in ["README.md", "pytorch_model.bin"] {
        assert!(!model.dir.join(absent).is_file(), "{absent}");
    }
    let blobs: Vec<_> = std::fs::read_dir(root.join("blobs")).unwrap().flatten().collect();
    assert!(blobs.iter().all(|blob| blob.path().extension().is_none()), "{blobs:?}");
    assert!(reports.contains(&("model.safetensors".to_owned(), 300_000, 300_000)), "{reports:?}");
}

#[test]
fn a_second_run_downloads_nothing() {
    let (hub, cache) = (mini(), tempfile::tempdir().unwrap());
    let options = options(&hub, cache.path());
    let first = get(None, &options).unwrap();
    hub.forget_requests();
    assert_eq!(get(None, &options).unwrap(), first);
    assert_eq!(hub.requests(), [format!("GET /api/models/{NAME}/revision/main")], "only the branch is looked up");
    hub.forget_requests();
    assert_eq!(get(Some(COMMIT), &options).unwrap(), first);
    assert_eq!(hub.requests(), [] as [String; 0], "a commit never changes");
}

#[test]
fn a_dropped_connection_is_resumed_where_it_broke() {
    let (hub, cache) = (mini().dropping("model.safetensors", &[100_000]), tempfile::tempdir().unwrap());
    let model = get(None, &options(&hub, cache.path())).unwrap();
    assert_eq!(std::fs::read(model.dir.join("model.safetensors")).unwrap(), hub.bytes("model.safetensors"));
    assert_eq!(hub.ranges("model.safetensors"), [None, Some("bytes=100000-".to_owned())]);
}

#[test]
fn a_later_run_resumes_what_an_earlier_one_left() {
    let (hub, cache) = (mini(), tempfile::tempdir().unwrap());
    let blobs = cache.path().join("models--ana--mini/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let part = blobs.join(format!("{}.incomplete", hub.etag("model.safetensors")));
    std::fs::write(&part, &hub.bytes("model.safetensors")[..1234]).unwrap();
    get(None, &options(&hub, cache.path())).unwrap();
    assert_eq!(hub.ranges("model.safetensors"), [Some("bytes=1234-".to_owned())]);
    assert!(!part.is_file());
}

#[test]
fn a_server_that_ignores_ranges_gives_a_whole_file_and_not_one_and_a_half() {
    let hub = mini().dropping("model.safetensors", &[100_000]).ignoring_ranges();
    let cache = tempfile::tempdir().unwrap();
    let model = get(None, &options(&hub, cache.path())).unwrap();
    assert_eq!(std::fs::read(model.dir.join("model.safetensors")).unwrap(), hub.bytes("model.safetensors"));
}

#[test]
fn damaged_weights_are_refused_and_not_kept() {
    let (hub, cache) = (mini().corrupting("model.safetensors"), tempfile::tempdir().unwrap());
    let error = get(None, &options(&hub, cache.path())).unwrap_err();
    assert!(matches!(&error, ModelError::Damaged { file, .. } if file == "model.safetensors"), "{error}");
    let blobs = cache.path().join("models--ana--mini/blobs");
    assert!(!blobs.join(format!("{}.incomplete", hub.etag("model.safetensors"))).exists());
    assert!(!blobs.join(hub.etag("model.safetensors")).exists());
}

#[test]
fn an_unknown_model_and_an_unknown_revision_are_named() {
    let (hub, cache) = (mini(), tempfile::tempdir().unwrap());
    let options = options(&hub, cache.path());
    let error = resolve("ana/other", None, &options, &mut |_| {}).unwrap_err();
    assert!(matches!(&error, ModelError::NoSuchModel { name, .. } if name == "ana/other"), "{error}");
    assert!(error.to_string().contains("`ana/other`"), "{error}");
    let error = get(Some("v9"), &options).unwrap_err();
    assert!(matches!(&error, ModelError::NoSuchRevision { revision, .. } if revision == "v9"), "{error}");
}

#[test]
fn a_gated_model_says_how_to_set_a_token() {
    let (hub, cache) = (mini().answering_all(Answer { status: 401, code: "GatedRepo" }), tempfile::tempdir().unwrap());
    let mut options = options(&hub, cache.path());
    let error = get(None, &options).unwrap_err();
    assert!(matches!(error, ModelError::Denied { status: 401, gated: true, .. }), "{error}");
    assert!(error.to_string().contains("HF_TOKEN"), "{error}");
    options.token = Some(common::Secret::new("hf_wrong"));
    let hub = mini().answering_all(Answer { status: 403, code: "" });
    options.endpoint = hub.url();
    let error = get(None, &options).unwrap_err();
    assert!(matches!(error, ModelError::Denied { status: 403, with_token: true, .. }), "{error}");
    assert!(!error.to_string().contains("hf_wrong"), "{error}");
}

#[test]
fn the_token_goes_to_the_hub() {
    let (hub, cache) = (mini().requiring_token("hf_right"), tempfile::tempdir().unwrap());
    let mut options = options(&hub, cache.path());
    assert!(matches!(get(None, &options), Err(ModelError::Denied { .. })));
    options.token = Some(common::Secret::new("hf_right"));
    get(None, &options).unwrap();
}

#[test]
fn a_pinned_revision_is_looked_up_and_noted_under_its_own_name() {
    for revision in ["v1.0", "refs/pr/7"] {
        let (hub, cache) = (mini().with_revision(revision), tempfile::tempdir().unwrap());
        let model = get(Some(revision), &options(&hub, cache.path())).unwrap();
        assert_eq!(model.revision.as_deref(), Some(COMMIT));
        let noted = cache.path().join("models--ana--mini/refs").join(revision);
        assert_eq!(std::fs::read_to_string(noted).unwrap(), COMMIT);
    }
}

#[test]
fn offline_uses_the_cache_and_nothing_else() {
    let (hub, cache) = (mini(), tempfile::tempdir().unwrap());
    let mut options = options(&hub, cache.path());
    options.offline = true;
    let error = get(None, &options).unwrap_err();
    assert!(matches!(error, ModelError::NotCached { .. }), "{error}");
    assert!(error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
    options.offline = false;
    let online = get(None, &options).unwrap();
    hub.forget_requests();
    options.offline = true;
    assert_eq!(get(None, &options).unwrap(), online);
    assert_eq!(get(Some(COMMIT), &options).unwrap(), online);
    assert_eq!(hub.requests(), [] as [String; 0]);
}

#[test]
fn a_hub_that_does_not_answer_is_replaced_by_the_cache_or_told() {
    let (hub, cache) = (mini(), tempfile::tempdir().unwrap());
    let mut options = options(&hub, cache.path());
    let online = get(None, &options).unwrap();
    options.endpoint = server::dead_url();
    assert_eq!(get(None, &options).unwrap(), online);
    options.cache_dir = cache.path().join("elsewhere");
    let error = get(None, &options).unwrap_err();
    assert!(matches!(error, ModelError::Network { .. }), "{error}");
}

#[test]
fn a_busy_hub_is_asked_again() {
    let (hub, cache) = (mini().failing_first(503), tempfile::tempdir().unwrap());
    get(None, &options(&hub, cache.path())).unwrap();
    let lookups = hub.requests().iter().filter(|request| request.contains("/api/")).count();
    assert_eq!(lookups, 2);
}

#[test]
fn two_at_once_download_once() {
    let (hub, cache) = (mini(), tempfile::tempdir().unwrap());
    let options = options(&hub, cache.path());
    let found: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| get(None, &options).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(found[0], found[1]);
    assert_eq!(hub.ranges("model.safetensors").len(), 1);
}

#[test]
fn a_directory_is_taken_as_it_is_and_nonsense_is_refused() {
    let (hub, cache) = (mini(), tempfile::tempdir().unwrap());
    let options = options(&hub, cache.path());
    let model = resolve(cache.path().to_str().unwrap(), None, &options, &mut |_| {}).unwrap();
    assert_eq!(model, ResolvedModel { dir: cache.path().to_owned(), revision: None });
    for name in ["a/b/c", "../up", "", "sp ace/x", "/no/such/folder"] {
        let error = resolve(name, None, &options, &mut |_| {}).unwrap_err();
        assert!(matches!(error, ModelError::BadName { .. }), "{name}: {error}");
    }
    assert!(matches!(get(Some("../x"), &options), Err(ModelError::NoSuchRevision { .. })));
    assert_eq!(hub.requests(), [] as [String; 0]);
}
