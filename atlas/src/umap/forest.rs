//! A forest of random projection trees: points that share a leaf are likely neighbours.

use super::lists::{Entry, Lists, offer};
use super::parallel;
use super::points::{Points, dot};
use crate::rng::Rng;

/// Maximum points of a leaf. Large leaves are cheap, since they are compared by a matrix product.
const LEAF_POINTS: usize = 96;
/// Points whose leaves are compared before results are applied: bounds the memory.
const BLOCK_POINTS: usize = 65_536;
/// Serial levels of a tree, after which its parts grow in parallel.
const SERIAL_SPLITS: u32 = 4;
/// Random stream of the first tree.
const STREAM: u64 = 1_000;

/// Compares the points in the leaves of one tree.
pub(super) fn grow_tree(points: &Points<'_>, lists: &mut Lists, seed: u64, tree: usize, threads: usize) {
    let leaves = leaves(points, seed, tree, threads);
    for block in leaves.chunks(BLOCK_POINTS / LEAF_POINTS) {
        let known = &*lists;
        let found = parallel::shares(block.len(), threads, |share| {
            let mut products = Vec::new();
            block[share].iter().map(|leaf| compare(points, known, leaf, &mut products)).collect::<Vec<_>>()
        });
        for (leaf, rows) in block.iter().zip(found.into_iter().flatten()) {
            for (&point, row) in leaf.iter().zip(rows.chunks_exact(lists.k)) {
                lists.entries[point as usize * lists.k..][..lists.k].copy_from_slice(row);
            }
        }
    }
}

/// Returns the updated lists of a leaf's points. A point is in one leaf of a tree, so no other leaf changes these
/// lists.
fn compare(points: &Points<'_>, lists: &Lists, leaf: &[u32], products: &mut Vec<f32>) -> Vec<Entry> {
    let (size, k) = (leaf.len(), lists.k);
    let mut gathered = Vec::with_capacity(size * points.dim());
    let mut rows = Vec::with_capacity(size * k);
    for &point in leaf {
        gathered.extend_from_slice(points.row(point as usize));
        rows.extend_from_slice(lists.row(point as usize));
    }
    products.resize(size * size, 0.0);
    kernels::dot_products(products, &gathered, &gathered, points.dim());
    for a in 0..size {
        for b in a + 1..size {
            let (half_a, half_b) = (points.half_norm(leaf[a] as usize), points.half_norm(leaf[b] as usize));
            let key = (half_a + half_b - products[a * size + b]).max(0.0);
            offer(&mut rows[a * k..(a + 1) * k], leaf[b], key);
            offer(&mut rows[b * k..(b + 1) * k], leaf[a], key);
        }
    }
    rows
}

/// Splits all points by random hyperplanes until the leaves are small.
fn leaves(points: &Points<'_>, seed: u64, tree: usize, threads: usize) -> Vec<Vec<u32>> {
    let mut rng = Rng::new(seed, STREAM + tree as u64);
    let all: Vec<u32> = (0..points.len() as u32).collect();
    let mut parts = vec![all];
    // The number of parts is fixed, so that the tree does not depend on the threads.
    for _ in 0..SERIAL_SPLITS {
        parts = parts.into_iter().flat_map(|part| split(points, part, &mut rng)).collect();
    }
    let parts: Vec<(Vec<u32>, u64)> = parts.into_iter().map(|part| (part, rng.next_u64())).collect();
    let grown = parallel::shares(parts.len(), threads, |share| {
        let mut leaves = Vec::new();
        for (part, seed) in &parts[share] {
            grow(points, part.clone(), &mut Rng::new(*seed, 0), &mut leaves);
        }
        leaves
    });
    grown.into_iter().flatten().collect()
}

fn grow(points: &Points<'_>, members: Vec<u32>, rng: &mut Rng, leaves: &mut Vec<Vec<u32>>) {
    let mut stack = vec![members];
    while let Some(members) = stack.pop() {
        if members.len() <= LEAF_POINTS {
            leaves.push(members);
        } else {
            stack.extend(split(points, members, rng));
        }
    }
}

/// Splits by the hyperplane midway between two random members. If nearly all are on one side (many equal points),
/// splits at random, so that trees stay shallow.
fn split(points: &Points<'_>, members: Vec<u32>, rng: &mut Rng) -> [Vec<u32>; 2] {
    if members.len() < 2 {
        return [members, Vec::new()];
    }
    let (a, b) = (members[rng.below(members.len())] as usize, members[rng.below(members.len())] as usize);
    let normal: Vec<f32> = points.row(a).iter().zip(points.row(b)).map(|(a, b)| a - b).collect();
    let offset = points.half_norm(a) - points.half_norm(b);
    let mut sides = [Vec::new(), Vec::new()];
    for &member in &members {
        let side = usize::from(dot(&normal, points.row(member as usize)) < offset);
        sides[side].push(member);
    }
    if sides[0].len().min(sides[1].len()) * 50 >= members.len() {
        return sides;
    }
    let (left, right) = members.into_iter().partition(|_| rng.next_u64() & 1 == 0);
    [left, right]
}
