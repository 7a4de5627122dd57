//! Brings the files of a job from its storage into an output directory: each checked by size and BLAKE3, written under
//! another name, synced and renamed. A file that is there and right is not fetched again.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use dataset::vectors::{AtomicFile, hash_file, layout, place, write_new};
use dataset::{DatasetError, ErrorKind, Manifest, ManifestFile, Storage};
use proto::JobId;
use proto::job::ShardResult;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::exit::Advice;
use crate::outdir::OutDir;
use crate::ui::{Amount, Progress};

/// Bytes read and written at a time.
const CHUNK_BYTES: u64 = 4 << 20;
/// Files fetched at the same time.
const FETCHES_MAX: usize = 4;
/// Version of `download.json`.
const RECORD_FORMAT: u32 = 1;

/// A file to fetch.
#[derive(Debug, Clone)]
pub(crate) struct ExpectedFile {
    /// Key in storage.
    pub(crate) key: String,
    /// Name in the output directory.
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// BLAKE3, in hex.
    pub(crate) blake3: String,
    pub(crate) rows: u64,
}

impl ExpectedFile {
    /// A part of a finished output.
    pub(crate) fn of_part(part: &ManifestFile) -> Self {
        Self {
            key: part.name.clone(),
            name: part.name.clone(),
            bytes: part.bytes,
            blake3: part.blake3.clone(),
            rows: part.rows,
        }
    }

    /// Names the output of a shard by the shard's position.
    pub(crate) fn of_shard(shard: &ShardResult) -> Self {
        Self {
            key: shard.key.clone(),
            name: layout::part_name(shard.index),
            bytes: shard.bytes,
            blake3: shard.blake3.clone(),
            rows: shard.counts.rows,
        }
    }
}

/// The job that is fetched into a directory, so that a repeat recognises its files.
#[derive(Serialize, Deserialize)]
struct Record {
    format: u32,
    job: JobId,
}

/// Where the job that is fetched into a directory is recorded.
fn record_path(out: &OutDir) -> PathBuf {
    out.claim_dir().join("download.json")
}

/// Whether a directory was claimed for the files of a job.
pub(crate) fn is_claimed(out: &OutDir) -> anyhow::Result<bool> {
    Ok(place::size_of(&record_path(out))?.is_some())
}

/// Claims a directory for the files of a job. Refuses one with files that no earlier fetch of this job accounts for.
pub(crate) fn claim(out: &OutDir, job: JobId) -> anyhow::Result<()> {
    let root = out.root().display();
    let refuse = |what: String| Advice::usage(what).hint("give another --out; nothing was changed");
    if out.record()?.is_some() {
        return Err(refuse(format!("`{root}` belongs to `encaje run`")).into());
    }
    let path = record_path(out);
    match place::read_small(&path)? {
        Some(bytes) => match serde_json::from_slice::<Record>(&bytes) {
            Ok(record) if record.job == job && record.format == RECORD_FORMAT => Ok(()),
            Ok(record) => Err(refuse(format!("`{root}` holds files of another job, {}", record.job)).into()),
            Err(error) => Err(anyhow::Error::from(error).context(refuse(format!("`{}` is damaged", path.display())))),
        },
        None => {
            if let Some(foreign) = out.foreign_file()? {
                return Err(
                    refuse(format!("`{root}` holds the output of something else: `{}`", foreign.display())).into()
                );
            }
            write_new(&path, &serde_json::to_vec(&Record { format: RECORD_FORMAT, job })?)?;
            Ok(())
        }
    }
}

/// Removes a manifest other than this one: the directory is unfinished until this one is written.
pub(crate) fn remove_outdated_manifest(out: &OutDir, manifest: &Manifest) -> anyhow::Result<()> {
    let path = out.root().join(layout::MANIFEST_NAME);
    if out.manifest().ok().flatten().is_some_and(|there| there != *manifest) {
        place::remove(&path)?;
    }
    Ok(())
}

