//! Files that appear whole or not at all: written under a hidden name beside their place, then renamed. One at a URL is
//! written into a temporary file of this machine, then uploaded.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::{NamedTempFile, TempPath};

use super::error::VectorsError;
use super::place;

/// How long another process that writes the same file is waited for, and how often it is looked for.
const LOCK_WITHIN: Duration = Duration::from_secs(2);
const LOCK_EVERY: Duration = Duration::from_millis(20);

/// A file being made. Dropped before [`AtomicFile::persist`], it leaves nothing behind.
///
/// Its name is always the same for a place, so that a killed process leaves at most one, and the next run takes it
/// over; a lock keeps two living ones apart.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    target: PathBuf,
    kind: Kind,
    persisted: bool,
}

#[derive(Debug)]
enum Kind {
    /// Beside its place, locked.
    Beside { _lock: File },
    /// In the folder for temporary files, to be uploaded to a URL.
    Temporary { _file: Temporary, overwrite: bool },
}

/// A temporary file, gone with this value.
#[derive(Debug)]
enum Temporary {
    /// It has no name, so that nothing is left of it however the process ends.
    Unnamed { _file: File },
    /// Where open files cannot be reached by a path.
    Named { _path: TempPath },
}

impl Temporary {
    /// Makes an empty file, and returns the path that leads to it.
    fn create() -> io::Result<(Temporary, PathBuf)> {
        #[cfg(target_os = "linux")]
        {
            let file = tempfile::tempfile()?;
            let path = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)));
            if path.exists() {
                return Ok((Temporary::Unnamed { _file: file }, path));
            }
        }
        let path = NamedTempFile::new()?.into_temp_path();
        let place = path.to_path_buf();
        Ok((Temporary::Named { _path: path }, place))
    }
}

impl AtomicFile {
    /// Claims the hidden name beside `target`, or a temporary one if that is a URL.
    ///
    /// # Errors
    /// `target` exists and may not be replaced, is a folder, or is written by another process; the hidden file cannot be
    /// made.
    pub fn create(target: &Path, overwrite: bool) -> Result<AtomicFile, VectorsError> {
        if place::url_of(target).is_some() {
            return Self::create_remote(target, overwrite);
        }
        if target.exists() && !overwrite {
            return Err(VectorsError::Exists { path: target.to_owned() });
        }
        // A link stays one: what it leads to is replaced.
        let target = match target.is_symlink() {
            true => target.canonicalize().map_err(VectorsError::io("follow", target))?,
            false => target.to_owned(),
        };
        let Some(name) = target.file_name() else {
            return Err(VectorsError::unusable(&target, "it is not the name of a file"));
        };
        match fs::metadata(&target) {
            Ok(found) if found.is_dir() => return Err(VectorsError::unusable(&target, "it is a folder; name a file")),
            Ok(found) if !found.is_file() => {
                return Err(VectorsError::unusable(&target, "it is a device or a pipe; name a file"));
            }
            Ok(_) | Err(_) => {}
        }
        let path = target.with_file_name(format!(".{}.encaje-tmp", name.to_string_lossy()));
        let lock = lock(&path, &target)?;
        let file = AtomicFile { path, target, kind: Kind::Beside { _lock: lock }, persisted: false };
        file.keep_rights().map_err(VectorsError::io("create", &file.path))?;
        Ok(file)
    }

    fn create_remote(url: &Path, overwrite: bool) -> Result<AtomicFile, VectorsError> {
        place::check_writable(url)?;
        if !overwrite && place::size_of(url)?.is_some() {
            return Err(VectorsError::Exists { path: url.to_owned() });
        }
        let cannot = |source| VectorsError::Temporary { folder: std::env::temp_dir(), source };
        let (file, path) = Temporary::create().map_err(cannot)?;
        let target = url.to_owned();
        Ok(AtomicFile { path, target, kind: Kind::Temporary { _file: file, overwrite }, persisted: false })
    }

    /// Gives the file the owner and the mode of the one that it replaces: a secret stays one, and its user's.
    fn keep_rights(&self) -> io::Result<()> {
        let Ok(replaced) = fs::metadata(&self.target) else { return Ok(()) };
        #[cfg(unix)]
        {
            use std::os::unix::fs::{MetadataExt, chown};
            let own = fs::metadata(&self.path)?;
            if (own.uid(), own.gid()) != (replaced.uid(), replaced.gid()) {
                match chown(&self.path, Some(replaced.uid()), Some(replaced.gid())) {
                    // Who may replace another user's file need not be able to give one away.
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                    given => given?,
                }
            }
        }
        fs::set_permissions(&self.path, replaced.permissions())
    }

