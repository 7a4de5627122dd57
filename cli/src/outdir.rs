//! An output directory: where things lie in it, who may work in it, and how finished parts get their names.
//!
//! `OUT/.encaje/` holds what a run needs to go on: `job.json` (what is being made), `state.db` (how far it got), the
//! shards that are done, `status.json` (for showing only), `run.json` (how fast the run was that finished it), and `lock`.
//! `OUT/part-NNNNN.parquet` and `OUT/manifest.json` appear when the job is done, the manifest last. Every step can be
//! interrupted and done again.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use dataset::vectors::{AtomicFile, layout, read_manifest, write_atomically};
use dataset::{FileInfo, Manifest, PlannedSource, Storage, VectorWriter};
use proto::JobId;
use proto::job::JobSpec;
use serde::{Deserialize, Serialize};

use crate::exit::Advice;
use crate::private;
use crate::status::Snapshot;
use crate::summary::RunSummary;

/// Name of the folder with the state of a run.
pub(crate) const STATE_DIR: &str = ".encaje";
/// What is appended to `FILE.parquet` to name the directory where it is made.
const WORK_SUFFIX: &str = ".encaje";
/// How long a lock may be held by another process before that is an error: one that was killed lets go a moment later.
const LOCK_WITHIN: Duration = Duration::from_secs(2);
/// How often it is tried meanwhile.
const LOCK_EVERY: Duration = Duration::from_millis(20);
/// Version of `job.json`.
const RECORD_FORMAT: u32 = 1;

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
        let is_file = out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"));
        if is_file && !out.is_dir() { Target::File(out.to_owned()) } else { Target::Dir(out.to_owned()) }
    }

    /// The directory in which the work is done.
    pub(crate) fn work_dir(&self) -> OutDir {
        match self {
            Target::Dir(dir) => OutDir::new(dir.clone()),
            Target::File(file) => {
                let mut name = file.as_os_str().to_owned();
                name.push(WORK_SUFFIX);
                OutDir::new(PathBuf::from(name))
            }
        }
    }

    /// What the user called it.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Target::Dir(path) | Target::File(path) => path,
        }
    }
}

/// What is being made in a directory: written before the job is submitted, never changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct JobRecord {
    /// Version of this file's format.
    pub(crate) format: u32,
    /// The job.
    pub(crate) job: JobId,
    /// What it does.
    pub(crate) spec: JobSpec,
    /// The sources as they were when the job was made.
    pub(crate) sources: Vec<PlannedSource>,
}

impl JobRecord {
    /// Makes the record of a new job.
    pub(crate) fn new(spec: JobSpec, sources: Vec<PlannedSource>) -> Self {
        Self { format: RECORD_FORMAT, job: JobId::generate(), spec, sources }
    }
}

/// An output directory.
#[derive(Debug, Clone)]
pub(crate) struct OutDir {
    root: PathBuf,
}

/// How fast a run was, all in all.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct Speed {
    /// Rows embedded or rejected per second.
    pub(crate) rows_per_second: f64,
    /// Tokens fed to the model per second.
    pub(crate) tokens_per_second: f64,
}

