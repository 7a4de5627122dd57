//! Files that others replace while we run: certificates, tokens.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Says whether any of some files has changed since it was looked at last.
#[derive(Debug)]
pub struct Watched {
    files: Vec<(PathBuf, Stamp)>,
}

/// When a file was written and how long it is; `None` where there is none.
type Stamp = Option<(SystemTime, u64)>;

impl Watched {
    /// Looks at the files for the first time. Whoever reads them does so afterwards, to miss no change.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let stamped = |path: PathBuf| {
            let stamp = stamp(&path);
            (path, stamp)
        };
        Self { files: paths.into_iter().map(stamped).collect() }
    }

    /// Whether nothing is watched.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether any of the files was written, came or went since the last look.
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
    fn every_change_of_any_file_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        fs::write(&one, "1").unwrap();
        let mut watched = Watched::new([one.clone(), other.clone()]);
        let mut told = || (watched.has_changed(), watched.has_changed());
        assert_eq!(told(), (false, false));
        fs::write(&other, "2").unwrap();
        assert_eq!(told(), (true, false), "it came");
        fs::write(&one, "12").unwrap();
        fs::remove_file(&other).unwrap();
        assert_eq!(told(), (true, false), "one was written and one went");
        fs::write(&other, "3").unwrap();
        fs::rename(&other, &one).unwrap();
        assert_eq!(told(), (true, false), "one took the place of the other");
    }
}
