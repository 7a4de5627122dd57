//! The batch queue: one list of batches per shard; a free thread takes from the shard begun first that has one ready. So the
//! running shard is finished first, and the prefetched one fills every gap: at chunk ends, at shard ends, while a file is stored.
//!
//! A queue is bounded by its shard: it holds the batches of at most [`CHUNKS_IN_FLIGHT_MAX`](crate::stages) chunks.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A queue between shards and forward threads.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
}

#[derive(Debug)]
struct State<T> {
    /// Queues in the order in which they were opened.
    shards: VecDeque<(u64, VecDeque<T>)>,
    shards_opened: u64,
    closed: bool,
}

/// One shard's queue; dropping it discards what waits in it.
#[derive(Debug)]
pub(crate) struct ShardQueue<T> {
    queue: Arc<Queue<T>>,
    id: u64,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Arc<Self> {
        let state = State { shards: VecDeque::new(), shards_opened: 0, closed: false };
        Arc::new(Self { state: Mutex::new(state), ready: Condvar::new() })
    }

    /// Opens the queue of a shard, behind all others.
    pub(crate) fn open(self: &Arc<Self>) -> ShardQueue<T> {
        let mut state = self.lock();
        let id = state.shards_opened;
        state.shards_opened += 1;
        state.shards.push_back((id, VecDeque::new()));
        ShardQueue { queue: Arc::clone(self), id }
    }

    /// Waits for something to do; `None` once the queue is closed.
    pub(crate) fn next(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(task) = state.shards.iter_mut().find_map(|(_, queue)| queue.pop_front()) {
                return Some(task);
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends every wait in [`Queue::next`].
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }

    /// A panic cannot leave the list half changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> ShardQueue<T> {
    /// Puts tasks at the queue's end, in this order.
    pub(crate) fn push(&self, tasks: impl IntoIterator<Item = T>) {
        let mut state = self.queue.lock();
        let queue = state.shards.iter_mut().find(|(id, _)| *id == self.id);
        queue.expect("a shard is listed until its queue is dropped").1.extend(tasks);
        self.queue.ready.notify_all();
    }
}

impl<T> Drop for ShardQueue<T> {
    fn drop(&mut self) {
        self.queue.lock().shards.retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_shard_goes_first_and_the_next_fills_its_gaps() {
        let queue = Queue::new();
        let (first, second) = (queue.open(), queue.open());
        second.push(["b1", "b2"]);
        assert_eq!(queue.next(), Some("b1"));
        first.push(["a1", "a2"]);
        assert_eq!([queue.next(), queue.next(), queue.next()], [Some("a1"), Some("a2"), Some("b2")]);
    }

    #[test]
    fn a_dropped_shard_queue_discards_its_batches() {
        let queue = Queue::new();
        let (first, second) = (queue.open(), queue.open());
        first.push([1]);
        second.push([2]);
        drop(first);
        assert_eq!(queue.next(), Some(2));
    }

    #[test]
    fn closing_wakes_those_who_wait() {
        let queue = Queue::<u32>::new();
        let waiting = Arc::clone(&queue);
        let thread = std::thread::spawn(move || waiting.next());
        queue.close();
        assert_eq!(thread.join().unwrap(), None);
    }
}
