#![doc = include_str!("../README.md")]

mod error;
mod options;

mod config;
mod families;
mod model_dir;
mod sentence;

mod embedder;
mod encoder;
mod packing;
mod pretruncate;
mod tokenizer;

mod after_pooling;
mod backend;
mod cuda;
mod engine;
mod forward;
mod mlm;
mod ops;
mod pooling;
pub mod selftest;
mod static_embedding;
mod weights;

pub use cuda::{GpuInfo, STREAMS as GPU_STREAMS, gpus};
pub use embedder::{Embedder, TextVectors, Watch};
pub use encoder::{Encoded, TextEncoder, Token};
pub use engine::Engine;
pub use error::{EmbedError, EmbedTextsError, EncodeError, FillError, GpuError, LoadError};
pub use mlm::{Filled, MaskFiller};
pub use model_dir::{Digests, ModelDir, ModelSummary, NO_MAX_LENGTH, PoolingSource, TokenizerKind};
pub use options::{DeviceSpec, EngineOptions, UnknownDevice, is_fast_on_cpu};
pub use packing::{Batch, pack};
pub use pooling::ModelPooling;
pub use sentence::Prompts;
pub use spec::{ComputeDtype, Pooling};