    /// Returns the hidden name, under which the file is to be written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the file, empty before, by `fill`, and makes its bytes durable.
    ///
    /// # Errors
    /// `fill` fails, or the file cannot be written.
    pub fn write(&self, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), VectorsError> {
        let written = File::create(&self.path).and_then(|mut file| {
            fill(&mut file)?;
            file.sync_all()
        });
        written.map_err(VectorsError::io("write", &self.target))
    }

    /// Gives the finished (and durable) file its name, and makes the name durable.
    ///
    /// # Errors
    /// It cannot be renamed or uploaded.
    pub fn persist(self) -> Result<(), VectorsError> {
        match self.kind {
            Kind::Beside { .. } => {
                let target = self.target.clone();
                self.persist_unsynced()?;
                sync_folder_of(&target)
            }
            Kind::Temporary { .. } => self.persist_unsynced(),
        }
    }

    /// As [`AtomicFile::persist`], for what may be lost with the power: it waits for no disk.
    ///
    /// # Errors
    /// It cannot be renamed or uploaded.
    pub fn persist_unsynced(mut self) -> Result<(), VectorsError> {
        match &self.kind {
            Kind::Beside { .. } => {
                fs::rename(&self.path, &self.target).map_err(VectorsError::io("rename to", &self.target))?;
            }
            Kind::Temporary { overwrite, .. } => place::upload(&self.path, &self.target, *overwrite)?,
        }
        self.persisted = true;
        Ok(())
    }
}

/// Locks the temporary file of a target, waiting briefly while another process holds the lock.
fn lock(path: &Path, target: &Path) -> Result<File, VectorsError> {
    let since = Instant::now();
    loop {
        // Not truncated yet: until the lock is held, the bytes may be those of another process at work.
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = file.map_err(VectorsError::io("create", path))?;
        match file.try_lock() {
            // The one before may have renamed what was opened here.
            Ok(()) if is_at(&file, path) => return Ok(file),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if since.elapsed() < LOCK_WITHIN => std::thread::sleep(LOCK_EVERY),
            Err(TryLockError::WouldBlock) => {
                return Err(VectorsError::unusable(target, "another process is writing it"));
            }
            // A file system without locks: two writers at once are the user's own affair there.
            Err(TryLockError::Error(_)) => return Ok(file),
        }
    }
}

/// Tells whether an open file is still the one under its name.
fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let identity = |found: fs::Metadata| (found.dev(), found.ino());
        file.metadata().ok().map(identity) == fs::metadata(path).ok().map(identity)
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.persisted {
            // Best effort: the next run takes the name over anyway.
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Writes a file so that after a crash it has all its bytes, or is as it was before.
///
/// # Errors
/// As [`AtomicFile`].
pub fn write_atomically(target: &Path, bytes: &[u8]) -> Result<(), VectorsError> {
    write(AtomicFile::create(target, true)?, bytes)
}

/// As [`write_atomically`], of a file that must not exist yet.
///
/// # Errors
/// As [`AtomicFile`].
pub fn write_new(target: &Path, bytes: &[u8]) -> Result<(), VectorsError> {
    write(AtomicFile::create(target, false)?, bytes)
}

fn write(file: AtomicFile, bytes: &[u8]) -> Result<(), VectorsError> {
    file.write(|file| file.write_all(bytes))?;
    file.persist()
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
        drop(AtomicFile::create(&target, false).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let temp = AtomicFile::create(&target, false).unwrap();
        fs::write(temp.path(), "x").unwrap();
        assert!(!target.exists());
        temp.persist().unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "x");
        assert!(matches!(AtomicFile::create(&target, false), Err(VectorsError::Exists { .. })));
    }

    #[test]
    fn two_writers_of_one_output_are_kept_apart() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let first = AtomicFile::create(&target, false).unwrap();
        fs::write(first.path(), "x").unwrap();
        let started = Instant::now();
        let second = AtomicFile::create(&target, false).err().unwrap();
        assert!(second.to_string().contains("another process"), "{second}");
        assert!(started.elapsed() >= LOCK_WITHIN, "it may end in a moment");
        first.persist().unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "x");
    }

    #[test]
    #[cfg(unix)]
    fn a_link_and_the_mode_of_what_it_leads_to_stay() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&real, &link).unwrap();
        write_atomically(&link, b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o777, 0o640);
    }

    #[test]
    fn writers_that_come_one_after_the_other_all_write() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let add = |line: usize| {
            let file = AtomicFile::create(&target, true).unwrap();
            let before = fs::read_to_string(&target).unwrap_or_default();
            file.write(|file| writeln!(file, "{before}{line}")).unwrap();
            file.persist().unwrap();
        };
        std::thread::scope(|scope| (0..8).for_each(|line| drop(scope.spawn(move || add(line)))));
        assert_eq!(fs::read_to_string(&target).unwrap().lines().count(), 8);
    }
}
