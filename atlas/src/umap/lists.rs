//! The nearest neighbours found so far, a sorted list per point.

use super::points::Points;
use super::{Neighbors, parallel};

/// Id of an empty slot.
pub(super) const EMPTY: u32 = u32::MAX;

/// A neighbour. Lists are ordered by key, then id, so that the result does not depend on the order of discovery.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Entry {
    /// Half the squared distance.
    pub(super) key: f32,
    pub(super) id: u32,
    /// Not yet used as a candidate by NN-descent.
    pub(super) fresh: bool,
}

impl Entry {
    fn is_before(&self, key: f32, id: u32) -> bool {
        self.key < key || (self.key == key && self.id < id)
    }
}

/// `k` entries per point, without the point itself.
#[derive(Debug, Clone)]
pub(super) struct Lists {
    pub(super) entries: Vec<Entry>,
    pub(super) k: usize,
}

impl Lists {
    pub(super) fn new(n: usize, k: usize) -> Self {
        Self { entries: vec![Entry { key: f32::INFINITY, id: EMPTY, fresh: true }; n * k], k }
    }

    pub(super) fn row(&self, point: usize) -> &[Entry] {
        &self.entries[point * self.k..(point + 1) * self.k]
    }

    /// Returns the key above which candidates of `point` are rejected.
    pub(super) fn worst(&self, point: usize) -> f32 {
        self.entries[(point + 1) * self.k - 1].key
    }

    pub(super) fn offer(&mut self, point: usize, id: u32, key: f32) -> bool {
        offer(&mut self.entries[point * self.k..(point + 1) * self.k], id, key)
    }

    /// Recomputes the keys by differences, sorts, and puts each point before its neighbours.
    pub(super) fn into_neighbors(self, points: &Points<'_>, threads: usize) -> Neighbors {
        let k = self.k + 1;
        let arch = pulp::Arch::new();
        let pieces = parallel::shares(points.len(), threads, |share| {
            let mut piece = (Vec::with_capacity(share.len() * k), Vec::with_capacity(share.len() * k));
            let mut row = Vec::with_capacity(k);
            for point in share {
                row.clear();
                arch.dispatch(
                    #[inline(always)]
                    || {
                        // A loop, because a closure in an iterator adapter would be compiled without the wide
                        // instructions.
                        for entry in self.row(point) {
                            row.push((points.key(point, entry.id as usize), entry.id));
                        }
                    },
                );
                row.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                piece.0.push(point as u32);
                piece.1.push(0.0);
                piece.0.extend(row.iter().map(|entry| entry.1));
                piece.1.extend(row.iter().map(|entry| points.distance(entry.0)));
            }
            piece
        });
        let (ids, distances): (Vec<_>, Vec<_>) = pieces.into_iter().unzip();
        Neighbors { k, ids: ids.concat(), distances: distances.concat() }
    }
}

/// Inserts a neighbour if it is near enough; returns whether it was.
pub(super) fn offer(row: &mut [Entry], id: u32, key: f32) -> bool {
    let Some(last) = row.last() else { return false };
    if !(key < last.key || (key == last.key && id < last.id)) || row.iter().any(|entry| entry.id == id) {
        return false;
    }
    let mut place = row.len() - 1;
    while place > 0 && !row[place - 1].is_before(key, id) {
        row[place] = row[place - 1];
        place -= 1;
    }
    row[place] = Entry { key, id, fresh: true };
    true
}
