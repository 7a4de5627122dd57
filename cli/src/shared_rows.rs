//! The rows of which several outputs of one corpus all have a vector.

use std::path::Path;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use dataset::VectorSet;
use dataset::vectors::column_names::{ERROR, ROW};
use dataset::vectors::{BATCH_ROWS, Projection};

use crate::args::Place;
use crate::exit::Advice;
use crate::points::Points;
use crate::ui;

/// Rows that can be compared between outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SharedRows {
    /// The numbers of those that have a vector everywhere, ascending.
    pub(crate) rows: Vec<i64>,
    /// How many lack one somewhere.
    pub(crate) left_out: u64,
}

/// The rows of one output.
struct Listed {
    /// Rows of the corpus, also those that are missing.
    all: u64,
    /// Those that have a vector, ascending.
    embedded: Vec<i64>,
}

impl SharedRows {
    /// Reads the row numbers of all outputs, and nothing else of them.
    ///
    /// # Errors
    /// Outputs that cannot be read, that have different numbers of rows, or no row in common.
    pub(crate) fn of(targets: &[Place]) -> anyhow::Result<Self> {
        let mut shared: Option<(&Path, Listed)> = None;
        for target in targets {
            let listed = list(target)?;
            shared = Some(match shared {
                None => (target, listed),
                Some((first, known)) if known.all == listed.all => {
                    (first, Listed { all: known.all, embedded: intersection(&known.embedded, &listed.embedded) })
                }
                Some((first, known)) => {
                    let (one, other) = (first.display(), target.display());
                    let (has, others) = (ui::thousands(known.all), ui::thousands(listed.all));
                    let what = format!("`{one}` and `{other}` cannot be compared: they have {has} and {others} rows");
                    return Err(Advice::usage(what).hint(SAME_CORPUS).into());
                }
            });
        }
        let listed = shared.map(|shared| shared.1).unwrap_or(Listed { all: 0, embedded: Vec::new() });
        if listed.embedded.is_empty() {
            return Err(Advice::failed("there is no row of which every set has a vector").hint(SAME_CORPUS).into());
        }
        let left_out = listed.all - listed.embedded.len() as u64;
        Ok(Self { rows: listed.embedded, left_out })
    }

    /// Drops the points of all other rows.
    pub(crate) fn retain_in(&self, points: &mut Points) -> anyhow::Result<()> {
        let kept: Vec<bool> = points.rows.iter().map(|row| self.rows.binary_search(row).is_ok()).collect();
        points.retain(&kept)
    }
}

/// The hint for sets that cannot be compared.
pub(crate) const SAME_CORPUS: &str = "embed the same corpus with each model, then compare";

fn list(target: &Path) -> anyhow::Result<Listed> {
    let set = VectorSet::open(target)?;
    let mut listed = Listed { all: set.missing(), embedded: Vec::new() };
    let columns = [ROW, ERROR].map(str::to_owned).to_vec();
    for batch in set.batches(&Projection::Columns(columns), BATCH_ROWS) {
        const CHECKED: &str = "the reader checked the columns and their types";
        let batch = batch?;
        let rows = batch.column_by_name(ROW).expect(CHECKED).as_primitive::<Int64Type>();
        let errors = batch.column_by_name(ERROR).expect(CHECKED);
        listed.all += batch.num_rows() as u64;
        listed.embedded.extend((0..batch.num_rows()).filter(|&at| errors.is_null(at)).map(|at| rows.value(at)));
    }
    listed.embedded.sort_unstable();
    Ok(listed)
}

/// Returns what is in both of two ascending lists.
fn intersection(one: &[i64], other: &[i64]) -> Vec<i64> {
    let mut others = other.iter().peekable();
    let is_there = |row: &&i64| {
        while others.next_if(|other| other < row).is_some() {}
        others.peek() == Some(row)
    };
    one.iter().filter(is_there).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::intersection;

    #[test]
    fn what_two_lists_share_is_found() {
        assert_eq!(intersection(&[0, 2, 3, 7, 9], &[1, 2, 7, 8]), [2, 7]);
        assert_eq!(intersection(&[1], &[]), [0i64; 0]);
        assert_eq!(intersection(&[4, 5], &[4, 5]), [4, 5]);
    }
}
