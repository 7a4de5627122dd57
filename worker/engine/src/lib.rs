//! Texts in, vectors out: the computation of Encaje. A leaf crate without tokio, network or environment.

mod config;
mod encoder;
mod engine;
mod error;
mod model_dir;
mod options;
mod packing;

pub use encoder::{Encoded, TextEncoder, Token};
pub use engine::Engine;
pub use error::{EmbedError, EncodeError, LoadError};
pub use model_dir::{ModelDir, ModelSummary, PoolingSource, TokenizerKind};
pub use options::{DeviceSpec, Dtype, EngineOptions, Pooling, UnknownOption};
pub use packing::{Batch, pack};
