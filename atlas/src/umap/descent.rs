//! Approximate nearest neighbours for many points: random projection trees, then NN-descent (Dong, Charikar, Li 2011),
//! after `pynndescent`. The candidates of a point are compared by one matrix product.

use super::lists::{EMPTY, Lists};
use super::points::Points;
use super::{Options, forest, parallel};
use crate::rng::{Rng, mix};

const TREES_MIN: usize = 4;
const TREES_MAX: usize = 10;
/// Candidates per point and round, separately for fresh and old ones.
const CANDIDATES_MAX: usize = 40;
const ROUNDS_MAX: usize = 12;
/// Descent ends when fewer than this share of all entries changed in a round.
const CHANGES_MIN: f64 = 0.002;
/// Points whose updates are collected before they are applied: bounds the memory.
const BLOCK_POINTS: usize = 32_768;
/// Stream of the random entries that complete short lists.
const FILL_STREAM: u64 = 4;

/// A candidate for one of two lists: point, other, key.
type Update = (u32, u32, f32);

/// Finds approximately the `k` nearest others of every point.
pub(super) fn search(points: &Points<'_>, k: usize, options: &Options, progress: &mut dyn FnMut(f64)) -> Lists {
    let n = points.len();
    let mut lists = Lists::new(n, k);
    let trees = ((n as f64).log10() * 1.5).round() as usize;
    let trees = trees.clamp(TREES_MIN, TREES_MAX);
    let steps = (2 * trees + ROUNDS_MAX * 4) as f64;
    for tree in 0..trees {
        forest::grow_tree(points, &mut lists, options.seed, tree, options.threads);
        progress((2 * tree + 2) as f64 / steps);
    }
    fill(points, &mut lists, options.seed);
    for round in 0..ROUNDS_MAX {
        let base = (2 * trees + 4 * round) as f64;
        let changes = descend(points, &mut lists, mix(options.seed ^ round as u64), options.threads, &mut |done| {
            progress((base + 4.0 * done) / steps);
        });
        if (changes as f64) < CHANGES_MIN * (n * k) as f64 {
            break;
        }
    }
    progress(1.0);
    lists
}

/// Completes short lists with random entries.
fn fill(points: &Points<'_>, lists: &mut Lists, seed: u64) {
    let mut rng = Rng::new(seed, FILL_STREAM);
    for point in 0..points.len() {
        while lists.row(point).last().is_some_and(|entry| entry.id == EMPTY) {
            let other = rng.below(points.len());
            if other != point {
                lists.offer(point, other as u32, points.key(point, other));
            }
        }
    }
}

/// Runs one round, since neighbours of neighbours are likely neighbours. Returns the number of changed entries.
fn descend(points: &Points<'_>, lists: &mut Lists, seed: u64, threads: usize, progress: &mut dyn FnMut(f64)) -> usize {
    let n = points.len();
    let (fresh, old) = candidates(lists, n, seed, threads);
    let mut changes = 0;
    for start in (0..n).step_by(BLOCK_POINTS) {
        let count = BLOCK_POINTS.min(n - start);
        let worst: Vec<f32> = (0..n).map(|point| lists.worst(point)).collect();
        let updates = parallel::shares(count, threads, |share| {
            let mut join = Join::default();
            for point in start + share.start..start + share.end {
                join.visit(points, &worst, fresh.row(point), old.row(point));
            }
            join.updates
        });
        changes += apply(lists, &updates, threads);
        progress((start + count) as f64 / n as f64);
    }
    changes
}

/// Applies all updates; every thread owns the lists of a share of the points.
fn apply(lists: &mut Lists, updates: &[Vec<Update>], threads: usize) -> usize {
    let k = lists.k;
    let changes = std::sync::atomic::AtomicUsize::new(0);
    parallel::rows(&mut lists.entries, k, threads, |first, entries| {
        let own = first..first + entries.len() / k;
        let mut changed = 0;
        for &(a, b, key) in updates.iter().flatten() {
            for (point, other) in [(a as usize, b), (b as usize, a)] {
                if own.contains(&point) {
                    let row = (point - own.start) * k;
                    changed += usize::from(super::lists::offer(&mut entries[row..row + k], other, key));
                }
            }
        }
        changes.fetch_add(changed, std::sync::atomic::Ordering::Relaxed);
    });
    changes.into_inner()
}

/// The local join: comparison of one point's candidates with each other.
#[derive(Default)]
struct Join {
    updates: Vec<Update>,
    ids: Vec<u32>,
    halves: Vec<f32>,
    limits: Vec<f32>,
    rows: Vec<f32>,
    products: Vec<f32>,
    keys: Vec<f32>,
}

