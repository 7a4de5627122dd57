//! How well models separate the values of a column: each set of vectors is measured by itself, and then against the others.

mod findings;
mod sections;
mod sets;
mod words;

pub(crate) use findings::{Findings, find};
pub(crate) use sections::{aligned_lines, by_label, sections, table};
pub(crate) use sets::{MeasuredSet, Model, ReferenceRows, describe_set, measure, rows_of, same_rows};
pub(crate) use words::{Compared, Language, sentences};

/// Neighbours that vote for a row's label, and for which the plot is judged.
pub(crate) const NEIGHBORS: usize = 15;
