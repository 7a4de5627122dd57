//! Output that appears whole or not at all: written under a hidden name beside its place, then renamed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::error::VectorsError;

/// A file being made. Dropped before [`TempFile::persist`], it leaves nothing behind.
///
/// Its name is always the same for a place, so that a killed process leaves at most one, and the next run takes it
/// over; a lock keeps two living ones apart.
pub(super) struct TempFile {
    path: PathBuf,
    target: PathBuf,
    _lock: File,
    persisted: bool,
}

impl TempFile {
    /// Claims the hidden name beside `target`. Fails if the target is there, unless it may be replaced.
    pub(super) fn create(target: &Path, overwrite: bool) -> Result<TempFile, VectorsError> {
        if target.exists() && !overwrite {
            return Err(VectorsError::Exists { path: target.to_owned() });
        }
        let Some(name) = target.file_name() else {
            return Err(VectorsError::unusable(target, "it is not the name of a file"));
        };
        if target.is_dir() {
            return Err(VectorsError::unusable(target, "it is a folder; name a file"));
        }
        let path = target.with_file_name(format!(".{}.encaje-tmp", name.to_string_lossy()));
        // Not truncated yet: until the lock is held, the bytes may be those of another process at work.
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let lock = lock.map_err(VectorsError::io("create", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(TempFile { path, target: target.to_owned(), _lock: lock, persisted: false }),
            Err(TryLockError::WouldBlock) => Err(VectorsError::unusable(target, "another process is writing it")),
            // A file system without locks: two writers at once are the user's own affair there.
            Err(TryLockError::Error(_)) => {
                Ok(TempFile { path, target: target.to_owned(), _lock: lock, persisted: false })
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the finished (and durable) file its name, and makes the name durable.
    pub(super) fn persist(mut self) -> Result<(), VectorsError> {
        fs::rename(&self.path, &self.target).map_err(VectorsError::io("rename to", &self.target))?;
        self.persisted = true;
        sync_folder_of(&self.target)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.persisted {
            // Best effort: the next run takes the name over anyway.
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Writes a small file whole or not at all.
pub(super) fn write_whole(target: &Path, bytes: &[u8]) -> Result<(), VectorsError> {
    let temp = TempFile::create(target, true)?;
    let written = File::create(temp.path()).and_then(|mut file| {
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    });
    written.map_err(VectorsError::io("write", target))?;
    temp.persist()
}

fn sync_folder_of(path: &Path) -> Result<(), VectorsError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Folders cannot be opened as files everywhere; where they can, the rename must survive a power loss.
    match File::open(folder) {
        Ok(handle) => handle.sync_all().map_err(VectorsError::io("sync", folder)),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_visible_before_persist_and_nothing_is_left_after_drop() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        drop(TempFile::create(&target, false).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let temp = TempFile::create(&target, false).unwrap();
        fs::write(temp.path(), "x").unwrap();
        assert!(!target.exists());
        temp.persist().unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "x");
        assert!(matches!(TempFile::create(&target, false), Err(VectorsError::Exists { .. })));
    }

    #[test]
    fn two_writers_of_one_output_are_kept_apart() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let first = TempFile::create(&target, false).unwrap();
        fs::write(first.path(), "x").unwrap();
        let second = TempFile::create(&target, false).err().unwrap();
        assert!(second.to_string().contains("another process"), "{second}");
        first.persist().unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "x");
    }
}
