//! Vectors of earlier outputs: texts that these have are neither tokenized nor embedded. The index of a job's earlier outputs is
//! built once and kept; chunks are looked up several at a time, so that an earlier output in another order is read in order.

use std::sync::Arc;

use dataset::{FileInfo, RecordChunk, ReuseIndex, ReusedRows};
use proto::job::ReuseSource;
use tokio::sync::{Mutex, mpsc};

use crate::error::ShardError;
use crate::meter::{Meter, Stage};
use crate::stages::{blocking, send};

/// Indexes kept in memory, of which the one used longest ago makes room for a new one.
const INDEXES_KEPT_MAX: usize = 2;
/// Chunks are looked up together until they have so many, or this size of vectors: an earlier output in random order is read
/// once for each such portion.
const CHUNKS_MAX: usize = 16;
const VECTOR_BYTES_MAX: usize = 64 << 20;

/// A chunk with what an earlier output has of it.
pub(crate) struct KnownChunk {
    pub(crate) chunk: RecordChunk,
    pub(crate) reused: Option<ReusedRows>,
}

/// An index, and what it is of.
struct Built {
    sources: Vec<ReuseSource>,
    /// Of any of the jobs that may use it.
    info: FileInfo,
    index: Arc<ReuseIndex>,
}

/// The indexes that are in memory.
#[derive(Default)]
pub(crate) struct ReuseCache(
    /// Used longest ago first. Held while building: two shards of one job build it once.
    Mutex<Vec<Built>>,
);

impl ReuseCache {
    /// Returns the index of a job's earlier outputs, if it has any, building it on a thread that may wait.
    pub(crate) async fn get(
        &self,
        sources: &[ReuseSource],
        info: &FileInfo,
    ) -> Result<Option<Arc<ReuseIndex>>, ShardError> {
        if sources.is_empty() {
            return Ok(None);
        }
        let mut built = self.0.lock().await;
        if let Some(at) = built.iter().position(|entry| entry.sources == sources && entry.info == *info) {
            let entry = built.remove(at);
            let index = Arc::clone(&entry.index);
            built.push(entry);
            return Ok(Some(index));
        }
        if built.len() >= INDEXES_KEPT_MAX {
            drop(built.remove(0));
        }
        let (sources, info) = (sources.to_vec(), info.clone());
        let entry = blocking("reuse", move || {
            let index = ReuseIndex::build(&sources, &info).map_err(ShardError::Reuse)?;
            Ok(Built { sources, info, index: Arc::new(index) })
        });
        let entry = entry.await?;
        tracing::info!(texts = entry.index.texts(), "earlier outputs indexed");
        let index = Arc::clone(&entry.index);
        built.push(entry);
        Ok(Some(index))
    }
}

/// Looks up what earlier outputs have of the chunks, and passes them on in order.
pub(crate) async fn look_up(
    index: Option<Arc<ReuseIndex>>,
    mut chunks: mpsc::Receiver<RecordChunk>,
    known: mpsc::Sender<KnownChunk>,
    meter: &Arc<Meter>,
) -> Result<(), ShardError> {
    let Some(index) = index else {
        while let Some(chunk) = chunks.recv().await {
            send(&known, KnownChunk { chunk, reused: None }).await?;
        }
        return Ok(());
    };
    loop {
        let portion = portion(&mut chunks, index.vector_bytes()).await;
        if portion.is_empty() {
            return Ok(());
        }
        let (index, meter) = (Arc::clone(&index), Arc::clone(meter));
        let looked_up = blocking("reuse", move || {
            meter.time(Stage::Read, || {
                let texts: Vec<_> = portion.iter().map(|chunk| chunk.texts.as_slice()).collect();
                let reused = index.look_up(&texts).map_err(ShardError::Reuse)?;
                Ok(portion.into_iter().zip(reused).map(|(chunk, reused)| KnownChunk { chunk, reused }))
            })
        });
        for chunk in looked_up.await? {
            send(&known, chunk).await?;
        }
    }
}

/// Waits for chunks that are looked up together; none at the end.
async fn portion(chunks: &mut mpsc::Receiver<RecordChunk>, vector_bytes: usize) -> Vec<RecordChunk> {
    let (mut portion, mut rows) = (Vec::new(), 0);
    while portion.len() < CHUNKS_MAX && rows * vector_bytes < VECTOR_BYTES_MAX {
        let Some(chunk) = chunks.recv().await else { break };
        rows += chunk.texts.len();
        portion.push(chunk);
    }
    portion
}
