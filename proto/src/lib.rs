//! The wire: what processes say to each other. Domain types first, generated code behind them.

pub mod ids;
pub mod job;
pub mod work;

pub use ids::{Epoch, JobId, RequestId, SessionId, ShardId};
