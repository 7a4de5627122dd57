//! The cache folder of Python's `huggingface_hub`, to the letter, so that either program uses what the other fetched:
//!
//! ```text
//! models--owner--name/refs/main                       the commit that the branch meant when it was last looked up
//! models--owner--name/blobs/{etag}                    contents; `{etag}.incomplete` while it is being fetched
//! models--owner--name/snapshots/{commit}/config.json  symbolic link into blobs/
//! models--owner--name/.no_exist/{commit}/{file}       the commit has no such file
//! .locks/models--owner--name/{etag}.lock              held while the blob is being fetched
//! ```

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::hub::is_commit;
use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use super::error::ModelError;
use super::files;

/// How long to wait for another process that is fetching the same file.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(3600);
/// How often to look whether it has finished.
const LOCK_POLL: Duration = Duration::from_millis(200);

/// One model's part of the cache.
pub(super) struct ModelCache {
    root: PathBuf,
    folder: String,
    revision: String,
    layout: CacheRepo,
}

impl ModelCache {
    pub(super) fn new(root: &Path, name: &str, revision: &str) -> Self {
        let repo = Repo::with_revision(name.to_owned(), RepoType::Model, revision.to_owned());
        let folder = repo.folder_name();
        let layout = Cache::new(root.to_owned()).repo(repo);
        Self { root: root.to_owned(), folder, revision: revision.to_owned(), layout }
    }

    /// Returns the commit that the revision meant last time: itself, where it is a commit.
    pub(super) fn known_commit(&self) -> Option<String> {
        if is_commit(&self.revision) {
            return Some(self.revision.clone());
        }
        let text = std::fs::read_to_string(self.ref_path()).ok()?;
        let commit = text.trim();
        is_commit(commit).then(|| commit.to_owned())
    }

    /// Notes which commit the revision means. A commit needs no note.
    pub(super) fn note_commit(&self, commit: &str) -> Result<(), ModelError> {
        if self.known_commit().as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.ref_path();
        write_whole(&path, commit.as_bytes()).map_err(|source| ModelError::Io { path, source })
    }

    fn ref_path(&self) -> PathBuf {
        self.root.join(&self.folder).join("refs").join(&self.revision)
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.layout.pointer_path(commit)
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.layout.blob_path(etag)
    }

    pub(super) fn has(&self, commit: &str, file: &str) -> bool {
        self.snapshot(commit).join(file).is_file()
    }

    /// Returns the files of a snapshot, as paths in the repository.
    pub(super) fn files(&self, commit: &str) -> Vec<String> {
        let snapshot = self.snapshot(commit);
        let mut found = list(&snapshot, "");
        for folder in std::fs::read_dir(&snapshot).into_iter().flatten().flatten() {
            if let (true, Ok(name)) = (folder.path().is_dir(), folder.file_name().into_string()) {
                found.extend(list(&folder.path(), &format!("{name}/")));
            }
        }
        found.sort();
        found
    }

    /// Whether the snapshot surely has everything that the repository has for us, so that no look at the Hub is needed.
    pub(super) fn is_surely_complete(&self, commit: &str) -> bool {
        let present = self.files(commit);
        let known = |name: &str| self.has(commit, name) || self.absence_path(commit, name).is_file();
        let pooled =
            !self.has(commit, "modules.json") || present.iter().any(|file| file.ends_with("_Pooling/config.json"));
        let whole = files::select(&present).is_ok() && !files::lack_module_weights(&present);
        pooled && whole && files::NOTED_IF_ABSENT.iter().all(|name| known(name))
    }

    /// Whether it is unknown if the model has a pooling setting: a snapshot that another program fetched may lack it.
    pub(super) fn pooling_is_unknown(&self, commit: &str) -> bool {
        !self.has(commit, "modules.json") && !self.absence_path(commit, "modules.json").is_file()
    }

    /// Notes which files the commit does not have.
    pub(super) fn note_absences(&self, commit: &str, files: &[String]) -> Result<(), ModelError> {
        for name in files::NOTED_IF_ABSENT {
            let path = self.absence_path(commit, name);
            if !files.iter().any(|file| file == name) && !path.is_file() {
                write_whole(&path, b"").map_err(|source| ModelError::Io { path, source })?;
            }
        }
        Ok(())
    }

    fn absence_path(&self, commit: &str, file: &str) -> PathBuf {
        self.root.join(&self.folder).join(".no_exist").join(commit).join(file)
    }

    /// Waits until no other process fetches this blob, and keeps others out until the lock is dropped.
    pub(super) fn lock(&self, etag: &str) -> Result<File, ModelError> {
        let path = self.root.join(".locks").join(&self.folder).join(format!("{etag}.lock"));
        let failed = |source| ModelError::Io { path: path.clone(), source };
        make_parent(&path).map_err(failed)?;
        let file = File::options().create(true).append(true).open(&path).map_err(failed)?;
        let deadline = Instant::now() + LOCK_WAIT_MAX;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_POLL),
                Err(TryLockError::WouldBlock) => return Err(failed(io::ErrorKind::TimedOut.into())),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
    }

    /// Makes the snapshot's `file` point to the blob.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<(), ModelError> {
        let path = self.snapshot(commit).join(file);
        let failed = |source| ModelError::Io { path: path.clone(), source };
        make_parent(&path).map_err(failed)?;
        if path.symlink_metadata().is_ok() {
            std::fs::remove_file(&path).map_err(failed)?;
        }
        let up = "../".repeat(2 + file.matches('/').count());
        link_or_copy(&PathBuf::from(format!("{up}blobs/{etag}")), &self.blob(etag), &path).map_err(failed)
    }
}

#[cfg(unix)]
fn link_or_copy(relative: &Path, _blob: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(relative, path)
}

/// Elsewhere symbolic links need rights that users rarely have.
#[cfg(not(unix))]
fn link_or_copy(_relative: &Path, blob: &Path, path: &Path) -> io::Result<()> {
    std::fs::hard_link(blob, path).or_else(|_| std::fs::copy(blob, path).map(|_| ()))
}

pub(super) fn make_parent(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path.parent().expect("paths in the cache lie below its root"))
}

/// Writes a small file so that a reader finds all of it or none.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    make_parent(path)?;
    let mut options = tempfile::Builder::new();
    // The cache may be shared: its files have the mode that the umask gives, as those of Python's tools.
    #[cfg(unix)]
    options.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = options.tempfile_in(path.parent().expect("paths in the cache lie below its root"))?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

fn list(folder: &Path, prefix: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    // `is_file` follows the link: a dangling one (a blob removed by hand) counts as absent.
    let files = entries.filter(|entry| entry.path().is_file());
    files.filter_map(|entry| entry.file_name().into_string().ok()).map(|name| format!("{prefix}{name}")).collect()
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_noted_commit_is_found_again_in_a_file_with_the_mode_of_the_umask() {
        let dir = tempfile::tempdir().unwrap();
        let cache = ModelCache::new(dir.path(), "owner/name", "main");
        let commit = "0123456789abcdef0123456789abcdef01234567";
        cache.note_commit(commit).unwrap();
        assert_eq!(cache.known_commit().as_deref(), Some(commit));
        let refs = cache.ref_path();
        let plain = dir.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode();
        assert_eq!(mode(&refs), mode(&plain));
        assert_eq!(std::fs::read_dir(refs.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
    }
}
