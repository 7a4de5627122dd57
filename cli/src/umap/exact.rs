//! Exact nearest neighbours: all distances, a pair of blocks at a time, through a matrix product.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::lists::Lists;
use super::parallel;
use super::points::Points;

const BLOCK: usize = 512;
/// Progress is told this many times.
const ROUNDS: usize = 20;
const LANES: usize = 16;

/// Finds the `k` nearest others of every point. Each distance is computed once and offered to both its points.
pub(super) fn search(points: &Points<'_>, k: usize, threads: usize, progress: &mut dyn FnMut(f64)) -> Lists {
    let n = points.len();
    if k == 0 {
        progress(1.0);
        return Lists::new(n, 0);
    }
    let blocks = n.div_ceil(BLOCK);
    let pairs: Vec<(usize, usize)> = (0..blocks).flat_map(|a| (a..blocks).map(move |b| (a, b))).collect();
    let threads = threads.clamp(1, pairs.len());
    let mut found: Vec<Search> = (0..threads).map(|_| Search::new(n, k)).collect();
    let mut done = 0;
    for round_pairs in pairs.chunks(pairs.len().div_ceil(ROUNDS)) {
        let next = AtomicUsize::new(0);
        parallel::rows(&mut found, 1, threads, |_, searches| {
            for search in searches {
                while let Some(&(a, b)) = round_pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    search.visit(points, block(a, n), block(b, n));
                }
            }
        });
        done += round_pairs.len();
        progress(done as f64 / pairs.len() as f64);
    }
    // Which thread saw which pair is chance; the union of what they found is not.
    let mut found = found.into_iter().map(|search| search.lists);
    let mut lists = found.next().expect("there is at least one thread");
    for other in found {
        for (place, entry) in other.entries.iter().enumerate().filter(|(_, entry)| entry.key.is_finite()) {
            lists.offer(place / k, entry.id, entry.key);
        }
    }
    lists
}

fn block(index: usize, n: usize) -> Range<usize> {
    index * BLOCK..((index + 1) * BLOCK).min(n)
}

/// What one thread has found.
struct Search {
    lists: Lists,
    /// The last key of every list, side by side.
    worst: Vec<f32>,
    products: Vec<f32>,
}

impl Search {
    fn new(n: usize, k: usize) -> Self {
        let worst = vec![f32::INFINITY; n.next_multiple_of(LANES)];
        Self { lists: Lists::new(n, k), worst, products: vec![0.0; BLOCK * BLOCK] }
    }

    fn visit(&mut self, points: &Points<'_>, a: Range<usize>, b: Range<usize>) {
        let products = &mut self.products[..a.len() * b.len()];
        engine::dot_products(products, points.rows(a.clone()), points.rows(b.clone()), points.dim());
        let mut keys = [0.0f32; LANES];
        for (row, products) in a.clone().zip(self.products.chunks_exact(b.len())) {
            let own = points.half(row);
            for (chunk, products) in products.chunks(LANES).enumerate() {
                let first = b.start + chunk * LANES;
                let limit = self.worst[row];
                let worst = &self.worst[first..first + products.len()];
                let mut any = false;
                for lane in 0..products.len() {
                    keys[lane] = (own + points.half(first + lane) - products[lane]).max(0.0);
                    any |= keys[lane] <= limit.max(worst[lane]);
                }
                if any {
                    for (lane, &key) in keys[..products.len()].iter().enumerate() {
                        // A block with itself holds every pair twice and every point with itself.
                        if first + lane > row || a.start != b.start {
                            offer(&mut self.lists, &mut self.worst, row, first + lane, key);
                        }
                    }
                }
            }
        }
    }
}

fn offer(lists: &mut Lists, worst: &mut [f32], a: usize, b: usize, key: f32) {
    for (point, other) in [(a, b), (b, a)] {
        if key <= worst[point] && lists.offer(point, other as u32, key) {
            worst[point] = lists.worst(point);
        }
    }
}
