//! How finished parts get their names, and the manifest that lists them.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use dataset::vectors::{AtomicFile, layout, read_manifest};
use dataset::{DatasetError, ErrorKind, FileInfo, Manifest, Storage, VectorWriter};

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

    fn without_manifest(&self, error: DatasetError) -> anyhow::Error {
        if error.kind() != ErrorKind::NotFound {
            return error.into();
        }
        let root = self.root().display();
        Advice::failed(format!("`{root}` was finished, but its `{}` is gone", layout::MANIFEST_NAME))
            .hint(format!("to restore it: encaje repair {root}, then run again"))
            .hint(format!("to start over instead: rm -r {root}"))
            .into()
    }

    /// Writes the manifest of parts that are all in place: from now on the directory is a finished output.
    pub(crate) fn write_manifest(&self, manifest: &Manifest) -> anyhow::Result<()> {
        self.write_card(manifest)?;
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

fn check_size(path: &Path, bytes: u64) -> anyhow::Result<()> {
    let found = fs::metadata(path).with_context(|| format!("cannot find `{}`", path.display()))?.len();
    anyhow::ensure!(found == bytes, "`{}` has {found} bytes, expected {bytes}", path.display());
    Ok(())
}

/// Makes renames in a directory durable.
fn sync_dir(path: &Path) -> anyhow::Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).with_context(|| format!("cannot sync `{}`", path.display()))
}
