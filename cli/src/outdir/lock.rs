//! Who may work in an output directory.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::directory::OutDir;
use crate::exit::Advice;
use crate::permissions;

/// How long a lock may be held by another process before that is an error: one that was killed lets go a moment later.
pub(super) const LOCK_WITHIN: Duration = Duration::from_secs(2);
/// How often it is tried meanwhile.
const LOCK_EVERY: Duration = Duration::from_millis(20);

/// A lock on a directory, released on drop.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl OutDir {
    /// Locks the directory for this process, creating it where it is missing. Waits a moment for another process that is
    /// about to end.
    pub(crate) fn lock(&self) -> anyhow::Result<Lock> {
        let state = self.state_dir();
        let made = if self.is_remote() { Ok(()) } else { fs::create_dir_all(&self.root) };
        made.and_then(|()| permissions::create_private_dir_all(&state))
            .with_context(|| format!("cannot make the directory `{}`", state.display()))?;
        permissions::make_private(&state);
        let path = state.join("lock");
        let cannot = || format!("cannot lock `{}`", path.display());
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&path).with_context(cannot)?;
        match lock_within(&file, LOCK_WITHIN) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).with_context(cannot)?;
                let what =
                    format!("another encaje is working in `{}` (process {})", self.root.display(), holder.trim());
                return Err(Advice::failed(what)
                    .hint("wait until it is done, or stop it, or give another --out")
                    .into());
            }
            Err(TryLockError::Error(error)) => return Err(anyhow::Error::from(error).context(cannot())),
        }
        if !path.exists() {
            // The process that held it was done, and has removed the state.
            return self.lock();
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).with_context(cannot)?;
        Ok(Lock { _file: file })
    }

    /// Whether a process works in the directory now.
    pub(crate) fn is_busy(&self) -> bool {
        File::open(self.state_dir().join("lock"))
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

/// Takes a lock, trying again and again for a while where another process has it.
fn lock_within(file: &File, patience: Duration) -> Result<(), TryLockError> {
    let deadline = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_EVERY),
            ended => return ended,
        }
    }
}
