//! Attention from each token of a text to those near it: causal, in a sliding window, or both.

use std::ops::Range;

use super::{Heads, Precision, Scoring, attend, attend_visible};
use crate::rows_view::RowsView;

/// Tokens whose queries are taken together: few, so that little is computed outside of the windows, but enough that the
/// keys are not laid out too often.
const BLOCK_TOKENS: usize = 48;

/// How many tokens before and after its own a query attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Tokens before.
    pub before: usize,
    /// Tokens after; 0 for causal attention.
    pub after: usize,
}

impl Reach {
    /// To all tokens of a text.
    pub const ALL: Reach = Reach { before: usize::MAX, after: usize::MAX };
}

/// The keys that the queries of a text attend to.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Around a query's own token.
    pub reach: Reach,
    /// The token of the first query, counted from the first key.
    pub first: usize,
    /// Queries of a token, one after another, where several heads share a head of keys.
    pub group: usize,
}

impl Window {
    /// Returns the keys of a query; the end may lie beyond the last one.
    pub(super) fn visible(&self, query: usize) -> Range<usize> {
        let token = self.first + query / self.group;
        token.saturating_sub(self.reach.before)..token.saturating_add(self.reach.after).saturating_add(1)
    }

    /// Hides all other keys from a query.
    pub(super) fn hide_others(&self, scores: &mut [f32], query: usize) {
        let Range { start, end } = self.visible(query);
        scores[..start].fill(f32::NEG_INFINITY);
        if let Some(after) = scores.get_mut(end..) {
            after.fill(f32::NEG_INFINITY);
        }
    }
}

/// As [`attend`], from each query to the keys inside its window. `queries` has `window.group` rows for each token.
pub fn attend_within(
    out: &mut [f32],
    [queries, keys, values]: [RowsView<'_>; 3],
    window: Window,
    (heads, precision): (Heads, Precision),
    scratch: &mut Vec<f32>,
) {
    let Window { reach, first, group } = window;
    let scoring = Scoring::from(heads);
    let last = first + queries.rows / group - 1;
    if reach.before >= last && reach.after >= keys.rows - 1 - first {
        return attend(out, queries, keys, values, (scoring, precision), scratch);
    }
    let rows = BLOCK_TOKENS * group;
    for (block, out) in out.chunks_mut(rows * heads.count * heads.size).enumerate() {
        let queries = queries.block(block * rows, rows);
        let start = first + block * BLOCK_TOKENS;
        let end = (start + queries.rows / group).saturating_add(reach.after).min(keys.rows);
        let start_key = start.saturating_sub(reach.before);
        let window = Window { first: start - start_key, ..window };
        let keys_values = (keys.block(start_key, end - start_key), values.block(start_key, end - start_key));
        attend_visible(out, queries, keys_values, (scoring, Some(window)), precision, scratch);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{attend_generic, portable};
    use super::*;

    #[test]
    fn a_token_attends_only_inside_its_window() {
        // With equal keys the context is the mean of the values inside the window.
        let values: Vec<f32> = (0..6_u8).map(f32::from).collect();
        let rows = |data| RowsView { data, rows: 6, stride: 1 };
        let heads = Heads { count: 1, size: 1 };
        let cases = [
            (Reach { before: 1, after: 1 }, [0.5, 1.0, 2.0, 3.0, 4.0, 4.5]),
            (Reach { before: usize::MAX, after: 0 }, [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]),
            (Reach { before: 2, after: 0 }, [0.0, 0.5, 1.0, 2.0, 3.0, 4.0]),
            (Reach { before: 0, after: 1 }, [0.5, 1.5, 2.5, 3.5, 4.5, 5.0]),
            (Reach::ALL, [2.5; 6]),
        ];
        for (reach, expected) in cases {
            let mut out = [0.0; 6];
            let window = Window { reach, first: 0, group: 1 };
            let views = [rows(&[0.0; 6]), rows(&[0.0; 6]), rows(&values)];
            attend_within(&mut out, views, window, (heads, Precision::Single), &mut Vec::new());
            for (found, expected) in out.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "{reach:?}: {out:?}");
            }
        }
    }

    /// Attends from one query at a time to the rows of its own keys.
    fn one_by_one(out: &mut [f32], [queries, keys, values]: [RowsView<'_>; 3], window: Window, heads: Heads) {
        for (query, out) in out.chunks_exact_mut(heads.count * heads.size).enumerate() {
            let Range { start, end } = window.visible(query);
            let (keys, values) = (keys.block(start, end - start), values.block(start, end - start));
            attend_generic(out, queries.block(query, 1), (keys, values), (heads.into(), None), &mut Vec::new());
        }
    }

    #[test]
    fn every_kernel_sees_the_same_windows() {
        let numbers = |count: usize, step: usize| -> Vec<f32> {
            (0..count).map(|i| (i * step % 101) as f32 / 25.0 - 2.0).collect()
        };
        let unlimited = usize::MAX;
        for (before, after) in [(unlimited, 0), (5, 5), (20, 0), (0, unlimited), (70, 70), (unlimited, 3)] {
            for (tokens, first, group, size) in [(130, 0, 1, 32), (131, 0, 2, 20), (1, 129, 4, 16), (2, 5, 3, 7)] {
                let (heads, keys) = (Heads { count: 2, size }, 131);
                let width = heads.count * size;
                let (q, k, v) =
                    (numbers(tokens * group * width, 7), numbers(keys * width, 13), numbers(keys * width, 5));
                let view = |data, rows| RowsView { data, rows, stride: width };
                let views = [view(&q[..], tokens * group), view(&k[..], keys), view(&v[..], keys)];
                let window = Window { reach: Reach { before, after }, first, group };
                let (mut found, mut expected) = (vec![9.0; q.len()], vec![9.0; q.len()]);
                one_by_one(&mut expected, views, window, heads);
                let compare = |found: &[f32], error_max: f32, what: &str| {
                    for (found, expected) in found.iter().zip(&expected) {
                        let error = (found - expected).abs();
                        assert!(error <= error_max, "{window:?}, {what}: {found} for {expected}");
                    }
                };
                attend_within(&mut found, views, window, (heads, Precision::Single), &mut vec![f32::NAN; 7]);
                compare(&found, 2e-5, "f32");
                attend_within(&mut found, views, window, (heads, Precision::Half), &mut vec![f32::NAN; 7]);
                compare(&found, 5e-2, "bf16");
                let masked = (heads.into(), Some(window));
                attend_generic(&mut found, views[0], (views[1], views[2]), masked, &mut Vec::new());
                compare(&found, 2e-5, "generic");
                if portable::supports(heads) {
                    portable::attend(&mut found, views[0], (views[1], views[2]), masked, &mut vec![f32::NAN; 7]);
                    compare(&found, 2e-5, "portable");
                }
            }
        }
    }
}
