//! What several crates need and none of them owns: random numbers, backoff, error chains, secrets, files that are
//! replaced, the Hub's settings and names. A leaf.

pub mod backoff;
pub mod hub;
pub mod rng;

mod error_chain;
mod file_watch;
mod secret;

pub use backoff::Backoff;
pub use error_chain::{error_chain, with_causes};
pub use file_watch::FileWatch;
pub use secret::Secret;
