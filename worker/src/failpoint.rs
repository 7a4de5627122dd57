//! How a test makes a worker die of a row, or lose its device: builds with debug assertions abort on a text that holds the
//! marker that the environment names, and take the device for lost once where it names a file that says when. Release builds
//! know nothing of it.

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

/// Names a file that holds `load` or `batch`: the next one removes it and loses the device.
#[cfg(debug_assertions)]
const LOSS: &str = "ENCAJE_FAILPOINT_LOSE_DEVICE";

/// Returns whether the device is to be taken for lost now.
#[cfg(debug_assertions)]
pub(crate) fn loses_device(moment: &str) -> bool {
    static FILE: std::sync::OnceLock<Option<std::path::PathBuf>> = std::sync::OnceLock::new();
    let file = FILE.get_or_init(|| std::env::var_os(LOSS).map(Into::into));
    let due = |file: &std::path::Path| std::fs::read_to_string(file).is_ok_and(|due| due == moment);
    file.as_ref().is_some_and(|file| due(file) && std::fs::remove_file(file).is_ok())
}

/// Never.
#[cfg(not(debug_assertions))]
pub(crate) const fn loses_device(_moment: &str) -> bool {
    false
}
