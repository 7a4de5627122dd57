//! Tests whether a disk is writable, for diagnosing stalled or failed work.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a trial write: more than a database needs to make progress.
const PROBE_BYTES: usize = 64 * 1024;

/// Writes a small file to a folder, syncs and removes it.
///
/// # Errors
/// The disk is full or read-only, the folder is missing, or another system error.
pub fn probe_folder(folder: &Path) -> io::Result<()> {
    static PROBES: AtomicU64 = AtomicU64::new(0);
    let number = PROBES.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!(".probe-{}-{number}", std::process::id()));
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&[0; PROBE_BYTES])?;
        file.sync_all()
    });
    let removed = fs::remove_file(&path);
    written.and(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_detects_a_missing_folder_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        probe_folder(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let gone = probe_folder(&dir.path().join("gone")).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }
}
