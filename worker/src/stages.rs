//! The pipeline of one shard: read → look up → tokenize and plan → collect and write, four futures over bounded channels. Capacity
//! is the only back-pressure; what a shard holds in memory is at most `2 * CHUNKS_READ_MAX + CHUNKS_IN_FLIGHT_MAX + 4` chunks,
//! and where earlier outputs are looked up a portion of chunks more, however long the shard or the corpus is.

use std::sync::Arc;

use arrow_array::RecordBatch;
use dataset::{
    FileSummary, RecordChunk, RecordReader, RejectReason, ReuseIndex, ReusedRows, RowStatus, VectorChunk, VectorWriter,
};
use proto::job::OnBadRow;
use proto::work::{Grant, RowWindow};
use tokio::sync::{mpsc, oneshot};

use crate::engines::Loaded;
use crate::error::ShardError;
use crate::failpoint;
use crate::meter::{Meter, Stage};
use crate::plan::{self, ChunkPlan, Layout, Row};
use crate::pools::{ForwardResult, ForwardTask, Pools, TOKENIZE_TEXTS_MAX, TokenizeTask};
use crate::queue::ShardQueue;
use crate::reuse::{self, KnownChunk};
use crate::sample::Sample;

/// Chunks read ahead of the tokenizer.
const CHUNKS_READ_MAX: usize = 1;
/// Chunks whose batches wait or are computed: while one drains at its end, the next keeps the forward threads busy.
const CHUNKS_IN_FLIGHT_MAX: usize = 3;

/// What the stages of one shard share.
pub(crate) struct Stages<'a> {
    pub(crate) grant: &'a Grant,
    pub(crate) model: Arc<Loaded>,
    /// What earlier outputs have.
    pub(crate) reuse: Option<Arc<ReuseIndex>>,
    pub(crate) pools: &'a Pools,
    pub(crate) meter: Arc<Meter>,
    pub(crate) sample: &'a Sample,
}

/// A chunk whose batches are in the queue.
struct ChunkInFlight {
    first_row: u64,
    kept: RecordBatch,
    reused: Option<ReusedRows>,
    layout: Layout,
    batches: usize,
    results: mpsc::Receiver<Result<ForwardResult, ShardError>>,
}

/// For how many rows of a shard a vector was computed, and how many got one that had to be rejected.
#[derive(Debug, Default, Clone, Copy)]
struct Outcome {
    finite: u64,
    not_finite: u64,
}

impl Outcome {
    fn of(status: &[RowStatus], reused: Option<&ReusedRows>) -> Outcome {
        let count = |error| status.iter().filter(|row| row.error == error).count() as u64;
        let finite = count(None) - reused.map_or(0, ReusedRows::count);
        Outcome { finite, not_finite: count(Some(RejectReason::NonFinite)) }
    }

    fn add(&mut self, other: Outcome) {
        self.finite += other.finite;
        self.not_finite += other.not_finite;
    }
}

