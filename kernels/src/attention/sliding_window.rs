//! Sliding-window attention, as in ModernBERT's local layers.

use super::{Heads, Precision, attend};
use crate::rows_view::RowsView;

/// As [`attend`], from each token of a text to those at most `half_window` tokens before or after it.
pub fn attend_sliding_window(
    out: &mut [f32],
    [queries, keys, values]: [RowsView<'_>; 3],
    half_window: usize,
    heads: Heads,
    scratch: &mut Vec<f32>,
) {
    let precision = Precision::Single;
    if queries.rows <= half_window + 1 {
        return attend(out, queries, keys, values, (heads.into(), precision), scratch);
    }
    for (token, out) in out.chunks_exact_mut(heads.count * heads.size).enumerate() {
        let first = token.saturating_sub(half_window);
        let window = token + half_window + 1 - first;
        let (keys, values) = (keys.block(first, window), values.block(first, window));
        attend(out, queries.block(token, 1), keys, values, (heads.into(), precision), scratch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_attends_only_inside_its_window() {
        // With equal keys the context is the mean of the values inside the window.
        let values: Vec<f32> = (0..6_u8).map(f32::from).collect();
        let rows = |data| RowsView { data, rows: 6, stride: 1 };
        let heads = Heads { count: 1, size: 1 };
        let mut out = [0.0; 6];
        attend_sliding_window(&mut out, [rows(&[0.0; 6]), rows(&[0.0; 6]), rows(&values)], 1, heads, &mut Vec::new());
        for (found, expected) in out.iter().zip([0.5, 1.0, 2.0, 3.0, 4.0, 4.5]) {
            assert!((found - expected).abs() < 1e-6, "{out:?}");
        }
    }
}
