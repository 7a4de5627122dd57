//! What can go wrong with files, and what the caller may do about it.

/// A failure to read or write data at rest. The message names the object, the row where one is known, and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {}