impl Join {
    /// Compares fresh candidates with each other and with the old ones.
    fn visit(&mut self, points: &Points<'_>, worst: &[f32], fresh: &[u32], old: &[u32]) {
        if fresh.is_empty() {
            return;
        }
        self.ids.clear();
        self.ids.extend_from_slice(fresh);
        self.ids.extend_from_slice(old);
        self.rows.clear();
        self.halves.clear();
        self.limits.clear();
        for &id in &self.ids {
            self.rows.extend_from_slice(points.row(id as usize));
            self.halves.push(points.half_norm(id as usize));
            self.limits.push(worst[id as usize]);
        }
        let all = self.ids.len();
        self.products.resize(fresh.len() * all, 0.0);
        self.keys.resize(all, 0.0);
        let of_fresh = &self.rows[..fresh.len() * points.dim()];
        kernels::dot_products(&mut self.products, of_fresh, &self.rows, points.dim());
        for (a, products) in self.products.chunks_exact(all).enumerate() {
            let (half, limit) = (self.halves[a], self.limits[a]);
            let mut any = false;
            let others = self.halves.iter().zip(&self.limits).zip(products);
            for (key, ((other_half, other_limit), product)) in self.keys.iter_mut().zip(others) {
                *key = half + other_half - product;
                any |= *key <= limit.max(*other_limit);
            }
            if !any {
                continue;
            }
            for b in a + 1..all {
                if self.keys[b] <= limit.max(self.limits[b]) && self.ids[a] != self.ids[b] {
                    self.updates.push((self.ids[a], self.ids[b], self.keys[b].max(0.0)));
                }
            }
        }
    }
}

/// Up to [`CANDIDATES_MAX`] candidates per point, sampled among its neighbours and reverse neighbours.
struct Candidates {
    /// [`CANDIDATES_MAX`] slots per point.
    ids: Vec<u32>,
    counts: Vec<u8>,
}

impl Candidates {
    fn row(&self, point: usize) -> &[u32] {
        &self.ids[point * CANDIDATES_MAX..][..usize::from(self.counts[point])]
    }

    /// Samples by smallest priority, which is symmetric in a pair.
    fn draw(lists: &Lists, n: usize, fresh: bool, seed: u64, threads: usize) -> Self {
        // Priority and id, ascending; empty slots have the largest.
        let mut drawn = vec![(u32::MAX, EMPTY); n * CANDIDATES_MAX];
        parallel::rows(&mut drawn, CANDIDATES_MAX, threads, |first, rows| {
            let own = first..first + rows.len() / CANDIDATES_MAX;
            for point in 0..n {
                for entry in lists.row(point).iter().filter(|entry| entry.fresh == fresh) {
                    let ends = [(point, entry.id), (entry.id as usize, point as u32)];
                    for (end, other) in ends.into_iter().filter(|(end, _)| own.contains(end)) {
                        let row = &mut rows[(end - own.start) * CANDIDATES_MAX..][..CANDIDATES_MAX];
                        insert(row, (priority(seed, end as u32, other), other));
                    }
                }
            }
        });
        let counts = drawn.chunks_exact(CANDIDATES_MAX);
        let counts = counts.map(|row| row.iter().take_while(|drawn| drawn.1 != EMPTY).count() as u8).collect();
        let ids = drawn.iter().map(|drawn| drawn.1).collect();
        Self { ids, counts }
    }
}

fn priority(seed: u64, a: u32, b: u32) -> u32 {
    (mix(seed ^ (u64::from(a.min(b)) << 32 | u64::from(a.max(b)))) >> 33) as u32
}

fn insert(row: &mut [(u32, u32)], new: (u32, u32)) {
    if row[row.len() - 1] <= new || row.contains(&new) {
        return;
    }
    let mut place = row.len() - 1;
    while place > 0 && row[place - 1] > new {
        row[place] = row[place - 1];
        place -= 1;
    }
    row[place] = new;
}

/// Samples this round's fresh and old candidates, and marks the sampled fresh ones as old.
fn candidates(lists: &mut Lists, n: usize, seed: u64, threads: usize) -> (Candidates, Candidates) {
    let fresh = Candidates::draw(lists, n, true, seed, threads);
    let old = Candidates::draw(lists, n, false, seed, threads);
    let k = lists.k;
    parallel::rows(&mut lists.entries, k, threads, |first, entries| {
        for (index, row) in entries.chunks_exact_mut(k).enumerate() {
            let drawn = fresh.row(first + index);
            row.iter_mut().filter(|entry| entry.fresh).for_each(|entry| entry.fresh = !drawn.contains(&entry.id));
        }
    });
    (fresh, old)
}
