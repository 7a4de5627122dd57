//! The nearest points found so far, a sorted list per point.

use super::points::Points;
use super::{Neighbors, parallel};

/// A place that is still free.
pub(super) const NOBODY: u32 = u32::MAX;

/// One neighbour. Lists are in the order of key, then id, so that what they end with does not depend on the order in
/// which neighbours were found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Entry {
    /// Half the squared distance.
    pub(super) key: f32,
    /// The neighbour.
    pub(super) id: u32,
    /// Found since descent last looked.
    pub(super) fresh: bool,
}

impl Entry {
    fn is_before(&self, key: f32, id: u32) -> bool {
        self.key < key || (self.key == key && self.id < id)
    }
}

/// `k` entries per point, the point itself not among them.
#[derive(Debug, Clone)]
pub(super) struct Lists {
    pub(super) entries: Vec<Entry>,
    pub(super) k: usize,
}

impl Lists {
    pub(super) fn new(n: usize, k: usize) -> Self {
        Self { entries: vec![Entry { key: f32::INFINITY, id: NOBODY, fresh: true }; n * k], k }
    }

    pub(super) fn row(&self, point: usize) -> &[Entry] {
        &self.entries[point * self.k..(point + 1) * self.k]
    }

    /// Returns the key that another neighbour of `point` must not exceed.
    pub(super) fn worst(&self, point: usize) -> f32 {
        self.entries[(point + 1) * self.k - 1].key
    }

    pub(super) fn offer(&mut self, point: usize, id: u32, key: f32) -> bool {
        offer(&mut self.entries[point * self.k..(point + 1) * self.k], id, key)
    }

    /// Computes the keys once more by differences, sorts by them, and puts each point before its neighbours.
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
                        // A loop: what an adapter calls would be compiled apart, without the wide instructions.
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

/// Puts a neighbour into a list if it belongs there; says whether it did.
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
