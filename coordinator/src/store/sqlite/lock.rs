//! Exactly one coordinator per SQLite database: an advisory lock on a file beside it, held as long as the database is open.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::store::error::StoreError;

/// How long another process may hold the lock before that is an error: one that was killed lets go a moment later.
const LOCK_WITHIN: Duration = Duration::from_secs(2);
/// How often it is tried meanwhile.
const LOCK_EVERY: Duration = Duration::from_millis(20);

/// Takes the lock, or says who has it after waiting a moment. The lock goes with the file handle, also when the process is killed.
pub(super) async fn take(database: &Path) -> Result<File, StoreError> {
    let path = lock_path(database);
    let cannot = |problem: std::io::Error| StoreError::Open {
        url: database.display().to_string(),
        problem: format!("its lock file `{}` cannot be used: {problem}", path.display()),
    };
    let mut file = private(OpenOptions::new().read(true).write(true).create(true)).open(&path).map_err(cannot)?;
    let deadline = Instant::now() + LOCK_WITHIN;
    let taken = loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => tokio::time::sleep(LOCK_EVERY).await,
            ended => break ended,
        }
    };
    match taken {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The holder is extra information: what cannot be read is left out.
            file.read_to_string(&mut holder).ok();
            let holder = if holder.is_empty() { "another process".to_owned() } else { holder.trim().to_owned() };
            return Err(StoreError::Held { path: database.display().to_string(), holder });
        }
        Err(TryLockError::Error(error)) => return Err(cannot(error)),
    }
    file.set_len(0).map_err(cannot)?;
    file.seek(SeekFrom::Start(0)).map_err(cannot)?;
    writeln!(file, "process {}", std::process::id()).map_err(cannot)?;
    Ok(file)
}

/// Creates the database file for its owner alone; SQLite gives its companions the same mode.
pub(super) fn create_private(database: &Path) -> Result<(), StoreError> {
    let cannot = |problem: std::io::Error| StoreError::Open {
        url: database.display().to_string(),
        problem: format!("it cannot be created: {problem}"),
    };
    if let Some(folder) = database.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(cannot)?;
    }
    private(OpenOptions::new().write(true).create(true).truncate(false)).open(database).map_err(cannot)?;
    Ok(())
}

fn lock_path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600)
}

#[cfg(not(unix))]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}
