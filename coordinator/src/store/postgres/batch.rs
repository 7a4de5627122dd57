//! Gathers requests of one kind that come at the same time, so that one statement, one round trip and one sync of the
//! server's log answer all of them. Callers may go away: their requests in a batch are still executed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::postgres::PgConnection;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::pool::{Held, Pool};
use super::transition::{DEADLOCK_TRIES_MAX, was_rolled_back};
use crate::store::error::{StoreError, StoreErrorKind};

type Result<T> = std::result::Result<T, StoreError>;

/// Requests that wait at most; more callers wait for a place.
const QUEUE_MAX: usize = 4_096;

/// One kind of request, and how many of it are answered together.
pub(super) trait Batched: Send + Sync + 'static {
    type Request: Clone + Send + Sync + 'static;
    type Answer: Send + 'static;

    /// Answers every request, in their order. Repeating it after an error is harmless.
    fn run<'c>(
        &'c self,
        connection: &'c mut PgConnection,
        requests: &'c [Self::Request],
    ) -> BoxFuture<'c, Result<Vec<Self::Answer>>>;
}

/// How a kind of request is gathered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Statements under way at once: while one waits for the disk, the next is gathered.
    pub(super) workers: usize,
    /// Requests in one statement at most.
    pub(super) batch_max: usize,
    /// How long to wait for more after the first,
    pub(super) gather: Duration,
    /// until there are so many.
    pub(super) enough: usize,
    /// Not to wait where no other statement of the kind is under way: a single request has nothing to wait for.
    pub(super) hurry: bool,
    /// Batches are answered in milliseconds: where one is not for so long, its connection is lost.
    pub(super) patience: Duration,
}

struct Asked<Q, A> {
    request: Q,
    reply: oneshot::Sender<Result<A>>,
}

/// Where the workers of one kind find their requests.
struct Queue<B: Batched> {
    asked: Mutex<mpsc::Receiver<Asked<B::Request, B::Answer>>>,
    /// How many of them are at work.
    running: AtomicUsize,
}

/// The queue of one kind of request. Its workers end when it is dropped or stopped.
pub(super) struct Batcher<B: Batched> {
    queue: mpsc::Sender<Asked<B::Request, B::Answer>>,
}

impl<B: Batched> Batcher<B> {
    pub(super) fn start(kind: B, pool: &Pool, shape: Shape, stop: &CancellationToken) -> Self {
        let (sender, asked) = mpsc::channel(QUEUE_MAX);
        let queue = Arc::new(Queue { asked: Mutex::new(asked), running: AtomicUsize::new(0) });
        let kind = Arc::new(kind);
        for _ in 0..shape.workers {
            tokio::spawn(serve(Arc::clone(&kind), Arc::clone(&queue), pool.clone(), shape, stop.clone()));
        }
        Self { queue: sender }
    }

    /// Returns the answer to one request.
    pub(super) async fn ask(&self, request: B::Request) -> Result<B::Answer> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(Asked { request, reply }).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

async fn serve<B: Batched>(kind: Arc<B>, queue: Arc<Queue<B>>, pool: Pool, shape: Shape, stop: CancellationToken) {
    // Kept from batch to batch: handing it back to the pool and taking it again would be two more round trips.
    let mut connection: Option<Held> = None;
    loop {
        let group = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            group = gather(&queue, shape) => group,
        };
        if group.is_empty() {
            return;
        }
        let requests: Vec<B::Request> = group.iter().map(|one| one.request.clone()).collect();
        queue.running.fetch_add(1, Ordering::Relaxed);
        let answers = answer(&*kind, (&pool, shape.patience), &mut connection, &requests).await;
        queue.running.fetch_sub(1, Ordering::Relaxed);
        match answers {
            Ok(answers) => {
                for (one, answer) in group.into_iter().zip(answers) {
                    // The caller may be gone; its request took effect all the same.
                    one.reply.send(Ok(answer)).ok();
                }
            }
            Err(error) => refuse(&*kind, (&pool, shape.patience), &mut connection, group, error).await,
        }
    }
}

/// Returns the requests of the next batch; none once all senders are gone.
async fn gather<B: Batched>(queue: &Queue<B>, shape: Shape) -> Vec<Asked<B::Request, B::Answer>> {
    let mut group = Vec::new();
    let mut asked = queue.asked.lock().await;
    let found = asked.recv_many(&mut group, shape.batch_max).await;
    if found == 0 || (shape.hurry && queue.running.load(Ordering::Relaxed) == 0) {
        return group;
    }
    let until = Instant::now() + shape.gather;
    while group.len() < shape.enough {
        let room = shape.batch_max - group.len();
        match tokio::time::timeout_at(until, asked.recv_many(&mut group, room)).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => break,
        }
    }
    group
}

/// Runs one batch, again where the server chose it to give way.
async fn answer<B: Batched>(
    kind: &B,
    (pool, patience): (&Pool, Duration),
    connection: &mut Option<Held>,
    requests: &[B::Request],
) -> Result<Vec<B::Answer>> {
    let mut tries = 1;
    loop {
        let (mut held, is_fresh) = match connection.take() {
            Some(held) => (held, false),
            None => (pool.acquire().await?, true),
        };
        let answered = tokio::time::timeout(patience, kind.run(held.connection()?, requests)).await;
        match held.settle(answered) {
            Ok(answers) => {
                *connection = Some(held);
                return Ok(answers);
            }
            Err(StoreError::Database(error)) if tries < DEADLOCK_TRIES_MAX && was_rolled_back(&error) => tries += 1,
            // It may have broken long ago, with a server that is back by now.
            Err(StoreError::Database(sqlx::Error::Io(_))) if !is_fresh => {}
            Err(error) => return Err(error),
        }
    }
}

/// Tells everybody in a batch that failed. Where the fault may be one request's own, the others are tried alone.
async fn refuse<B: Batched>(
    kind: &B,
    pool: (&Pool, Duration),
    connection: &mut Option<Held>,
    mut group: Vec<Asked<B::Request, B::Answer>>,
    error: StoreError,
) {
    if group.len() == 1 {
        group.remove(0).reply.send(Err(error)).ok();
        return;
    }
    let problem = common::error_chain(&error);
    let everybodys = error.kind() == StoreErrorKind::Unavailable;
    for one in group {
        let answer = if everybodys {
            Err(StoreError::NotWritten { problem: problem.clone() })
        } else {
            let alone = answer(kind, pool, connection, std::slice::from_ref(&one.request)).await;
            alone.and_then(|mut answers| answers.pop().ok_or(StoreError::Closed))
        };
        one.reply.send(answer).ok();
    }
}