impl Stages<'_> {
    /// Runs the pipeline to its end. Returns the digest of the input and what was written.
    pub(crate) async fn run(
        &self,
        reader: RecordReader,
        writer: VectorWriter,
    ) -> Result<(String, FileSummary), ShardError> {
        let (read, chunks) = mpsc::channel(CHUNKS_READ_MAX);
        let (planned, in_flight) = mpsc::channel(CHUNKS_IN_FLIGHT_MAX - 1);
        let queue = self.pools.forward.open();
        let (looked_up, known) = mpsc::channel(CHUNKS_READ_MAX);
        let (input, (), (), summary) = tokio::try_join!(
            self.read(reader, read),
            reuse::look_up(self.reuse.clone(), chunks, looked_up, &self.meter),
            self.encode(known, &queue, planned),
            self.write(in_flight, writer)
        )?;
        Ok((input, summary))
    }

    async fn read(&self, mut reader: RecordReader, chunks: mpsc::Sender<RecordChunk>) -> Result<String, ShardError> {
        let slice = &self.grant.slice;
        let mut next_row = slice.first_row;
        while let Some(chunk) = self.meter.time_async(Stage::Read, reader.next_chunk()).await? {
            if chunk.first_row != next_row {
                return Err(self.rows_differ(chunk.first_row));
            }
            next_row += chunk.texts.len() as u64;
            if let Some(chunk) = wanted_of(chunk, self.grant) {
                send(&chunks, chunk).await?;
            }
        }
        if next_row != slice.first_row + slice.rows {
            return Err(self.rows_differ(next_row));
        }
        Ok(reader.input_blake3())
    }

    fn rows_differ(&self, found_end: u64) -> ShardError {
        let slice = &self.grant.slice;
        ShardError::RowsDiffer {
            uri: self.grant.source.source.uri.clone(),
            expected_first: slice.first_row,
            expected_end: slice.first_row + slice.rows,
            found_end,
        }
    }

    async fn encode(
        &self,
        mut chunks: mpsc::Receiver<KnownChunk>,
        queue: &ShardQueue<ForwardTask>,
        planned: mpsc::Sender<ChunkInFlight>,
    ) -> Result<(), ShardError> {
        while let Some(KnownChunk { chunk, reused }) = chunks.recv().await {
            let RecordChunk { first_row, texts, kept } = chunk;
            let rows = self.tokenize_unknown(texts, reused.as_ref()).await?;
            let plan = self.meter.time(Stage::Plan, || plan::plan(&rows, self.model.batch_tokens));
            let of_reused = plan::reused(&rows);
            let tokens = plan.batches.iter().map(|batch| batch.tokens).sum::<u64>() + of_reused.tokens;
            self.sample.add(&self.grant.slice, rows.len() as u64, tokens);
            self.meter.add_rows(of_reused.rows, of_reused.tokens);
            drop(rows);
            self.refuse_rejects(first_row, plan.layout.first_reject())?;
            // Room among the chunks in flight comes first, the batches after it: the queue stays bounded.
            let room = planned.reserve().await.map_err(|_| ShardError::Stopping)?;
            room.send(self.submit(first_row, (kept, reused), plan, queue));
        }
        Ok(())
    }

    /// Tokenizes the texts that no earlier output has.
    async fn tokenize_unknown(
        &self,
        texts: Vec<Result<String, RejectReason>>,
        reused: Option<&ReusedRows>,
    ) -> Result<Vec<Row>, ShardError> {
        let Some(reused) = reused else { return self.tokenize(texts).await };
        let count = texts.len();
        let unknown = texts.into_iter().enumerate().filter(|(row, _)| !reused.has(*row)).map(|(_, text)| text);
        let mut tokenized = self.tokenize(unknown.collect()).await?.into_iter();
        let row = |row| match reused.tokens(row) {
            Some((n_tokens, truncated)) => Some(Row::Reused { n_tokens, truncated }),
            None => tokenized.next(),
        };
        Ok((0..count).filter_map(row).collect())
    }

    /// Spreads a chunk over the tokenizer threads and puts it together again.
    async fn tokenize(&self, texts: Vec<Result<String, RejectReason>>) -> Result<Vec<Row>, ShardError> {
        let mut rows = Vec::with_capacity(texts.len());
        let mut replies = Vec::with_capacity(texts.len().div_ceil(TOKENIZE_TEXTS_MAX));
        let mut texts = texts.into_iter();
        loop {
            let some: Vec<_> = texts.by_ref().take(TOKENIZE_TEXTS_MAX).collect();
            if some.is_empty() {
                break;
            }
            let (reply, answer) = oneshot::channel();
            let (model, meter) = (Arc::clone(&self.model), Arc::clone(&self.meter));
            send(&self.pools.tokenize, TokenizeTask { model, texts: some, meter, reply }).await?;
            replies.push(answer);
        }
        for answer in replies {
            rows.extend(answer.await.map_err(|_| ShardError::Stopping)??);
        }
        Ok(rows)
    }

    fn submit(
        &self,
        first_row: u64,
        (kept, reused): (RecordBatch, Option<ReusedRows>),
        plan: ChunkPlan,
        queue: &ShardQueue<ForwardTask>,
    ) -> ChunkInFlight {
        let ChunkPlan { batches, layout } = plan;
        self.meter.add_rows(layout.rejects(), 0);
        self.meter.add_repeats(layout.repeats());
        let count = batches.len();
        let (reply, results) = mpsc::channel(count.max(1));
        queue.push(batches.into_iter().map(|planned| ForwardTask {
            model: Arc::clone(&self.model),
            planned,
            meter: Arc::clone(&self.meter),
            reply: reply.clone(),
        }));
        ChunkInFlight { first_row, kept, reused, layout, batches: count, results }
    }

    async fn write(
        &self,
        mut in_flight: mpsc::Receiver<ChunkInFlight>,
        mut writer: VectorWriter,
    ) -> Result<FileSummary, ShardError> {
        let mut outcome = Outcome::default();
        while let Some(mut chunk) = in_flight.recv().await {
            let distinct = self.collect(&mut chunk).await?;
            let ChunkInFlight { first_row, kept, reused, layout, .. } = chunk;
            let (dimensions, meter) = (self.model.dimensions, Arc::clone(&self.meter));
            let (written, non_finite, of_chunk) = blocking("write", move || {
                meter.time(Stage::Write, || {
                    let (vectors, status) = layout.scatter(&distinct, dimensions);
                    let reject = status.iter().position(|row| row.error.is_some());
                    let reject = reject.and_then(|row| status[row].error.map(|reason| (row, reason)));
                    let outcome = Outcome::of(&status, reused.as_ref());
                    writer.write(VectorChunk { first_row, kept, vectors, status, reused })?;
                    Ok((writer, reject, outcome))
                })
            })
            .await?;
            self.refuse_rejects(first_row, non_finite)?;
            outcome.add(of_chunk);
            writer = written;
        }
        self.refuse_a_broken_model(outcome)?;
        let meter = Arc::clone(&self.meter);
        blocking("write", move || meter.time(Stage::Write, || Ok(writer.finish()?))).await
    }

    /// Waits for all batches of a chunk and puts their vectors in the order of its distinct texts.
    async fn collect(&self, chunk: &mut ChunkInFlight) -> Result<Vec<f32>, ShardError> {
        let mut distinct = chunk.layout.room(self.model.dimensions);
        for _ in 0..chunk.batches {
            let result = chunk.results.recv().await.ok_or(ShardError::Stopping)??;
            plan::gather(&mut distinct, &result.places, &result.vectors, self.model.dimensions);
        }
        Ok(distinct)
    }

    /// Ends the job where no vector of its first rows is finite. A text alone can be unlucky; a whole shard of them is the
    /// model's fault, and so would be all others.
    fn refuse_a_broken_model(&self, outcome: Outcome) -> Result<(), ShardError> {
        match self.grant.wanted().first_row == 0 && outcome.finite == 0 && outcome.not_finite > 0 {
            true => Err(ShardError::NothingFinite { model: self.grant.model.name.clone(), rows: outcome.not_finite }),
            false => Ok(()),
        }
    }

    /// Ends the attempt on a rejected row where the job wants that.
    fn refuse_rejects(&self, first_row: u64, reject: Option<(usize, dataset::RejectReason)>) -> Result<(), ShardError> {
        match (self.grant.on_bad_row, reject) {
            (OnBadRow::Reject, _) | (_, None) => Ok(()),
            (OnBadRow::Fail, Some((row, reason))) => Err(ShardError::BadRow {
                uri: self.grant.source.source.uri.clone(),
                row: first_row + row as u64,
                reason,
            }),
        }
    }
}

