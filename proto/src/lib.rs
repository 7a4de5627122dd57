#![doc = include_str!("../README.md")]

pub mod ids;
pub mod job;
pub mod work;

pub mod client;
pub mod connection;
pub mod convert;
pub mod limits;
pub mod relay;
pub mod retry;
pub mod revision;
pub mod transport;
pub mod wire;

/// The generated code. Only the conversions, the clients and the coordinator's services name its types.
#[rustfmt::skip]
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::doc_markdown,
    clippy::too_many_lines,
    clippy::wildcard_imports,
    reason = "generated"
)]
pub mod generated;

pub use client::{JobsClient, RpcError, RpcErrorKind, WorkClient};
pub use connection::{ClientSecurity, Connection};
pub use convert::ConvertError;
pub use generated::FILE_DESCRIPTOR_SET;
pub use ids::{Epoch, JobId, NotAnId, RequestId, SessionId, ShardId};
pub use retry::RetryPolicy;
pub use transport::{TransportError, connect, in_process, listen};
pub use wire::Wire;
