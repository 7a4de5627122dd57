//! The threads that compute, shared by all shards of a worker: tokenizer threads and forward threads. They never touch the
//! async runtime, and a panic in one task costs that task alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use dataset::RejectReason;
use engine::{Batch, DeviceSpec, EmbedError, Engine};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::config::WorkerConfig;
use crate::engines::Loaded;
use crate::error::{ShardError, WorkerError};
use crate::failpoint;
use crate::meter::{Meter, Stage};
use crate::plan::{PlannedBatch, Row};
use crate::queue::Queue;

/// Texts that one tokenizer task takes: small enough to spread a chunk over the threads.
pub(crate) const TOKENIZE_TEXTS_MAX: usize = 256;
/// Tokenizer tasks that wait. A shard that finds the queue full waits itself.
const TOKENIZE_QUEUE_MAX: usize = 32;

/// Texts to be tokenized.
pub(crate) struct TokenizeTask {
    pub(crate) model: Arc<Loaded>,
    pub(crate) texts: Vec<Result<String, RejectReason>>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) reply: oneshot::Sender<Result<Vec<Row>, ShardError>>,
}

/// A batch to be embedded.
pub(crate) struct ForwardTask {
    pub(crate) model: Arc<Loaded>,
    pub(crate) planned: PlannedBatch,
    pub(crate) meter: Arc<Meter>,
    /// Has room for the results of all batches of the chunk, so that no forward thread ever waits.
    pub(crate) reply: mpsc::Sender<Result<ForwardResult, ShardError>>,
}

/// The vectors of a batch.
pub(crate) struct ForwardResult {
    pub(crate) places: Vec<usize>,
    pub(crate) vectors: Vec<f32>,
}

/// What this process cannot use any more and cannot work without: a device, or the disk of its spool. It is reported once;
/// the worker then gives its shards back and ends.
#[derive(Clone, Default)]
pub(crate) struct Loss {
    /// Cancelled at the loss.
    pub(crate) token: CancellationToken,
    inner: Arc<Mutex<LossInner>>,
}

#[derive(Default)]
struct LossInner {
    error: Option<WorkerError>,
    /// Replies that will never come: their shards wait until they are given back, and do not fail.
    replies: Vec<mpsc::Sender<Result<ForwardResult, ShardError>>>,
}

impl Loss {
    /// Reports a loss; the first report counts.
    pub(crate) fn report(&self, error: WorkerError) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.error.get_or_insert(error);
        self.token.cancel();
    }

    fn keep(&self, reply: mpsc::Sender<Result<ForwardResult, ShardError>>) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).replies.push(reply);
    }

    /// Takes the error that the worker ends with, if there was a loss.
    pub(crate) fn take_error(&self) -> Option<WorkerError> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).error.take()
    }
}

/// All computing threads of a worker. Dropping it ends them after their current task.
pub(crate) struct Pools {
    pub(crate) tokenize: mpsc::Sender<TokenizeTask>,
    pub(crate) forward: Arc<Queue<ForwardTask>>,
    pub(crate) loss: Loss,
    threads: Vec<JoinHandle<()>>,
}

impl Pools {
    pub(crate) fn start(config: &WorkerConfig) -> Result<Self, WorkerError> {
        let (tokenize, tasks) = mpsc::channel(TOKENIZE_QUEUE_MAX);
        let mut pools = Self { tokenize, forward: Queue::new(), loss: Loss::default(), threads: Vec::new() };
        let tasks = Arc::new(Mutex::new(tasks));
        for _ in 0..config.tokenizer_threads.max(1) {
            let tasks = Arc::clone(&tasks);
            pools.spawn("tokenizer", move || tokenize_all(&tasks))?;
        }
        for (index, device) in config.devices.iter().enumerate() {
            let threads = match device {
                DeviceSpec::Cpu => config.threads.max(1),
                DeviceSpec::Cuda(_) => engine::GPU_STREAMS,
            };
            for _ in 0..threads {
                let (queue, loss) = (Arc::clone(&pools.forward), pools.loss.clone());
                pools.spawn("forward", move || forward_all(&queue, index, &loss))?;
            }
        }
        Ok(pools)
    }

    fn spawn(&mut self, what: &'static str, work: impl FnOnce() + Send + 'static) -> Result<(), WorkerError> {
        let thread = std::thread::Builder::new().name(format!("encaje-{what}")).spawn(work);
        self.threads.push(thread.map_err(|source| WorkerError::Thread { what, source })?);
        Ok(())
    }

    /// Ends the threads and waits for them. Blocking.
    pub(crate) fn stop(mut self) {
        self.forward.close();
        let threads = std::mem::take(&mut self.threads);
        drop(self);
        for thread in threads {
            // Tasks catch their own panics: a thread has nothing to tell.
            thread.join().ok();
        }
    }
}

impl Drop for Pools {
    fn drop(&mut self) {
        self.forward.close();
    }
}

fn tokenize_all(tasks: &Mutex<mpsc::Receiver<TokenizeTask>>) {
    loop {
        let next = tasks.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(TokenizeTask { model, texts, meter, reply }) = next else { return };
        if reply.is_closed() {
            continue;
        }
        let rows = meter.time(Stage::Tokenize, || {
            catch_unwind(AssertUnwindSafe(|| texts.into_iter().map(|text| tokenize(&model, text)).collect()))
        });
        // The receiver is gone where the shard was dropped meanwhile.
        reply.send(rows.map_err(|_| ShardError::Panicked { stage: "tokenize" })).ok();
    }
}

fn tokenize(model: &Loaded, text: Result<String, RejectReason>) -> Row {
    match text.map(|text| model.encoder.encode_for_model(&text)) {
        Err(reason) => Row::Rejected(reason),
        Ok(Err(_)) => Row::Rejected(RejectReason::TokenizerError),
        Ok(Ok(encoded)) if encoded.ids.is_empty() => Row::Rejected(RejectReason::EmptyText),
        Ok(Ok(encoded)) => Row::Tokens { ids: encoded.ids, truncated: encoded.truncated },
    }
}

fn forward_all(queue: &Queue<ForwardTask>, device: usize, loss: &Loss) {
    while let Some(ForwardTask { model, planned, meter, reply }) = queue.next() {
        if reply.is_closed() {
            continue;
        }
        let embedded = meter
            .time(Stage::Forward, || catch_unwind(AssertUnwindSafe(|| embed(&model.engines[device], &planned.batch))));
        let result = match embedded {
            Ok(Ok(vectors)) => {
                meter.add_rows(planned.rows, planned.tokens);
                Ok(ForwardResult { places: planned.places, vectors })
            }
            Ok(Err(EmbedError::DeviceLost { device, reason })) => {
                loss.keep(reply);
                loss.report(WorkerError::DeviceLost { device, reason });
                continue;
            }
            Ok(Err(error)) => Err(ShardError::from(error)),
            Err(_) => Err(ShardError::Panicked { stage: "forward" }),
        };
        // The receiver is gone where the shard was dropped meanwhile.
        reply.try_send(result).ok();
    }
}

fn embed(engine: &Engine, batch: &Batch) -> Result<Vec<f32>, EmbedError> {
    if failpoint::loses_device("batch") {
        return Err(EmbedError::DeviceLost {
            device: engine.device().to_string(),
            reason: "by order of a test".into(),
        });
    }
    engine.embed(batch)
}
