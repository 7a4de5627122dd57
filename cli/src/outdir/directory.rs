//! An output directory: where things lie in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use dataset::Manifest;
use dataset::vectors::{layout, place};

use super::card;
use crate::exit::Advice;

/// Name of the folder with the state of a run.
pub(crate) const STATE_DIR: &str = ".encaje";
/// The suffix of `FILE.parquet` that names its work directory, and of the state of an output at a URL.
const WORK_SUFFIX: &str = ".encaje";
/// Most letters of a URL in the name of its folder; many file systems take 255 bytes.
const LOCAL_LETTERS_MAX: usize = 50;

/// What `--out` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// Part files and a manifest in a directory.
    Dir(PathBuf),
    /// One merged file.
    File(PathBuf),
}

impl Target {
    /// A name that ends in `.parquet` is a file, unless it is a directory already.
    pub(crate) fn of(out: &Path) -> Self {
        if place::has_extension(out, "parquet") && !place::is_folder(out) {
            Target::File(out.to_owned())
        } else {
            Target::Dir(out.to_owned())
        }
    }

    /// The directory in which the work is done.
    pub(crate) fn work_dir(&self) -> OutDir {
        match self {
            Target::Dir(dir) => OutDir::new(dir.clone()),
            Target::File(file) if place::url_of(file).is_some() => OutDir::new(local_name(file)),
            Target::File(file) => {
                let mut name = file.as_os_str().to_owned();
                name.push(WORK_SUFFIX);
                OutDir::new(PathBuf::from(name))
            }
        }
    }

    /// The path as given.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Target::Dir(path) | Target::File(path) => path,
        }
    }
}

/// An output directory: a path of this machine, or a URL.
#[derive(Debug, Clone)]
pub(crate) struct OutDir {
    pub(super) root: PathBuf,
}

impl OutDir {
    /// Names a directory; touches nothing.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The directory itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the directory is at a URL.
    pub(crate) fn is_remote(&self) -> bool {
        place::url_of(&self.root).is_some()
    }

    /// Where the state of the run lies; also the root of its storage. That of an output at a URL is in the current directory.
    pub(crate) fn state_dir(&self) -> PathBuf {
        if self.is_remote() { local_name(&self.root) } else { self.root.join(STATE_DIR) }
    }

    /// The job store.
    pub(crate) fn database(&self) -> PathBuf {
        self.state_dir().join("state.db")
    }

    /// Where workers write files that are not done.
    pub(crate) fn spool(&self) -> PathBuf {
        self.state_dir().join("spool")
    }

    /// Where what came from stdin and pipes is kept.
    pub(crate) fn input(&self) -> PathBuf {
        self.state_dir().join("input")
    }

    pub(super) fn record_path(&self) -> PathBuf {
        self.state_dir().join("job.json")
    }

    /// The folder of the record that says which job owns the output: beside the output, where other machines find it.
    pub(crate) fn claim_dir(&self) -> PathBuf {
        self.root.join(STATE_DIR)
    }

    /// The record of a job whose output is at a URL.
    pub(super) fn remote_record_path(&self) -> Option<PathBuf> {
        self.is_remote().then(|| self.claim_dir().join("job.json"))
    }

    /// Whether this looks like an output directory, finished or not.
    pub(crate) fn is_ours(&self) -> bool {
        self.record_path().is_file() || self.root.join(layout::MANIFEST_NAME).is_file()
    }

    /// Whether there is a manifest. It is written last, so that the job is done and its parts are in place.
    pub(crate) fn has_manifest(&self) -> anyhow::Result<bool> {
        Ok(place::size_of(&self.root.join(layout::MANIFEST_NAME))?.is_some())
    }

    /// Returns the manifest, if the job is done and its parts are in place.
    pub(crate) fn manifest(&self) -> anyhow::Result<Option<Manifest>> {
        if self.has_manifest()? { Ok(Some(Manifest::load_checked(&self.root)?)) } else { Ok(None) }
    }

    /// Returns a part file or manifest that belongs to no job of this directory, if there is one.
    pub(crate) fn foreign_file(&self) -> anyhow::Result<Option<PathBuf>> {
        self.first_entry(is_output)
    }

    /// Returns a file or folder that no output has, hidden ones aside, if there is one.
    pub(crate) fn other_file(&self) -> anyhow::Result<Option<PathBuf>> {
        let other = self.first_entry(|name| {
            !is_output(name) && !name.starts_with('.') && !matches!(name, "lost+found" | card::NAME)
        })?;
        match other {
            None if !self.may_write_card()? => Ok(Some(self.root.join(card::NAME))),
            other => Ok(other),
        }
    }

