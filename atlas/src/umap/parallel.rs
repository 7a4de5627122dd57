//! Fork and join over contiguous shares, and a team of threads with a barrier. Results must not depend on the
//! division.

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

/// Runs `work` on contiguous pieces of `rows` of `width` items, one per thread, with the index of each piece's first
/// row.
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

/// Spins of a waiting thread before it yields.
const SPIN_MAX: usize = 4_000;

/// A thread of a team that executes the same steps together.
pub(super) struct Member<'a> {
    /// Which of the team's threads it is, from 0.
    pub(super) index: usize,
    team: &'a Team,
}

struct Team {
    threads: usize,
    arrived: AtomicUsize,
    /// Completed barriers.
    generation: AtomicUsize,
    /// A thread panicked and will never arrive.
    panicked: AtomicBool,
}

/// Runs `other` on all threads but the calling one, which runs `lead`. Panics when one of them does.
pub(super) fn team(threads: usize, other: impl Fn(&Member<'_>) + Sync, lead: impl FnOnce(&Member<'_>)) {
    let threads = threads.max(1);
    let team = Team {
        threads,
        arrived: AtomicUsize::new(0),
        generation: AtomicUsize::new(0),
        panicked: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        let (team, other) = (&team, &other);
        for index in 1..threads {
            scope.spawn(move || other(&Member { index, team }));
        }
        lead(&Member { index: 0, team });
    });
}

impl Member<'_> {
    /// Waits at a barrier, which synchronises memory. Spins, since steps are shorter than putting a thread to sleep
    /// and waking it.
    pub(super) fn wait(&self) {
        let team = self.team;
        let generation_before = team.generation.load(Ordering::Acquire);
        if team.arrived.fetch_add(1, Ordering::AcqRel) + 1 == team.threads {
            team.arrived.store(0, Ordering::Relaxed);
            team.generation.store(generation_before.wrapping_add(1), Ordering::Release);
            return;
        }
        let mut spins = 0;
        while team.generation.load(Ordering::Acquire) == generation_before {
            assert!(!team.panicked.load(Ordering::Relaxed), "another thread of the team panicked");
            spins += 1;
            if spins < SPIN_MAX { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }

    /// Returns this thread's share of a range.
    pub(super) fn share(&self, range: &Range<usize>) -> Range<usize> {
        let cut = |index: usize| range.start + range.len() * index / self.team.threads;
        cut(self.index)..cut(self.index + 1)
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.team.panicked.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_barrier_synchronises_the_team() {
        let done: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];
        let steps = |member: &Member<'_>| {
            for round in 1..=200 {
                done[member.index].store(round, Ordering::Relaxed);
                member.wait();
                assert!(done.iter().all(|done| done.load(Ordering::Relaxed) == round));
                member.wait();
            }
        };
        team(4, steps, steps);
    }

    #[test]
    fn shares_cover_the_range() {
        let shares = std::sync::Mutex::new(Vec::new());
        let collect = |member: &Member<'_>| shares.lock().unwrap().extend(member.share(&(5..12)));
        team(3, collect, collect);
        let mut all = shares.into_inner().unwrap();
        all.sort_unstable();
        assert_eq!(all, (5..12).collect::<Vec<_>>());
    }

    #[test]
    fn a_panic_ends_the_whole_team() {
        let result = std::panic::catch_unwind(|| team(2, |_| panic!("planted"), |member| member.wait()));
        assert!(result.is_err());
    }
}
