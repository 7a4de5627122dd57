//! The corpus formats as a user meets them: files in, slices and records out, through the public API alone.

#![expect(clippy::unwrap_used, reason = "a test helper that cannot unwrap has found a failure")]

mod columnar;
mod dialects;
mod expand;
mod golden;
mod harness;
mod hostile;
mod json;
mod property;
mod recut;
mod references;
