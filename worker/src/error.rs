//! What can end a worker.

use std::path::PathBuf;

use crate::model_store::ModelError;

/// Why a worker stopped without having been told to.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The model named for preloading could not be had.
    #[error("the model could not be found")]
    Model(#[from] ModelError),
    /// The folder for unfinished output cannot be used.
    #[error("the spool folder cannot be used: `{path}`")]
    Spool {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
