//! The coordinator's storage from elsewhere: opened directly where that is possible, by the coordinator where it is not.
//! Either way it is a [`dataset::Storage`]; callers do not distinguish them.

mod store;
mod upload;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dataset::{ErrorKind, FallbackSource, Storage};

use crate::ids::JobId;
use crate::wire::Wire;

pub use dataset::STORAGE_ID_KEY;
pub use store::RelayStore;
pub use upload::{UploadError, Uploaded, upload_source};

/// Most bytes of data in one message of the Storage service.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// A storage that cannot be opened in this time counts as out of reach: a search for credentials may not end.
const DIRECT_WITHIN: Duration = Duration::from_secs(20);

/// Opens the storage that a coordinator works in: directly where `url` leads to it from here, by the coordinator
/// otherwise. A path may well name another folder on this machine; the object `storage-id` tells one from another, and what
/// was opened directly is expected to keep it (see [`Storage::confirm`]).
pub async fn connect_storage(wire: impl Into<Wire>, url: &str) -> Storage {
    let relay = relayed(wire);
    match tokio::time::timeout(DIRECT_WITHIN, open_direct(url, &relay)).await {
        Ok(Some(storage)) => storage,
        Ok(None) | Err(_) => relay,
    }
}

/// Opens the coordinator's storage, and the sources of its jobs, by way of the coordinator.
pub fn relayed(wire: impl Into<Wire>) -> Storage {
    Storage::from_create_only_store(Arc::new(RelayStore::new(wire)), "the coordinator's storage")
}

/// Returns the way to a planned source by the coordinator, for [`dataset::read_with_fallback`].
pub fn fallback_source(relay: &Storage, job: JobId, source_index: u32) -> FallbackSource {
    FallbackSource { storage: relay.clone(), key: source_key(job, source_index) }
}

/// Returns the name of a planned source in the Storage service.
pub fn source_key(job: JobId, source_index: u32) -> String {
    format!("sources/{job}/{source_index}")
}

/// Returns the key of an uploaded file: named by its content, so that the same file is the same object.
pub fn upload_key(blake3: &str, name: &str) -> String {
    format!("uploads/{blake3}/{name}")
}

/// Whether a source is named as an uploaded file is: it lies in the coordinator's storage.
pub fn is_upload(uri: &str) -> bool {
    let mut parts = uri.rsplit('/');
    let (name, digest, folder) = (parts.next(), parts.next(), parts.next());
    let is_digest = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    folder == Some("uploads") && digest.is_some_and(is_digest) && name.is_some_and(|name| !name.is_empty())
}

/// Whether the files of the coordinator's machine are those of this one: a path means the same to both.
pub async fn shares_files(wire: impl Into<Wire>) -> bool {
    let wire = wire.into();
    let Ok(info) = RelayStore::new(wire.clone()).info(STORAGE_ID_KEY).await else { return false };
    let url = info.uri.trim_end_matches(STORAGE_ID_KEY).trim_end_matches('/');
    !url.contains("://") && open_direct(url, &relayed(wire)).await.is_some()
}

async fn open_direct(url: &str, relay: &Storage) -> Option<Storage> {
    let is_path = !url.contains("://");
    // Opening a folder makes it; a path of another machine must not appear on this one.
    if is_path && !Path::new(url).is_dir() {
        return None;
    }
    let storage = Storage::open(url).ok()?;
    match relay.read_id().await {
        Ok(Some(id)) => {
            let storage = storage.with_id(id);
            storage.confirm().await.is_ok().then_some(storage)
        }
        // The coordinator itself does not find its storage now.
        Ok(None) => None,
        // An older coordinator relays nothing: what the URL names is all there is.
        Err(error) if error.kind() == ErrorKind::Unsupported => Some(storage),
        // A bucket's name is the same everywhere; a path may be that of another folder.
        Err(_) if !is_path => storage.read_id().await.ok()?.map(|id| storage.with_id(id)),
        Err(_) => None,
    }
}
