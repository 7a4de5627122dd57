//! Exact nearest neighbours: all distances, by matrix products of pairs of blocks.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use kernels::PackedRows;

use super::lists::Lists;
use super::points::Points;

/// Points packed together, and compared with themselves and all before them.
const BLOCK: usize = 240;
/// Points compared with a block at a time.
const STRIP: usize = 64;
const LANES: usize = 16;

/// Finds the `k` nearest others of every point. Each distance is computed once for both of its points.
pub(super) fn search(points: &Points<'_>, k: usize, threads: usize, progress: &mut dyn FnMut(f64)) -> Lists {
    let n = points.len();
    if k == 0 {
        progress(1.0);
        return Lists::new(n, 0);
    }
    // The largest blocks of work come first, so that all threads finish at about the same time.
    let blocks: Vec<Range<usize>> = (0..n).step_by(BLOCK).map(|start| start..(start + BLOCK).min(n)).rev().collect();
    let mut found: Vec<Search> = (0..threads.clamp(1, blocks.len())).map(|_| Search::new(points, k)).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (blocks, next) = (&blocks, &next);
        let (first, others) = found.split_first_mut().expect("there is at least one thread");
        for search in others {
            scope.spawn(move || search.visit_all(points, blocks, next, &mut |_| {}));
        }
        first.visit_all(points, blocks, next, progress);
    });
    // The division among threads is arbitrary, but the union of their results is not.
    let mut found = found.into_iter().map(|search| search.lists);
    let mut lists = found.next().expect("there is at least one thread");
    for other in found {
        for (place, entry) in other.entries.iter().enumerate().filter(|(_, entry)| entry.key.is_finite()) {
            lists.offer(place / k, entry.id, entry.key);
        }
    }
    progress(1.0);
    lists
}

/// The results of one thread.
struct Search {
    lists: Lists,
    /// The last key of every list.
    worst: Vec<f32>,
    packed: PackedRows,
    products: Vec<f32>,
}

impl Search {
    fn new(points: &Points<'_>, k: usize) -> Self {
        Self {
            lists: Lists::new(points.len(), k),
            worst: vec![f32::INFINITY; points.len()],
            packed: PackedRows::new(points.dim()),
            products: vec![0.0; STRIP * BLOCK],
        }
    }

    /// Processes blocks until all are taken.
    fn visit_all(
        &mut self,
        points: &Points<'_>,
        blocks: &[Range<usize>],
        next: &AtomicUsize,
        progress: &mut dyn FnMut(f64),
    ) {
        loop {
            let taken = next.fetch_add(1, Ordering::Relaxed);
            let Some(block) = blocks.get(taken) else { break };
            self.visit(points, block.clone());
            progress((taken + 1) as f64 / blocks.len() as f64);
        }
    }

    /// Compares a block of points with each other and with all points before them.
    fn visit(&mut self, points: &Points<'_>, block: Range<usize>) {
        self.packed.pack(points.rows(block.clone()));
        for start in (0..block.end).step_by(STRIP) {
            let strip = start..(start + STRIP).min(block.end);
            let products = &mut self.products[..strip.len() * block.len()];
            self.packed.dot_products(products, points.rows(strip.clone()));
            for (row, products) in strip.zip(products.chunks_exact(block.len())) {
                compare_block(points, &mut self.lists, &mut self.worst, row, block.clone(), products);
            }
        }
    }
}

/// Updates the lists of a point and a block by their distances. Pairs inside of the block are taken once.
fn compare_block(
    points: &Points<'_>,
    lists: &mut Lists,
    worst: &mut [f32],
    row: usize,
    block: Range<usize>,
    products: &[f32],
) {
    let own = points.half_norm(row);
    for (chunk, products) in products.chunks(LANES).enumerate() {
        let first = block.start + chunk * LANES;
        let others = first..first + products.len();
        let mut keys = [0.0f32; LANES];
        let any = any_near(own, worst[row], &points.half_norms()[others.clone()], &worst[others], products, &mut keys);
        if any {
            for (lane, &key) in keys[..products.len()].iter().enumerate() {
                if first + lane > row || row < block.start {
                    offer(lists, worst, row, first + lane, key);
                }
            }
        }
    }
}

/// Computes keys, and returns whether any is small enough for a list of either point.
#[inline(always)]
fn any_near(own: f32, limit: f32, halves: &[f32], worst: &[f32], products: &[f32], keys: &mut [f32; LANES]) -> bool {
    let mut any = false;
    for (((key, half), worst), product) in keys.iter_mut().zip(halves).zip(worst).zip(products) {
        *key = (own + half - product).max(0.0);
        any |= *key <= limit.max(*worst);
    }
    any
}

fn offer(lists: &mut Lists, worst: &mut [f32], a: usize, b: usize, key: f32) {
    for (point, other) in [(a, b), (b, a)] {
        if key <= worst[point] && lists.offer(point, other as u32, key) {
            worst[point] = lists.worst(point);
        }
    }
}
