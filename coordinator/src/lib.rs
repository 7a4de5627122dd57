//! The control plane: decides who does what; never touches a text or a vector.

pub mod clock;

pub use clock::{Clock, SystemClock, TestClock};