/// Returns the rows of a chunk that the grant wants, as it wants them: the half of a shard that was split is read as a
/// whole, and a poison row is rejected before its text is used.
fn wanted_of(chunk: RecordChunk, grant: &Grant) -> Option<RecordChunk> {
    let RowWindow { first_row, rows } = grant.wanted();
    let (begin, end) = (chunk.first_row, chunk.first_row + chunk.texts.len() as u64);
    let (from, to) = (begin.max(first_row), end.min(first_row + rows));
    if from >= to {
        return None;
    }
    let (offset, length) = (usize::try_from(from - begin).ok()?, usize::try_from(to - from).ok()?);
    let mut texts = chunk.texts;
    texts.truncate(offset + length);
    texts.drain(..offset);
    if grant.is_poison {
        texts.iter_mut().filter(|text| text.is_ok()).for_each(|text| *text = Err(RejectReason::WorkerCrash));
    }
    failpoint::die_of(&texts);
    Some(RecordChunk { first_row: from, texts, kept: chunk.kept.slice(offset, length) })
}

/// Sends to the next stage. It is gone only where it failed; its own error is the one that counts.
pub(crate) async fn send<T>(next: &mpsc::Sender<T>, value: T) -> Result<(), ShardError> {
    next.send(value).await.map_err(|_| ShardError::Stopping)
}

/// Runs file work on a thread that may wait.
pub(crate) async fn blocking<T: Send + 'static>(
    stage: &'static str,
    work: impl FnOnce() -> Result<T, ShardError> + Send + 'static,
) -> Result<T, ShardError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ShardError::Panicked { stage })?
}
