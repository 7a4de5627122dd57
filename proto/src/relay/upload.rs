//! From a file on this machine to a source that every worker can read: an object named by its content, so that an upload
//! that broke off starts over, and a finished one is not repeated.

use std::path::{Path, PathBuf};

use blake3::Hasher;
use dataset::{DatasetError, ErrorKind};
use tokio::io::AsyncReadExt;

use super::{RelayStore, relayed, upload_key};
use crate::retry::RetryPolicy;
use crate::wire::Wire;

/// The file is read in pieces of so many bytes.
const PIECE_BYTES: usize = 1 << 20;
/// An upload that breaks off, or that the coordinator cannot take for the moment, starts over so often: for some ten seconds.
const ATTEMPTS_MAX: u32 = 10;
/// Longer names are cut at the front: the extension tells the format.
const NAME_BYTES_MAX: usize = 100;

/// A file in the coordinator's storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    /// What a job names as its source.
    pub uri: String,
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3 of its content, lower-case hex.
    pub blake3: String,
    /// It was there already.
    pub was_there: bool,
}

/// An upload that did not work out.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The coordinator did not take it.
    #[error("cannot upload `{}`", path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<DatasetError>,
    },
    /// The file changed while it was read.
    #[error("`{}` changed while it was uploaded: try again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

/// Brings a file to the coordinator's storage, unless it is there. `progress` hears how many bytes were read so far, first
/// for the digest, then for the upload: twice the size in all.
///
/// # Errors
/// The file cannot be read or changes, or the coordinator does not take it.
pub async fn upload_source(
    wire: impl Into<Wire>,
    file: &Path,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Uploaded, UploadError> {
    let wire = wire.into();
    let (blake3, bytes) = digest(file, progress).await?;
    let key = upload_key(&blake3, &name_of(file));
    let (relay, storage) = (RelayStore::new(wire.clone()), relayed(wire));
    let mut attempt = 1;
    loop {
        match upload_once(&relay, &storage, &key, (file, bytes), progress).await {
            Ok((was_there, uri)) => return Ok(Uploaded { uri, bytes, blake3, was_there }),
            Err(UploadError::Store { source, .. })
                if attempt < ATTEMPTS_MAX && matches!(source.kind(), ErrorKind::Io | ErrorKind::Throttled) =>
            {
                tokio::time::sleep(RetryPolicy::default().backoff.pause(attempt - 1)).await;
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Sends a file of this many bytes unless it is there. Returns whether it was, and where it is.
async fn upload_once(
    relay: &RelayStore,
    storage: &dataset::Storage,
    key: &str,
    (file, bytes): (&Path, u64),
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<(bool, String), UploadError> {
    let failed = |error| UploadError::Store { path: file.to_owned(), source: Box::new(storage.failure(key, error)) };
    match relay.info(key).await {
        Ok(info) if info.size_bytes == bytes => return Ok((true, info.uri)),
        Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
        Err(error) => return Err(failed(error)),
    }
    send(storage, key, file, bytes, progress).await?;
    Ok((false, relay.info(key).await.map_err(failed)?.uri))
}

async fn send(
    storage: &dataset::Storage,
    key: &str,
    file: &Path,
    bytes: u64,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<(), UploadError> {
    let unread = |source| UploadError::Read { path: file.to_owned(), source };
    let failed = |source: DatasetError| UploadError::Store { path: file.to_owned(), source: Box::new(source) };
    let mut object = match storage.create_new(key).await {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        object => object.map_err(failed)?,
    };
    let mut input = tokio::fs::File::open(file).await.map_err(unread)?;
    let (mut piece, mut sent) = (vec![0; PIECE_BYTES], 0_u64);
    loop {
        let read = input.read(&mut piece).await.map_err(unread)?;
        if read == 0 {
            break;
        }
        sent += read as u64;
        object.write(&piece[..read]).await.map_err(failed)?;
        progress(bytes + sent);
    }
    if sent != bytes {
        return Err(UploadError::Changed { path: file.to_owned() });
    }
    // The coordinator compares the content with the name: a file that changed meanwhile is refused.
    match object.finish().await {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        finished => finished.map(|_| ()).map_err(failed),
    }
}

async fn digest(file: &Path, progress: &mut (dyn FnMut(u64) + Send)) -> Result<(String, u64), UploadError> {
    let failed = |source| UploadError::Read { path: file.to_owned(), source };
    let mut input = tokio::fs::File::open(file).await.map_err(failed)?;
    let (mut hasher, mut piece, mut bytes) = (Hasher::new(), vec![0; PIECE_BYTES], 0);
    loop {
        let read = input.read(&mut piece).await.map_err(failed)?;
        if read == 0 {
            return Ok((hasher.finalize().to_hex().to_string(), bytes));
        }
        hasher.update(&piece[..read]);
        bytes += read as u64;
        progress(bytes);
    }
}

/// The name of the object: the file's, with what a key or a pattern would trip over replaced.
fn name_of(file: &Path) -> String {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    if name.len() > NAME_BYTES_MAX {
        name.drain(..name.len() - NAME_BYTES_MAX);
    }
    let name = name.trim_start_matches('.');
    if name.is_empty() { "corpus".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_keeps_the_extension_of_its_file() {
        assert_eq!(name_of(Path::new("/a/tweets de mayo.csv.gz")), "tweets_de_mayo.csv.gz");
        assert_eq!(name_of(Path::new("/a/..csv")), "csv");
        assert_eq!(name_of(Path::new("..")), "corpus");
        let long = format!("/a/{}.parquet", "x".repeat(300));
        assert!(name_of(Path::new(&long)).ends_with("xx.parquet") && name_of(Path::new(&long)).len() == 100);
    }
}