    /// Returns the first entry by name that is wanted; a directory that is not there has none.
    fn first_entry(&self, wanted: impl Fn(&str) -> bool) -> anyhow::Result<Option<PathBuf>> {
        let mut entries = place::list(&self.root)?.unwrap_or_default().into_iter();
        Ok(entries.find(|entry| wanted(&entry.name())).map(|entry| entry.path))
    }

    /// Removes what a finished run does not need any more.
    pub(crate) fn clean_up(&self) -> anyhow::Result<()> {
        for leftover in [self.state_dir().join("jobs"), self.spool()] {
            remove_dir(&leftover)?;
        }
        Ok(())
    }

    /// Whether anything was made here that starting over would lose. At a URL, another machine may be at work.
    pub(crate) fn has_work(&self) -> anyhow::Result<bool> {
        Ok(self.is_remote() || self.foreign_file()?.is_some() || has_shard(&self.state_dir().join("jobs")))
    }

    /// Removes a job that produced nothing, so that another can replace it. The record is removed last: the next run repeats
    /// an interrupted reset.
    pub(crate) fn reset(&self) -> anyhow::Result<()> {
        self.reset_state()?;
        if let Some(record) = self.remote_record_path() {
            place::remove(&record)?;
        }
        Ok(())
    }

    /// As [`OutDir::reset`], of what lies on this machine.
    pub(super) fn reset_state(&self) -> anyhow::Result<()> {
        self.clean_up()?;
        for name in
            ["state.db", "state.db-wal", "state.db-shm", "state.db.lock", "status.json", "run.json", "job.json", "url"]
        {
            let path = self.state_dir().join(name);
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("cannot remove `{}`", path.display())),
            }
        }
        Ok(())
    }

    /// Says what to remove to start over: never a file of the user's.
    pub(crate) fn how_to_start_over(&self) -> String {
        let root = self.root.display();
        if self.is_remote() {
            let root = root.to_string();
            return format!(
                "remove what is below `{}/`, once no other machine works there",
                root.trim_end_matches('/')
            );
        }
        match self.other_file() {
            Ok(None) => format!("rm -r {root}"),
            Ok(Some(_)) | Err(_) => {
                format!("rm -r {root}/{STATE_DIR} {root}/{} {root}/part-*.parquet", layout::MANIFEST_NAME)
            }
        }
    }

    /// Removes the directory.
    pub(crate) fn remove(&self) -> anyhow::Result<()> {
        remove_dir(&self.root)
    }

    /// Removes the state of a finished output at a URL: nothing else needs it.
    pub(crate) fn remove_local_state(&self) -> anyhow::Result<()> {
        if self.is_remote() { remove_dir(&self.state_dir()) } else { Ok(()) }
    }
}

/// The folder in the current directory for what belongs to a URL: `s3-bucket-vectors-1a2b3c4d.encaje`, of which the digest alone
/// tells apart what has the same letters.
fn local_name(url: &Path) -> PathBuf {
    let url = url.to_string_lossy();
    let url = url.trim_end_matches('/');
    let digest = blake3::hash(url.as_bytes()).to_hex();
    let letters: String = url.replace("://", "-").replace('/', "-").chars().take(LOCAL_LETTERS_MAX).collect();
    PathBuf::from(format!("{letters}-{}{WORK_SUFFIX}", &digest[..8]))
}

/// Whether a folder has the name of the work directory of a file, or of the state of an output at a URL.
pub(crate) fn is_work_dir(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(WORK_SUFFIX.as_bytes()) && !path.ends_with(STATE_DIR)
}

/// Returns a path as absolute text, as databases and storage want it: no scheme can hide in that.
pub(crate) fn absolute_text(path: &Path) -> anyhow::Result<String> {
    let absolute = std::path::absolute(path).with_context(|| format!("cannot resolve `{}`", path.display()))?;
    absolute.into_os_string().into_string().map_err(|path| {
        let what = format!("the path `{}` is not UTF-8", path.display());
        Advice::usage(what).hint("give another --out").into()
    })
}

/// Whether a name is one of those that a finished output gives its files.
fn is_output(name: &str) -> bool {
    name == layout::MANIFEST_NAME || (name.starts_with("part-") && name.ends_with(".parquet"))
}

/// Whether a finished shard lies anywhere below a folder. A folder that is not there has none.
fn has_shard(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.flatten().map(|entry| entry.path()).any(|path| {
        if path.is_dir() { has_shard(&path) } else { path.extension().is_some_and(|extension| extension == "parquet") }
    })
}

fn remove_dir(path: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot remove `{}`", path.display())),
    }
}