/// The right to work in a directory, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
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

    /// Where the state of the run lies; also the root of its storage.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.root.join(STATE_DIR)
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

    fn record_path(&self) -> PathBuf {
        self.state_dir().join("job.json")
    }

    /// Whether this looks like an output directory, finished or not.
    pub(crate) fn is_ours(&self) -> bool {
        self.record_path().is_file() || self.root.join(layout::MANIFEST_NAME).is_file()
    }

    /// Takes the directory for this process, making it where it is missing. Waits a moment for another process that is
    /// about to end.
    pub(crate) fn lock(&self) -> anyhow::Result<Lock> {
        let state = self.state_dir();
        fs::create_dir_all(&self.root)
            .and_then(|()| private::create_dir_all(&state))
            .with_context(|| format!("cannot make the output directory `{}`", self.root.display()))?;
        private::close(&state);
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
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).with_context(cannot)?;
        Ok(Lock { _file: file })
    }

    /// Whether a process works in the directory now.
    pub(crate) fn is_busy(&self) -> bool {
        File::open(self.state_dir().join("lock"))
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Returns what is being made here, if anything is.
    pub(crate) fn record(&self) -> anyhow::Result<Option<JobRecord>> {
        let path = self.record_path();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        };
        let damaged = || {
            Advice::failed(format!("`{}` is damaged, or of a newer encaje", path.display()))
                .hint(format!("to start over: rm -r {}", self.root.display()))
        };
        let record: JobRecord = serde_json::from_slice(&bytes).with_context(damaged)?;
        if record.format != RECORD_FORMAT {
            return Err(damaged().into());
        }
        Ok(Some(record))
    }

    /// Writes down what is being made, at once or not at all.
    pub(crate) fn write_record(&self, record: &JobRecord) -> anyhow::Result<()> {
        write_atomically(&self.record_path(), &serde_json::to_vec_pretty(record)?)?;
        Ok(())
    }

    /// Returns what the process that works here, or the last one that did, wrote down about the job.
    pub(crate) fn snapshot(&self) -> anyhow::Result<Option<Snapshot>> {
        let path = self.snapshot_path();
        match fs::read(&path) {
            // A snapshot that does not parse says nothing, which is no reason to fail: it is only for showing.
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        }
    }

    /// Writes down how the job stands, for other processes to show. Nothing depends on it, so it is not synced.
    pub(crate) fn write_snapshot(&self, snapshot: &Snapshot) -> anyhow::Result<()> {
        let path = self.snapshot_path();
        let unfinished = path.with_extension("unfinished");
        let bytes = serde_json::to_vec(snapshot)?;
        fs::write(&unfinished, bytes)
            .and_then(|()| fs::rename(&unfinished, &path))
            .with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// Writes down how fast the run was that made the output. It is kept apart from the manifest, which says the same
    /// whoever made it and however long that took.
    pub(crate) fn write_speed(&self, summary: &RunSummary) -> anyhow::Result<()> {
        write_atomically(&self.speed_path(), &serde_json::to_vec_pretty(summary)?)?;
        Ok(())
    }

    /// Returns how fast the run was that made the output, if a run of this machine did and wrote it down.
    pub(crate) fn speed(&self) -> Option<Speed> {
        let speed: Speed = serde_json::from_slice(&fs::read(self.speed_path()).ok()?).ok()?;
        (speed.rows_per_second > 0.0).then_some(speed)
    }

    fn speed_path(&self) -> PathBuf {
        self.state_dir().join("run.json")
    }

    fn snapshot_path(&self) -> PathBuf {
        self.state_dir().join("status.json")
    }

    /// Returns the manifest, if the job is done and its parts are in place.
    pub(crate) fn manifest(&self) -> anyhow::Result<Option<Manifest>> {
        let path = self.root.join(layout::MANIFEST_NAME);
        let is_there = path.try_exists().with_context(|| format!("cannot look for `{}`", path.display()))?;
        if is_there { Ok(Some(Manifest::load_checked(&self.root)?)) } else { Ok(None) }
    }

    /// Returns a part file or manifest that no run of ours accounts for, if there is one.
    pub(crate) fn stranger(&self) -> anyhow::Result<Option<PathBuf>> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", self.root.display())),
        };
        let mut strangers = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            if name == layout::MANIFEST_NAME || (name.starts_with("part-") && name.ends_with(".parquet")) {
                strangers.push(self.root.join(name.as_ref()));
            }
        }
        Ok(strangers.into_iter().min())
    }

    /// Moves the finished shards to their places and writes the manifest last. Done twice, it is done once.
    ///
    /// `empty` describes the single, empty part of a job without rows.
    pub(crate) async fn publish(&self, storage: &Storage, key: &str, empty: EmptyPart<'_>) -> anyhow::Result<Manifest> {
        let winners = read_manifest(storage, key).await?;
        let mut files = winners.files;
        for (index, file) in files.iter_mut().enumerate() {
            let name = layout::part_name(index as u64);
            let part = self.root.join(&name);
            let shard = storage.local_path(&file.name).context("the shards of a local run lie on a local disk")?;
            match fs::rename(&shard, &part) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    check_size(&part, file.bytes).with_context(|| {
                        Advice::failed(format!("the file of a finished shard is gone: `{}`", shard.display()))
                            .hint(format!("to have it made again: encaje repair {}", self.root.display()))
                    })?;
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot move a shard to `{}`", part.display()));
                }
            }
            file.name = name;
        }
        let mut info = winners.info;
        if files.is_empty() {
            info = FileInfo { job_id: winners.job_id, spec_digest: winners.spec_digest, ..empty.info };
            files.push(self.write_empty_part(empty.schema, &info)?);
        }
        let manifest = Manifest::with_holes(info, winners.sources, files, winners.holes)?;
        self.write_manifest(&manifest)?;
        Ok(manifest)
    }

    /// Writes the manifest of parts that are all in place: from now on the directory is a finished output.
    pub(crate) fn write_manifest(&self, manifest: &Manifest) -> anyhow::Result<()> {
        sync_dir(&self.root)?;
        let file = AtomicFile::create(&self.root.join(layout::MANIFEST_NAME), true)?;
        file.write(|file| {
            let mut file = BufWriter::new(file);
            manifest.write_to(&mut file)?;
            file.flush()
        })?;
        file.persist()?;
        Ok(())
    }

    fn write_empty_part(
        &self,
        schema: &arrow_schema::Schema,
        info: &FileInfo,
    ) -> anyhow::Result<dataset::ManifestFile> {
        let name = layout::part_name(0);
        let summary = VectorWriter::create(&self.root.join(&name), schema, info)?.finish()?;
        Ok(dataset::ManifestFile {
            name,
            first_row: 0,
            rows: 0,
            bytes: summary.bytes,
            blake3: summary.blake3,
            rejects: summary.rejects,
            truncated: 0,
            tokens: 0,
        })
    }

    /// Takes away what a finished run does not need any more.
    pub(crate) fn clean_up(&self) -> anyhow::Result<()> {
        for leftover in [self.state_dir().join("jobs"), self.spool()] {
            remove_dir(&leftover)?;
        }
        Ok(())
    }

    /// Whether anything was made here that starting over would lose.
    pub(crate) fn has_work(&self) -> anyhow::Result<bool> {
        Ok(self.stranger()?.is_some() || has_shard(&self.state_dir().join("jobs")))
    }

    /// Forgets a job that made nothing, so that another can take its place. The record goes last: what is interrupted
    /// here is begun again by the next run.
    pub(crate) fn forget(&self) -> anyhow::Result<()> {
        self.clean_up()?;
        for name in ["state.db", "state.db-wal", "state.db-shm", "state.db.lock", "status.json", "run.json", "job.json"]
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

    /// Takes away the directory with all that is in it.
    pub(crate) fn remove(&self) -> anyhow::Result<()> {
        remove_dir(&self.root)
    }

    /// Checks that every listed part is there and as long as it should be.
    pub(crate) fn check_parts(&self, manifest: &Manifest) -> anyhow::Result<()> {
        for file in &manifest.files {
            check_size(&self.root.join(&file.name), file.bytes).with_context(|| {
                Advice::failed(format!("`{}` was finished, but is not whole any more", self.root.display()))
                    .hint(format!("see what is wrong: encaje verify {}", self.root.display()))
                    .hint("to make it again, remove the directory and run again")
            })?;
        }
        Ok(())
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

/// Returns a path as absolute text, as databases and storage want it: no scheme can hide in that.
pub(crate) fn absolute_text(path: &Path) -> anyhow::Result<String> {
    let absolute = std::path::absolute(path).with_context(|| format!("cannot resolve `{}`", path.display()))?;
    absolute.into_os_string().into_string().map_err(|path| {
        let what = format!("the path `{}` is not UTF-8", path.display());
        Advice::usage(what).hint("give another --out").into()
    })
}

/// How the part of a job without rows is written: it has the columns, and says how vectors would have been made.
pub(crate) struct EmptyPart<'a> {
    /// The kept columns.
    pub(crate) schema: &'a arrow_schema::Schema,
    /// How the vectors would have been made; the job's identity is filled in.
    pub(crate) info: FileInfo,
}

/// Whether a finished shard lies anywhere below a folder. A folder that is not there has none.
fn has_shard(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.flatten().map(|entry| entry.path()).any(|path| {
        if path.is_dir() { has_shard(&path) } else { path.extension().is_some_and(|extension| extension == "parquet") }
    })
}

fn check_size(path: &Path, bytes: u64) -> anyhow::Result<()> {
    let found = fs::metadata(path).with_context(|| format!("cannot find `{}`", path.display()))?.len();
    anyhow::ensure!(found == bytes, "`{}` has {found} bytes, expected {bytes}", path.display());
    Ok(())
}

fn remove_dir(path: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot remove `{}`", path.display())),
    }
}

/// Makes renames in a directory outlive a power cut.
fn sync_dir(path: &Path) -> anyhow::Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).with_context(|| format!("cannot sync `{}`", path.display()))
}

#[cfg(test)]
#[path = "outdir_tests.rs"]
mod tests;
