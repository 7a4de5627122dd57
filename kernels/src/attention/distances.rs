//! Attention by content and distance, as DeBERTa has it: a score is the sum of how a query meets a key, how it meets the
//! vector of their distance, and how that meets the key.

use super::{Heads, part, softmax};
use crate::matmul::{Matrix, MatrixMut, matmul};
use crate::packed::RowsView;

/// The vectors of distances: from the farthest after to the farthest before, `2 * span` rows of all heads side by side.
#[derive(Clone, Copy)]
pub struct Distances<'a> {
    /// What queries meet.
    pub keys: Option<&'a [f32]>,
    /// What keys meet.
    pub queries: Option<&'a [f32]>,
    /// Half the number of rows.
    pub span: usize,
    /// The row of a distance `query - key`, from `1 - tokens` on.
    pub rows: &'a [usize],
}

/// Attends from each token of a text to all of them. `scale` multiplies every score.
pub fn attend_by_distance(
    out: &mut [f32],
    [queries, keys, values]: [RowsView<'_>; 3],
    distances: Distances<'_>,
    (heads, scale): (Heads, f32),
) {
    let (width, tokens) = (heads.count * heads.size, queries.rows);
    let mut scores = vec![0.0; tokens * tokens];
    let count = 2 * distances.span;
    let mut met = vec![0.0; tokens * count];
    for head in 0..heads.count {
        let at = head * heads.size;
        let part = |rows| part(rows, at, heads.size);
        let meet = |met: &mut [f32], tokens_side, table| {
            let table = RowsView { data: table, rows: count, stride: width };
            matmul(MatrixMut::new(met, tokens, count, count), tokens_side, part(table).transposed(), scale);
        };
        matmul(MatrixMut::new(&mut scores, tokens, tokens, tokens), part(queries), part(keys).transposed(), scale);
        // The rows of the distances from one query to every key.
        let rows = |query: usize| distances.rows[query..query + tokens].iter().rev();
        if let Some(table) = distances.keys {
            meet(&mut met, part(queries), table);
            for (query, (scores, met)) in scores.chunks_exact_mut(tokens).zip(met.chunks_exact(count)).enumerate() {
                scores.iter_mut().zip(rows(query)).for_each(|(score, row)| *score += met[*row]);
            }
        }
        if let Some(table) = distances.queries {
            meet(&mut met, part(keys), table);
            for (query, scores) in scores.chunks_exact_mut(tokens).enumerate() {
                let met = met.chunks_exact(count).zip(rows(query)).map(|(met, row)| met[*row]);
                scores.iter_mut().zip(met).for_each(|(score, met)| *score += met);
            }
        }
        softmax(&mut scores, tokens);
        matmul(
            MatrixMut::new(&mut out[at..], tokens, heads.size, width),
            Matrix::new(&scores, tokens, tokens, tokens),
            part(values),
            1.0,
        );
    }
}
