//! Plain fork and join over contiguous shares. Which share a thread has must never show in a result.

use std::ops::Range;

/// Runs `work` on contiguous shares of `0..count`, one per thread, and returns the results in order.
pub(super) fn shares<T: Send>(count: usize, threads: usize, work: impl Fn(Range<usize>) -> T + Sync) -> Vec<T> {
    let threads = threads.clamp(1, count.max(1));
    if threads == 1 {
        return vec![work(0..count)];
    }
    let share = count.div_ceil(threads);
    std::thread::scope(|scope| {
        let work = &work;
        let range = |thread: usize| (thread * share).min(count)..((thread + 1) * share).min(count);
        let others: Vec<_> = (1..threads).map(|thread| scope.spawn(move || work(range(thread)))).collect();
        let mut results = vec![work(range(0))];
        results.extend(others.into_iter().map(|other| other.join().expect("a share of the work panicked")));
        results
    })
}

/// Runs `work` on contiguous pieces of `rows`, `width` items a row, one piece per thread, with the number of the first
/// row of the piece.
pub(super) fn rows<T: Send>(rows: &mut [T], width: usize, threads: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    let count = rows.len() / width.max(1);
    let share = count.div_ceil(threads.clamp(1, count.max(1))).max(1);
    if share >= count {
        work(0, rows);
        return;
    }
    std::thread::scope(|scope| {
        let work = &work;
        for (index, piece) in rows.chunks_mut(share * width).enumerate() {
            scope.spawn(move || work(index * share, piece));
        }
    });
}
