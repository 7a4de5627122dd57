//! The errors of the engine. Each names the file or tensor that it is about, and what to do. The enums are exhaustive: a
//! new error does not compile until every match on them handles it.

use std::io;
use std::path::PathBuf;

/// A model that cannot be loaded. Retrying with the same files is useless, except for the device errors.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file of the model could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The directory lacks something that every model needs.
    #[error("`{}` is not a usable model directory: {missing}", dir.display())]
    Missing {
        /// The model directory.
        dir: PathBuf,
        /// What is missing, and which files would provide it.
        missing: String,
    },
    /// A file has invalid content.
    #[error("`{}`: {problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        problem: String,
    },
    /// The architecture is unknown.
    #[error("unknown architecture `{found}` in `{}`: known are {}", path.display(), crate::families::known_model_types())]
    UnknownArchitecture {
        /// The `config.json` that names it.
        path: PathBuf,
        /// The `model_type`, or the class name where there is none.
        found: String,
    },
    /// The model is valid but needs something that this engine does not support.
    #[error("unsupported: {what}")]
    Unsupported {
        /// What is unsupported, and what is supported instead.
        what: String,
    },
    /// A weight is missing or has another shape than the config says.
    #[error("weight `{tensor}` in `{}`: {problem}", path.display())]
    Weight {
        /// The weights file.
        path: PathBuf,
        /// The tensor, by the name tried first.
        tensor: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The device cannot be used, or refuses a call.
    #[error("device `{device}`: {problem}")]
    DeviceUnusable {
        /// Which device.
        device: String,
        /// Why, in words for users.
        problem: String,
    },
    /// The device has too little free memory for the model and a batch.
    #[error("device `{device}` has too little free memory for the model and a batch: see what else uses it")]
    DeviceFull {
        /// Which device.
        device: String,
    },
    /// The device is unusable for the rest of this process, as in [`EmbedError::DeviceLost`].
    #[error("the device `{device}` is lost to this process: {reason}")]
    DeviceLost {
        /// Which device.
        device: String,
        /// The driver's message.
        reason: String,
    },
    /// The device failed.
    #[error("cannot place the weights of the model of `{}` on the device", path.display())]
    Device {
        /// The config of the model.
        path: PathBuf,
        /// The error of the device.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A text that the tokenizer refused.
#[derive(Debug, thiserror::Error)]
#[error("the tokenizer failed: {message}")]
pub struct EncodeError {
    /// The tokenizer's message. Never contains the text.
    pub message: String,
}

/// A batch that could not be embedded.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// The batch breaks a rule that a [`TextEncoder`](crate::TextEncoder) of the same model keeps.
    #[error("row {row} of the batch: {problem}")]
    Batch {
        /// The row within the batch.
        row: usize,
        /// Which rule, and by how much.
        problem: String,
    },
    /// The device ran out of memory; a smaller batch may succeed.
    #[error("out of memory on a batch of {tokens} tokens")]
    OutOfMemory {
        /// Tokens in the batch.
        tokens: usize,
    },
    /// The device context is broken: every later call fails, and only a new process can use the device.
    #[error("the device `{device}` is lost to this process: {reason}")]
    DeviceLost {
        /// Which device.
        device: String,
        /// The driver's message.
        reason: String,
    },
    /// The forward pass failed.
    #[error("the forward pass failed on a batch of {tokens} tokens")]
    Forward {
        /// Tokens in the batch.
        tokens: usize,
        /// The error of the device.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Texts that could not be embedded.
#[derive(Debug, thiserror::Error)]
pub enum EmbedTextsError {
    /// The tokenizer refused a text.
    #[error("the text at index {index} cannot be tokenized")]
    Encode {
        /// Its index, from 0.
        index: usize,
        /// Why.
        source: EncodeError,
    },
    /// The forward pass failed.
    #[error(transparent)]
    Embed(#[from] EmbedError),
    /// [`Watch::stop`](crate::Watch::stop) was called.
    #[error("stopped")]
    Stopped,
}

/// A text whose masks could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// There is nothing to fill.
    #[error("the text has no mask: write `{mask}` for the token to predict")]
    NoMask {
        /// How this model's tokenizer writes it.
        mask: String,
    },
    /// A mask is beyond the model's maximum length.
    #[error("a mask lies beyond the {tokens_max} tokens that the model takes: shorten the text before it")]
    MaskCutOff {
        /// The most tokens, special ones included.
        tokens_max: usize,
    },
    /// The tokenizer refused the text.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Why no GPU of this machine can be used, in words for users.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GpuError(pub String);
