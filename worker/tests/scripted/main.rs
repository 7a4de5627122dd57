//! The worker against a scripted coordinator in this process, with a tiny real model: one binary, one link.

#![expect(clippy::unwrap_used, reason = "this is a test: an `unwrap` that fails is a failed test")]

mod fake;
mod leases;
mod pipeline;
mod rig;
