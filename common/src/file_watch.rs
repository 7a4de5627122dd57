//! Files that are replaced while the program runs: certificates, tokens.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Reports whether any of a set of files has changed since the last check.
#[derive(Debug)]
pub struct FileWatch {
    files: Vec<(PathBuf, Stamp)>,
}

/// When a file was written and how long it is; `None` where there is none.
type Stamp = Option<(SystemTime, u64)>;

impl FileWatch {
    /// Records the files as they are. Read them only afterwards, so that no change is missed.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let stamped = |path: PathBuf| {
            let stamp = stamp(&path);
            (path, stamp)
        };
        Self { files: paths.into_iter().map(stamped).collect() }
    }

    /// Whether there are no files.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether any of the files was written, created or removed since the last check.
    pub fn has_changed(&mut self) -> bool {
        let mut changed = false;
        for (path, before) in &mut self.files {
            let now = stamp(path);
            changed |= now != *before;
            *before = now;
        }
        changed
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_of_any_file_is_reported_once() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        fs::write(&one, "1").unwrap();
        let mut watch = FileWatch::new([one.clone(), other.clone()]);
        let mut reported = || (watch.has_changed(), watch.has_changed());
        assert_eq!(reported(), (false, false));
        fs::write(&other, "2").unwrap();
        assert_eq!(reported(), (true, false), "created");
        fs::write(&one, "12").unwrap();
        fs::remove_file(&other).unwrap();
        assert_eq!(reported(), (true, false), "one written, one removed");
        fs::write(&other, "3").unwrap();
        fs::rename(&other, &one).unwrap();
        assert_eq!(reported(), (true, false), "one renamed over the other");
    }
}
