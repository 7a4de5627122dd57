//! What went wrong last, for whoever watches a worker in the same process.

use std::sync::{Mutex, PoisonError};

/// The last failure of a shard, or of the places that its files are in.
#[derive(Debug, Default)]
pub struct Trouble(Mutex<Option<String>>);

impl Trouble {
    /// Notes a failure, in the place of an earlier one.
    pub fn note(&self, what: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
    }

    /// Takes the last failure, if there was one since it was last taken.
    pub fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
