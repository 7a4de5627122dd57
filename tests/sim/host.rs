//! The machine of a simulated worker: its disk, a task for its heartbeat, and shards whose files follow from their rows.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use common::rng;
use coordinator::store::memory::planted::{self, Bug};
use dataset::{DatasetError, ErrorKind, SliceRange, Storage};
use futures::future::BoxFuture;
use proto::job::RowCounts;
use proto::work::{FailureClass, Grant, Output};
use worker::{Failed, Meter, WorkerHost, check_input};

use crate::corpus::digest_of;
use crate::disk::SimDisk;
use crate::fault::happens;
use crate::files::{Made, Rows, file_of};
use crate::life::Life;
use crate::world::{Node, World, some_time};

/// What a worker process runs on.
pub(crate) struct SimHost {
    pub(crate) world: Arc<World>,
    pub(crate) life: Arc<Life>,
    pub(crate) node: Node,
}

impl WorkerHost for SimHost {
    fn storage<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Storage, DatasetError>> {
        let (world, life) = (Arc::clone(&self.world), Arc::clone(&self.life));
        let storage = Storage::from_store(Arc::new(SimDisk { world, life, node: self.node }), url);
        Box::pin(std::future::ready(Ok(storage)))
    }

    fn embed_shard<'a>(
        &'a self,
        storage: &'a Storage,
        grant: &'a Grant,
        meter: &'a Arc<Meter>,
    ) -> BoxFuture<'a, Result<Output, Failed>> {
        Box::pin(self.embed(storage, grant, meter))
    }

    fn spawn_heartbeat(&self, heartbeat: BoxFuture<'static, ()>) -> io::Result<BoxFuture<'static, ()>> {
        let task = tokio::spawn(heartbeat);
        Ok(Box::pin(async move {
            task.await.ok();
        }))
    }
}

impl SimHost {
    async fn embed(&self, storage: &Storage, grant: &Grant, meter: &Meter) -> Result<Output, Failed> {
        let Grant { shard, epoch, .. } = grant;
        self.world.note(format_args!("{}: begins {shard} epoch {epoch}", self.node));
        if let SliceRange::Rows { end, .. } = grant.slice.range
            && end > grant.source.fingerprint.size
        {
            self.world.violated(format!("{shard} came with another source than its own"));
        }
        let faults = self.world.faults();
        let wanted = grant.wanted();
        let (mut input_blake3, misread) = self.read(grant);
        if let (true, Some(planned)) = (planted::is(Bug::InputUnchecked), &grant.slice.blake3) {
            input_blake3.clone_from(planned);
        }
        let slow = happens(faults.shard_slow);
        if happens(faults.shard_hangs) {
            self.world.note(format_args!("{}: hangs at {shard}", self.node));
            std::future::pending::<()>().await;
        }
        for row in wanted.first_row..wanted.first_row + wanted.rows {
            let most_ms = if slow { 60_000 } else { 3_000 };
            tokio::time::sleep(Duration::from_millis(200 + rng::below(most_ms + 1))).await;
            self.life.gate().await;
            if self.world.is_poison(shard.job, row) && !grant.is_poison {
                self.world.note(format_args!("{}: row {row} kills it", self.node));
                self.life.kill();
                self.world.dies(self.node);
                self.life.gate().await;
            }
            meter.add_rows(1, 5);
        }
        if happens(faults.shard_fails) {
            let class = match rng::below(5) {
                0 => FailureClass::Throttled,
                1 => FailureClass::Resource,
                _ => FailureClass::Transient,
            };
            return Err(Failed { class, message: "it broke".to_owned() });
        }
        let again = if planted::is(Bug::FlipIsChange) { String::new() } else { self.read_again(grant) };
        check_input(grant, &input_blake3, async { Ok(again) })
            .await
            .inspect_err(|failed| self.look_at(grant, failed))?;
        let rows = Rows { first: wanted.first_row, count: wanted.rows, is_poison: grant.is_poison, misread };
        let made = file_of(shard.job, &grant.spec_digest, rows);
        self.store(storage, grant, &made).await?;
        let Made { summary, .. } = made;
        Ok(Output {
            key: grant.output_key.clone(),
            bytes: summary.bytes,
            blake3: summary.blake3,
            input_blake3,
            counts: RowCounts {
                rows: summary.rows,
                rejects: summary.rejects,
                truncated: summary.truncated,
                tokens: summary.tokens,
                reused: summary.reused,
            },
        })
    }
}

impl SimHost {
    /// Stores a file, or, with a planted bug, does not.
    async fn store(&self, storage: &Storage, grant: &Grant, made: &Made) -> Result<(), Failed> {
        if planted::is(Bug::CommitBeforePut) {
            // The file is stored once its commit is under way.
            let (storage, grant, made) = (storage.clone(), grant.clone(), made.clone());
            let life = Arc::clone(&self.life);
            tokio::spawn(async move {
                some_time(5, 5_000).await;
                life.gate().await;
                store(&storage, &grant, &made).await.ok();
            });
            return Ok(());
        }
        let stored = store(storage, grant, made).await;
        if planted::is(Bug::CommitUnchecked) {
            self.world.report_bytes(&grant.output_key, made.summary.bytes);
            return Ok(());
        }
        stored
    }

    /// Reads a slice. Returns the digest of what was read, and whether that is anything else than the corpus as planned.
    fn read(&self, grant: &Grant) -> (String, bool) {
        let rows = rows_read(grant);
        let changed = self.world.is_changed(grant.shard.job);
        if grant.slice.blake3.is_some() && self.world.outages.flips_source() {
            self.world.note(format_args!("{}: a bit of {} flips on the way", self.node, grant.shard));
            return ("flipped".to_owned(), true);
        }
        (digest_of(rows, changed), changed)
    }

    /// Reads a slice after a first time that gave something else; no bit flips twice.
    fn read_again(&self, grant: &Grant) -> String {
        digest_of(rows_read(grant), self.world.is_changed(grant.shard.job))
    }

    /// Only a corpus that changed may be said to have.
    fn look_at(&self, grant: &Grant, failed: &Failed) {
        self.world.note(format_args!("{}: {}: {}", self.node, grant.shard, failed.message));
        if failed.class == FailureClass::InputChanged && !self.world.is_changed(grant.shard.job) {
            self.world.violated(format!("{} failed of a corpus that is as planned: {}", grant.shard, failed.message));
        }
    }
}

/// The rows of a slice, by their numbers over the whole corpus.
fn rows_read(grant: &Grant) -> Range<u64> {
    grant.slice.first_row..grant.slice.first_row + grant.slice.rows
}

/// As the pipeline does it: a file that is there is our own earlier try.
async fn store(storage: &Storage, grant: &Grant, made: &Made) -> Result<(), Failed> {
    let failed = |error: DatasetError| Failed { class: FailureClass::Transient, message: error.to_string() };
    let found = match storage.put_new(&grant.output_key, made.bytes.clone()).await {
        Ok(object) => object.size,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            storage.head(&grant.output_key).await.map_err(failed)?.size
        }
        Err(error) => return Err(failed(error)),
    };
    let whole = found == made.summary.bytes;
    let message = || format!("{found} bytes are stored");
    if whole { Ok(()) } else { Err(Failed { class: FailureClass::Transient, message: message() }) }
}
