//! The committed shards of a job in the order of their rows, page by page, and its dead ones: what the manifest lists.
//! Shards as they were cut come in that order by their index; the halves of split ones have later indexes, and are put
//! among them here.

use std::collections::VecDeque;

use dataset::ManifestHole;
use proto::JobId;

use super::reads::WinnerList;
use super::types::Winner;
use super::{Result, Store, rows};

/// Winners read from the database at once.
const PAGE: u32 = 1_000;
/// Characters of what went wrong with a shard that a manifest repeats: there may be many.
const REASON_CHARS_MAX: usize = 200;

/// Committed shards in the order of their rows; see [`Store::winners_by_row`].
pub struct Winners {
    store: Store,
    job: JobId,
    whole: Stream,
    halves: Stream,
}

/// One of the two sequences: what was read and not handed out, and where to go on reading.
struct Stream {
    ready: VecDeque<Winner>,
    after: i64,
    over: bool,
}

impl Stream {
    fn new() -> Self {
        Self { ready: VecDeque::new(), after: -1, over: false }
    }

    fn take_in(&mut self, page: Vec<Winner>, position: fn(&Winner) -> u64) {
        self.over = page.len() < PAGE as usize;
        if let Some(last) = page.last() {
            self.after = rows::signed(position(last));
        }
        self.ready.extend(page);
    }
}

impl Store {
    /// Lists the committed shards of a job in the order of their rows. Holds two pages, however many there are.
    pub fn winners_by_row(&self, job: JobId) -> Winners {
        Winners { store: self.clone(), job, whole: Stream::new(), halves: Stream::new() }
    }
}

impl Winners {
    /// Returns the next winner; `None` at the end.
    ///
    /// # Errors
    /// The store fails.
    pub async fn next(&mut self) -> Result<Option<Winner>> {
        if self.whole.ready.is_empty() && !self.whole.over {
            let page = self.store.backend.winners(WinnerList::Whole, self.job, self.whole.after, PAGE).await?;
            self.whole.take_in(page, |winner| winner.index);
        }
        if self.halves.ready.is_empty() && !self.halves.over {
            let page = self.store.backend.winners(WinnerList::Halves, self.job, self.halves.after, PAGE).await?;
            self.halves.take_in(page, |winner| winner.slice.first_row);
        }
        let half_is_next = match (self.whole.ready.front(), self.halves.ready.front()) {
            (Some(whole), Some(half)) => half.slice.first_row < whole.slice.first_row,
            (None, half) => half.is_some(),
            (Some(_), None) => false,
        };
        Ok(if half_is_next { self.halves.ready.pop_front() } else { self.whole.ready.pop_front() })
    }
}

/// The rows of a job's dead shards, in order; see [`Store::holes_by_row`].
pub struct Holes {
    store: Store,
    job: JobId,
    ready: VecDeque<ManifestHole>,
    after: i64,
    over: bool,
}

impl Store {
    /// Lists the rows of the dead shards of a job, in order; of one that may have no holes, none, and does not ask. Holds a
    /// page, however many there are.
    pub fn holes_by_row(&self, job: JobId, allow_partial: bool) -> Holes {
        Holes { store: self.clone(), job, ready: VecDeque::new(), after: -1, over: !allow_partial }
    }
}

impl Holes {
    /// Returns the next hole if it begins before this row; `None` where there is none.
    ///
    /// # Errors
    /// The store fails.
    pub async fn next_before(&mut self, row: u64) -> Result<Option<ManifestHole>> {
        if self.ready.is_empty() && !self.over {
            let page = self.store.backend.holes(self.job, self.after, PAGE).await?;
            self.over = page.len() < PAGE as usize;
            self.after = page.last().map_or(self.after, |last| rows::signed(last.first_row));
            self.ready.extend(page);
        }
        if self.ready.front().is_none_or(|hole| hole.first_row >= row) {
            return Ok(None);
        }
        Ok(self.ready.pop_front().map(|hole| {
            let reason = hole.reason.chars().take(REASON_CHARS_MAX).collect();
            ManifestHole { reason, ..hole }
        }))
    }
}
