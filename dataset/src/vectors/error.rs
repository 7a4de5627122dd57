//! What can go wrong with vector files and manifests.

use std::io;
use std::path::{Path, PathBuf};

use arrow_schema::ArrowError;
use parquet::errors::ParquetError;

use crate::error::{DatasetError, ErrorKind};
use crate::guarded::memory_error;

/// A failure to read or write vector files. The message names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum VectorsError {
    /// The operating system refused.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried: a verb such as `write`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is no place here for a remote file while it is read or written, whatever the file is.
    #[error("cannot keep a remote file in `{}` for a while; set TMPDIR to a folder with room for one", folder.display())]
    Temporary {
        /// Where temporary files are kept.
        folder: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Parquet encoding or decoding failed.
    #[error("cannot decode `{}`, {}", path.display(), place(*.row_group))]
    Decode {
        /// The file.
        path: PathBuf,
        /// The row group, counted from 0; `None` for the footer.
        row_group: Option<usize>,
        /// What the decoder says.
        #[source]
        source: ParquetError,
    },
    /// Rows could not be encoded.
    #[error("cannot encode rows for `{}`", path.display())]
    Encode {
        /// The file being written.
        path: PathBuf,
        /// What the encoder says.
        #[source]
        source: ParquetError,
    },
    /// A file is not what the manifest or its own footer says; the bytes must be made again.
    #[error("`{}` is damaged: {detail}; `encaje repair` makes the output of a run or job again, or restore it from a copy", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What differs.
        detail: String,
    },
    /// The file, manifest or folder is not one that this program can use.
    #[error("cannot use `{}`: {detail}", path.display())]
    Unusable {
        /// The file or folder.
        path: PathBuf,
        /// Why, and what to do.
        detail: String,
    },
    /// The folder has no manifest: its job has not finished.
    #[error("`{}` has no `manifest.json`: the job is not finished, and running it again resumes it; if it was \
         finished and the file is lost, `encaje repair {}` restores it", dir.display(), dir.display())]
    Unfinished {
        /// The folder.
        dir: PathBuf,
    },
    /// The output exists already.
    #[error("`{}` exists already; remove it or choose another name", path.display())]
    Exists {
        /// The output.
        path: PathBuf,
    },
    /// A store of remote files failed, or a URL cannot be used.
    #[error(transparent)]
    Remote(Box<DatasetError>),
    /// Rows that break the promises of the output; they were not written.
    #[error("{}{detail}", row.map(|row| format!("row {row}: ")).unwrap_or_default())]
    BadRows {
        /// The row over the whole corpus, where one is to blame.
        row: Option<u64>,
        /// Which promise, and what to do.
        detail: String,
    },
}

fn place(row_group: Option<usize>) -> String {
    row_group.map_or_else(|| "footer".to_owned(), |index| format!("row group {index}"))
}

impl VectorsError {
    /// Returns what the caller may do: retry, ask the user, or give up.
    pub fn kind(&self) -> ErrorKind {
        match self {
            VectorsError::Io { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
                _ => disk_kind(source),
            },
            VectorsError::Temporary { source, .. } => disk_kind(source),
            VectorsError::Decode { .. } | VectorsError::Damaged { .. } => ErrorKind::Corrupt,
            VectorsError::Encode { source, .. } => encode_kind(source),
            VectorsError::Unusable { .. } | VectorsError::BadRows { .. } => ErrorKind::BadInput,
            VectorsError::Unfinished { .. } => ErrorKind::NotFound,
            VectorsError::Exists { .. } => ErrorKind::AlreadyExists,
            VectorsError::Remote(error) => error.kind(),
        }
    }

    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> VectorsError {
        let path = path.to_owned();
        move |source| VectorsError::Io { action, path, source }
    }

    pub(super) fn encode(path: &Path) -> impl FnOnce(ParquetError) -> VectorsError {
        let path = path.to_owned();
        move |source| VectorsError::Encode { path, source }
    }

    pub(super) fn decode(path: &Path, row_group: Option<usize>) -> impl FnOnce(ParquetError) -> VectorsError {
        let path = path.to_owned();
        move |source| VectorsError::Decode { path, row_group, source }
    }

    pub(super) fn decode_batch(path: &Path, row_group: usize) -> impl FnOnce(ArrowError) -> VectorsError {
        let path = path.to_owned();
        move |source| VectorsError::Decode { path, row_group: Some(row_group), source: source.into() }
    }

    pub(super) fn damaged(path: &Path, detail: impl Into<String>) -> VectorsError {
        VectorsError::Damaged { path: path.to_owned(), detail: detail.into() }
    }

    pub(super) fn panicked(path: &Path, said: &str) -> VectorsError {
        if let Some(source) = memory_error(said) {
            return VectorsError::Io { action: "read", path: path.to_owned(), source };
        }
        Self::unusable(path, format!("its decoder failed, so it is damaged or was not written by encaje ({said})"))
    }

    pub(super) fn unusable(path: &Path, detail: impl Into<String>) -> VectorsError {
        VectorsError::Unusable { path: path.to_owned(), detail: detail.into() }
    }

    pub(super) fn bad_row(row: u64, detail: impl Into<String>) -> VectorsError {
        VectorsError::BadRows { row: Some(row), detail: detail.into() }
    }

    pub(super) fn bad_rows(detail: impl Into<String>) -> VectorsError {
        VectorsError::BadRows { row: None, detail: detail.into() }
    }
}

impl From<DatasetError> for VectorsError {
    fn from(error: DatasetError) -> VectorsError {
        match error {
            DatasetError::Vectors(error) => error,
            error => VectorsError::Remote(Box::new(error)),
        }
    }
}

/// The encoder wraps what the file below it says: a full disk must stay recognisable.
fn encode_kind(source: &ParquetError) -> ErrorKind {
    let cause = if let ParquetError::External(cause) = source { cause.downcast_ref::<io::Error>() } else { None };
    cause.map_or(ErrorKind::Io, disk_kind)
}

fn disk_kind(source: &io::Error) -> ErrorKind {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
        _ => ErrorKind::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart_through_the_encoder() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = VectorsError::encode(Path::new("a"))(ParquetError::from(full));
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        let other = VectorsError::encode(Path::new("a"))(ParquetError::General("x".into()));
        assert_eq!(other.kind(), ErrorKind::Io);
    }

    #[test]
    fn messages_name_the_file_and_the_place() {
        let error = VectorsError::decode(Path::new("p.parquet"), Some(3))(ParquetError::EOF("short".into()));
        assert_eq!(error.to_string(), "cannot decode `p.parquet`, row group 3");
    }
}