/// Fetches files, several at a time. Returns how many rows were there already.
pub(crate) async fn fetch_all(
    storage: &Storage,
    root: &Path,
    expected: &[ExpectedFile],
    progress: &mut Progress,
) -> anyhow::Result<u64> {
    let total: u64 = expected.iter().map(|file| file.rows).sum();
    let (mut rows, mut kept) = (0, 0);
    let mut waiting = expected.iter();
    let mut running = JoinSet::new();
    loop {
        while running.len() < FETCHES_MAX {
            let Some(file) = waiting.next() else { break };
            let (storage, file, path) = (storage.clone(), file.clone(), root.join(&file.name));
            running.spawn(async move { fetch(&storage, &file, &path).await.map(|fetched| (fetched, file.rows)) });
        }
        let Some(done) = running.join_next().await else { return Ok(kept) };
        let (fetched, more) = done.context("a transfer crashed")??;
        rows += more;
        kept += if fetched { 0 } else { more };
        progress.update(Amount { rows, tokens: 0 }, total, Some(total));
    }
}

/// Fetches one file, unless it is there. Returns whether it was fetched.
async fn fetch(storage: &Storage, file: &ExpectedFile, path: &Path) -> anyhow::Result<bool> {
    let (there, expected) = (path.to_owned(), file.clone());
    if tokio::task::spawn_blocking(move || is_intact(&there, &expected)).await.context("a check crashed")?? {
        return Ok(false);
    }
    let cannot = || format!("cannot write `{}`", path.display());
    let output = AtomicFile::create(path, true)?;
    let mut written = File::create(output.path()).with_context(cannot)?;
    let problem = read_and_hash(storage, file, |bytes| written.write_all(bytes).with_context(cannot)).await?;
    if let Some(problem) = problem {
        return Err(Advice::failed(format!("`{}` in storage cannot be used: {problem}", file.key))
            .hint("have it made again: encaje repair JOB")
            .into());
    }
    tokio::task::spawn_blocking(move || written.sync_all()).await.context("a write crashed")?.with_context(cannot)?;
    tokio::task::spawn_blocking(move || output.persist()).await.context("a write crashed")??;
    Ok(true)
}

/// Returns what is wrong with an object in storage, if anything is; a missing one is wrong. A store that does not answer
/// is an error.
pub(crate) async fn problem_in_storage(storage: &Storage, file: &ExpectedFile) -> anyhow::Result<Option<String>> {
    read_and_hash(storage, file, |_| Ok(())).await
}

