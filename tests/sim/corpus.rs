//! Corpora that are numbers: `sim:ROWS` has so many records. Slices are runs of row numbers.

use std::ops::Range;

use coordinator::corpora::{Corpora, Cut, Cutting};
use dataset::{
    Compression, Cursor, DatasetError, Fingerprint, Format, Keep, PlannedSource, ReadOptions, Slice, SliceRange, Source,
};
use futures::future::BoxFuture;
use proto::JobId;
use proto::job::{JobSpec, ModelSpec, ShardLimits};

/// Rows of a shard.
pub(crate) const SHARD_ROWS: u64 = 4;
/// Components of a vector.
pub(crate) const DIMENSIONS: usize = 2;

/// What a user says of rows that cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// They fail the job.
    Refused,
    /// They may be missing for good.
    Allowed,
    /// They may be missing at first, and are retried once the rest is there.
    Fetched,
}

/// A job that a user wants done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SimJob {
    pub(crate) id: JobId,
    pub(crate) rows: u64,
    pub(crate) missing: Missing,
}

impl SimJob {
    /// Returns what is submitted.
    pub(crate) fn spec(&self) -> JobSpec {
        JobSpec { allow_partial: self.missing != Missing::Refused, ..spec(self.rows) }
    }
}

/// Returns a job over so many rows, in two sources. Some of them are wide: see [`Numbers`].
fn spec(rows: u64) -> JobSpec {
    let wide = if is_wide(rows) { ":wide" } else { "" };
    let source =
        |rows: u64| Source { uri: format!("sim:{rows}{wide}"), format: Format::Txt, compression: Compression::None };
    JobSpec {
        sources: vec![source(rows / 3), source(rows - rows / 3)],
        read: ReadOptions { keep: Keep::None, ..ReadOptions::default() },
        model: ModelSpec { name: "sim/model".into(), revision: None, digest: "ab".repeat(32) },
        limits: ShardLimits { rows_max: SHARD_ROWS, bytes_max: 1 << 20 },
        ..testkit::job_spec()
    }
}

/// Which jobs have so many columns that their description does not travel with grants: about every eighth.
fn is_wide(rows: u64) -> bool {
    rows % (4 * SHARD_ROWS) == SHARD_ROWS + 1
}

/// Which jobs have slices whose bytes are known from planning, as text has: every other. Of the rest, the first commit
/// says what was read, as of columnar files.
pub(crate) fn is_text(rows: u64) -> bool {
    rows.is_multiple_of(2)
}

/// Returns the digest of rows as they are read, which may be others than were planned.
pub(crate) fn digest_of(rows: Range<u64>, changed: bool) -> String {
    blake3::hash(format!("{rows:?} {changed}").as_bytes()).to_hex().to_string()
}

fn rows_of(source: &Source) -> u64 {
    let rows = source.uri.strip_prefix("sim:").map(|rows| rows.trim_end_matches(":wide"));
    rows.and_then(|rows| rows.parse().ok()).unwrap()
}

/// A schema that is too large for a grant.
const WIDE_BYTES: usize = 20_000;

/// The corpora of the simulation. What is known of a wide one is fetched apart from its grants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers;

impl Corpora for Numbers {
    fn inspect<'a>(
        &'a self,
        sources: &'a [Source],
        _read: &'a ReadOptions,
    ) -> BoxFuture<'a, Result<Vec<PlannedSource>, DatasetError>> {
        let planned = |source: &Source| PlannedSource {
            source: source.clone(),
            fingerprint: Fingerprint { size: rows_of(source), etag: None },
            header: Vec::new(),
            kept_schema: if source.uri.ends_with(":wide") { "w".repeat(WIDE_BYTES) } else { String::new() },
        };
        Box::pin(std::future::ready(Ok(sources.iter().map(planned).collect())))
    }

    fn cut(&self, cutting: Cutting) -> BoxFuture<'static, Result<Box<dyn Cut>, DatasetError>> {
        let Cutting { sources, limits, cursor, .. } = cutting;
        let rows = sources.iter().map(|planned| rows_of(&planned.source)).collect();
        let cutter = Numbered { rows, rows_max: limits.rows_max, cursor };
        Box::pin(std::future::ready(Ok(Box::new(cutter) as Box<dyn Cut>)))
    }
}

struct Numbered {
    rows: Vec<u64>,
    rows_max: u64,
    cursor: Cursor,
}

impl Cut for Numbered {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Slice>, DatasetError>> {
        Box::pin(std::future::ready(Ok(self.step())))
    }

    fn cursor(&self) -> Cursor {
        self.cursor.clone()
    }
}

impl Numbered {
    fn step(&mut self) -> Option<Slice> {
        let Cursor { source_index, position, next_row } = self.cursor;
        let all = *self.rows.get(source_index as usize)?;
        if position >= all {
            self.cursor = Cursor { source_index: source_index + 1, position: 0, next_row };
            return self.step();
        }
        let end = all.min(position + self.rows_max);
        self.cursor = Cursor { source_index, position: end, next_row: next_row + end - position };
        let (range, rows) = (SliceRange::Rows { start: position, end }, end - position);
        let blake3 = is_text(self.rows.iter().sum()).then(|| digest_of(next_row..next_row + rows, false));
        Some(Slice { source_index, recut_key: None, range, first_row: next_row, rows, blake3 })
    }
}
