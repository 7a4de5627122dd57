//! The spool: one folder per process for output files before they are stored. What a killed process left is removed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use proto::work::Grant;
use uuid::Uuid;

use crate::error::WorkerError;

const LOCK: &str = "lock";

/// This process's folder; removed when dropped.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    /// Held for the life of the process: it tells others that the folder is in use.
    _lock: File,
}

/// An output file in the making; removed when dropped.
#[derive(Debug)]
pub(crate) struct SpoolFile {
    path: PathBuf,
}

impl Spool {
    /// Makes a folder below `root`, and removes those of processes that are gone.
    pub(crate) fn open(root: &Path) -> Result<Self, WorkerError> {
        let failed = |source| WorkerError::Spool { path: root.to_owned(), source };
        std::fs::create_dir_all(root).map_err(failed)?;
        remove_abandoned(root);
        let folder = root.join(format!("spool-{}", Uuid::now_v7()));
        let lock = make_locked(&folder).map_err(failed)?;
        Ok(Self { folder, _lock: lock })
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    /// Names the file of one attempt.
    pub(crate) fn file(&self, grant: &Grant) -> SpoolFile {
        let name = format!("{}-{:08}-e{:06}.parquet", grant.shard.job, grant.shard.index, grant.epoch.0);
        SpoolFile { path: self.folder.join(name) }
    }
}

/// The folder appears under its name with its lock already held, so that no other process takes it for abandoned.
fn make_locked(folder: &Path) -> io::Result<File> {
    let hidden = folder.with_extension("new");
    std::fs::create_dir(&hidden)?;
    let lock = File::create(hidden.join(LOCK))?;
    lock.lock()?;
    std::fs::rename(&hidden, folder)?;
    Ok(lock)
}

fn remove_abandoned(root: &Path) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let path = entry.path();
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with("spool-") && !name.ends_with(".new"));
        let Ok(lock) = File::open(path.join(LOCK)) else { continue };
        if ours && lock.try_lock().is_ok() {
            tracing::debug!(path = %path.display(), "removing the spool of a process that is gone");
            std::fs::remove_dir_all(&path).ok();
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

impl SpoolFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_process_left_goes_and_what_a_live_one_has_stays() {
        let root = tempfile::tempdir().unwrap();
        let live = Spool::open(root.path()).unwrap();
        let dead = root.path().join("spool-dead");
        std::fs::create_dir(&dead).unwrap();
        for name in [LOCK, "part.parquet"] {
            std::fs::write(dead.join(name), "left").unwrap();
        }
        let other = root.path().join("other");
        std::fs::create_dir(&other).unwrap();
        let next = Spool::open(root.path()).unwrap();
        assert!(live.folder.is_dir() && next.folder.is_dir() && other.is_dir());
        assert!(!dead.is_dir());
        let folder = next.folder.clone();
        drop(next);
        assert!(!folder.is_dir());
    }
}
