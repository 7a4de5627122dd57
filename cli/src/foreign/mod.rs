//! Vectors, places and labels of files that other programs made, or that a program has changed on purpose.

mod labels;
mod npy;
mod places;
mod vectors;

pub(crate) use labels::LabelFile;
pub(crate) use places::{Places, is_places};
pub(crate) use vectors::load as load_vectors;

/// The column of row numbers, which files of places and labels are joined by.
pub(crate) const ROW: &str = dataset::vectors::column_names::ROW;
