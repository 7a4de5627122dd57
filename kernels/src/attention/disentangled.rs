//! Disentangled attention (DeBERTa): a score is the sum of content-to-content, content-to-position and
//! position-to-content products over relative positions.

use super::{Heads, columns_of, softmax};
use crate::matmul::{Matrix, MatrixMut, matmul};
use crate::rows_view::RowsView;

/// Projections of the relative position embeddings, `2 * span` rows with all heads side by side.
#[derive(Clone, Copy)]
pub struct RelativePositions<'a> {
    /// Keys for content-to-position scores.
    pub keys: Option<&'a [f32]>,
    /// Queries for position-to-content scores.
    pub queries: Option<&'a [f32]>,
    /// Half the number of rows.
    pub span: usize,
    /// The row for each relative position `query - key`, from `1 - tokens` on.
    pub rows: &'a [usize],
}

/// Computes attention among all tokens of one text. `scale` multiplies every score.
pub fn attend_disentangled(
    out: &mut [f32],
    [queries, keys, values]: [RowsView<'_>; 3],
    relative: RelativePositions<'_>,
    (heads, scale): (Heads, f32),
) {
    let (width, tokens) = (heads.count * heads.size, queries.rows);
    let mut scores = vec![0.0; tokens * tokens];
    let count = 2 * relative.span;
    let mut projected = vec![0.0; tokens * count];
    for head in 0..heads.count {
        let at = head * heads.size;
        let columns_of = |rows| columns_of(rows, at, heads.size);
        let project = |projected: &mut [f32], tokens_side, table| {
            let table = RowsView { data: table, rows: count, stride: width };
            matmul(MatrixMut::new(projected, tokens, count, count), tokens_side, columns_of(table).transposed(), scale);
        };
        matmul(
            MatrixMut::new(&mut scores, tokens, tokens, tokens),
            columns_of(queries),
            columns_of(keys).transposed(),
            scale,
        );
        // The rows of the relative positions of one query to every key.
        let rows = |query: usize| relative.rows[query..query + tokens].iter().rev();
        if let Some(table) = relative.keys {
            project(&mut projected, columns_of(queries), table);
            for (query, (scores, projected)) in
                scores.chunks_exact_mut(tokens).zip(projected.chunks_exact(count)).enumerate()
            {
                scores.iter_mut().zip(rows(query)).for_each(|(score, row)| *score += projected[*row]);
            }
        }
        if let Some(table) = relative.queries {
            project(&mut projected, columns_of(keys), table);
            for (query, scores) in scores.chunks_exact_mut(tokens).enumerate() {
                let projected = projected.chunks_exact(count).zip(rows(query)).map(|(projected, row)| projected[*row]);
                scores.iter_mut().zip(projected).for_each(|(score, projected)| *score += projected);
            }
        }
        softmax(&mut scores, tokens);
        matmul(
            MatrixMut::new(&mut out[at..], tokens, heads.size, width),
            Matrix::new(&scores, tokens, tokens, tokens),
            columns_of(values),
            1.0,
        );
    }
}
