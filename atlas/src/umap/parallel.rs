//! Plain fork and join over contiguous shares. Which share a thread has must never show in a result.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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

/// Times that a waiting thread looks before it lets others have the processor.
const LOOKS: usize = 4_000;

/// One of a crew of threads that go through the same steps together.
pub(super) struct Member<'a> {
    index: usize,
    crew: &'a Crew,
}

struct Crew {
    threads: usize,
    arrived: AtomicUsize,
    /// How often all have arrived.
    rounds: AtomicUsize,
    /// Somebody panicked, and will never arrive.
    lost: AtomicBool,
}

/// Runs `other` on all threads but the calling one, which runs `lead`.
///
/// # Panics
/// When one of them does.
pub(super) fn crew(threads: usize, other: impl Fn(&Member<'_>) + Sync, lead: impl FnOnce(&Member<'_>)) {
    let threads = threads.max(1);
    let crew =
        Crew { threads, arrived: AtomicUsize::new(0), rounds: AtomicUsize::new(0), lost: AtomicBool::new(false) };
    std::thread::scope(|scope| {
        let (crew, other) = (&crew, &other);
        for index in 1..threads {
            scope.spawn(move || other(&Member { index, crew }));
        }
        lead(&Member { index: 0, crew });
    });
}

impl Member<'_> {
    /// Waits until all have come here. What they did before is seen by all after. Steps are shorter than it takes to
    /// put a thread to sleep and wake it up, so this looks again and again.
    pub(super) fn wait(&self) {
        let crew = self.crew;
        let round = crew.rounds.load(Ordering::Acquire);
        if crew.arrived.fetch_add(1, Ordering::AcqRel) + 1 == crew.threads {
            crew.arrived.store(0, Ordering::Relaxed);
            crew.rounds.store(round.wrapping_add(1), Ordering::Release);
            return;
        }
        let mut looks = 0;
        while crew.rounds.load(Ordering::Acquire) == round {
            assert!(!crew.lost.load(Ordering::Relaxed), "another thread of the crew panicked");
            looks += 1;
            if looks < LOOKS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }

    /// Returns this thread's share of a range.
    pub(super) fn share(&self, range: &Range<usize>) -> Range<usize> {
        let cut = |index: usize| range.start + range.len() * index / self.crew.threads;
        cut(self.index)..cut(self.index + 1)
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.crew.lost.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crew_sees_what_its_members_did_before_they_waited() {
        let done: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];
        let steps = |member: &Member<'_>| {
            for round in 1..=200 {
                done[member.index].store(round, Ordering::Relaxed);
                member.wait();
                assert!(done.iter().all(|done| done.load(Ordering::Relaxed) == round));
                member.wait();
            }
        };
        crew(4, steps, steps);
    }

    #[test]
    fn shares_are_the_whole() {
        let shares = std::sync::Mutex::new(Vec::new());
        let note = |member: &Member<'_>| shares.lock().unwrap().extend(member.share(&(5..12)));
        crew(3, note, note);
        let mut all = shares.into_inner().unwrap();
        all.sort_unstable();
        assert_eq!(all, (5..12).collect::<Vec<_>>());
    }

    #[test]
    fn a_panic_ends_the_whole_crew() {
        let result = std::panic::catch_unwind(|| crew(2, |_| panic!("planted"), |member| member.wait()));
        assert!(result.is_err());
    }
}