/// Reads an object to its end and returns what is wrong with it, if anything is; a missing one is wrong.
async fn read_and_hash(
    storage: &Storage,
    file: &ExpectedFile,
    take: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<Option<String>> {
    match read_whole(storage, file, take).await {
        Err(error) => match error.downcast_ref::<DatasetError>().map(DatasetError::kind) {
            Some(ErrorKind::NotFound) => Ok(Some("it is missing".to_owned())),
            Some(_) | None => Err(error),
        },
        found => found,
    }
}

async fn read_whole(
    storage: &Storage,
    file: &ExpectedFile,
    mut take: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<Option<String>> {
    let size = storage.head(&file.key).await?.size;
    if size != file.bytes {
        return Ok(Some(format!("it has {size} bytes, expected {}", file.bytes)));
    }
    let mut hasher = blake3::Hasher::new();
    let mut done = 0;
    while done < file.bytes {
        let bytes = storage.get_range(&file.key, done..file.bytes.min(done + CHUNK_BYTES)).await?;
        anyhow::ensure!(!bytes.is_empty(), "`{}` in storage ended while it was read", file.key);
        hasher.update(&bytes);
        take(&bytes)?;
        done += bytes.len() as u64;
    }
    let found = hasher.finalize().to_hex();
    Ok((found.as_str() != file.blake3).then(|| format!("its BLAKE3 is {found}, expected {}", file.blake3)))
}

/// Whether a file is there with all its bytes.
pub(crate) fn is_intact(path: &Path, expected: &ExpectedFile) -> anyhow::Result<bool> {
    Ok(place::size_of(path)? == Some(expected.bytes) && hash_file(path)?.blake3 == expected.blake3)
}

/// Removes parts that the finished output does not have: an earlier, partial fetch may have left some.
pub(crate) fn remove_stray_parts(root: &Path, expected: &[ExpectedFile]) -> anyhow::Result<()> {
    for entry in place::list(root)?.unwrap_or_default() {
        let name = entry.name();
        // Leftovers of killed processes, under the names of this release and of 0.1.
        let is_unfinished = (name.starts_with(".part-") && name.ends_with(".encaje-tmp"))
            || (name.starts_with("part-") && name.ends_with(".unfinished"));
        let is_stray = layout::is_part_name(&name) && !expected.iter().any(|file| file.name == name);
        if is_stray || is_unfinished {
            place::remove(&entry.path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::ui::Ui;

    fn expected(bytes: &[u8]) -> ExpectedFile {
        ExpectedFile {
            key: "k.parquet".into(),
            name: "part-00000.parquet".into(),
            bytes: bytes.len() as u64,
            blake3: blake3::hash(bytes).to_hex().to_string(),
            rows: 3,
        }
    }

    #[tokio::test]
    async fn what_is_right_is_kept_and_what_is_not_is_fetched_again() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::open(dir.path().join("storage").to_str().unwrap()).unwrap();
        storage.put_new("k.parquet", bytes_of(b"vectors").into()).await.unwrap();
        let files = [expected(b"vectors")];
        let mut progress = Ui::silent().progress("fetching", Amount::default());
        for (there, kept) in [(None, 0), (Some("vectors"), 3), (Some("vektors"), 0), (Some("vec"), 0)] {
            if let Some(there) = there {
                fs::write(dir.path().join("part-00000.parquet"), there).unwrap();
            }
            assert_eq!(fetch_all(&storage, dir.path(), &files, &mut progress).await.unwrap(), kept, "{there:?}");
            assert_eq!(fs::read(dir.path().join("part-00000.parquet")).unwrap(), b"vectors");
        }
    }

    fn bytes_of(text: &[u8]) -> Vec<u8> {
        text.to_vec()
    }

    #[tokio::test]
    async fn a_damaged_or_missing_object_is_named_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::open(dir.path().join("storage").to_str().unwrap()).unwrap();
        storage.put_new("k.parquet", bytes_of(b"vektors").into()).await.unwrap();
        let out = dir.path().join("out");
        fs::create_dir(&out).unwrap();
        let gone = ExpectedFile { key: "gone.parquet".to_owned(), ..expected(b"vectors") };
        for file in [expected(b"vectors"), expected(b"vek"), expected(b"longer than that"), gone] {
            let mut progress = Ui::silent().progress("fetching", Amount::default());
            let error = fetch_all(&storage, &out, std::slice::from_ref(&file), &mut progress).await.unwrap_err();
            let said = format!("`{}` in storage cannot be used", file.key);
            assert!(error.to_string().contains(&said), "{error}");
            assert!(error.downcast_ref::<Advice>().is_some(), "{error:?}");
            assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_directory_is_claimed_for_one_job() {
        let dir = tempfile::tempdir().unwrap();
        let out = OutDir::new(dir.path().to_owned());
        let _lock = out.lock().unwrap();
        let (job, other) = (JobId::generate(), JobId::generate());
        fs::write(dir.path().join("part-00000.parquet"), "mine").unwrap();
        assert!(claim(&out, job).unwrap_err().to_string().contains("something else"));
        fs::remove_file(dir.path().join("part-00000.parquet")).unwrap();
        claim(&out, job).unwrap();
        fs::write(dir.path().join("part-00000.parquet"), "fetched").unwrap();
        claim(&out, job).unwrap();
        assert!(claim(&out, other).unwrap_err().to_string().contains("another job"));
        remove_stray_parts(dir.path(), &[]).unwrap();
        assert!(!dir.path().join("part-00000.parquet").exists());
    }
}
