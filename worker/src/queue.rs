//! The batch queue: one lane per shard, and whoever is free takes from the first begun shard that has a batch ready. So the
//! running shard is finished first, and the prefetched one fills every gap: at chunk ends, at shard ends, while a file is stored.
//!
//! A lane is bounded by its shard: it holds the batches of at most [`CHUNKS_IN_FLIGHT_MAX`](crate::stages) chunks.

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
    /// Lanes in the order in which they were opened.
    lanes: VecDeque<(u64, VecDeque<T>)>,
    lanes_opened: u64,
    closed: bool,
}

/// One shard's lane; dropping it discards what waits in it.
#[derive(Debug)]
pub(crate) struct Lane<T> {
    queue: Arc<Queue<T>>,
    id: u64,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Arc<Self> {
        let state = State { lanes: VecDeque::new(), lanes_opened: 0, closed: false };
        Arc::new(Self { state: Mutex::new(state), ready: Condvar::new() })
    }

    /// Opens a lane behind all others.
    pub(crate) fn open(self: &Arc<Self>) -> Lane<T> {
        let mut state = self.lock();
        let id = state.lanes_opened;
        state.lanes_opened += 1;
        state.lanes.push_back((id, VecDeque::new()));
        Lane { queue: Arc::clone(self), id }
    }

    /// Waits for something to do; `None` once the queue is closed.
    pub(crate) fn next(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(task) = state.lanes.iter_mut().find_map(|(_, lane)| lane.pop_front()) {
                return Some(task);
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Sends everybody home who waits in [`Queue::next`].
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }

    /// A panic cannot leave the lanes half changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Lane<T> {
    /// Puts tasks at the lane's end, in this order.
    pub(crate) fn push(&self, tasks: impl IntoIterator<Item = T>) {
        let mut state = self.queue.lock();
        let lane = state.lanes.iter_mut().find(|(id, _)| *id == self.id);
        lane.expect("a lane stays in its queue until it is dropped").1.extend(tasks);
        self.queue.ready.notify_all();
    }
}

impl<T> Drop for Lane<T> {
    fn drop(&mut self) {
        self.queue.lock().lanes.retain(|(id, _)| *id != self.id);
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
    fn a_dropped_lane_takes_its_work_along() {
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
