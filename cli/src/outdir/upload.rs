//! Uploading the finished shards of a run whose output is at a URL, while the run goes on: the loss of this machine loses only the
//! rest, and its disk need not hold the whole output.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs;
use std::time::Duration;

use anyhow::Context;
use dataset::vectors::layout;
use dataset::{ManifestFile, Storage};
use proto::JobId;
use proto::client::JobsClient;
use proto::job::ShardResult;
use tokio::time::sleep;
use worker::Trouble;

use super::directory::OutDir;

/// How often finished shards are looked for, and tried again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Uploads the shards of a job as they are committed.
pub(crate) struct Uploader<'a> {
    out: &'a OutDir,
    storage: &'a Storage,
    client: &'a JobsClient,
    job: JobId,
    trouble: &'a Trouble,
    /// Every shard below this one was uploaded.
    below: u64,
    /// More of them.
    more: BTreeSet<u64>,
    /// The first shard that was ever seen: its file stays, since the manifest is made from its footer.
    first: Option<u64>,
}

impl<'a> Uploader<'a> {
    /// Begins with nothing uploaded. What fails is noted as `trouble`.
    pub(crate) fn new(
        out: &'a OutDir,
        (storage, client): (&'a Storage, &'a JobsClient),
        job: JobId,
        trouble: &'a Trouble,
    ) -> Self {
        Self { out, storage, client, job, trouble, below: 0, more: BTreeSet::new(), first: None }
    }

    /// Ends only by being dropped; what fails is tried again, and at the end of the run by [`OutDir::publish`], which says why
    /// it fails.
    pub(crate) async fn run(&mut self) -> Infallible {
        loop {
            if let Err(error) = self.upload_new().await {
                self.trouble.note(format!("finished shards are not uploaded yet: {error:#}"));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Uploads what is committed and not there yet.
    pub(crate) async fn upload_new(&mut self) -> anyhow::Result<()> {
        let mut after = self.below.checked_sub(1);
        loop {
            let page = self.client.results(self.job, after).await?;
            for shard in &page.shards {
                if !self.more.contains(&shard.index) {
                    self.upload(shard).await?;
                }
            }
            match page.shards.last().filter(|_| page.more) {
                Some(last) => after = Some(last.index),
                None => return Ok(()),
            }
        }
    }

    async fn upload(&mut self, shard: &ShardResult) -> anyhow::Result<()> {
        let path = self.storage.local_path(&shard.key).context("the shards of a run are on a local disk")?;
        let is_first = self.first.is_none_or(|first| shard.index <= first);
        if is_first {
            self.first = Some(shard.index);
        }
        let (out, file) = (self.out.clone(), part_of(shard));
        let upload = move || {
            // One that is not here was uploaded by an earlier run.
            if !path.exists() {
                return Ok(());
            }
            out.upload_part(&path, &file)?;
            if is_first { Ok(()) } else { fs::remove_file(&path).context("cannot remove an uploaded shard") }
        };
        tokio::task::spawn_blocking(upload).await.context("an upload crashed")??;
        self.more.insert(shard.index);
        while self.more.remove(&self.below) {
            self.below += 1;
        }
        Ok(())
    }
}

/// The part that a shard becomes where no shard is missing.
fn part_of(shard: &ShardResult) -> ManifestFile {
    let counts = shard.counts.clone();
    ManifestFile {
        name: layout::part_name(shard.index),
        first_row: shard.first_row,
        rows: counts.rows,
        bytes: shard.bytes,
        blake3: shard.blake3.clone(),
        rejects: counts.rejects,
        truncated: counts.truncated,
        tokens: counts.tokens,
        reused: counts.reused,
    }
}
