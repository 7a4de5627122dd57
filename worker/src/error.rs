//! What can end a worker, and what can end an attempt at a shard; the latter is mapped to a [`FailureClass`] in one place.

use std::path::PathBuf;

use dataset::{DatasetError, ErrorKind, RejectReason};
use engine::{EmbedError, LoadError};
use proto::RpcError;
use proto::work::FailureClass;

use crate::model_store::ModelError;

/// Why a worker stopped without a shutdown.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The model named for preloading could not be made ready.
    #[error("cannot make the model `{model}` ready: {reason}")]
    Model {
        /// Its name.
        model: String,
        /// What failed, causes included.
        reason: String,
    },
    /// The folder for unfinished output cannot be used.
    #[error("the spool folder cannot be used: `{path}`")]
    Spool {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The coordinator's storage cannot be used from here.
    #[error("the storage of the coordinator cannot be used from here")]
    Storage(#[source] DatasetError),
    /// No coordinator for too long.
    #[error("no coordinator for {minutes} minutes; start it and then this worker again, nothing is lost")]
    Offline {
        /// How long it was tried.
        minutes: u64,
        /// The last failure.
        source: RpcError,
    },
    /// The coordinator does not want this worker.
    #[error("the coordinator refuses this worker")]
    Refused(#[source] RpcError),
    /// A device is lost to this process.
    #[error(
        "the device `{device}` is lost to this process: {reason}; the shards were given back, start the worker again to use the device again"
    )]
    DeviceLost {
        /// Which device.
        device: String,
        /// What the driver said.
        reason: String,
    },
    /// The disk that holds the spool, or the worker's own storage, cannot be written.
    #[error(
        "cannot write to `{path}`: {reason}; what is done is kept: make room on this disk, or mend it, and start again"
    )]
    Disk {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The worker's own storage is not the one that the job was begun in.
    #[error("{reason}")]
    StorageSwapped {
        /// Which, how it was noticed, and what to do.
        reason: String,
    },
    /// A thread could not be started.
    #[error("cannot start a {what} thread")]
    Thread {
        /// What it was for.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

/// Why an attempt at a shard failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShardError {
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Embed(#[from] EmbedError),
    #[error(
        "model `{model}` in `{dir}` is not the job's: its digest is {found}, expected {expected}; use the same files everywhere, and submit a job of an earlier release again if that release read other files"
    )]
    ModelMismatch { model: String, dir: PathBuf, expected: String, found: String },
    #[error(
        "the model is the directory `{dir}`, which this worker does not have: put the same files there on every worker, or submit with a Hub id"
    )]
    ModelElsewhere { dir: String },
    #[error(
        "row {row} (from 0, over the whole corpus) of `{uri}` is rejected: {reason}; mend it, or run with --on-bad-row reject"
    )]
    BadRow { uri: String, row: u64, reason: RejectReason },
    #[error(
        "`{uri}`: expected rows {expected_first} to {expected_end}, read up to {found_end}: it changed since it was planned"
    )]
    RowsDiffer { uri: String, expected_first: u64, expected_end: u64, found_end: u64 },
    #[error(
        "model `{model}` gives no finite vector: all {rows} texts of the first shard came out as NaN or infinity, so its weights are broken; fetch its files again, or try it in Python"
    )]
    NothingFinite { model: String, rows: u64 },
    #[error(
        "`{uri}` gave other bytes than when it was planned, and the planned ones when read again: a disk, memory or network errs"
    )]
    ReadDiffers { uri: String },
    #[error("the uploaded file `{uri}` is not found now")]
    UploadMissing { uri: String },
    #[error("output `{key}` exists with {found} bytes, expected {expected}")]
    OutputDiffers { key: String, expected: u64, found: u64 },
    #[error("cannot take vectors from an earlier output: mend it, or give the same command without --reuse")]
    Reuse(#[source] DatasetError),
    #[error("the {stage} stage panicked; this is a bug of the program, please report it")]
    Panicked { stage: &'static str },
    #[error("cannot learn what to do with the source: {0}")]
    TaskUnknown(RpcError),
    #[error("the coordinator refused the output: {0}")]
    CommitRefused(RpcError),
    #[error("the worker is stopping")]
    Stopping,
}

impl ShardError {
    /// Returns what the coordinator should make of it.
    pub(crate) fn class(&self) -> FailureClass {
        match self {
            ShardError::Dataset(error) => dataset_class(error.kind()),
            // Another worker may have it, and the job's own sources are as they were.
            ShardError::Reuse(error) if error.kind() == ErrorKind::NotFound => FailureClass::Transient,
            ShardError::Reuse(error) => dataset_class(error.kind()),
            ShardError::Model(error) => model_class(error),
            ShardError::Load(LoadError::DeviceFull { .. }) => FailureClass::Resource,
            // Another worker's device may do.
            ShardError::Load(LoadError::DeviceUnusable { .. } | LoadError::DeviceLost { .. }) => {
                FailureClass::Transient
            }
            ShardError::Load(_) => FailureClass::Config,
            ShardError::Embed(EmbedError::OutOfMemory { .. }) => FailureClass::Resource,
            ShardError::Embed(EmbedError::Batch { .. }) => FailureClass::Config,
            ShardError::Embed(EmbedError::Forward { .. } | EmbedError::DeviceLost { .. }) => FailureClass::Transient,
            ShardError::NothingFinite { .. } => FailureClass::Config,
            ShardError::ModelMismatch { .. } => FailureClass::ModelMismatch,
            ShardError::BadRow { .. } => FailureClass::BadRow,
            ShardError::RowsDiffer { .. } => FailureClass::InputChanged,
            // Another worker may have it.
            ShardError::ModelElsewhere { .. }
            | ShardError::ReadDiffers { .. }
            // It lies in the coordinator's storage, and may come back.
            | ShardError::UploadMissing { .. }
            | ShardError::OutputDiffers { .. }
            | ShardError::Panicked { .. }
            | ShardError::TaskUnknown(_)
            | ShardError::CommitRefused(_)
            | ShardError::Stopping => FailureClass::Transient,
        }
    }

    /// Returns the message with its causes, for the coordinator to keep.
    pub(crate) fn describe(&self) -> String {
        common::error_chain(self)
    }
}

fn dataset_class(kind: ErrorKind) -> FailureClass {
    match kind {
        // Whatever was planned was there; it is gone, so it changed.
        ErrorKind::NotFound | ErrorKind::SourceChanged => FailureClass::InputChanged,
        ErrorKind::BadInput | ErrorKind::Corrupt | ErrorKind::Unsupported => FailureClass::Config,
        ErrorKind::NoSpace => FailureClass::Resource,
        ErrorKind::AlreadyExists | ErrorKind::Io => FailureClass::Transient,
        ErrorKind::Auth => FailureClass::Auth,
        // No fault of the shard's: it waits for somebody to put the storage back.
        ErrorKind::Throttled | ErrorKind::StorageSwapped => FailureClass::Throttled,
    }
}

fn model_class(error: &ModelError) -> FailureClass {
    match error {
        ModelError::Network { .. } | ModelError::Damaged { .. } => FailureClass::Transient,
        ModelError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => FailureClass::Resource,
        ModelError::Io { .. } => FailureClass::Transient,
        ModelError::BadName { .. }
        | ModelError::NoSuchModel { .. }
        | ModelError::NoSuchRevision { .. }
        | ModelError::Denied { .. }
        | ModelError::NotCached { .. }
        | ModelError::Incomplete { .. } => FailureClass::Config,
    }
}
