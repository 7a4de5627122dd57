//! A whole coordinator behind its in-process transport, with SQLite, a local folder, a clock that the tests move, and a
//! fake worker that reads real records and writes real vector files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod adjacent_releases;
mod commits;
mod failures;
mod harness;
mod holes;
mod hostile;
mod life;
mod planning;
mod relay;
mod swapped;
mod wide;
