//! PURE: which rows come next where some are missing.

use super::manifest_entries::ManifestHole;

/// The numbers of the rows that are there, in order.
#[derive(Debug, Clone)]
pub(super) struct RowNumbers<'a> {
    next: u64,
    /// Those that begin at the next row or later, in order.
    holes: &'a [ManifestHole],
}

impl<'a> RowNumbers<'a> {
    /// Begins at a row. Holes that end before it are no matter.
    pub(super) fn from(row: u64, holes: &'a [ManifestHole]) -> RowNumbers<'a> {
        let before = holes.partition_point(|hole| hole.end() <= row);
        RowNumbers { next: row, holes: &holes[before..] }
    }

    /// Passes over the hole where the last row left off, and returns how many rows are missing there.
    pub(super) fn skip_hole(&mut self) -> u64 {
        let before = self.next;
        while let [hole, rest @ ..] = self.holes
            && hole.first_row <= self.next
        {
            self.next = self.next.max(hole.end());
            self.holes = rest;
        }
        self.next - before
    }

    /// Returns the number of the next present row.
    pub(super) fn peek(&self) -> u64 {
        let mut ahead = self.clone();
        ahead.skip_hole();
        ahead.next
    }

    /// Returns how many rows follow on each other from the next one on.
    pub(super) fn run(&mut self) -> u64 {
        self.skip_hole();
        self.holes.first().map_or(u64::MAX, |hole| hole.first_row - self.next)
    }

    /// Takes so many rows of a [`RowNumbers::run`].
    pub(super) fn take(&mut self, rows: u64) {
        self.skip_hole();
        self.next = self.next.saturating_add(rows);
    }

    /// Takes the next row and returns its number.
    pub(super) fn next(&mut self) -> u64 {
        self.skip_hole();
        let row = self.next;
        self.next = row.saturating_add(1);
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_passed_over_in_one_go() {
        let hole = |first_row, rows| ManifestHole { source: 0, first_row, rows, reason: String::new() };
        let holes = [hole(0, 2), hole(3, 1), hole(4, 2), hole(9, 1)];
        let mut rows = RowNumbers::from(0, &holes);
        assert_eq!((rows.peek(), rows.run()), (2, 1));
        assert_eq!((rows.next(), rows.skip_hole(), rows.skip_hole(), rows.run()), (2, 3, 0, 3));
        assert_eq!((rows.next(), rows.next(), rows.next(), rows.next(), rows.next()), (6, 7, 8, 10, 11));
        assert_eq!(rows.run(), u64::MAX);
        assert_eq!(RowNumbers::from(6, &holes).run(), 3);
    }
}
