//! Which storage belongs to a database. A database that is started over the wrong storage, or over an empty folder where the
//! right one is not mounted, would let its jobs succeed without their files; so each remembers the other.
//!
//! | the database | the storage has its id | another id | none, and no jobs | none, but jobs |
//! |---|---|---|---|---|
//! | knows an id | taken | refused | refused | refused |
//! | has jobs, of a release that noted no id | | taken | taken if nothing was committed yet | taken |
//! | is new | | taken if it holds no jobs | taken | refused |

use dataset::{CorpusPlace, DatasetError, ErrorKind, Storage, StorageId};
use tracing::info;

use crate::store::{Store, StoreError, StoreErrorKind};

/// Where the files of jobs are.
const JOBS_PREFIX: &str = "jobs";

/// Why a storage is not taken for a database.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// It is another one than the database knows, or not there.
    #[error(
        "`{url}` is not the storage that the files of this database are in: {problem}; mount it, or give the right --storage"
    )]
    Other {
        /// The storage as given.
        url: String,
        /// What is there instead.
        problem: &'static str,
    },
    /// It is in use with another database.
    #[error(
        "the storage `{url}` holds jobs that this database does not know: give the database that they are in, or an empty \
         folder or prefix as --storage"
    )]
    Foreign {
        /// The storage.
        url: String,
    },
    /// The storage cannot be read or written.
    #[error("cannot tell which storage this is")]
    Storage(#[from] DatasetError),
    /// The database failed.
    #[error("cannot tell which storage belongs to the database")]
    Store(#[from] StoreError),
}

impl ClaimError {
    /// Whether the same may go well later.
    pub fn passes(&self) -> bool {
        match self {
            ClaimError::Other { .. } | ClaimError::Foreign { .. } => false,
            ClaimError::Storage(error) => match error.kind() {
                ErrorKind::Io
                | ErrorKind::Throttled
                | ErrorKind::NoSpace
                | ErrorKind::Auth
                | ErrorKind::StorageSwapped => true,
                ErrorKind::NotFound
                | ErrorKind::AlreadyExists
                | ErrorKind::SourceChanged
                | ErrorKind::BadInput
                | ErrorKind::Corrupt
                | ErrorKind::Unsupported => false,
            },
            ClaimError::Store(error) => error.kind() == StoreErrorKind::Unavailable,
        }
    }
}

/// What a database says about its storage.
enum Known {
    /// This is its id.
    Id(String),
    /// There are jobs, of a release that did not note the id. Of these, files are committed.
    Jobs { committed: bool },
    /// There was never a job.
    Nothing,
}

/// Opens the storage of a database by its path or URL, as [`claim_storage`] does. A folder that should be there is not made.
///
/// # Errors
/// As [`claim_storage`], or the storage cannot be opened.
pub async fn open_storage(store: &Store, url: &str) -> Result<Storage, ClaimError> {
    let is_missing = matches!(dataset::corpus_place(url), Ok(CorpusPlace::Path(path)) if !path.is_dir());
    if is_missing && !matches!(known(store).await?, Known::Nothing | Known::Jobs { committed: false }) {
        return Err(ClaimError::Other { url: url.to_owned(), problem: "there is no such folder" });
    }
    claim_storage(store, Storage::open(url)?).await
}

/// Makes sure that a storage is the one that the files of a database are in, and returns it with its id, which is compared
/// from then on. A new storage is given an id, and a new database the id of its storage; several who do this at once agree.
///
/// # Errors
/// `Other` and `Foreign`, or storage or database fail.
pub async fn claim_storage(store: &Store, storage: Storage) -> Result<Storage, ClaimError> {
    loop {
        let known = known(store).await?;
        let found = storage.read_id().await?;
        let Some(refused) = decide(&known, found.as_ref(), &storage).await? else { break };
        // Another coordinator may have claimed a storage, and begun a job in it, since the query.
        if matches!(known, Known::Id(_)) || store.storage_id().await?.is_none() {
            return Err(refused);
        }
    }
    let id = storage.ensure_id(&StorageId::new(common::rng::uuid_v7().to_string())).await?;
    let storage = storage.with_id(id.clone());
    // Read once more before it is noted for good: bits also flip on the way.
    storage.confirm().await?;
    let ours = store.adopt_storage(id.as_str()).await?;
    if ours != id.as_str() {
        return Err(other(&storage, "another storage is in its place"));
    }
    info!(storage.id = %id, storage.url = storage.url(), "storage claimed");
    Ok(storage)
}

async fn known(store: &Store) -> Result<Known, StoreError> {
    if let Some(id) = store.storage_id().await? {
        return Ok(Known::Id(id));
    }
    if store.newest_jobs(None, None, 1).await?.is_empty() {
        return Ok(Known::Nothing);
    }
    Ok(Known::Jobs { committed: store.tally().await?.rows > 0 })
}

/// Returns why a storage is refused, if it is.
async fn decide(
    known: &Known,
    found: Option<&StorageId>,
    storage: &Storage,
) -> Result<Option<ClaimError>, DatasetError> {
    let refused = match (known, found) {
        (Known::Id(known), Some(found)) if known == found.as_str() => None,
        (Known::Id(_), Some(_)) => Some(other(storage, "another storage is in its place")),
        (Known::Id(_), None) => Some(other(storage, "its object `storage-id` is missing")),
        (Known::Jobs { .. }, Some(_)) | (Known::Jobs { committed: false }, None) => None,
        (Known::Jobs { committed: true }, None) => match storage.has_any(JOBS_PREFIX).await? {
            true => None,
            false => Some(other(storage, "it holds no jobs")),
        },
        (Known::Nothing, _) => match storage.has_any(JOBS_PREFIX).await? {
            true => Some(ClaimError::Foreign { url: storage.url().to_owned() }),
            false => None,
        },
    };
    Ok(refused)
}

fn other(storage: &Storage, problem: &'static str) -> ClaimError {
    ClaimError::Other { url: storage.url().to_owned(), problem }
}
