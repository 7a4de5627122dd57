//! What the tests of several crates need; only ever a dev-dependency.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

pub mod http;
pub mod hub;
mod jobs;
#[cfg(all(unix, feature = "postgres"))]
pub mod postgres;
#[cfg(feature = "s3")]
pub mod s3;

pub use jobs::{full_job_spec, job_spec};
