//! The control plane: decides who does what; never touches a text or a vector.

pub mod clock;
pub mod policy;
pub mod shard;
pub mod store;

pub use clock::{Clock, SystemClock, TestClock};
pub use policy::Policy;
pub use store::{Store, StoreError, StoreErrorKind};
