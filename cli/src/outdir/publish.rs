//! How finished parts get their names, and the manifest that lists them.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use dataset::vectors::{AtomicFile, Outline, hash_file, layout, place, read_manifest};
use dataset::{DatasetError, ErrorKind, FileInfo, Manifest, ManifestFile, Storage, VectorWriter};

use super::directory::OutDir;
use crate::exit::Advice;

/// How the part of a job without rows is written: it has the columns, and says how vectors would have been made.
pub(crate) struct EmptyPart<'a> {
    /// The kept columns.
    pub(crate) schema: &'a arrow_schema::Schema,
    /// How the vectors would have been made; the job's identity is filled in.
    pub(crate) info: FileInfo,
}

impl OutDir {
    /// Moves the finished shards to their places and writes the manifest last. Idempotent.
    ///
    /// `empty` describes the single, empty part of a job without rows.
    pub(crate) async fn publish(&self, storage: &Storage, key: &str, empty: EmptyPart<'_>) -> anyhow::Result<Manifest> {
        let winners = read_manifest(storage, key).await.map_err(|error| self.without_manifest(error))?;
        let mut files = winners.files;
        let mut moved = Vec::new();
        for (index, file) in files.iter_mut().enumerate() {
            // At a URL parts have the numbers of their shards, under which they were uploaded while the job ran.
            let number = layout::shard_index(&file.name).filter(|_| self.is_remote()).unwrap_or(index as u64);
            let name = layout::part_name(number);
            let shard = storage.local_path(&file.name).context("the shards of a local run lie on a local disk")?;
            file.name = name;
            if !self.place_part(&shard, file)? {
                moved.push(file.clone());
            }
        }
        self.check_files(&moved).with_context(|| {
            let advice = Advice::failed("the file of a finished shard is gone");
            if self.is_remote() {
                // Without the state here, the parts there are taken for what they are.
                let state = self.state_dir();
                return advice.hint(format!("to have it made again: rm -r {}, then run again", state.display()));
            }
            advice.hint(format!("to have it made again: encaje repair {}", self.root.display()))
        })?;
        let mut info = winners.info;
        if files.is_empty() {
            info = FileInfo { job_id: winners.job_id, spec_digest: winners.spec_digest, ..empty.info };
            files.push(self.write_empty_part(empty.schema, &info)?);
        }
        let manifest = Manifest::with_holes(info, winners.sources, files, winners.holes)?.with_reuse(winners.reuse);
        if self.is_remote() {
            self.remove_unlisted_parts(&manifest)?;
        }
        self.write_manifest(&manifest)?;
        Ok(manifest)
    }

    /// Moves or uploads a finished shard to its place. Returns whether it was there: if not, it was moved before.
    fn place_part(&self, shard: &Path, file: &ManifestFile) -> anyhow::Result<bool> {
        let part = self.root.join(&file.name);
        if self.is_remote() {
            return if shard.exists() { self.upload_part(shard, file).map(|()| true) } else { Ok(false) };
        }
        match fs::rename(shard, &part) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).with_context(|| format!("cannot move a shard to `{}`", part.display())),
        }
    }

    /// Uploads a finished shard to its place, unless it is there.
    pub(super) fn upload_part(&self, shard: &Path, file: &ManifestFile) -> anyhow::Result<()> {
        let part = self.root.join(&file.name);
        match place::upload(shard, &part, false) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if hash_file(&part)?.blake3 == file.blake3 {
                    return Ok(());
                }
                let what = format!("`{}` exists already, with other bytes", part.display());
                let hint = "if another machine is running the same command, let it finish; else remove the file";
                Err(Advice::failed(what).hint(hint).into())
            }
            uploaded => Ok(uploaded?),
        }
    }

    /// Removes parts that another machine made of shards which this one cut otherwise.
    fn remove_unlisted_parts(&self, manifest: &Manifest) -> anyhow::Result<()> {
        let listed: HashSet<&str> = manifest.files.iter().map(|file| file.name.as_str()).collect();
        for entry in place::list(&self.root)?.unwrap_or_default() {
            let is_stray = layout::is_part_name(&entry.name()) && !listed.contains(entry.name().as_ref());
            if is_stray && Outline::read(&entry.path).is_ok_and(|outline| outline.info.job_id == manifest.job_id) {
                place::remove(&entry.path)?;
            }
        }
        Ok(())
    }

    fn without_manifest(&self, error: DatasetError) -> anyhow::Error {
        if error.kind() != ErrorKind::NotFound {
            return error.into();
        }
        let root = self.root().display();
        Advice::failed(format!("`{root}` was finished, but its `{}` is gone", layout::MANIFEST_NAME))
            .hint(format!("to restore it: encaje repair {root}, then run again"))
            .hint(format!("to start over instead: {}", self.how_to_start_over()))
            .into()
    }

    /// Writes the manifest of parts that are all in place: from now on the directory is a finished output.
    pub(crate) fn write_manifest(&self, manifest: &Manifest) -> anyhow::Result<()> {
        self.write_card(manifest)?;
        if !self.is_remote() {
            sync_dir(&self.root)?;
        }
        // At a URL there is none, unless another machine has just finished the same job.
        if self.is_remote() && self.manifest()?.is_some_and(|there| there == *manifest) {
            return Ok(());
        }
        let file = AtomicFile::create(&self.root.join(layout::MANIFEST_NAME), !self.is_remote())?;
        file.write(|file| {
            let mut file = BufWriter::new(file);
            manifest.write_to(&mut file)?;
            file.flush()
        })?;
        file.persist()?;
        Ok(())
    }

    fn write_empty_part(&self, schema: &arrow_schema::Schema, info: &FileInfo) -> anyhow::Result<ManifestFile> {
        let name = layout::part_name(0);
        let part = AtomicFile::create(&self.root.join(&name), true)?;
        let summary = VectorWriter::create(part.path(), schema, info)?.finish()?;
        part.persist()?;
        Ok(ManifestFile {
            name,
            first_row: 0,
            rows: 0,
            bytes: summary.bytes,
            blake3: summary.blake3,
            rejects: summary.rejects,
            truncated: 0,
            tokens: 0,
            reused: 0,
        })
    }

    /// Checks that every listed part is there and as long as it should be.
    pub(crate) fn check_parts(&self, manifest: &Manifest) -> anyhow::Result<()> {
        self.check_files(&manifest.files).with_context(|| {
            Advice::failed(format!("`{}` was finished, but is not whole any more", self.root.display()))
                .hint(format!("see what is wrong: encaje verify {}", self.root.display()))
                .hint(format!("to have it made again: encaje repair {}, then run again", self.root.display()))
        })
    }

    fn check_files(&self, files: &[ManifestFile]) -> anyhow::Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let entries = place::list(&self.root)?.unwrap_or_default();
        let there: HashMap<PathBuf, u64> = entries.into_iter().map(|entry| (entry.path, entry.bytes)).collect();
        for file in files {
            let path = self.root.join(&file.name);
            let found = there.get(&path).with_context(|| format!("cannot find `{}`", path.display()))?;
            anyhow::ensure!(*found == file.bytes, "`{}` has {found} bytes, expected {}", path.display(), file.bytes);
        }
        Ok(())
    }
}

/// Makes renames in a directory durable.
fn sync_dir(path: &Path) -> anyhow::Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).with_context(|| format!("cannot sync `{}`", path.display()))
}
