//! What was tokenized so far: a sample of the corpus, from which the tokens of all of it are estimated.

use std::sync::atomic::{AtomicU64, Ordering};

use dataset::{Slice, SliceRange};

/// Rows, tokens and bytes of the texts that were tokenized, computed or not. Texts are computed longest first, so that what is
/// computed is no fair sample.
#[derive(Debug, Default)]
pub struct Sample {
    rows: AtomicU64,
    tokens: AtomicU64,
    /// Of the slices, other columns included.
    bytes: AtomicU64,
    /// Rows of slices without bytes of the corpus: those of columnar and of re-cut sources.
    rows_without_bytes: AtomicU64,
}

impl Sample {
    /// Adds tokenized rows of a slice; each is taken to have its share of the slice's bytes.
    pub fn add(&self, slice: &Slice, rows: u64, tokens: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.tokens.fetch_add(tokens, Ordering::Relaxed);
        match slice.range {
            SliceRange::Bytes { start, end } if slice.recut_key.is_none() => {
                let share = rows as f64 / slice.rows.max(1) as f64;
                self.bytes.fetch_add(((end - start) as f64 * share) as u64, Ordering::Relaxed);
            }
            SliceRange::Bytes { .. } | SliceRange::Rows { .. } => {
                self.rows_without_bytes.fetch_add(rows, Ordering::Relaxed);
            }
        }
    }

    /// Estimates the tokens of a corpus of so many bytes and rows: by its bytes where the sample has them, else by its rows,
    /// if they are counted. `None` before there is a sample.
    pub fn tokens_of(&self, bytes: u64, rows: Option<u64>) -> Option<u64> {
        let [seen, tokens, seen_bytes, without] = [&self.rows, &self.tokens, &self.bytes, &self.rows_without_bytes]
            .map(|number| number.load(Ordering::Relaxed) as f64);
        let (whole, part) = match without == 0.0 && seen_bytes > 0.0 {
            true => (bytes as f64, seen_bytes),
            false => (rows? as f64, seen),
        };
        (part > 0.0 && tokens > 0.0).then(|| (tokens * whole / part) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(range: SliceRange, rows: u64) -> Slice {
        Slice { source_index: 0, recut_key: None, range, first_row: 0, rows, blake3: None }
    }

    #[test]
    fn bytes_tell_the_tokens_of_longer_texts_to_come() {
        let sample = Sample::default();
        assert_eq!(sample.tokens_of(10_000, Some(30)), None, "nothing is known yet");
        sample.add(&slice(SliceRange::Bytes { start: 0, end: 1_000 }, 20), 10, 125);
        assert_eq!(sample.tokens_of(10_000, Some(30)), Some(2_500));
        assert_eq!(sample.tokens_of(10_000, None), Some(2_500), "rows need not be counted for it");
    }

    #[test]
    fn rows_are_used_where_a_slice_has_no_bytes_of_the_corpus() {
        let sample = Sample::default();
        sample.add(&slice(SliceRange::Rows { start: 0, end: 20 }, 20), 20, 400);
        assert_eq!((sample.tokens_of(9, Some(100)), sample.tokens_of(9, None)), (Some(2_000), None));
        let recut = Slice { recut_key: Some("k".into()), ..slice(SliceRange::Bytes { start: 0, end: 99 }, 20) };
        sample.add(&recut, 20, 0);
        assert_eq!(sample.tokens_of(9, Some(100)), Some(1_000));
    }
}
