//! How a test makes a worker die of a row: builds with debug assertions abort on a text that holds the marker that the
//! environment names. Release builds know nothing of it.

use dataset::RejectReason;

/// Names the text that a process dies of.
#[cfg(debug_assertions)]
const MARKER: &str = "ENCAJE_FAILPOINT_ABORT_ON_TEXT";

/// Aborts the process if one of the texts holds the marker.
#[cfg(debug_assertions)]
pub(crate) fn die_of(texts: &[Result<String, RejectReason>]) {
    static FOUND: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let marker = FOUND.get_or_init(|| std::env::var(MARKER).ok().filter(|marker| !marker.is_empty()));
    let Some(marker) = marker else { return };
    if texts.iter().flatten().any(|text| text.contains(marker.as_str())) {
        std::process::abort();
    }
}

/// Does nothing.
#[cfg(not(debug_assertions))]
pub(crate) const fn die_of(_texts: &[Result<String, RejectReason>]) {}
